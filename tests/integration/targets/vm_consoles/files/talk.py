# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""talk.py SPEAK TEXT LISTEN EXPECT: connect to two sockets (paths, or HOST:PORT; may be one), say TEXT to the first and print what the
second says until EXPECT is in it, or fail after five minutes."""

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
said = 0.0
while expect.encode() not in heard:
    if time.monotonic() > deadline:
        sys.exit("heard only %r" % heard)
    if time.monotonic() - said > 10:
        said = time.monotonic()
        speaker.sendall(text.encode() + b"\n")
    try:
        heard += listener.recv(4096)
    except socket.timeout:
        continue
print(repr(heard))
