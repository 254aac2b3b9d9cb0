# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Log in on a console: the only code for it, of the serial connection and of scripts."""

from __future__ import annotations

import time
from typing import Callable, NamedTuple, Optional, Pattern, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import LoginFailed
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import (
    Console,
    compile_pattern,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.screen import (
    ECHO_OFF_TIME,
    QUIET_TIME,
    is_shown,
    pause,
    read_until_quiet,
    wait_for,
)

WAKE_TIME = 10  # seconds without output after which an empty line is typed, to bring a prompt
_MAX_QUIET_WAIT = 2  # seconds for a pause after a prompt; messages may come without one


class Login(NamedTuple):
    """How to log in. Patterns are regular expressions.

    password: None if none is known; an empty one is typed as an empty line.
    change: what requests a new password, and its repetition; new_password is the answer.
    retry: seconds after which a refused login is tried again, 0 for never.
    """

    user: str = "root"
    password: Optional[str] = None
    login_prompt: str = r"(?<!Last )\blogin: *"
    password_prompt: str = r"[Pp]assword: *"
    prompt: str = r"[$#%>] *$"
    failed: str = r"[Ll]ogin incorrect|[Aa]uthentication fail"
    new_password: Optional[str] = None
    change: Sequence[str] = ()
    retry: int = 0


class LoginPatterns:
    """The compiled patterns of a Login. Raises OptionError. path: of its options."""

    def __init__(self, login: Login, path: str = "") -> None:
        def compiled(option: str, text: str) -> Pattern[bytes]:
            return compile_pattern(path + option, text)

        self.failed = compiled("failed", login.failed)
        self.login_prompt = compiled("login_prompt", login.login_prompt)
        self.password_prompt = compiled("password_prompt", login.password_prompt)
        self.prompt = compiled("prompt", login.prompt)
        self.change = [
            compiled("change[%d]" % number, text) for number, text in enumerate(login.change)
        ]


class LoginSession:
    """One login on a console that is open.

    patterns: of the login. newline: what ends a typed line. wake: seconds without output after
    which an empty line is typed, 0 for never. record: called with all that the console shows.
    answers: other questions of the system, and what to type.
    """

    def __init__(
        self,
        console: Console,
        login: Login,
        patterns: LoginPatterns,
        newline: bytes = b"\r",
        wake: float = 0,
        record: Callable[[bytes], None] = lambda output: None,
        answers: Sequence[tuple[Pattern[bytes], str]] = (),
    ) -> None:
        self.console, self.login, self.patterns = console, login, patterns
        self.newline, self.wake, self.record, self.answers = newline, wake, record, answers
        # A killed run may have changed it.
        given = [login.password, login.new_password]
        self._passwords: list[str | None] = [text for text in given if text is not None] or [None]
        self._refusals = 0
        self._has_typed = False
        self._is_waiting = False  # for what the guest says about a password

    def log_in(self, deadline: float, at_login_prompt: bool = False) -> bool:
        """Answer what the console requests until its prompt; return False at deadline.

        at_login_prompt: whether the console shows that already. Raises LoginFailed.
        """
        patterns = self.patterns
        texts = [
            patterns.failed,
            *patterns.change,
            patterns.login_prompt,
            patterns.password_prompt,
            *(pattern for pattern, _text in self.answers),
        ]
        if at_login_prompt:
            self._type(self.login.user, deadline)
        while time.monotonic() < deadline:
            found = wait_for(
                self.console, texts, [patterns.prompt], deadline, self.wake, self.newline
            )
            if found is None:
                return False
            self.record(found.output)
            if found.number == len(texts):
                return True
            if self._is_current(found.number, texts, deadline):
                self._answer(found.number, deadline)
        return False

    def _is_current(self, number: int, texts: Sequence[Pattern[bytes]], deadline: float) -> bool:
        """Return whether the system waits for an answer to a text, and has not asked again since.

        An answer to each of two prompts would go to what the system asks next.
        """
        changes = len(self.patterns.change)
        if number == 0:
            return self._has_typed  # a refusal from before is not of this login
        if number <= changes or number == changes + 2:
            read_until_quiet(self.console, ECHO_OFF_TIME, deadline)
        else:
            end = min(deadline, time.monotonic() + _MAX_QUIET_WAIT)
            read_until_quiet(self.console, QUIET_TIME, end)
        return not is_shown(texts, self.console.printed)

    def _answer(self, number: int, deadline: float) -> None:
        changes = len(self.patterns.change)
        if number == 0:
            self._refuse(deadline)
        elif number <= changes:
            self._type(self.login.new_password or "", deadline)
            self._passwords = [self.login.new_password]
            self._is_waiting = False
        elif number == changes + 1:
            if self._is_waiting:
                self._refuse(deadline)
            self._type(self.login.user, deadline)
        elif number > changes + 2:
            self._is_waiting = False
            self._type(self.answers[number - changes - 3][1], deadline)
        else:
            password = self._passwords[0]
            if password is None:
                self._type("", deadline)  # so that the next client finds a login prompt
                raise LoginFailed(
                    "the guest asks for the password of %s, and none was given" % self.login.user
                )
            self._is_waiting = True
            self._type(password, deadline)

    def _refuse(self, deadline: float) -> None:
        """Try again, with the other password or later. Raises LoginFailed."""
        self._is_waiting = False
        self._refusals += 1
        self._passwords = self._passwords[1:] + self._passwords[:1]
        if self._refusals < len(self._passwords):
            return
        if not self.login.retry or time.monotonic() + self.login.retry > deadline:
            times = "" if self._refusals == 1 else " %d times" % self._refusals
            raise LoginFailed("the guest rejected the password of %s%s" % (self.login.user, times))
        if self._refusals % len(self._passwords) == 0:
            pause(self.console, self.login.retry, deadline)

    def _type(self, text: str, deadline: float) -> None:
        self._has_typed = True
        self.console.send(text.encode("utf-8", "surrogateescape") + self.newline, deadline)
