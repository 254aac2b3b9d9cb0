#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_guest_exec
version_added: 1.0.0
short_description: Run a command in a guest through its guest agent
description:
  - Runs a program in the guest of a running VM and returns its output.
  - The guest needs the QEMU guest agent, and the VM needs
    O(vlab.qemu.qemu_vm#module:guest_agent=true). No network is needed.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.vm
attributes:
  check_mode:
    support: partial
    details:
      - The effect of a command is unknown, so it is not run in check mode.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - The command runs each time; use C(changed_when) to define what counts as a change.
options:
  vm:
    description: The name of the VM.
    type: str
    required: true
  argv:
    description: The program and its arguments. They are not passed to a shell.
    type: list
    elements: str
  cmd:
    description: A command line for the guest's C(/bin/sh).
    type: str
  stdin:
    description: The standard input of the program.
    type: str
  timeout:
    description: Seconds that the program may take.
    type: int
    default: 60
  ready_timeout:
    description: Seconds to wait for the guest agent, which starts late in the guest's boot.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: List the neighbours of a router
  vlab.qemu.qemu_guest_exec:
    vm: r1
    argv: [vtysh, -c, show ip ospf neighbor]
  register: neighbours
  changed_when: false
"""

RETURN = r"""
rc:
  description:
    - The exit code of the program; 128 plus the number of the signal if a signal ended it.
  returned: success, and failure of the program
  type: int
  sample: 0
stdout:
  description: The standard output of the program.
  returned: success, and failure of the program
  type: str
stdout_lines:
  description: The standard output as lines.
  returned: success, and failure of the program
  type: list
  elements: str
stderr:
  description: The standard error of the program.
  returned: success, and failure of the program
  type: str
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_exec import (
    run_in_guest,
    wait_for_agent,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing
from ansible_collections.vlab.qemu.plugins.module_utils._vm.guest_cause import check_agent

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Run the command in the guest; return the module's result."""
    params = module.params
    if module.check_mode:
        return {"changed": True, "skipped": True, "msg": "commands are not run in check mode"}
    if not params["argv"] and not params["cmd"]:
        raise OptionError("argv", "a program is required")
    folder = existing(params["root"], params["lab"], params["vm"])
    timeout, socket = params["ready_timeout"], folder.socket("agent.sock")
    with wait_for_agent(socket, timeout, lambda error: check_agent(error, folder)) as agent:
        result = run_in_guest(
            agent,
            params["argv"] or ["/bin/sh", "-c", params["cmd"]],
            params["timeout"],
            params["stdin"],
        )
    if result["rc"] != 0:
        return dict(
            result,
            failed=True,
            msg="the command ended with exit code %d in the guest %s: %s"
            % (result["rc"], params["vm"], result["stderr"].strip() or result["stdout"].strip()),
        )
    return dict(result, changed=True)


def main() -> None:
    run_module(
        work,
        argument_spec={
            "vm": {"type": "str", "required": True},
            "lab": {"type": "str", "default": "default"},
            "root": {"type": "path"},
            "argv": {"type": "list", "elements": "str"},
            "cmd": {"type": "str"},
            "stdin": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
            "ready_timeout": {"type": "int", "default": 60},
        },
        mutually_exclusive=[("argv", "cmd")],
        required_one_of=[("argv", "cmd")],
    )


if __name__ == "__main__":
    main()
