# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The lock of a lab: one run at a time observes and changes its VMs and segments.

It is outside the lab's folder, which the run that holds it may remove.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    is_same_file,
    make_folder,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import host_folder

_PREFIX, _SUFFIX = "lab-", ".lock"


@contextlib.contextmanager
def lab_lock(
    root: str, lab: str, timeout: float, create: bool, is_check: bool = False
) -> Iterator[None]:
    """Hold the lock of a lab during the block.

    timeout: seconds to wait; then LockTimeout is raised, naming the holder. create: make the lock;
    if False, a missing one needs no lock. is_check: check mode, see file_lock.
    """
    host = host_folder(root)
    path = os.path.join(host, _PREFIX + lab + _SUFFIX)

    def remake() -> None:
        make_folder(root)
        make_folder(host)

    with file_lock(path, timeout, remake if create else None, create, is_check):
        try:
            yield
        finally:
            if create:
                _remove_unused(root, host, path)


def _remove_unused(root: str, host: str, own: str) -> None:
    """Remove the locks of labs without a folder: the own one, and what killed runs left.

    A run that waits for a removed lock makes it again.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(host):
            lab = name[len(_PREFIX) : -len(_SUFFIX)]
            is_lock = lab and name == _PREFIX + lab + _SUFFIX
            if is_lock and not os.path.lexists(os.path.join(root, lab)):
                _remove_unheld(os.path.join(host, name), own)
        os.rmdir(host)


def _remove_unheld(path: str, own: str) -> None:
    if path == own:
        os.unlink(path)
        return
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_same_file(handle, path):
                os.unlink(path)
        finally:
            os.close(handle)
