# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A script for a serial console: wait for output and type, step by step."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.console import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.console import Console

_MASK = "********"
_ANSWER_TIMEOUT = 3  # seconds for a console to answer an empty line
_FINAL_OUTPUT_TIMEOUT = 0.2  # seconds for output after the last step
_MAX_SHOWN_OUTPUT = 500  # characters of the last output, in an error
_MAX_OUTPUT = 1 << 20  # bytes of the transcript
_MAX_MATCH = 1 << 16  # bytes of the text that a pattern matched
_OMITTED = "[earlier output is omitted]\n"


class ConsoleScript:
    """A script and, after run, its outcome.

    console: not open yet. steps: dicts with expect, send, secret, enter, timeout.
    timeout: seconds for a step without its own. newline: what ends a typed line.
    unless: a pattern; if the console answers an empty line with it, run does nothing.
    matches: for each step the text that its pattern matched, or None. changed: whether anything was
    typed.
    """

    def __init__(
        self,
        console: Console,
        steps: Sequence[dict[str, Any]],
        timeout: float = 30,
        newline: str = "\r",
        unless: str | None = None,
    ) -> None:
        self.console, self.steps, self.timeout, self.newline = console, steps, timeout, newline
        self.matches: list[str | None] = []
        self.changed = False
        self._unless = compile_pattern("unless", unless) if unless else None
        self._patterns = [_check_step("steps[%d]" % n, step) for n, step in enumerate(steps)]
        self._output = b""
        self._is_cut = False

    @property
    def transcript(self) -> str:
        """The output of the console, the last MiB of it at most, with secrets masked."""
        text = self._output.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        for step in self.steps:
            if step.get("secret"):
                text = text.replace(step["secret"], _MASK)
        return _OMITTED + text.partition("\n")[2] if self._is_cut else text

    def _record(self, output: bytes) -> None:
        self._output += output
        if len(self._output) > _MAX_OUTPUT:
            self._output, self._is_cut = self._output[-_MAX_OUTPUT:], True

    def run(self) -> None:
        """Run the steps. Raises GuestError naming the step that failed, with the transcript."""
        with self.console as console:
            try:
                if self._unless and self._is_done(console, self._unless):
                    return
                for number, step in enumerate(self.steps):
                    self._run_step(console, number, step)
                # QEMU loses input that it has not read when the connection is closed.
                if not console.drain(time.monotonic() + self.timeout):
                    raise console.input_error()
                self._read_until(console, time.monotonic() + _FINAL_OUTPUT_TIMEOUT)
            except GuestError as error:
                self._record(console.printed)
                raise GuestError(error.message, transcript=self.transcript, matches=self.matches)

    def _is_done(self, console: Console, unless: re.Pattern[bytes]) -> bool:
        deadline = time.monotonic() + min(_ANSWER_TIMEOUT, self.timeout)
        console.send(self.newline.encode("utf-8"), deadline)
        return self._expect(console, unless, deadline) is not None

    def _run_step(self, console: Console, number: int, step: dict[str, Any]) -> None:
        timeout = step.get("timeout") or self.timeout
        deadline = time.monotonic() + timeout
        pattern, matched = self._patterns[number], None
        if pattern:
            matched = self._expect(console, pattern, deadline)
            if matched is None:
                self._record(console.printed)
                console.printed = b""
                raise GuestError(
                    "steps[%d].expect: the console did not show %r within %d s. Its last output: %s"
                    % (
                        number,
                        step["expect"],
                        timeout,
                        self.transcript[-_MAX_SHOWN_OUTPUT:].strip() or "nothing",
                    )
                )
        self.matches.append(
            matched[:_MAX_MATCH].decode("utf-8", "replace") if matched is not None else None
        )
        text = step["secret"] if step.get("secret") is not None else step.get("send")
        if text is not None:
            end = self.newline if step.get("enter") is not False else ""
            self.changed = True
            console.send((text + end).encode("utf-8", "surrogateescape"), deadline)

    def _expect(
        self, console: Console, pattern: re.Pattern[bytes], deadline: float
    ) -> bytes | None:
        """Return the output that matches, or None at the deadline; record the output."""
        _number, match = console.expect([pattern], deadline)
        if match is None:
            return None
        self._record(match.string[: match.end()])
        matched: bytes = match.group()
        return matched

    def _read_until(self, console: Console, deadline: float) -> None:
        # A console may print without a pause: check the clock after each read.
        while console.read(deadline) and time.monotonic() < deadline:
            self._record(console.printed)
            console.printed = b""
        self._record(console.printed)
        console.printed = b""


def _check_step(path: str, step: dict[str, Any]) -> re.Pattern[bytes] | None:
    """Return the compiled pattern of a step, or None. Raises OptionError."""
    if step.get("send") is not None and step.get("secret") is not None:
        raise OptionError(path + ".secret", "give send or secret, not both")
    if all(step.get(key) is None for key in ("expect", "send", "secret")):
        raise OptionError(path, "a step needs expect, send or secret")
    return compile_pattern(path + ".expect", step["expect"]) if step.get("expect") else None
