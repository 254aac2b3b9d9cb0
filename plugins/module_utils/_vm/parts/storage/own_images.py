# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The images of one VM against each other and against those of other VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.image_files import (
    Identity,
    identity,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.bases import disk_path
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    Use,
    images_under,
    users_in,
    uses,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import Disk


def writes(disk: Disk) -> bool:
    """Return whether a disk writes to its image."""
    return not disk["read_only"] and not disk["snapshot"]


def _option(disk: Disk) -> str:
    """Return the option that names the images which a disk needs."""
    return "disks[%s].%s" % (disk["name"], "backing_file" if disk["backing_file"] else "path")


def check(disks: list[Disk], new: list[Disk], folder: Folder) -> None:
    """Check that each disk has an image of its own, and that no disk is the base of another.

    new: the disks that may have other images than before. Raises OptionError.
    """
    owners: dict[Identity, Disk] = {}
    for disk in disks:
        path = disk_path(folder, disk)
        owner = owners.setdefault(identity(path), disk)
        if owner is not disk:
            raise OptionError(
                "disks[%s].path" % disk["name"],
                "%s is also the image of the disk %r" % (path, owner["name"]),
            )
    for disk in disks if new else ():
        for path, _is_base in images_under(disk_path(folder, disk), disk):
            owner = owners.get(identity(path), disk)
            if owner is not disk and writes(owner):
                raise OptionError(
                    _option(disk),
                    "%s is the image of the disk %r, which writes to it: use a copy"
                    % (path, owner["name"]),
                )


def check_other_vms(disks: list[Disk], folder: Folder) -> None:
    """Check that no other VM writes to the images of disks, and that they write to no base image.

    Raises OptionError.
    """
    all_uses = list(uses(folder.root))
    for disk in disks:
        for option, path, is_base in _images(disk, folder):
            _check_users(option, path, is_base, all_uses, folder)


def _images(disk: Disk, folder: Folder) -> Iterator[tuple[str, str, bool]]:
    """Yield option, path and whether it is only read, of the images that a disk needs."""
    if writes(disk):
        yield "disks[%s].path" % disk["name"], disk_path(folder, disk), False
    for path, is_base in images_under(disk_path(folder, disk), disk):
        yield _option(disk), path, is_base or not writes(disk)


def _check_users(
    option: str, image: str, is_base: bool, all_uses: list[Use], folder: Folder
) -> None:
    for user in users_in(all_uses, image):
        if user.vm == "%s/%s" % (folder.lab, folder.name):
            continue
        if user.role == "base" and not is_base:
            raise OptionError(
                option,
                "%s is the base image of the VM %s, and nobody may write to a base: use it as"
                " backing_file, or set read_only or snapshot" % (image, user.vm),
            )
        if user.writes:
            fix = "make a copy of it" if is_base else "set read_only or snapshot, or make a copy"
            raise OptionError(
                option,
                "%s belongs to the VM %s, and only one VM may write to an image: %s"
                % (image, user.vm, fix),
            )
