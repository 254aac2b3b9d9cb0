# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The disks of a VM that moves to another host: which can, and the copy of what the VM wrote.

An overlay over a base image that is on both hosts is copied without the base image.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Iterable

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    existing_folder,
    free_space,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import images
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import bases
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import slot_key

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import Disk

# What the target needs to know of a disk that is copied: name; size: bytes; allocated: bytes that
# the image takes.
Copied = dict[str, Any]


def blockers(folder: Folder, definition: Definition) -> list[str]:
    """Return why the disks of a VM cannot move, with their options."""
    found = []
    for disk in definition["disks"]:
        reason = _blocker(folder, disk)
        if reason:
            found.append("disks[%s]: %s" % (disk["name"], reason))
    return found


def _blocker(folder: Folder, disk: Disk) -> str | None:
    if disk["bus"] == "nvme":
        return "QEMU cannot save the state of nvme: use another bus"
    if disk["snapshot"]:
        return "snapshot: true discards its changes at every stop, and they are in no image"
    if not bases.is_owned(folder, disk):
        if disk["read_only"]:
            return None  # the target has it at the same path
        return "its image %s is outside the folder of the VM" % disk["path"]
    if disk["bus"] == "pflash":
        return "flash that the guest writes to cannot be copied while it runs"
    if disk["secret_file"]:
        return "it is encrypted"
    path = bases.disk_path(folder, disk)
    if len(bases.layers_of(path)) > 1:
        return (
            "it has layers of snapshots, which stay where they are: remove the snapshots first"
            " (qemu_snapshot with state: absent and purge: true), or do not move a clone"
        )
    return None


def copied(folder: Folder, definition: Definition, qemu_img: QemuImg) -> list[Copied]:
    """Return the disks that are copied: all in the folder of the VM. Raises ImageError."""
    found = []
    for disk in definition["disks"]:
        if bases.is_owned(folder, disk):
            path = bases.disk_path(folder, disk)
            images.check_readable("disks[%s]" % disk["name"], path)
            size, status = qemu_img.virtual_size(path, disk["format"]), os.stat(path)
            found.append({"name": disk["name"], "size": size, "allocated": status.st_blocks * 512})
    return found


def moved(definition: Definition) -> Definition:
    """Return a definition whose images have the names that a new VM gives them."""
    disks = [
        {key: value for key, value in disk.items() if key != "image"}
        for disk in definition["disks"]
    ]
    return dict(definition, disks=disks)


def node(definition: Definition, name: str) -> str:
    """Return the name of the block node of a disk, as a VM starts with it."""
    return addresses.identifier(definition["slots"][slot_key(name)])


# On the target.


def check(folder: Folder, definition: Definition, disks: Iterable[Copied]) -> None:
    """Raise a VlabError for what prevents the copies: their files, base images, and space."""
    by_name = {disk["name"]: disk for disk in definition["disks"]}
    need = 0
    for entry in disks:
        disk = by_name[entry["name"]]
        option, path = "disks[%s]" % disk["name"], bases.disk_path(folder, disk)
        if os.path.lexists(path):
            raise HostError(
                "%s: the target has %s already: remove it, or move it away" % (option, path),
                path=path,
            )
        if disk["backing_file"]:
            bases.check_base(option, disk, definition["bases"].get(disk["name"]))
        need += entry["allocated"]
    _check_space(folder, need)


def _check_space(folder: Folder, need: int) -> None:
    path = existing_folder(folder.path)
    free = free_space(path)
    if free < need:
        raise HostError(
            "the disks of the VM %s take %d MiB, and %s has %d MiB free: free some space there"
            % (folder.name, -(-need >> 20), path, free >> 20),
            path=path,
        )


def make(
    folder: Folder, definition: Definition, disks: Iterable[Copied], qemu_img: QemuImg
) -> None:
    """Make the images that the copies are written to, of the same sizes."""
    by_name = {disk["name"]: disk for disk in definition["disks"]}
    for entry in disks:
        disk = by_name[entry["name"]]
        path = bases.disk_path(folder, disk)
        qemu_img.create(
            path,
            disk["format"],
            entry["size"],
            disk["format_options"],
            backing_file=disk["backing_file"],
            backing_format=disk["backing_format"],
        )
