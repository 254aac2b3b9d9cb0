# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Be a bad line to a hypervisor, as a ProxyCommand of ssh.

    python3 line.py HOST PORT RATE CUT

RATE: bytes per second in each direction. CUT: how many bytes go to the hypervisor before the line
is cut; 0 for a line that is only slow.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

PIECE = 1024


def copy(read, write, rate, limit):
    """Copy until the end, or until so many bytes were copied; then cut the line."""
    begin, copied = time.monotonic(), 0
    while True:
        piece = read(PIECE)
        if not piece:
            break
        copied += len(piece)
        if limit and copied > limit:
            os._exit(1)
        time.sleep(max(0.0, begin + copied / rate - time.monotonic()))
        write(piece)


def write_out(piece):
    while piece:
        piece = piece[os.write(1, piece) :]


if __name__ == "__main__":
    host, port, bytes_per_second, cut = sys.argv[1], *map(int, sys.argv[2:])
    with socket.create_connection((host, port), timeout=10) as line:
        line.settimeout(None)
        back = threading.Thread(
            target=copy, args=(line.recv, write_out, bytes_per_second, 0), daemon=True
        )
        back.start()
        copy(lambda size: os.read(0, size), line.sendall, bytes_per_second, cut)
        line.shutdown(socket.SHUT_WR)
        back.join()
