# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print the NICs and the process IDs that QEMU processes report as JSON: nics.py SOCKET..."""

from __future__ import annotations

import json
import socket
import struct
import sys


def ask(path):
    """The process id of a QEMU, and its network."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(60)
        channel.connect(path)
        pid = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        stream = channel.makefile("rw", encoding="utf-8")
        stream.readline()
        for command in (
            {"execute": "qmp_capabilities"},
            {"execute": "human-monitor-command", "arguments": {"command-line": "info network"}},
        ):
            stream.write(json.dumps(command) + "\n")
            stream.flush()
            reply = {}
            while "return" not in reply:
                reply = json.loads(stream.readline())
    return pid, reply["return"]


if __name__ == "__main__":
    print(json.dumps({path: ask(path) for path in sys.argv[1:]}))
