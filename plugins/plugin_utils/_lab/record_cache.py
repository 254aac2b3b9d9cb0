# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The last known record of a lab, on the controller.

Without it, a run that has not queried the hypervisor needs two requests for a lab whose addresses
its topology alone does not determine. The hypervisor compares it with its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    read_text,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import lab_record
from ansible_collections.vlab.qemu.plugins.module_utils._remote.cache_folder import (
    cache_folder,
    check_owner,
)

_PREFIX = "record-"
_MAX_FILES = 64


class RecordCache:
    """The last known record of a lab on a host."""

    def __init__(self, host: str, root: str, lab: str) -> None:
        digest = hashlib.sha256("\0".join((host, root, lab)).encode("utf-8")).hexdigest()
        self.path = os.path.join(cache_folder(), _PREFIX + digest[:32])

    def read(self) -> lab_record.LabRecord:
        """Return the record; an empty one if it is not known."""
        return lab_record.from_text(self.text())

    def text(self) -> str | None:
        """Return the text of the record, None if it is not known."""
        try:
            check_owner(self.path)
        except OSError:
            return None
        return read_text(self.path)

    def write(self, record: lab_record.LabRecord) -> None:
        """Keep a record. If that fails, the next run needs another request."""
        text = lab_record.to_text(record)
        if read_text(self.path) == text:
            return
        folder = os.path.dirname(self.path)
        with contextlib.suppress(VlabError, OSError):
            make_private_folder(folder)
            old = sorted(
                (entry.stat().st_mtime, entry.path)
                for entry in os.scandir(folder)
                if entry.name.startswith(_PREFIX)
            )
            for _time, path in old[: max(0, len(old) - _MAX_FILES)]:
                os.unlink(path)
            write_atomically(self.path, text)

    def remove(self) -> None:
        """Forget the record."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
