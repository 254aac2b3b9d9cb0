# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Capture files, one per NIC. QEMU truncates existing files, so earlier ones are renamed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    make_private_folder,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder


def capture_path(folder: Folder, nic: dict[str, Any]) -> str:
    """Return the path of a NIC's capture; by default captures/NIC.pcap in the VM's folder."""
    path: str | None = nic["capture"]["path"]
    return path or os.path.join(folder.captures, nic["name"] + ".pcap")


def rotations_folder(folder: Folder) -> str:
    """Return the folder of the spools of rotated captures, and of the process that copies them."""
    return folder.file("rotations")


def spool_path(folder: Folder, nic: str) -> str:
    """Return the file to which QEMU writes a rotated capture."""
    return os.path.join(rotations_folder(folder), nic + ".spool")


def is_rotated(nic: dict[str, Any]) -> bool:
    """Return whether the capture of a NIC is a ring of files."""
    return bool(nic["capture"] and nic["capture"].get("size"))


def live_folder(folder: Folder) -> str:
    """Return the folder of the files of live captures."""
    return folder.file("live_captures")


def make_capture_folder(folder: Folder, path: str) -> None:
    """Make the folder of a capture. Raises HostError."""
    if os.path.dirname(path) == folder.captures:
        make_private_folder(folder.captures)
    else:
        make_folder(os.path.dirname(path))


def keep_earlier(folder: Folder, path: str) -> None:
    """Rename an earlier capture: x.pcap becomes x.1.pcap, or takes the next free number."""
    make_capture_folder(folder, path)
    # Also a dangling link, through which QEMU would create its file.
    if not os.path.lexists(path):
        return
    stem, suffix = os.path.splitext(path)
    number = 1
    while os.path.lexists("%s.%d%s" % (stem, number, suffix)):
        number += 1
    try:
        os.rename(path, "%s.%d%s" % (stem, number, suffix))
    except OSError as error:
        raise HostError(
            "cannot keep the earlier capture %s: %s" % (path, error.strerror), path=path
        )
