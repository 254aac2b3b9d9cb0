# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The control socket of a program that passes on frames: one line of JSON, and one as the answer.

Such a program runs by itself on the hypervisor, so this module imports only the standard library.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import time

# Of typing, see the engine.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

MAX_CLIENTS = 8
BACKLOG = 64
MAX_REQUEST = 1 << 20  # bytes of a request
CLIENT_TIMEOUT = 10  # seconds for a request and its answer


def listen(path: str) -> socket.socket:
    """Return a socket that listens at a path."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def numeric_address(value: Any) -> tuple[str, int]:
    """Return an address and a port that a request gives. Raises ValueError, TypeError."""
    host, port = value
    with contextlib.suppress(OSError, TypeError, ValueError):
        # No name, which could take minutes to resolve.
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        if isinstance(port, int) and 0 < port < 65536:
            return host, port
    raise ValueError("%.80r is not an address and a port" % (value,))


class _Client:
    """One client."""

    def __init__(self, channel: socket.socket, now: float) -> None:
        channel.setblocking(False)
        self.channel, self.deadline = channel, now + CLIENT_TIMEOUT
        self.request, self.answer = bytearray(), b""

    def receive(self) -> bool:
        """Read what has come; return whether the request is complete or has ended."""
        with contextlib.suppress(BlockingIOError):
            data = self.channel.recv(1 << 16)
            self.request += data
            if not data or len(self.request) > MAX_REQUEST:
                return True
        return b"\n" in self.request

    def send(self) -> None:
        """Write what is possible of the answer."""
        with contextlib.suppress(BlockingIOError):
            self.answer = self.answer[self.channel.send(self.answer) :]


class Control:
    """A control socket and its clients. execute: returns the answer to a request.

    execute may raise OSError, ValueError, KeyError and TypeError.
    """

    def __init__(self, path: str, execute: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._execute = execute
        self._listener = listen(path)
        self._clients: list[_Client] = []

    def readers(self) -> list[Any]:
        """Return the sockets that are to be read."""
        waiting = [client.channel for client in self._clients if not client.answer]
        return [self._listener, *waiting]

    def writers(self) -> list[Any]:
        """Return the sockets that are to be written."""
        return [client.channel for client in self._clients if client.answer]

    def serve(self, ready: set[Any]) -> None:
        """Do what the clients want, as far as it is possible now. ready: sockets."""
        if not self._clients and self._listener not in ready:
            return
        now = time.monotonic()
        if self._listener in ready:
            with contextlib.suppress(OSError):  # there are no more, or descriptors are short
                for _client in range(BACKLOG):
                    self._clients.append(_Client(self._listener.accept()[0], now))
        for client in list(self._clients):
            is_done = now > client.deadline or len(self._clients) > MAX_CLIENTS
            if not is_done and client.channel in ready:
                is_done = self._advance(client)
            if is_done:
                client.channel.close()
                self._clients.remove(client)

    def _advance(self, client: _Client) -> bool:
        """Read or write what is possible; return whether the client is done."""
        try:
            if not client.answer:
                if not client.receive():
                    return False
                client.answer = self._answer(bytes(client.request)) + b"\n"
            client.send()
        except OSError:
            return True
        return not client.answer

    def _answer(self, request: bytes) -> bytes:
        try:
            answer = self._execute(json.loads(request))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            answer = {"error": "%s: %.500s" % (type(error).__name__, error)}
        gc.collect()
        return json.dumps(answer).encode()
