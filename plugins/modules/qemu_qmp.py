#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_qmp
version_added: 1.0.0
short_description: Speak with the monitor of a virtual machine
description:
  - Runs commands of QEMU's machine protocol in a running VM, and waits for events. It is for what the other modules do not cover.
  - What is changed in this way, other modules do not know of. They may undo it.
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
      - Commands that change nothing (C(query-*), C(qom-get) and the like, C(info) of the human monitor) are run.
        In place of the reply to any other command, and to an event, there is C(skipped).
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - A command that might change something counts as a change each time.
options:
  vm:
    description: The VM. One of O(vm) and O(socket) is needed.
    type: str
  socket:
    description: The socket of any QMP monitor on the hypervisor, also of a QEMU that the collection did not start.
    type: path
  commands:
    description:
      - What to do, one after the other. The first that fails ends it.
      - An entry is the name of a command, such as V(query-status), or a dict with one of C(execute), C(human) and C(event).
      - C(execute) is a command, with C(arguments) (a dict) and C(fds) (a list of C(path) and C(mode), which is C(r), C(w) or C(rw);
        each is opened and passed along, as C(getfd) and C(add-fd) take one). Underscores in names may stand for hyphens.
      - C(human) is a line of the human monitor.
      - C(event) is the name of an event to wait for, with C(match), a dict that the data of the event must contain.
        An event that came earlier in the same run counts.
      - Each may have C(timeout), the seconds that it may take; 30 by default.
    type: list
    elements: raw
    required: true
  timeout:
    description: Seconds that QEMU has for greeting us at its monitor.
    type: int
    default: 10
  lock_timeout:
    description: Seconds to wait for another run that works on O(vm).
    type: int
    default: 300
notes:
  - A VM has a monitor for the user, too; RV(vlab.qemu.qemu_vm#module:vm.qmp) tells its socket. QEMU serves one client of a socket at a time.
seealso:
  - module: vlab.qemu.qemu_vm
  - name: QMP reference
    description: All commands and events.
    link: https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html
"""

EXAMPLES = r"""
- name: Two questions
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - query-status
      - query-block
  register: result

- name: The answer to the first
  ansible.builtin.debug:
    var: result.replies[0].status

- name: A property of a device
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - execute: qom-get
        arguments:
          path: /machine
          property: type

- name: What only the human monitor tells
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - human: info network
  register: network

- name: Press keys, as if at the keyboard
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - execute: send-key
        arguments:
          keys:
            - type: qcode
              data: ret

- name: Reset the VM, and see that it was
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - system_reset
      - event: RESET
        match:
          guest: false
        timeout: 10

- name: Ask a QEMU that somebody else has started
  vlab.qemu.qemu_qmp:
    socket: /run/other/qmp.sock
    commands: [query-version]
"""

RETURN = r"""
replies:
  description:
    - What each entry of O(commands) returned; a text for C(human), the event with C(event), C(data) and C(time) (seconds since 1970) for C(event).
    - In check mode C(skipped=true) for what is not run.
  returned: success, and failure for those before the one that failed
  type: list
  elements: raw
  sample: [{running: true, status: running}, {event: RESET, data: {guest: false, reason: host-qmp-system-reset}, time: 1795251066.93}]
events:
  description: Events that came and were not waited for.
  returned: success
  type: list
  elements: dict
  sample: [{event: STOP, data: {}, time: 1795251066.93}]
entry:
  description: Which of O(commands) failed, counted from 0.
  returned: failure of one of them
  type: int
  sample: 1
command:
  description: The command that QEMU refused.
  returned: failure, when it refused one
  type: str
  sample: device_del
error_class:
  description: QEMU's class of the error.
  returned: failure, when it refused a command
  type: str
  sample: DeviceNotFound
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.qmp_session import (
    may_change,
    parse_steps,
    run_session,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing


def work(module):
    """Run the commands; return the module's result."""
    params = module.params
    steps = parse_steps(params["commands"])
    if params["socket"]:
        replies, events = run_session(params["socket"], steps, module.check_mode, params["timeout"])
    else:
        folder = existing(params["root"], params["lab"], params["vm"])
        with folder.locked(False, params["lock_timeout"]):
            replies, events = run_session(folder.qmp, steps, module.check_mode, params["timeout"])
    return {
        "changed": any(may_change(step) for step in steps),
        "replies": replies,
        "events": events,
    }


def main():
    run_module(
        work,
        argument_spec={
            "vm": {"type": "str"},
            "lab": {"type": "str", "default": "default"},
            "root": {"type": "path"},
            "socket": {"type": "path"},
            "commands": {"type": "list", "elements": "raw", "required": True},
            "timeout": {"type": "int", "default": 10},
            "lock_timeout": {"type": "int", "default": 300},
        },
        mutually_exclusive=[("vm", "socket")],
        required_one_of=[("vm", "socket")],
    )


if __name__ == "__main__":
    main()
