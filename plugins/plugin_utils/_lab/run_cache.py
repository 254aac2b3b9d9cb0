# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What the workers of one run would all compute: the first one does, the others read it."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
from typing import Any, Callable, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock
from ansible_collections.vlab.qemu.plugins.module_utils._remote.cache_folder import check_owner

_TIMEOUT = 120  # seconds


class RunCache:
    """Values in a private folder that ends with the run.

    folder: where to make it. timeout: seconds to wait for another worker.
    """

    def __init__(self, folder: str, timeout: float = _TIMEOUT) -> None:
        self.folder, self._timeout = os.path.join(folder, "vlab-shared"), timeout

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the value for a key, a digest; compute it if no other worker has."""
        path = os.path.join(self.folder, key)
        try:
            make_private_folder(self.folder)
            with file_lock(path + ".lock", self._timeout):
                if not os.path.exists(path):
                    value = compute()
                    _write(path, value)
                    return value
            return _read(path)
        except (OSError, VlabError):
            # Such as a full disk, or a worker that is stuck.
            return compute()


def _write(path: str, value: Any) -> None:
    # What cannot be pickled, such as a value that Ansible templates later, is computed by each.
    unfit = (
        pickle.PicklingError,
        AttributeError,
        NotImplementedError,
        TypeError,
        RecursionError,
    )
    with contextlib.suppress(*unfit):
        with without_collector():
            content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        write_atomically(path, content)


def _read(path: str) -> Any:
    check_owner(path)
    with open(path, "rb") as stream:
        content = stream.read()
    with without_collector():
        return pickle.loads(content)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Pause the garbage collector, which takes longer than the work on so many objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
