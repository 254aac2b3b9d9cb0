# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect several clients to a console: one types, all must see the answer, and one reads nothing.

    many.py ADDRESS TEXT EXPECT [READER ...]

The addresses are paths or HOST:PORT. READERs are of the same console or of others. Fail after five
minutes.
"""

import select
import socket
import sys
import time


def connect(where):
    if where.startswith("/"):
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(where)
    else:
        host, port = where.rsplit(":", 1)
        channel = socket.create_connection((host, int(port)))
    return channel


address, text, expect, *readers = sys.argv[1:]
stuck = connect(address)
typing = connect(address)
heard = {channel: b"" for channel in [typing, connect(address), *map(connect, readers)]}
deadline = time.monotonic() + 300
sent = 0.0
while not all(expect.encode() in data for data in heard.values()):
    if time.monotonic() > deadline:
        sys.exit("heard only %r" % list(heard.values()))
    if time.monotonic() - sent > 10:
        sent = time.monotonic()
        typing.sendall(text.encode() + b"\n")
    for channel in select.select(list(heard), [], [], 1)[0]:
        data = channel.recv(4096)
        if not data:
            sys.exit("the console was closed")
        heard[channel] += data
print("%d clients heard it" % len(heard))
