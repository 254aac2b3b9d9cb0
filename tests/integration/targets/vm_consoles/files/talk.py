# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send a text to a socket and print the output of another until it contains a text.

    talk.py SPEAK TEXT LISTEN EXPECT

The sockets are paths or HOST:PORT, and may be the same. Fail after five minutes.
"""

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
    channel.settimeout(5)
    return channel


speak, text, listen, expect = sys.argv[1:]
speaker = connect(speak)
listener = speaker if listen == speak else connect(listen)
deadline = time.monotonic() + 300
heard = b""
sent = 0.0
while expect.encode() not in heard:
    if time.monotonic() > deadline:
        sys.exit("heard only %r" % heard)
    if time.monotonic() - sent > 10:
        sent = time.monotonic()
        speaker.sendall(text.encode() + b"\n")
    try:
        heard += listener.recv(4096)
    except socket.timeout:
        continue
print(repr(heard))
