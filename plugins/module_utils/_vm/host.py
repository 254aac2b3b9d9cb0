# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The hypervisor as the definition of one VM needs it: its QEMU, what that can do, and what one run holds in mind."""

from __future__ import annotations

import functools

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import (
    find_qemu,
    find_qemu_img,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import get_capabilities
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    check_name,
    no_such_vm,
)


class Host:
    """folder: the VM's. binary, arch: its QEMU, once found. accel, accel_reason: once chosen.

    secrets: what this run was given and no file keeps. warnings: for the user. machine_properties: what parts add to -machine.
    spawns_programs: whether QEMU itself starts programs; set by the arguments of the network.
    incoming: where a migration comes from, for one start. allow_shrink: this run may cut data off a disk.
    """

    def __init__(self, folder):
        self.folder = folder
        self.binary = self.arch = self.accel = self.accel_reason = self.incoming = None
        self.allow_shrink = False
        self.secrets = {}
        self.warnings = []
        self.machine_properties = {}
        self.spawns_programs = False

    def find(self, arch, binary):
        """Find the QEMU binary. Raises OptionError."""
        self.binary, self.arch = _find_qemu(arch, binary)

    @functools.cached_property
    def capabilities(self):
        """What the binary can do."""
        return _capabilities(self.binary)

    @functools.cached_property
    def qemu_img(self):
        """qemu-img; its room is imported only when an image has to be made."""
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg

        return QemuImg(find_qemu_img(self.binary))

    def warn(self, message):
        """Tell the user something that is no error."""
        self.warnings.append(message)

    def other_definition(self, name, option):
        """The definition of another VM of the same lab. Raises OptionError when there is none."""
        check_name(option, name)
        folder = Folder(self.folder.root, self.folder.lab, name)
        definition = read_json(folder.definition)
        if definition is None:
            raise OptionError(option, no_such_vm(folder))
        return definition


@functools.lru_cache(maxsize=None)
def _find_qemu(arch, binary):
    return find_qemu(arch, binary)


@functools.lru_cache(maxsize=None)
def _capabilities(binary):
    return get_capabilities(binary)
