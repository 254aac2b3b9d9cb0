# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nic_mac
version_added: 1.0.0
short_description: Compute the default MAC address of a NIC
description:
  - Derives the MAC address of a NIC from the names of the lab, the VM and the NIC, as
    M(vlab.qemu.qemu_vm) does if neither O(vlab.qemu.qemu_vm#module:nics[].mac) nor
    O(vlab.qemu.qemu_vm#module:mac_base) is given.
  - With this filter, you can write a configuration before the VM exists.
author:
  - vlab.qemu contributors (@vlab)
positional: vm, lab
options:
  _input:
    description: Name of the NIC.
    type: str
    required: true
  vm:
    description: Name of the VM.
    type: str
    required: true
  lab:
    description: Name of the lab.
    type: str
    default: default
"""

EXAMPLES = r"""
- name: Show the MAC address of eth1 of r1
  ansible.builtin.debug:
    msg: "{{ 'eth1' | vlab.qemu.nic_mac('r1') }}"
"""

RETURN = r"""
_value:
  description: The MAC address, six pairs of hexadecimal digits with colons.
  type: str
"""

from typing import Any, Callable

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.macs import derived


def nic_mac(nic: str, vm: str, lab: str = "default") -> str:
    """Return the derived MAC address of a NIC."""
    return derived(lab, vm, nic)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"nic_mac": nic_mac}
