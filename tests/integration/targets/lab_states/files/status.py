# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print the status of VMs as JSON by name: [status from QEMU or the files, process ID].

status.py FOLDER NAME...
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys


def status(folder):
    """[status, pid], ["stopped", None], ["absent", None]."""
    if not os.path.exists(os.path.join(folder, "vm.json")):
        return ["folder" if os.path.exists(folder) else "absent", None]
    with socket.socket(socket.AF_UNIX) as channel:
        try:
            channel.connect(os.path.join(folder, "monitor.sock"))
        except OSError:
            return ["stopped", None]
        pid = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        stream = channel.makefile("rw", encoding="utf-8")
        stream.write('{"execute": "qmp_capabilities"} {"execute": "query-status"}\n')
        stream.flush()
        while True:
            reply = json.loads(stream.readline())
            if "status" in reply.get("return", {}):
                return [reply["return"]["status"].replace("prelaunch", "paused"), pid]


if __name__ == "__main__":
    print(json.dumps({name: status(os.path.join(sys.argv[1], name)) for name in sys.argv[2:]}))
