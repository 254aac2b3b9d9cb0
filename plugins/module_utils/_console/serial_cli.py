# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The command line of a network system behind a serial console.

A command is typed, and its output is all that is printed up to the next prompt. Such a system
reports no exit code, and other messages on the console become part of the output.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestGone,
    GuestNotReady,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.login import (
    Login,
    LoginPatterns,
    LoginSession,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.screen import wait_for

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console

PROMPT_TIMEOUT = 1.0  # seconds for a prompt to appear
QUIET_TIME = 0.1  # seconds without output, after which the console is idle
COMMAND_TIMEOUT = 60


class SerialCli:
    """A session on a command line; a context manager that logs in if a login is requested.

    Raises GuestNotReady, LoginFailed, GuestGone if the system ends the session or restarts.
    """

    def __init__(self, console: Console, login: Login | None = None, timeout: float = 10) -> None:
        self.console, self.login, self.timeout = console, login or Login(), timeout
        self._patterns = LoginPatterns(self.login)

    def __enter__(self) -> SerialCli:
        deadline = time.monotonic() + self.timeout
        patterns = self._patterns
        texts = [patterns.login_prompt, patterns.password_prompt]
        quiet_time = QUIET_TIME
        while time.monotonic() < deadline:
            # An empty line also ends an unfinished login of another client.
            self.console.send(b"\r", deadline)
            found = wait_for(
                self.console,
                texts,
                [patterns.prompt],
                min(deadline, time.monotonic() + PROMPT_TIMEOUT),
            )
            if found and found.number == 0:
                LoginSession(self.console, self.login, patterns).log_in(deadline, True)
                return self
            if found and found.number == len(texts):
                self._settle(deadline, quiet_time)
                return self
            # A slow system may still answer this line after the next one.
            quiet_time = PROMPT_TIMEOUT
        if not self.console.drain(time.monotonic() + PROMPT_TIMEOUT / 2):
            raise self.console.input_error()
        raise GuestNotReady(
            "no prompt came at the console %s within %d s: the system may still be booting, or "
            "prompt does not match what it shows: %s"
            % (
                self.console.location,
                self.timeout,
                self.console.printed[-200:].decode("utf-8", "replace").strip() or "nothing",
            )
        )

    def __exit__(self, *exception: object) -> None:
        pass

    def run(
        self, command: str, _data: bytes = b"", timeout: float | None = None
    ) -> tuple[int, bytes, bytes]:
        """Type a command; return (0, what is printed up to the next prompt, b"")."""
        deadline = time.monotonic() + (timeout or COMMAND_TIMEOUT)
        output = b""
        for line in command.splitlines() or [""]:
            self._settle(deadline)
            self.console.send(line.encode("utf-8", "surrogateescape") + b"\r", deadline)
            output += self._until_prompt(line, deadline)
        return 0, output, b""

    def write(self, path: str, _data: bytes, _append: bool = False) -> None:
        """Raise GuestError: it is not supported."""
        raise GuestError("files cannot be transferred to a system without a POSIX shell: %s" % path)

    def read(self, path: str, _offset: int = 0, _size: int | None = None) -> bytes:
        """Raise GuestError: it is not supported."""
        raise GuestError(
            "files cannot be transferred from a system without a POSIX shell: %s" % path
        )

    def _until_prompt(self, line: str, deadline: float) -> bytes:
        found = wait_for(
            self.console, [], [self._patterns.prompt, self._patterns.login_prompt], deadline
        )
        if found is None:
            raise self._no_prompt(line, self.console.printed)
        if found.number == 1:
            raise GuestGone(
                "the session on the console %s has ended: it asks for a login"
                % self.console.location
            )
        before = found.output
        lines = before.replace(b"\r", b"").split(b"\n")
        # The first is the echo of the command, the last is the prompt.
        return b"\n".join(lines[1:-1]) + b"\n" if len(lines) > 2 else b""

    def _no_prompt(self, line: str, output: bytes) -> GuestError:
        shown = output[-200:].decode("utf-8", "replace").strip()
        # A command may print the same as a start of the system.
        if self.console.has_restarted(output):
            return GuestGone(
                "no prompt came after %r: the system has ended or is restarting. It printed last: "
                "%s" % (line, shown)
            )
        return GuestError(
            "no prompt came after %r in time: does prompt match what the system shows? It printed "
            "last: %s" % (line, shown)
        )

    def _settle(self, deadline: float, quiet_time: float = QUIET_TIME) -> None:
        """Discard output until none comes for a time in seconds, or until deadline."""
        while self.console.read(time.monotonic() + quiet_time):
            self.console.printed = b""
            if time.monotonic() > deadline:
                break
        self.console.printed = b""
