# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The saved states of a VM on disk: the snapshots, and the state of a suspended VM.

    snapshots/NAME/snapshot.json   the record; without it, the snapshot is incomplete
    snapshots/NAME/memory          the memory and devices of the guest, if they were saved
    snapshots/NAME/files/          further files of the guest, such as UEFI variables
    suspended/                     the same

The layers of disks, which nobody writes to any more, stay in the folder of the VM.

The record is written last, and renamed before anything is removed. Memory holds secrets of the
guest: files have the mode 0600, and the folder 0700.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, List

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    read_json,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm import shapes

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

FORMAT = 1
_RECORD, _RETIRED = "snapshot.json", "removed.json"

# The content of a record: format, name, description: str; created: seconds since 1970; status: of
# the VM when it was saved (running, paused, stopped); memory: whether it was saved; qemu_version:
# [int]; machine_type, accel, console_from: of the run of QEMU; console_to: the length of the log of
# the first console; definition; disks: {name: the file of the layer in the folder of the VM};
# files: [name].
Record = Dict[str, Any]

_SHAPE = shapes.record(
    {
        "name": shapes.text,
        "description": shapes.text,
        "created": shapes.natural,
        "status": shapes.one_of(("running", "paused", "stopped")),
        "memory": shapes.boolean,
        "qemu_version": shapes.list_of(shapes.natural),
        "machine_type": shapes.optional(shapes.text),
        "accel": shapes.optional(shapes.text),
        "definition": shapes.free_dict,
        "console_from": shapes.natural,
        "disks": shapes.dict_of(shapes.file_name),
        "files": shapes.list_of(shapes.file_name),
    },
    {"console_to": shapes.natural},
)


class SavedState:
    """The folder of one saved state of a VM. name: of the snapshot, or None for a suspended VM."""

    def __init__(self, vm: Folder, name: str | None) -> None:
        self.vm, self.name = vm, name
        self.path = vm.file("suspended") if name is None else os.path.join(_folder(vm), name)
        self.memory = os.path.join(self.path, "memory")
        self.record = os.path.join(self.path, _RECORD)
        self.files = os.path.join(self.path, "files")

    def exists(self) -> bool:
        """Whether the state is complete."""
        return os.path.exists(self.record)

    def is_incomplete(self) -> bool:
        """Whether a killed run left a part of the state."""
        return os.path.isdir(self.path) and not self.exists()

    def make(self) -> None:
        """Create the folder, mode 0700."""
        if self.name is not None:
            make_private_folder(os.path.dirname(self.path))
        make_private_folder(self.path)

    def load(self) -> Record:
        """Return the record. Raises HostError for one that is missing or damaged."""
        record = read_json(self.record)
        if record is None:
            raise HostError("the saved state %s has no record" % self.path, path=self.record)
        number = record.get("format") if isinstance(record, dict) else None
        if isinstance(number, int):
            shapes.check_format(self.record, number, FORMAT)
        wrong = "format" if number != FORMAT else _SHAPE("", record)
        if wrong is not None:
            raise shapes.damaged(self.record, wrong)
        definitions.check_saved(self.record, "definition", record["definition"])
        loaded: Record = record
        return loaded

    def save(self, record: Record) -> None:
        """Write the record, which completes the state."""
        write_json(self.record, dict(record, format=FORMAT, created=int(time.time())))

    def retire(self) -> list[str]:
        """Make the state incomplete, to be removed; return the files of its layers.

        The folder goes last: until then, the next run sees that there is something to remove.
        """
        retired = os.path.join(self.path, _RETIRED)
        if self.exists():
            try:
                os.replace(self.record, retired)
            except OSError as error:
                raise HostError(
                    "cannot rename %s: %s" % (self.record, error.strerror), path=self.record
                )
        record = read_json(retired)
        layers = record.get("disks") if isinstance(record, dict) else None
        names = layers.values() if isinstance(layers, dict) else ()
        return [name for name in names if shapes.file_name("", name) is None]

    def size(self) -> int:
        """Return the space that the files take, without layers, in bytes."""
        return sum(
            os.lstat(os.path.join(folder, name)).st_blocks * 512
            for folder, _folders, names in os.walk(self.path)
            for name in names
        )

    def remove(self) -> None:
        """Remove the state: the record first, then the rest."""
        remove_file(self.record)
        try:
            if os.path.isdir(self.path):
                shutil.rmtree(self.path)
        except OSError as error:
            raise HostError(
                "cannot remove %s: %s" % (error.filename, error.strerror), path=error.filename
            )

    def share_memory(self, other: SavedState) -> None:
        """Take the memory of another state: one file, which nobody writes to."""
        try:
            os.link(other.memory, self.memory)
        except OSError:
            _copy(other.memory, self.memory)  # it is on another file system, for example

    def copy_files(self, names: List[str]) -> List[str]:
        """Copy files and folders of the VM into the state; return the names that exist."""
        found = [name for name in names if os.path.lexists(self.vm.file(name))]
        if found:
            make_private_folder(self.files)
        for name in found:
            _copy(self.vm.file(name), os.path.join(self.files, name))
        return found

    def restore_files(self, names: List[str], vm: Folder | None = None) -> None:
        """Copy the saved files and folders back into the VM's folder, or into that of a clone."""
        for name in names:
            _copy(os.path.join(self.files, name), (vm or self.vm).file(name))


def _folder(vm: Folder) -> str:
    return vm.file("snapshots")


def _copy(source: str, target: str) -> None:
    """Copy a file or folder; a file is replaced in one step."""
    try:
        if os.path.isdir(source):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, symlinks=True)
        else:
            temporary = target + ".new"
            shutil.copy2(source, temporary)
            os.replace(temporary, target)
    except (OSError, shutil.Error) as error:
        reason = error.strerror or error
        raise HostError("cannot copy %s to %s: %s" % (source, target, reason), path=target)


def snapshots(vm: Folder) -> Iterator[SavedState]:
    """Yield the snapshots of a VM, also incomplete ones, sorted by name."""
    try:
        names = sorted(entry.name for entry in os.scandir(_folder(vm)) if entry.is_dir())
    except OSError:
        names = []
    for name in names:
        yield SavedState(vm, name)
