# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A dialogue on a serial console: wait for this, type that, step by step."""

from __future__ import annotations

import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.console import (
    Console,
    compile_pattern,
)

_MASK = "********"
_AWAKE = 3  # seconds for a console to answer an empty line
_SHOWN = 500  # letters of what came last, in an error


class Dialogue:
    """address: of the console. steps: dicts with expect, send, secret, enter, timeout. timeout: seconds for a step without its own.

    newline: what ends a line that is typed. unless: a pattern; when an empty line makes the console show it, nothing is to be done.
    After hold: transcript (text, without secrets), matches (for each step what was seen, or None), changed.
    """

    def __init__(self, address, steps, timeout=30, newline="\r", unless=None):
        self.address, self.steps, self.timeout, self.newline = address, steps, timeout, newline
        self.unless = compile_pattern("unless", unless) if unless else None
        self.expected = [
            compile_pattern("steps[%d].expect" % number, step["expect"])
            if step.get("expect")
            else None
            for number, step in enumerate(steps)
        ]
        for number, step in enumerate(steps):
            if step.get("send") is not None and step.get("secret") is not None:
                raise OptionError("steps[%d].secret" % number, "give send or secret, not both")
            if (
                step.get("expect") is None
                and step.get("send") is None
                and step.get("secret") is None
            ):
                raise OptionError("steps[%d]" % number, "a step needs expect, send or secret")
        self.matches, self.changed, self._seen = [], False, b""

    @property
    def transcript(self):
        """All that the console printed, with secrets masked."""
        text = self._seen.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        for step in self.steps:
            if step.get("secret"):
                text = text.replace(step["secret"], _MASK)
        return text

    def hold(self):
        """Hold it. Raises GuestError naming the step that the console did not come to, with the transcript."""
        with Console(self.address) as console:
            try:
                if self.unless and self._is_done(console):
                    return
                for number, step in enumerate(self.steps):
                    self._do(console, number, step)
                # What QEMU has not taken when we leave is lost.
                if not console.drain(time.monotonic() + self.timeout):
                    raise console.input_error()
                self._listen(console, time.monotonic() + 0.2)
            except GuestError as error:
                self._seen += console.printed
                raise GuestError(error.message, transcript=self.transcript, matches=self.matches)

    def _is_done(self, console):
        deadline = time.monotonic() + min(_AWAKE, self.timeout)
        console.send(self.newline.encode("utf-8"), deadline)
        return self._until(console, self.unless, deadline) is not None

    def _do(self, console, number, step):
        seconds = step.get("timeout") or self.timeout
        deadline = time.monotonic() + seconds
        match = None
        if self.expected[number]:
            match = self._until(console, self.expected[number], deadline)
            if match is None:
                self._seen += console.printed
                console.printed = b""
                raise GuestError(
                    "steps[%d].expect: the console did not show %r within %d s. It showed last: %s"
                    % (
                        number,
                        step["expect"],
                        seconds,
                        self.transcript[-_SHOWN:].strip() or "nothing",
                    )
                )
        self.matches.append(match.group().decode("utf-8", "replace") if match else None)
        words = step["secret"] if step.get("secret") is not None else step.get("send")
        if words is not None:
            end = self.newline if step.get("enter") is not False else ""
            self.changed = True
            console.send((words + end).encode("utf-8", "surrogateescape"), deadline)

    def _until(self, console, desired, deadline):
        """The match of what is wanted, or None at deadline. What came is seen."""
        _number, match = console.expect([desired], deadline)
        if match:
            self._seen += match.string[: match.end()]
        return match

    def _listen(self, console, deadline):
        while console.read(deadline):
            pass
        self._seen += console.printed
        console.printed = b""
