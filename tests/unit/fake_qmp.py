# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A QMP server on a UNIX socket, in a thread: like QEMU, it serves one client at a time."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading


class Refusal:
    """An answer that refuses the command."""

    def __init__(self, desc="no", error_class="GenericError"):
        self.error = {"class": error_class, "desc": desc}


class FakeQmp:
    """Reply to each command with an answer that the test chooses.

    answers: command -> its return value, a Refusal, or a function of the arguments.
    Commands without an answer return {}. greeting=False: no greeting, as for a second client.
    early: the name of an event that comes before the greeting.
    silent: commands without a reply. last: the command that closes the connection after its reply,
    or, if silent, instead of it.
    Afterwards: requests (name, arguments), reads (the number of requests of each read), fds
    (received).
    """

    def __init__(
        self,
        path,
        answers=None,
        greeting=True,
        silent=(),
        last="quit",
        indent=None,
        version=(7, 2, 0),
        early=None,
    ):
        self.path = str(path)
        self.answers = answers or {}
        self.silent = set(silent)
        self.last = last
        self.indent = indent
        self.greeting, self.early = greeting, early
        self.version = dict(zip(("major", "minor", "micro"), version))
        self.requests = []
        self.ids = []
        self.reads = []
        self.fds = []
        self._client = None
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """End as a QEMU ends: the socket file goes, the client sees the end."""
        for channel in (self._server, self._client):
            if channel is not None:
                with contextlib.suppress(OSError):
                    channel.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        for channel in (self._server, self._client):
            if channel is not None:
                channel.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def commands(self):
        """The names of the commands that came, without qmp_capabilities."""
        return [name for name, arguments in self.requests if name != "qmp_capabilities"]

    def send(self, message):
        """Send a message, any JSON."""
        self._client.sendall(json.dumps(message, indent=self.indent).encode() + b"\r\n")

    def event(self, name, data=None, seconds=1):
        """Send an event."""
        self.send(
            dict(
                {"event": name, "timestamp": {"seconds": seconds, "microseconds": 500000}},
                **({"data": data} if data else {}),
            )
        )

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                self._client = self._server.accept()[0]
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._talk()
                self._client.close()

    def _talk(self):
        if self.early:
            self.event(self.early)
        if self.greeting:
            self.send(
                {
                    "QMP": {
                        "version": {"qemu": self.version, "package": "fake"},
                        "capabilities": ["oob"],
                    }
                }
            )
        buffer = b""
        while True:
            data, ancillary, flags, address = self._client.recvmsg(1 << 16, 1024)
            for level, kind, content in ancillary:
                numbers = array.array("i")
                numbers.frombytes(content)
                self.fds += list(numbers)
            if not data:
                return
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            self.reads.append(len(lines))
            for line in lines:
                if not self._answer(json.loads(line)):
                    return

    def _answer(self, request):
        name, arguments = request["execute"], request.get("arguments")
        self.requests.append((name, arguments))
        self.ids.append(request["id"])
        answer = self.answers.get(name, {})
        if callable(answer):
            answer = answer(arguments)
        if name not in self.silent:
            reply = {"error": answer.error} if isinstance(answer, Refusal) else {"return": answer}
            self.send(dict(reply, id=request["id"]))
        return name != self.last
