# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a guest through its serial console; exit with the code of the command.

guest.py SOCKET COMMAND [SECONDS]
"""

import contextlib
import re
import socket
import sys
import time


def read_until(console, pattern, deadline, nudge=b""):
    """Return the output up to a match of pattern; send nudge after half a second of silence."""
    text = ""
    console.settimeout(0.5)
    while time.monotonic() < deadline:
        try:
            text += console.recv(65536).decode("utf-8", "replace").replace("\r", "")
        except socket.timeout:
            with contextlib.suppress(socket.timeout):
                console.sendall(nudge)
            continue
        found = re.search(pattern, text, re.DOTALL | re.MULTILINE)
        if found:
            return found
    sys.exit("no answer from the guest: %r" % text)


def main():
    path, command, seconds = (
        sys.argv[1],
        sys.argv[2],
        float(sys.argv[3]) if len(sys.argv) > 3 else 120,
    )
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(path)
        # A shell that is not there yet loses what is typed.
        read_until(console, r"^[^\n]*# ", deadline, b"\n")
        # Split by quotes, so that the echo of what is typed is no mark.
        console.sendall(("echo BEG''IN; %s; echo EN''D $?\n" % command).encode())
        found = read_until(console, r"^BEGIN\n(.*?)^END (\d+)$", deadline)
    print(found.group(1), end="")
    return int(found.group(2))


sys.exit(main())
