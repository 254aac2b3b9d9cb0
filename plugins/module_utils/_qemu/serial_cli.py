# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The command line of a network system behind a serial console: a command is typed, and what is printed until the next prompt is its output.

Such a system tells no exit code, and what others print on its console is in the output.
"""

from __future__ import annotations

import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestNotReady,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.console import compile_pattern
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.serial_shell import Login, log_in

_PATIENCE = 1.0  # seconds for a prompt to show
_TIMEOUT = 60


class SerialCli:
    """A context manager that logs in on the way in, where a login is asked for. Raises GuestNotReady, LoginRefused."""

    def __init__(self, console, login=None, timeout=10):
        self.console, self.login, self.timeout = console, login or Login(), timeout
        self._prompt = compile_pattern("prompt", self.login.prompt)

    def __enter__(self):
        login = self.login
        asks = [
            compile_pattern("login_prompt", login.login_prompt),
            compile_pattern("password_prompt", login.password_prompt),
            self._prompt,
        ]
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            self.console.send(b"\r", deadline)
            number, _match = self.console.expect(asks, min(deadline, time.monotonic() + _PATIENCE))
            if number == 0:
                log_in(self.console, login, asks, deadline)
                return self
            if number == 2:
                self._settle()
                return self
        if not self.console.drain(time.monotonic() + _PATIENCE):
            raise self.console.input_error()
        raise GuestNotReady(
            "no prompt came at the console %s within %d s: the system may still be booting, or prompt is not what it shows: %s"
            % (
                self.console.location,
                self.timeout,
                self.console.printed[-200:].decode("utf-8", "replace").strip() or "nothing",
            )
        )

    def __exit__(self, *exception):
        pass

    def run(self, command, _data=b"", timeout=None):
        """Type a command: (0, what was printed until the next prompt, nothing), bytes."""
        deadline = time.monotonic() + (timeout or _TIMEOUT)
        output = b""
        for line in command.splitlines() or [""]:
            self._settle()
            self.console.send(line.encode("utf-8", "surrogateescape") + b"\r", deadline)
            output += self._until_prompt(line, deadline)
        return 0, output, b""

    def write(self, path, _data, _append=False):
        """Not here. Raises GuestError."""
        raise GuestError("files cannot be transferred to a system without a POSIX shell: %s" % path)

    def read(self, path, _offset=0, _size=None):
        """Not here. Raises GuestError."""
        raise GuestError(
            "files cannot be transferred from a system without a POSIX shell: %s" % path
        )

    def _until_prompt(self, line, deadline):
        before = b""
        while True:
            number, match = self.console.expect([self._prompt], deadline)
            if number is None:
                raise GuestError(
                    "no prompt came after %r in time: is prompt what the system shows? It printed last: %s"
                    % (
                        line,
                        (before + self.console.printed)[-200:].decode("utf-8", "replace").strip(),
                    )
                )
            before += match.string[: match.end()]
            # Text that looks like a prompt, in the middle of an output, has more after it.
            if not self.console.printed and not self.console.read(
                min(deadline, time.monotonic() + 0.2)
            ):
                break
        lines = before.replace(b"\r", b"").split(b"\n")
        # The first is what was typed, the last is the prompt.
        return b"\n".join(lines[1:-1]) + b"\n" if len(lines) > 2 else b""

    def _settle(self):
        while self.console.read(time.monotonic() + 0.1):
            pass
        self.console.printed = b""
