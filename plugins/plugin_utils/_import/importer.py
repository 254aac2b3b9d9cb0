# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What the importers of labs have in common."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Lab, Options, Peer, Vm

_MAX_MEMORY, _MAX_CPUS = 1 << 24, 1024


class Importer:
    """The import of one file. top: its fields. peers: what its nodes became, by their IDs."""

    def __init__(self, top: Fields, options: Options) -> None:
        self.top, self.report, self.options = top, top.report, options
        self.lab = Lab(top.report, options)
        self.peers: dict[str, Peer] = {}


def set_size(vm: Vm, fields: Fields, memory_key: str, cpus_key: str) -> None:
    """Set the memory, in MiB, and the number of CPUs. 0 or nothing: those of the kind."""
    memory = fields.integer(memory_key, "memory", 0, _MAX_MEMORY)
    if memory:
        vm.settings["memory"] = memory
    cpus = fields.integer(cpus_key, "vcpus", 0, _MAX_CPUS)
    if cpus:
        vm.settings["vcpus"] = cpus
