# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""All parts, in the order in which their hooks are called (see part.py)."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.autostart import Autostart
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.confinement import Confinement
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import Consoles
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.descriptors import Descriptors
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.devices import Devices
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.display import Display
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.firmware import Firmware
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine import Machine
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media.media import Media
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.memory import Memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.network import Network
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.storage import Storage

PARTS = (
    Machine(),
    Memory(),
    Firmware(),
    Consoles(),
    Display(),
    Devices(),
    Storage(),
    Media(),
    Network(),
    Descriptors(),
    Confinement(),
    Autostart(),
)
BY_NAME = {part.name: part for part in PARTS}
OPTIONS = {name: option for part in PARTS for name, option in part.options.items()}
