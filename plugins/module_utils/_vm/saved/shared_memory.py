# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The memory of a snapshot as a file that its clones map, so that they share what none writes to.

    snapshots/NAME/shared/ram           the memory of the guest, from its first byte to its last
    snapshots/NAME/shared/memory        the rest of its state
    snapshots/NAME/shared/shared.json   which QEMU wrote them; without it, they are incomplete

QEMU writes them when the second clone is made: a single one would not be worth the space.
Source: QEMU, docs/devel/migration, the capability x-ignore-shared.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    free_space,
    make_private_folder,
    read_json,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import MemoryFile
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.memory import ram_id
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import clones_of

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState

_FORMAT = 1
_MIN_CLONES = 2
_RESERVE = 16 * memory.MIB  # for the state of the devices


class SharedMemory:
    """The shared memory of a snapshot, for the start of one clone of it.

    state: the snapshot, whose VM is locked. host: of the clone, whose next start loads it.
    """

    def __init__(self, state: SavedState, host: Host) -> None:
        self.state, self.host = state, host
        self.folder = os.path.join(state.path, "shared")
        self._ram, self._devices, self._record = (
            os.path.join(self.folder, name) for name in ("ram", "memory", "shared.json")
        )

    def _content(self) -> dict[str, Any]:
        """Return what the record has if the files are complete. Raises OSError."""
        return {
            "format": _FORMAT,
            "qemu_version": self.host.capabilities.version_text,
            "accel": self.host.accel,
            "sizes": [os.path.getsize(path) for path in (self._ram, self._devices)],
        }

    def exists(self) -> bool:
        """Whether the files are complete, and this QEMU can use them."""
        try:
            record = read_json(self._record)
            # QEMU would create an empty file for a missing one.
            return record is not None and bool(record == self._content())
        except (HostError, OSError):
            return False  # damaged: they are made again

    def is_useful(self, definition: Definition) -> bool:
        """Whether to make the files: the memory can be shared, and there are enough clones."""
        blockers = [reason for part in PARTS for reason in part.sharing_blockers(definition)]
        is_possible = not blockers and ram_id(definition, self.host) is not None
        return is_possible and len(clones_of(self.state)) >= _MIN_CLONES

    def prepare(self) -> None:
        """Let the next start load the snapshot into a new file. Raises HostError without space."""
        self.remove()
        with report_os_errors("cannot share the memory of %s" % self.state.path):
            need = os.stat(self.state.memory).st_size + _RESERVE
            free = free_space(self.state.path)
        if free < need:
            raise HostError(
                "a copy of the saved memory takes %d MiB, and %s has %d MiB free"
                % (need // memory.MIB, self.state.path, free // memory.MIB),
                path=self.state.path,
            )
        make_private_folder(self.folder)
        self.host.memory_file = MemoryFile(self._ram, is_shared=True)

    def save(self, monitor: Monitor, timeout: float) -> None:
        """Write the rest of the state of a guest that has the file as its memory, and is paused."""
        memory.save_memory(monitor, self._devices, timeout, self._ram)

    def complete(self) -> None:
        """Declare the files complete, when no QEMU writes to them any more."""
        with report_os_errors("cannot share the memory of %s" % self.state.path):
            for path in (self._ram, self._devices):
                os.chmod(path, 0o400)
            content = self._content()
        write_json(self._record, content)

    def use(self) -> None:
        """Let the next start map the file."""
        self.host.saved_memory = self._devices
        self.host.memory_file = MemoryFile(self._ram, is_shared=False)

    def leave(self) -> None:
        """Let the next start load the whole snapshot."""
        self.host.saved_memory, self.host.memory_file = self.state.memory, None

    def remove(self) -> None:
        """Remove the files; clones that run keep what they have mapped."""
        if os.path.lexists(self.folder):
            with report_os_errors("cannot remove %s" % self.folder):
                shutil.rmtree(self.folder)
