# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The command that opens the console of a VM from the controller."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

_LOCAL = ("local", "ansible.builtin.local")
_OPTIONS = (
    ("-p", ("ansible_port", "ansible_ssh_port")),
    ("-l", ("ansible_user", "ansible_ssh_user")),
    ("-i", ("ansible_ssh_private_key_file", "ansible_private_key_file")),
)


def command_for(vm: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    """Return the command for the first console of a VM, empty without one.

    variables: of its hypervisor.
    """
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
