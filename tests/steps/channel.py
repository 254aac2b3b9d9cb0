# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the server of a hypervisor: one process, ssh or a local Python, with lines of JSON both ways."""

from __future__ import annotations

import base64
import json
import pathlib
import selectors
import subprocess
import tempfile
import time

import bundle

# Reads the archive and the server from its standard input, and becomes the server.
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
# A request that is not answered by then is lost; longer than a module may run.
REPLY_TIMEOUT = 660


class ChannelFailure(Exception):
    """The server could not be started, or is gone."""


class Channel:
    """One server. `command` starts a Python on the hypervisor, and is given the bootstrap as its last word."""

    def __init__(self, command: list[str]) -> None:
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )
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
            raise ChannelFailure(self._words()) from None

    def _send(self, data: bytes) -> None:
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def _words(self) -> str:
        self.errors.seek(0)
        return (
            "the server of the steps is gone: %s"
            % self.errors.read().decode("utf-8", "replace").strip()[-2000:]
        )

    def _line(self) -> bytes:
        deadline = time.monotonic() + REPLY_TIMEOUT
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if time.monotonic() > deadline:
                    raise ChannelFailure("the server of the steps does not answer")
                if selector.select(1):
                    data = self.process.stdout.read1(1 << 20)
                    if not data:
                        raise ChannelFailure(self._words())
                    self.buffer += data
        line, _newline, self.buffer = self.buffer.partition(b"\n")
        return line

    def ask(self, action: str, **request: object) -> dict:
        """Have the server do something; return its reply."""
        try:
            self._send(json.dumps(dict(request, action=action)).encode("utf-8") + b"\n")
        except BrokenPipeError:
            raise ChannelFailure(self._words()) from None
        reply = json.loads(self._line())
        if "trouble" in reply:
            raise ChannelFailure(reply["trouble"])
        return reply

    def put(self, name: str, data: bytes, mode: int = 0o600) -> str:
        return self.ask("put", name=name, data=base64.b64encode(data).decode("ascii"), mode=mode)[
            "path"
        ]

    def close(self) -> None:
        """End the server; its folder goes with it."""
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
