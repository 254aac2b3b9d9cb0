# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server on a UNIX socket that sends without a pause and never listens."""

from __future__ import annotations

import contextlib
import socket
import threading


class Flood:
    """A context manager. first: sent once. data: then sent until the client leaves."""

    def __init__(self, path, data, first=b""):
        self.path, self.first = str(path), first
        self._data = data * max(1, (1 << 16) // len(data))
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._server.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                with self._server.accept()[0] as client, contextlib.suppress(OSError):
                    client.sendall(self.first)
                    while True:
                        client.sendall(self._data)
