# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What of a node was done once: a digest of it, in the definition of its VM.

So its snapshots and clones have it as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import record_run

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation


class DoneDigest:
    """The digest of one node. key: in the definition. content: what is done, as plain data."""

    def __init__(self, key: str, content: Any) -> None:
        self.key, self.content = key, content

    def compare(self, definition: Definition) -> bool | None:
        """Return whether the same was done the last time, None if nothing was."""
        digest = definition.get(self.key)
        return None if not digest else digest == self._digest(digest.partition(":")[0])

    def remove(self, definition: Definition) -> None:
        """Remove the digest: if this run is killed, the next one must do it."""
        definition.pop(self.key, None)

    def put(self, definition: Definition) -> None:
        """Set the digest: it was done."""
        definition[self.key] = self._digest((definition.get(self.key) or "").partition(":")[0])

    def save(self, folder: Folder, definition: Definition, observation: Observation) -> None:
        """Save the digest in the definition and in the record of the run."""
        self.put(definition)
        definitions.save(folder, definition)
        # A snapshot has the definition of the running VM.
        observation.running = dict(observation.running, **{self.key: definition[self.key]})
        record_run(observation, definition=observation.running)

    def _digest(self, salt: str) -> str:
        """Return the digest of the content. It may have passwords: it begins with a salt."""
        salt = salt or os.urandom(8).hex()
        text = salt + json.dumps(self.content, sort_keys=True)
        return "%s:%s" % (salt, hashlib.sha256(text.encode("utf-8")).hexdigest())
