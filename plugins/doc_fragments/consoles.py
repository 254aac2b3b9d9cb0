# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/consoles.py.
    DOCUMENTATION = r"""
options:
  consoles:
    description:
      - Serial ports, in the order in which the guest numbers them. A PC has at most four.
      - The value is replaced as a whole. Default of a new VM is one console, V(console), on a UNIX
        socket and with a log. V([]) removes all of them.
      - RV(vlab.qemu.qemu_vm#module:vm.consoles) returns the command to connect to each console.
      - Changes need a restart.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The name of the console. Default is V(console) for the first, and V(console1),
            V(console2) and so on for others. V(qemu) and V(relay) are reserved.
        type: str
      type:
        description:
          - V(unix), the default, is a UNIX socket that only its owner can open.
          - V(tcp) and V(telnet) listen on a port. Anyone who can connect to that port can use the
            console.
        type: str
        choices: [unix, tcp, telnet]
      host:
        description: The IP address to listen on. Default is V(127.0.0.1). For V(tcp) and V(telnet)
          only.
        type: str
      port:
        description:
          - The port to listen on. V(auto), the default, selects a free port and keeps it. For
            V(tcp) and V(telnet) only.
        type: str
      log:
        description:
          - Whether QEMU logs all output to C(NAME.log) in the folder of the VM. Default is V(true).
        type: bool
      clients:
        description:
          - V(one), the default, is QEMU's own service; further clients wait until the first one
            leaves.
          - With V(many), up to 32 clients see the output at the same time. A process beside QEMU
            serves them, starts and ends with the VM, and is started again by the next run if it has
            died. A client that does not read its output is disconnected.
        type: str
        choices: [one, many]
      writers:
        description:
          - With O(consoles[].clients=many), who can type. V(many), the default, is every client.
          - V(one) is the first client that types, until it disconnects; the others only read.
        type: str
        choices: [one, many]
  monitors:
    description:
      - Monitors in addition to the two of each VM, one for the collection and one for the user,
        RV(vlab.qemu.qemu_vm#module:vm.qmp).
      - Each is a UNIX socket that only its owner can open, and serves one client at a time.
      - The value is replaced as a whole. Default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the monitor, other than V(qmp) and V(monitor).
        type: str
        required: true
      type:
        description: V(hmp), the default, is the monitor for people. V(qmp) is the one for programs.
        type: str
        choices: [hmp, qmp]
  guest_agent:
    description:
      - A channel for the QEMU guest agent. If the agent runs in the guest,
        M(vlab.qemu.qemu_vm_info) can query its addresses.
      - Default of a new VM is V(false).
      - Changes need a restart.
    type: bool
"""

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
consoles:
  description: The serial ports.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the console.
      returned: always
      type: str
      sample: console
    type:
      description: V(unix), V(tcp) or V(telnet).
      returned: always
      type: str
      sample: unix
    path:
      description: The socket.
      returned: when it is a UNIX socket
      type: str
      sample: /var/lib/vlab/default/r1/console.sock
    host:
      description: The address that it listens on.
      returned: when it is a port
      type: str
      sample: 127.0.0.1
    port:
      description: The port.
      returned: when it is a port
      type: int
      sample: 20000
    log:
      description: The file that keeps what is printed; none without one.
      returned: always
      type: str
      sample: /var/lib/vlab/default/r1/console.log
    clients:
      description: How many clients it serves at a time, V(one) or V(many).
      returned: always
      type: str
      sample: one
    writers:
      description: How many of them can type at a time, V(one) or V(many).
      returned: always
      type: str
      sample: one
    relay:
      description: The process that serves several clients.
      returned: while the VM runs, with C(clients=many)
      type: dict
      contains:
        status:
          description: V(running) or V(ended).
          returned: always
          type: str
          sample: running
        pid:
          description: Its process; none if it has ended.
          returned: always
          type: int
          sample: 4712
        exit_code:
          description: Its exit code, if it has ended; none if that is unknown.
          returned: always
          type: int
        log:
          description: Its log, which names the clients that were disconnected.
          returned: always
          type: str
          sample: /var/lib/vlab/default/r1/relay.log
    command:
      description: A command that connects to it.
      returned: always
      type: str
      sample: socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:/var/lib/vlab/default/r1/console.sock
monitors:
  description: The monitors that are free for the user, the one of RV(vm.qmp) first.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the monitor.
      returned: always
      type: str
      sample: monitor
    type:
      description: V(qmp) or V(hmp).
      returned: always
      type: str
      sample: qmp
    path:
      description: The socket.
      returned: always
      type: str
      sample: /var/lib/vlab/default/r1/monitor.sock
agent:
  description: The socket of the guest agent's channel; none without one.
  returned: always
  type: str
  sample: /var/lib/vlab/default/r1/agent.sock
"""
