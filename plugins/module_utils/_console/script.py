# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A script on a serial console: wait for output and type, step by step."""

from __future__ import annotations

import itertools
import re
import time
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import compile_pattern
from ansible_collections.vlab.qemu.plugins.module_utils._console.login import (
    WAKE_TIME,
    LoginSession,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.screen import (
    ECHO_OFF_TIME,
    is_shown,
    pause,
    read_until_quiet,
    type_text,
    wait_for,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.steps import (
    Answer,
    Step,
    check_steps,
    secrets_of,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.transcript import Transcript

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console
    from ansible_collections.vlab.qemu.plugins.module_utils._console.screen import Found

_ANSWER_TIMEOUT = 3  # seconds for a console to answer an empty line
_FINAL_OUTPUT_TIMEOUT = 0.2  # seconds for output after the last step
_MAX_MATCH = 1 << 16  # bytes of the text that a pattern matched


class Script:
    """A script and, after run, its outcome.

    console: not open yet. options: those of SCRIPT_SPEC in steps.py. unless: a pattern; if the
    console answers an empty line with it, run does nothing. path: where the options are, for
    errors.
    matches: for each step the text that its expect matched, or None. changed: whether anything was
    typed. Raises OptionError for options that cannot be used.
    """

    def __init__(
        self,
        console: Console,
        options: Mapping[str, Any],
        unless: str | None = None,
        path: str = "",
    ) -> None:
        self.console = console
        self.timeout: float = options.get("timeout") or 30
        newline = options.get("newline")
        self._newline = ("\r" if newline is None else newline).encode("utf-8")
        prompt, errors = options.get("prompt"), options.get("errors")
        self._prompt = prompt
        self._prompts = [compile_pattern(path + "prompt", prompt)] if prompt else []
        if errors:
            compile_pattern(path + "errors", errors)
        echo = options.get("echo")
        if echo and not prompt:
            raise OptionError(path + "echo", "it needs prompt")
        self._echo = bool(prompt) if echo is None else bool(echo)
        self.steps = check_steps(path + "steps", options["steps"], prompt, errors)
        self._unless = compile_pattern("unless", unless) if unless else None
        self._transcript = Transcript(secrets_of(options["steps"]))
        self.matches: list[str | None] = []
        self.changed = False

    @property
    def transcript(self) -> str:
        """The output of the console, the last MiB of it at most, with secrets masked."""
        return self._transcript.text

    @property
    def last_lines(self) -> str:
        """The last lines of the output, for an error."""
        return self._transcript.last_lines

    def run(self, shown: bytes = b"") -> None:
        """Run the steps. Raises GuestError naming the step that failed, with the transcript.

        shown: what the console has shown before the connection.
        """
        with self.console as console:
            console.printed = shown
            try:
                if self._unless and self._is_done(self._unless):
                    return
                for step in self.steps:
                    self._run_step(step)
                # QEMU loses input that it has not read when the connection is closed.
                if not console.drain(time.monotonic() + self.timeout):
                    raise console.input_error()
                self._read_final_output()
            except GuestError as error:
                self._record_rest()
                raise type(error)(
                    self._transcript.masked(error.message),
                    transcript=self.transcript,
                    matches=self.matches,
                )

    # Output.

    def _record_rest(self) -> None:
        self._transcript.add(self.console.printed)
        self.console.printed = b""

    def _read_final_output(self) -> None:
        # A console may print without a pause: check the clock after each read.
        deadline = time.monotonic() + _FINAL_OUTPUT_TIMEOUT
        while self.console.read(deadline) and time.monotonic() < deadline:
            self._record_rest()
        self._record_rest()

    def _is_done(self, unless: re.Pattern[bytes]) -> bool:
        deadline = time.monotonic() + min(_ANSWER_TIMEOUT, self.timeout)
        self.console.send(self._newline, deadline)
        return self._wait([unless], [], deadline) is not None

    def _wait(
        self,
        texts: Sequence[re.Pattern[bytes]],
        prompts: Sequence[re.Pattern[bytes]],
        deadline: float,
    ) -> Found | None:
        """Wait for one of texts or a prompt, and record the output up to it."""
        wake = WAKE_TIME if prompts else 0
        found = wait_for(self.console, texts, prompts, deadline, wake, self._newline)
        if found:
            self._transcript.add(found.output)
        return found

    def _failure(self, where: str, problem: str) -> GuestError:
        self._record_rest()
        return GuestError(
            "%s: %s. Its last output: %s" % (where, problem, self._transcript.last_lines)
        )

    def _ends(self, step: Step) -> tuple[list[re.Pattern[bytes]], list[re.Pattern[bytes]]]:
        """Return what ends a step: a text, or the prompt."""
        return ([step.until], []) if step.until else ([], self._prompts)

    def _no_end(self, step: Step, where: str, timeout: float) -> GuestError:
        """Return the error for a step whose end does not come."""
        option = "until" if step.until else "prompt"
        return self._failure(
            "%s.%s" % (where, option),
            "the console did not show %r within %d s"
            % (step.given["until"] if step.until else self._prompt, timeout),
        )

    # Steps.

    def _run_step(self, step: Step) -> None:
        if self._is_skipped(step):
            self.matches.append(None)
            return
        timeout = step.given.get("timeout") or self.timeout
        self.matches.append(self._expect(step, timeout))
        if step.action == "send" and step.answers:
            deadline = time.monotonic() + timeout
            self._type(step, step.path, str(step.given["send"]), deadline, timeout)
            self._answer(step, timeout)
        elif step.action in ("send", "secret"):
            self._send(step, step.path, str(step.given[step.action]), timeout)
        elif step.action == "lines":
            self._send_lines(step, str(step.given["lines"]), timeout)
        elif step.action == "answer":
            self._answer(step, timeout)
        elif step.action == "login":
            self._log_in(step, timeout)
        elif step.until:
            self._wait_end(step, step.path, time.monotonic() + timeout, timeout)

    def _is_skipped(self, step: Step) -> bool:
        shows = self._transcript.shows
        return (step.if_shown is not None and not shows(step.if_shown)) or (
            step.unless_shown is not None and shows(step.unless_shown)
        )

    def _expect(self, step: Step, timeout: float) -> str | None:
        """Wait for what a step expects; return the text that matched."""
        if step.expect is None:
            return None
        found = self._wait([step.expect], [], time.monotonic() + timeout)
        if found is None:
            raise self._failure(
                step.path + ".expect",
                "the console did not show %r within %d s" % (step.given["expect"], timeout),
            )
        return found.match.group()[:_MAX_MATCH].decode("utf-8", "replace")

    def _wait_end(self, step: Step, where: str, deadline: float, timeout: float) -> bytes:
        """Return the output up to the end of a step. Raises GuestError if it does not come."""
        found = self._wait(*self._ends(step), deadline)
        if found is None:
            raise self._no_end(step, where, timeout)
        return found.output

    def _send(self, step: Step, where: str, text: str, timeout: float) -> None:
        """Type a text until it is accepted, and check its output."""
        for attempt in itertools.count(1):
            deadline = time.monotonic() + timeout
            self._type(step, where, text, deadline, timeout)
            if not (step.until or self._prompts):
                return
            output = self._wait_end(step, where, deadline, timeout)
            retry = step.retry
            if retry is None or not retry.applies(output):
                self._check_errors(step, where, text, output)
                return
            if attempt >= retry.tries:
                raise self._failure(where + ".retry", "it was refused %d times" % attempt)
            pause(self.console, retry.every, time.monotonic() + retry.every)
            self._record_rest()

    def _check_errors(self, step: Step, where: str, text: str, output: bytes) -> None:
        error = step.errors.search(output) if step.errors else None
        if error:
            shown = "a secret" if step.action == "secret" else self._transcript.shown_text(text)
            raise self._failure(where, "the system refused %s" % shown)

    def _type(self, step: Step, where: str, text: str, deadline: float, timeout: float) -> None:
        """Type a text. Raises GuestError if it is not echoed."""
        is_secret = step.action == "secret"
        if self._prompts or step.until:
            # What it waits for must come after what it types.
            self._record_rest()
        if is_secret and self._prompts:
            read_until_quiet(self.console, ECHO_OFF_TIME, deadline)
        self.changed = True
        output, lost = type_text(self.console, text, deadline, self._echo and not is_secret)
        self._transcript.add(output)
        if lost:
            raise self._failure(
                where,
                "the console did not echo %s as typed within %d s"
                % (self._transcript.shown_text(lost), timeout),
            )
        if step.given.get("enter") is not False:
            self.console.send(self._newline, deadline)

    def _send_lines(self, step: Step, text: str, timeout: float) -> None:
        is_paste = bool(step.given.get("paste"))
        deadline = time.monotonic() + timeout
        for number, line in enumerate(text.expandtabs().splitlines(), 1):
            where = "%s.lines, line %d" % (step.path, number)
            if not line.strip():
                continue
            if is_paste:
                deadline = time.monotonic() + timeout
                self._type(step, where, line, deadline, timeout)
            else:
                self._send(step, where, line, timeout)
        if is_paste and step.until:
            output = self._wait_end(step, step.path, deadline, timeout)
            self._check_errors(step, step.path, "the lines", output)

    def _answer(self, step: Step, timeout: float) -> None:
        """Answer the questions that come, in any order, until the step ends."""
        deadline = time.monotonic() + timeout
        texts, prompts = self._ends(step)
        answers = list(step.answers)
        while True:
            # What ends the step, such as a prompt, counts before the same text as a question.
            found = self._wait([*texts, *(answer.expect for answer in answers)], prompts, deadline)
            if found is None or time.monotonic() > deadline:
                raise self._no_end(step, step.path, timeout)
            number = found.number - len(texts)
            self._check_errors(step, step.path, "the answers", found.output)
            if not 0 <= number < len(answers):
                return
            answer = answers[number]
            if answer.is_secret:
                read_until_quiet(self.console, ECHO_OFF_TIME, deadline)
            if is_shown([answer.expect], self.console.printed):
                continue  # It is asked again: a second answer would go to the next question.
            if answer.once:
                answers.remove(answer)
            self._type_answer(answer, deadline)

    def _type_answer(self, answer: Answer, deadline: float) -> None:
        self.changed = True
        text = answer.text.encode("utf-8", "surrogateescape")
        self.console.send(text + (self._newline if answer.enter else b""), deadline)

    def _log_in(self, step: Step, timeout: float) -> None:
        if step.login is None or step.login_patterns is None:
            return
        session = LoginSession(
            self.console,
            step.login,
            step.login_patterns,
            self._newline,
            WAKE_TIME,
            self._transcript.add,
            [(answer.expect, answer.text) for answer in step.answers],
        )
        self.changed = True
        try:
            is_in = session.log_in(time.monotonic() + timeout)
        except GuestError as error:
            raise type(error)("%s.login: %s" % (step.path, error.message))
        if not is_in:
            raise self._failure(
                step.path + ".login",
                "the console did not show %r within %d s" % (step.login.prompt, timeout),
            )
