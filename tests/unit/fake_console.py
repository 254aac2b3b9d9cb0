# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A serial console on a UNIX socket: a real program on a terminal, with noise in its output."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import signal
import socket
import threading
import time

NOISE = (
    b"[   12.345678] eth1: noise that has nothing to do with anything, "
    b"= and / and + and 76 letters long\r\n"
)


class FakeConsole:
    """argv: the program. noise: the number of lines per second inserted into the output."""

    def __init__(self, path, argv, noise=0, environment=None):
        self.path, self.noise, self.printed = str(path), noise, b""
        self._child, self._terminal = pty.fork()
        if not self._child:
            # As after a login. A shell starts background programs with these signals ignored, and
            # Ctrl-C would have no effect.
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            os.execve(
                argv[0],
                argv,
                dict(
                    {"PATH": os.environ["PATH"], "PS1": "guest# ", "TERM": "dumb"},
                    **(environment or {}),
                ),
            )
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen(1)
        self._stop = threading.Event()
        self._random = random.Random(4)  # the same noise each time
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join(5)
        self._server.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        os.close(self._terminal)

    def _serve(self):
        client, last = None, time.monotonic()
        while not self._stop.is_set():
            if self.noise and client and time.monotonic() - last > 1 / self.noise:
                last = time.monotonic()
                self._print(client, NOISE)
            desired = [self._terminal] + ([client] if client else [self._server])
            for ready in select.select(desired, [], [], 0.01)[0]:
                if ready is self._server:
                    client = self._server.accept()[0]
                elif ready is client:
                    try:
                        data = client.recv(65536)
                    except ConnectionResetError:
                        data = b""
                    if data:
                        os.write(self._terminal, data)
                    else:
                        client.close()
                        client = None
                else:
                    try:
                        data = os.read(self._terminal, 4096)
                    except OSError:
                        return  # the program has ended
                    at = (
                        self._random.randrange(len(data) + 1)
                        if self.noise and self._random.random() < 0.3
                        else None
                    )
                    self._print(client, data if at is None else data[:at] + NOISE + data[at:])

    def _print(self, client, data):
        self.printed += data
        if client:
            with contextlib.suppress(OSError):
                client.sendall(data)
