# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to the server of a hypervisor, by ssh or as a local process; exchange lines of JSON."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import selectors
import subprocess
import tempfile
import time
from typing import Any

import bundle

# Reads the archive and the server from standard input, then runs the server.
BOOTSTRAP = """
import os, sys, tempfile
requests, replies = os.fdopen(os.dup(0), 'rb'), os.fdopen(os.dup(1), 'w')
folder = tempfile.mkdtemp(prefix='vlab-steps-')
os.chmod(folder, 0o755)
for name in ('bundle.zip', 'vlab_steps_server.py'):
    size = int(requests.readline())
    with open(os.path.join(folder, name), 'wb') as stream:
        stream.write(requests.read(size))
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 0)
os.dup2(null, 1)
sys.path[:0] = [os.path.join(folder, 'bundle.zip'), folder]
import vlab_steps_server as server
server.main(os.path.join(folder, 'bundle.zip'), folder, requests, replies)
"""
# Seconds to wait for a reply; longer than a module may run.
REPLY_TIMEOUT = 660


class ChannelFailure(Exception):
    """The server did not start, ended, or does not answer."""


class Channel:
    """A connection to one server."""

    def __init__(self, command: list[str]) -> None:
        """Start the server with a command that runs BOOTSTRAP on the hypervisor."""
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.buffer = b""
        with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
            bundle.main(pathlib.Path(__file__).resolve().parents[2], archive.name)
            payloads = [
                pathlib.Path(archive.name).read_bytes(),
                (pathlib.Path(__file__).parent / "server.py").read_bytes(),
            ]
        try:
            for data in payloads:
                self._send(b"%d\n" % len(data) + data)
        except BrokenPipeError:
            raise ChannelFailure(self._error()) from None

    def _send(self, data: bytes) -> None:
        """Send data to the server."""
        self.stdin.write(data)
        self.stdin.flush()

    def _error(self) -> str:
        """Return the message for a server that has ended, with its error output."""
        self.errors.seek(0)
        text = self.errors.read().decode("utf-8", "replace").strip()
        return "the server of the steps has ended: %s" % text[-2000:]

    def _line(self) -> bytes:
        """Receive a line from the server."""
        deadline = time.monotonic() + REPLY_TIMEOUT
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if time.monotonic() > deadline:
                    raise ChannelFailure("the server of the steps does not answer")
                if selector.select(1):
                    data = os.read(self.stdout.fileno(), 1 << 20)
                    if not data:
                        raise ChannelFailure(self._error())
                    self.buffer += data
        line, _newline, self.buffer = self.buffer.partition(b"\n")
        return line

    def ask(self, action: str, **request: object) -> dict[str, Any]:
        """Send a request; return the reply."""
        try:
            self._send(json.dumps(dict(request, action=action)).encode("utf-8") + b"\n")
        except BrokenPipeError:
            raise ChannelFailure(self._error()) from None
        reply: dict[str, Any] = json.loads(self._line())
        if "error" in reply:
            raise ChannelFailure(reply["error"])
        return reply

    def put(self, name: str, data: bytes, mode: int = 0o600) -> str:
        """Write a temporary file on the hypervisor; return its path."""
        text = base64.b64encode(data).decode("ascii")
        return str(self.ask("put", name=name, data=text, mode=mode)["path"])

    def close(self) -> None:
        """End the server, which deletes its folder."""
        self.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.stdout.close()
        self.errors.close()
