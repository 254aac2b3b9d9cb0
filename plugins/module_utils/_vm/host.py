# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The hypervisor in one run of one VM: its QEMU, the capabilities of that, and state of the run."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import (
    find_qemu,
    first_binary,
    find_qemu_img,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import (
    Capabilities,
    get_capabilities,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.vocabulary import Vocabulary
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    check_name,
    no_such_vm,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.netdev_options import (
        NetdevOptions,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import Clone

_FILE = "file:"


class MemoryFile(NamedTuple):
    """A file that the memory of a guest is mapped from.

    is_shared: whether the guest writes to the file. Otherwise, it has its own copy of each page
    that it writes to.
    """

    path: str
    is_shared: bool


class Host:
    """The hypervisor, as the parts of one VM use it.

    folder: of the VM. incoming: the source of a migration, for one start.
    allow_shrink: whether this run may shrink a disk.
    binary, arch: of QEMU, set by find. accel, accel_reason: set by the machine part.
    secrets: what this run was given and no file keeps. warnings: for the user.
    machine_properties: what parts add to -machine. spawns_programs: whether QEMU itself starts
    programs; set by the arguments of the network.
    saved_memory, machine_type, console_from: the saved state of a guest to load at a start, the
    machine type that it needs, and where its run begins in the log of the first console; None for
    a start from nothing. memory_file: what the memory of the guest is mapped from, or None.
    descriptors: what the next start passes to QEMU, open until it is started.
    is_template: whether the guest continues from a template, and can boot instead. reverts: whether
    this run returns to a snapshot. clone: the making of the VM from a snapshot of another one.
    """

    def __init__(
        self, folder: Folder, incoming: str | None = None, allow_shrink: bool = False
    ) -> None:
        self.folder, self.incoming, self.allow_shrink = folder, incoming, allow_shrink
        self.binary: str = ""
        self.arch: str = ""
        self.accel: str = ""
        self.accel_reason: str = ""
        self.secrets: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.descriptors: list[int] = []
        self.machine_properties: dict[str, Any] = {}
        self.spawns_programs = False
        self.saved_memory: str | None = None
        self.machine_type: str | None = None
        self.console_from: int | None = None
        self.memory_file: MemoryFile | None = None
        self.is_template = self.reverts = False
        self.clone: Clone | None = None
        if incoming and incoming.startswith(_FILE) and "," not in incoming:
            # Not on the command line: QEMU before 8.2 has no file:.
            self.saved_memory, self.incoming = incoming[len(_FILE) :], "defer"

    def load(self, memory: str, record: dict[str, Any], is_template: bool = False) -> None:
        """Let the next start load the saved state of a guest. record: of the state."""
        self.saved_memory, self.incoming = memory, "defer"
        self.machine_type, self.is_template = record["machine_type"], is_template
        self.console_from = None if is_template else record["console_from"]

    def boot(self) -> None:
        """Let the next start boot the guest, after load."""
        self.saved_memory = self.incoming = self.machine_type = self.console_from = None
        self.memory_file = None
        self.is_template = False

    def close_descriptors(self) -> None:
        """Close what a start was to pass to QEMU, which has descriptors of its own by now."""
        while self.descriptors:
            os.close(self.descriptors.pop())

    def find(self, arch: str | None, binary: str | list[str] | None) -> None:
        """Find the QEMU binary; the first that exists of a list. Raises OptionError."""
        candidates = (binary,) if isinstance(binary, str) else tuple(binary or ())
        self.binary, self.arch = _find_qemu(arch, candidates)

    @functools.cached_property
    def capabilities(self) -> Capabilities:
        """The capabilities of the binary."""
        return _capabilities(self.binary)

    @functools.cached_property
    def netdev_options(self) -> NetdevOptions:
        """The options of the network backends of the binary; most VMs use none by name."""
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu import netdev_options

        return netdev_options.get_netdev_options(self.binary)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that the binary understands; asked only for options in QEMU's own words."""
        return _vocabulary(self.binary)

    @functools.cached_property
    def qemu_img(self) -> QemuImg:
        """The qemu-img program; its module is imported only if an image is created or read."""
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg

        return QemuImg(find_qemu_img(self.binary))

    def warn(self, message: str) -> None:
        """Add a warning for the user."""
        self.warnings.append(message)

    def other_definition(self, name: str, option: str) -> Definition:
        """Return the definition of another VM of the lab. Raises OptionError if it is missing."""
        from ansible_collections.vlab.qemu.plugins.module_utils._vm.definition import load

        check_name(option, name)
        folder = Folder(self.folder.root, self.folder.lab, name)
        definition = load(folder)
        if definition is None:
            raise OptionError(option, no_such_vm(folder))
        return definition


@functools.lru_cache(maxsize=None)
def _find_qemu(arch: str | None, candidates: tuple[str, ...]) -> tuple[str, str]:
    return find_qemu(arch, first_binary(candidates))


@functools.lru_cache(maxsize=None)
def _capabilities(binary: str) -> Capabilities:
    return get_capabilities(binary)


@functools.lru_cache(maxsize=None)
def _vocabulary(binary: str) -> Vocabulary:
    return Vocabulary(binary)
