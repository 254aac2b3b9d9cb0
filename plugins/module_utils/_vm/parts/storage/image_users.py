# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The VMs that use an image: only one VM may write to an image."""

from __future__ import annotations

import os
from typing import Any, Iterator, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json


def vm_names(root: str) -> Iterator[tuple[str, str]]:
    """Yield (lab, name) of all VMs under root, also of damaged ones."""
    for lab in sorted(_folders(root)):
        for name in sorted(_folders(os.path.join(root, lab))):
            if os.path.exists(os.path.join(root, lab, name, "vm.json")):
                yield lab, name


def definitions(root: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (lab, name, definition) of all VMs under root, except damaged ones."""
    for lab, name in vm_names(root):
        try:
            definition = read_json(os.path.join(root, lab, name, "vm.json"))
        except HostError:
            continue
        if isinstance(definition, dict):
            yield lab, name, definition


def _disks(definition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the disks of a definition, except damaged ones."""
    disks = definition.get("disks")
    for disk in disks if isinstance(disks, list) else ():
        if (
            isinstance(disk, dict)
            and isinstance(disk.get("name"), str)
            and all(
                path is None or isinstance(path, str) and "\0" not in path
                for path in (disk.get("path"), disk.get("backing_file"), disk.get("image"))
            )
        ):
            yield disk


def _folders(path: str) -> list[str]:
    try:
        return [
            entry.name
            for entry in os.scandir(path)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]
    except OSError:
        return []


class User(NamedTuple):
    """A disk that uses an image.

    vm: "lab/name". disk: its name. role: disk or base. writes: whether it may write to the image.
    """

    vm: str
    disk: str
    role: str
    writes: bool


def users_of(root: str, path: str) -> list[User]:
    """Return the disks of VMs under root that use the image at path."""
    real, users = os.path.realpath(path), []
    for lab, name, definition in definitions(root):
        vm = "%s/%s" % (lab, name)
        for disk in _disks(definition):
            default = disk.get("image") or "%s.%s" % (disk["name"], disk.get("format"))
            image = disk.get("path") or os.path.join(root, lab, name, default)
            if os.path.realpath(image) == real:
                writes = not disk.get("read_only") and not disk.get("snapshot")
                users.append(User(vm, disk["name"], "disk", writes))
            elif disk.get("backing_file") and os.path.realpath(disk["backing_file"]) == real:
                users.append(User(vm, disk["name"], "base", False))
    return users
