# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Consoles in the browser: the commands for a terminal on the controller, each in a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import secrets
import select
import shlex
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import start_program
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.stream import Stream

ROWS, COLUMNS = 24, 80  # the page has terminals of this size
MAX_CONSOLES = 32
_CHUNK = 1 << 16  # bytes
_INPUT_TIMEOUT = 5  # seconds for a program to take input
_END_TIMEOUT = 3  # seconds for a program to end after its terminal is closed
# The first terminal that the leader of a session opens controls it: ssh asks for passwords there.
_ON_TERMINAL = 'exec <"$0" >"$0" 2>&1; exec "$@"'


class Console:
    """A running command for a console, whose output goes to a stream. Raises HostError."""

    def __init__(self, command: str, stream: Stream, ended: Callable[[Console], None]) -> None:
        self.identity = secrets.token_urlsafe(8)
        self.stream, self._ended = stream, ended
        self._lock, self._has_ended = threading.Lock(), False
        self._terminal, other_side = pty.openpty()
        try:
            fcntl.ioctl(other_side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            self._process = start_program(
                ["/bin/sh", "-c", _ON_TERMINAL, os.ttyname(other_side), *shlex.split(command)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=dict(os.environ, TERM="xterm-256color"),
            )
        except OSError as error:
            os.close(self._terminal)
            raise HostError("cannot start %s: %s" % (command, error.strerror))
        # Held until the output has ended, which a terminal without a program would report at once.
        self._other_side = other_side
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()

    def type(self, text: str) -> None:
        """Pass input on. Raises HostError if the program does not take it."""
        data = text.encode("utf-8", "replace")
        with self._lock:
            while data:
                if self._has_ended:
                    raise HostError("the console has ended")
                if not select.select([], [self._terminal], [], _INPUT_TIMEOUT)[1]:
                    raise HostError("the console takes no input for %d s" % _INPUT_TIMEOUT)
                data = data[os.write(self._terminal, data[:1024]) :]

    def close(self) -> None:
        """End the command and wait for it."""
        for end_signal in (signal.SIGHUP, signal.SIGKILL):
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, end_signal)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_TIMEOUT)
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_TIMEOUT)

    def _forward(self) -> None:
        """Send the output to the stream until the command has ended."""
        process = os.pidfd_open(self._process.pid)
        try:
            while True:
                readable, _write, _error = select.select([self._terminal, process], [], [])
                if self._terminal in readable:
                    if not self.stream.put_output(self.identity, os.read(self._terminal, _CHUNK)):
                        break
                elif process in readable:
                    break
        finally:
            os.close(process)
            self.close()
            with self._lock:
                self._has_ended = True
                os.close(self._other_side)
                os.close(self._terminal)
            self.stream.put_end(self.identity)
            self._ended(self)


class Consoles:
    """The open consoles of all pages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Console] = {}

    def open(self, command: str, stream: Stream) -> str:
        """Open a console; return what names it. Raises HostError."""
        with self._lock:
            if len(self._open) >= MAX_CONSOLES:
                raise HostError("%d consoles are open: close one" % MAX_CONSOLES)
            console = Console(command, stream, self._remove)
            self._open[console.identity] = console
            return console.identity

    def get(self, identity: str, stream: Stream) -> Console | None:
        """Return an open console of a stream."""
        with self._lock:
            console = self._open.get(identity)
        return console if console is not None and console.stream is stream else None

    def close(self, stream: Stream | None = None) -> None:
        """Close the consoles of a stream, or all of them."""
        with self._lock:
            chosen = [one for one in self._open.values() if stream in (None, one.stream)]
        for console in chosen:
            console.close()

    def _remove(self, console: Console) -> None:
        with self._lock:
            self._open.pop(console.identity, None)
