# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to HOST PORT and pass the socket to ssh (ProxyUseFdpass).

It runs in the network namespace of the test bed's switch, the only place from where the
hypervisors are reachable.
"""

from __future__ import annotations

import array
import socket
import sys

with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as connection:
    connection.settimeout(None)
    with socket.socket(fileno=1) as ssh:
        rights = array.array("i", [connection.fileno()])
        ssh.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
