# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a guest through its serial console: guest.py SOCKET COMMAND [SECONDS]. Ends with the command's exit code."""
import re
import socket
import sys
import time


def main():
    path, command, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 30
    deadline = time.monotonic() + seconds
    # Split by quotes, so that the echo of what is typed is no mark.
    line = "echo BEG''IN; %s; echo EN''D $?\n" % command
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(path)
        console.sendall(line.encode())
        text = ""
        while True:
            console.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                text += console.recv(65536).decode("utf-8", "replace").replace("\r", "")
            except socket.timeout:
                sys.exit("no answer from the guest within %g s: %r" % (seconds, text))
            found = re.search(r"^BEGIN\n(.*?)^END (\d+)$", text, re.DOTALL | re.MULTILINE)
            if found:
                print(found.group(1), end="")
                return int(found.group(2))


sys.exit(main())
