#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_qmp
version_added: 1.0.0
short_description: Run QMP commands in a virtual machine
description:
  - Runs commands of QEMU's machine protocol (QMP) in a running VM, and waits for events. Use it for
    what the other modules do not cover.
  - The other modules do not know of changes that are made in this way, and may undo them.
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
      - Commands that change nothing are run, such as C(query-*), C(qom-get), and C(info) of the
        human monitor. All other commands and events are skipped; their reply is C(skipped).
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - A command that may change something is reported as a change each time.
options:
  vm:
    description: The name of the VM. One of O(vm) and O(socket) is required.
    type: str
  socket:
    description:
      - The socket of any QMP monitor on the hypervisor, also of a QEMU that the collection did not
        start.
    type: path
  commands:
    description:
      - The commands, in order. The module stops at the first one that fails.
      - An entry is the name of a command, such as V(query-status), or a dictionary with one of
        C(execute), C(human) and C(event).
      - C(execute) is a command, with C(arguments), a dictionary, and C(fds), a list of file
        descriptors to pass, as C(getfd) and C(add-fd) need them. Each has C(path) and C(mode),
        which is C(r), C(w) or C(rw). Names may have underscores instead of hyphens.
      - C(human) is a command line of the human monitor. If its output is an error, the entry fails.
      - C(event) is the name of an event to wait for, with C(match), a dictionary that the data of
        the event must contain. The value C(null) matches only a key that is absent or null. An
        event that came earlier in the same run counts.
      - C(event) may also be a list of events, of which the first that comes is the reply. An entry
        of it is a name, or a dictionary with C(event) and its own C(match).
      - A command that the sandbox of O(vm) forbids, such as C(migrate) to C(exec:), is refused,
        because it could end the VM. See O(vlab.qemu.qemu_vm#module:sandbox).
      - Each may have C(timeout), the seconds that it may take; 30 by default. For an event, V(0)
        considers only those that have come until now.
    type: list
    elements: raw
    required: true
  timeout:
    description: Seconds to wait for the QMP greeting.
    type: int
    default: 10
  lock_timeout:
    description: Seconds to wait for another run that works on O(vm).
    type: int
    default: 300
notes:
  - Each VM has a further monitor for the user, see RV(vlab.qemu.qemu_vm#module:vm.qmp). QEMU serves
    one client of a socket at a time.
seealso:
  - module: vlab.qemu.qemu_vm
  - name: QMP reference
    description: All commands and events.
    link: https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html
"""

EXAMPLES = r"""
- name: Run two queries
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - query-status
      - query-block
  register: result

- name: Show the first reply
  ansible.builtin.debug:
    var: result.replies[0].status

- name: Read a property of a device
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - execute: qom-get
        arguments:
          path: /machine
          property: type

- name: Run a command of the human monitor
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - human: info network
  register: network

- name: Press a key
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - execute: send-key
        arguments:
          keys:
            - type: qcode
              data: ret

- name: Reset the VM, and wait for the event
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - system_reset
      - event: RESET
        match:
          guest: false
        timeout: 10

- name: Reset the VM, and wait for the reset or the end of the guest, whichever comes first
  vlab.qemu.qemu_qmp:
    vm: r1
    commands:
      - system_reset
      - event:
          - event: RESET
            match:
              guest: false
          - SHUTDOWN
        timeout: 10

- name: Query a QEMU that the collection did not start
  vlab.qemu.qemu_qmp:
    socket: /run/other/qmp.sock
    commands: [query-version]
"""

RETURN = r"""
replies:
  description:
    - The reply to each entry of O(commands). For C(human) it is a string, for C(event) the event
      with C(event), C(data) and C(time) (seconds since 1970).
    - In check mode C(skipped=true) for a command that is not run.
  returned: success, and failure for the entries before the one that failed
  type: list
  elements: raw
  sample:
    - {running: true, status: running}
    - {event: RESET, data: {guest: false, reason: host-qmp-system-reset}, time: 1795251066.93}
events:
  description: Events that arrived without being waited for.
  returned: success, and failure of an entry
  type: list
  elements: dict
  sample: [{event: STOP, data: {}, time: 1795251066.93}]
entry:
  description: The index of the entry of O(commands) that failed, from 0.
  returned: failure of one of them
  type: int
  sample: 1
command:
  description: The command that QEMU refused.
  returned: failure, when QEMU refused a command
  type: str
  sample: device_del
error_class:
  description: QEMU's class of the error.
  returned: failure, when QEMU refused a command
  type: str
  sample: DeviceNotFound
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.qmp_session import (
    check_sandbox,
    may_change,
    parse_steps,
    run_session,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Run the commands; return the module's result."""
    params = module.params
    steps = parse_steps(params["commands"])
    if params["socket"]:
        replies, events = run_session(params["socket"], steps, module.check_mode, params["timeout"])
    else:
        folder = existing(params["root"], params["lab"], params["vm"])
        with folder.locked(False, params["lock_timeout"]):
            check_sandbox(folder.run, steps)
            replies, events = run_session(folder.qmp, steps, module.check_mode, params["timeout"])
    return {
        "changed": any(may_change(step) for step in steps),
        "replies": replies,
        "events": events,
    }


def main() -> None:
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
