# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The VMs that use an image, at any depth: only one VM may write to an image, none to a base."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Collection, Iterable, Iterator, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    ImageError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.image_files import (
    files_needed,
    identity,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder


def vm_names(root: str) -> Iterator[tuple[str, str]]:
    """Yield (lab, name) of all VMs under root, also of damaged ones."""
    for lab in sorted(_folders(root)):
        for name in sorted(_folders(os.path.join(root, lab))):
            folder = os.path.join(root, lab, name)
            if any(os.path.exists(os.path.join(folder, file)) for file in ("vm.json", "run.json")):
                yield lab, name


# Definitions by path, with the state of the file.
_cache: dict[str, tuple[tuple[int, ...], Any]] = {}


def definitions(root: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (lab, name, definition) of all VMs under root, except damaged ones; only to be read.

    A VM that runs has a definition in its run.json as well, if its vm.json was deleted.
    """
    for lab, name in vm_names(root):
        path = os.path.join(root, lab, name, "vm.json")
        try:
            if not os.path.exists(path):
                path = os.path.join(root, lab, name, "run.json")
            status = os.stat(path)
            state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if path not in _cache or _cache[path][0] != state:
                _cache[path] = (state, read_json(path))
        except (HostError, OSError):
            continue
        definition = _cache[path][1]
        if path.endswith("run.json") and isinstance(definition, dict):
            definition = definition.get("definition")
        if isinstance(definition, dict):
            yield lab, name, definition


def _items(definition: dict[str, Any], option: str) -> Iterator[dict[str, Any]]:
    """Yield the disks or drives of a definition, except damaged ones."""
    disks = definition.get(option)
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
    """A disk or drive that uses an image.

    vm: "lab/name". disk: its name. role: disk, base, cdrom or floppy. writes: whether it may write
    to the image.
    """

    vm: str
    disk: str
    role: str
    writes: bool

    def __str__(self) -> str:
        role = "base image" if self.role == "base" else "%s %s" % (self.role, self.disk)
        return "%s of the VM %s" % (role, self.vm)


class Use(NamedTuple):
    """An image that a VM uses."""

    path: str
    user: User


def uses(root: str) -> Iterator[Use]:
    """Yield every image that a VM under root uses, once for each disk or drive."""
    for lab, name, definition in definitions(root):
        vm = "%s/%s" % (lab, name)
        for disk in _items(definition, "disks"):
            default = disk.get("image") or "%s.%s" % (disk["name"], disk.get("format"))
            image = disk.get("path") or os.path.join(root, lab, name, default)
            yield from _uses_of_disk(vm, disk, image)
        for option, role in (("cdroms", "cdrom"), ("floppies", "floppy")):
            for drive in _items(definition, option):
                if drive.get("path"):
                    writes = role == "floppy" and not drive.get("read_only")
                    yield Use(drive["path"], User(vm, drive["name"], role, writes))


def _uses_of_disk(vm: str, disk: dict[str, Any], image: str) -> Iterator[Use]:
    writes = not disk.get("read_only") and not disk.get("snapshot")
    yield Use(image, User(vm, disk["name"], "disk", writes))
    for path, is_base in images_under(image, disk):
        user = User(vm, disk["name"], "base" if is_base else "disk", writes and not is_base)
        yield Use(path, user)


def images_under(image: str, disk: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return the images that a disk needs besides its own, and whether each is a base.

    The definition counts, too: an overlay may not exist yet.
    """
    found = [(file.path, file.is_base) for file in files_needed(image, _format(disk, "format"))]
    base = disk.get("backing_file")
    if base:
        found.append((base, True))
        bases = files_needed(base, _format(disk, "backing_format"))
        found += [(file.path, True) for file in bases]
    return found


def _format(disk: dict[str, Any], key: str) -> str | None:
    value = disk.get(key)
    return value if isinstance(value, str) else None


def users_of(root: str, path: str) -> list[User]:
    """Return the disks and drives of VMs under root that use the image at path, by any name."""
    return users_in(uses(root), path)


def users_in(all_uses: Iterable[Use], path: str) -> list[User]:
    """Return the users of the image at path, each disk or drive once."""
    requested = identity(path)
    users: dict[tuple[str, str], User] = {}
    for use in all_uses:
        if identity(use.path) == requested:
            users.setdefault((use.user.vm, use.user.disk), use.user)
    return list(users.values())


def check_removal(folder: Folder, paths: Collection[str] | None = None) -> None:
    """Raise ImageError if another VM uses an image that is about to be removed.

    paths: of the images; None for all in the VM's folder.
    """
    vm = "%s/%s" % (folder.lab, folder.name)
    requested = {identity(path) for path in (_files_in(folder.path) if paths is None else paths)}
    for use in uses(folder.root) if requested else ():
        if use.user.vm != vm and identity(use.path) in requested:
            raise ImageError(
                "%s cannot be removed: it is the %s. Remove that first, or keep the image with"
                " keep_disks" % (use.path, use.user),
                path=use.path,
            )


def _files_in(path: str) -> Iterator[str]:
    for folder, _folders, names in os.walk(path):
        for name in names:
            yield os.path.join(folder, name)
