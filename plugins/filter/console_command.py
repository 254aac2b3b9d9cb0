# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: console_command
version_added: 1.0.0
short_description: Show how to open the console of a VM from the controller
author:
  - vlab.qemu contributors (@vlab)
description:
  - Returns the command of the first console of a VM for a terminal on the controller. On another
    host, it is within C(ssh -t), with the user, the port and the key of the variables.
  - With C(ansible_become), the command is run with C(sudo) on the hypervisor.
options:
  _input:
    description: The VM, as M(vlab.qemu.qemu_vm_info) returns it.
    type: dict
    required: true
  variables:
    description: The variables of its hypervisor, as in C(hostvars).
    type: dict
    required: true
seealso:
  - plugin: vlab.qemu.lab_picture
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Query the VMs
  vlab.qemu.qemu_vm_info:
  register: vm_info

- name: Show how to open their consoles
  ansible.builtin.debug:
    msg: "{{ item | vlab.qemu.console_command(hostvars[inventory_hostname]) }}"
  loop: "{{ vm_info.vms }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
_value:
  description: The command, empty for a VM without a console that can be opened.
  type: str
  sample: ssh -t hv1 'socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:/var/lib/vlab/lab/r1/console.sock'
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.console_command import command_for


def console_command(vm: Any, variables: Any) -> str:
    """Return the command that opens the first console of a VM, for a terminal on the controller."""
    if not isinstance(vm, Mapping) or not isinstance(variables, Mapping):
        raise AnsibleFilterError(
            "console_command: the input must be a VM, as qemu_vm_info returns it in vms, and the "
            "argument the variables of its hypervisor, as in hostvars"
        )
    return command_for(vm, variables)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"console_command": console_command}
