# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print what QEMU itself reports about VMs, as JSON by name.

ask.py VMS    VMS: the vms of qemu_vm_info
"""

from __future__ import annotations

import json
import socket
import sys

COMMANDS = {
    "status": {"execute": "query-status"},
    "pci": {"execute": "query-pci"},
    "peripheral": {"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}},
    "network": {"execute": "human-monitor-command", "arguments": {"command-line": "info network"}},
    "blocks": {"execute": "query-named-block-nodes"},
    "chardevs": {"execute": "query-chardev"},
}


def ask(path):
    """The replies of the monitor at a socket."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(60)
        channel.connect(path)
        stream = channel.makefile("rw", encoding="utf-8")
        stream.readline()
        reported = {}
        for name, command in dict(hello={"execute": "qmp_capabilities"}, **COMMANDS).items():
            stream.write(json.dumps(command) + "\n")
            stream.flush()
            reply = {}
            while not {"return", "error"} & set(reply):
                reply = json.loads(stream.readline())
            reported[name] = reply["return"]
    return reported


def words(pid):
    """The command line of a process."""
    with open("/proc/%d/cmdline" % pid, encoding="utf-8") as stream:
        return stream.read().split("\0")


if __name__ == "__main__":
    print(
        json.dumps(
            {
                vm["name"]: dict(ask(vm["qmp"]), words=words(vm["pid"]))
                for vm in json.loads(sys.argv[1])
            }
        )
    )
