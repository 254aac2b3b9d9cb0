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

import shlex
from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean

_LOCAL = ("local", "ansible.builtin.local")
_OPTIONS = (
    ("-p", ("ansible_port", "ansible_ssh_port")),
    ("-l", ("ansible_user", "ansible_ssh_user")),
    ("-i", ("ansible_ssh_private_key_file", "ansible_private_key_file")),
)


def console_command(vm: Any, variables: Any) -> str:
    """Return the command that opens the first console of a VM, for a terminal on the controller."""
    if not isinstance(vm, Mapping) or not isinstance(variables, Mapping):
        raise AnsibleFilterError(
            "console_command: the input must be a VM, as qemu_vm_info returns it in vms, and the "
            "argument the variables of its hypervisor, as in hostvars"
        )
    console = next(iter(vm.get("consoles") or ()), None) or {}
    command = str(console.get("command") or "")
    if not command:
        return ""
    if boolean(variables.get("ansible_become") or False, strict=False):
        user = variables.get("ansible_become_user") or "root"
        command = "sudo %s%s" % ("" if user == "root" else "-u %s " % shlex.quote(user), command)
    if variables.get("ansible_connection") in _LOCAL:
        return command
    words = ["ssh", "-t"]
    for option, names in _OPTIONS:
        value = next((variables[name] for name in names if variables.get(name)), None)
        if value is not None:
            words += [option, str(value)]
    words += shlex.split(str(variables.get("ansible_ssh_common_args") or ""))
    words.append(str(variables.get("ansible_host") or variables.get("inventory_hostname") or ""))
    return "%s %s" % (shlex.join(words), shlex.quote(command))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"console_command": console_command}
