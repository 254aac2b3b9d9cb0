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
  - Runs a program in the guest of a running VM, or command lines in several guests, and returns
    the output.
  - The guest needs the QEMU guest agent, and the VM needs
    O(vlab.qemu.qemu_vm#module:guest_agent=true). No network is needed.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.attributes.request
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
  argv:
    description: The program and its arguments. They are not passed to a shell.
    type: list
    elements: str
  cmd:
    description: A command line for the guest's C(/bin/sh).
    type: str
  cmds:
    description:
      - Command lines for the C(/bin/sh) of several guests, by the name of the VM, instead of O(vm).
        All guests run them at the same time.
    type: dict
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

- name: Ask two routers at the same time
  vlab.qemu.qemu_guest_exec:
    cmds:
      r1: ip route show default
      r2: ip route show default
  register: routes
  changed_when: false
"""

RETURN = r"""
rc:
  description:
    - The exit code of the program; 128 plus the number of the signal if a signal ended it.
  returned: with O(vm), success, and failure of the program
  type: int
  sample: 0
stdout:
  description: The standard output of the program.
  returned: with O(vm), success, and failure of the program
  type: str
stdout_lines:
  description: The standard output as lines.
  returned: with O(vm), success, and failure of the program
  type: list
  elements: str
stderr:
  description: The standard error of the program.
  returned: with O(vm), success, and failure of the program
  type: str
outputs:
  description: What the command lines of the guests returned, in the order of O(cmds).
  returned: with O(cmds)
  type: list
  elements: dict
  contains:
    vm:
      description: The name of the VM.
      returned: always
      type: str
      sample: r1
    rc:
      description: The exit code, as above.
      returned: if the command line was run
      type: int
      sample: 0
    stdout:
      description: The standard output.
      returned: if the command line was run
      type: str
    stderr:
      description: The standard error.
      returned: if the command line was run
      type: str
    msg:
      description: Why it failed.
      returned: failure
      type: str
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.guest_exec_service import (
    SPECIFICATION,
    work,
)


def main() -> None:
    run_module(
        lambda module: work(module.params, module.check_mode),
        **SPECIFICATION,
    )


if __name__ == "__main__":
    main()
