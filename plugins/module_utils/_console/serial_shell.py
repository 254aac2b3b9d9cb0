# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A shell behind a serial console, on which the kernel and other programs print at any time.

Only output carrying our token and a valid checksum is accepted. After the login, a loop of the
guest's own sh reads our lines, without echo and prompt. Outputs go to files, which are sent in
numbered lines of base64 with a checksum of the whole; lines that noise has damaged are requested
again. The token is new for each connection.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from shlex import quote
from typing import Iterable, Pattern

from ansible_collections.vlab.qemu.plugins.module_utils._common.checksums import posix_cksum
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestGone,
    GuestNotReady,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import (
    Console,
    compile_pattern,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.login import (
    Login,
    LoginPatterns,
    LoginSession,
)

PROMPT_TIMEOUT = 0.5  # seconds for a prompt to appear
# Seconds until a missing or damaged answer is requested again.
RETRY_INTERVALS = (0.4, 0.8, 1.5, 3, 6, 12, 24)
MAX_TRIES = 20  # of a transfer
MAX_OUTPUT = 16 << 20  # bytes, as with the guest agent
MIN_RATE = 500  # bytes of base64 per second of a transfer, after MIN_TRANSFER_TIME
MIN_TRANSFER_TIME = 300  # seconds: the retry intervals of all tries
# Empty lines to send before a shell is tried without a prompt. A failed login delays its prompt by
# 3 seconds.
MAX_EMPTY_LINES = 7
MAX_LINE = 900  # bytes: a terminal keeps at most 4095 of a line (termios(3), canonical mode)
# Lines to send before the guest confirms them: its terminal keeps 4096 unread bytes.
LINES_PER_CONFIRMATION = 3
BASE64_WIDTH = 76  # characters in a line (RFC 2045)
# A carriage return does not end a line if a program has left the terminal without ICRNL
# (termios(3)).
LINE_ENDS = (b"\r", b"\n", b"\r")

_LOOP = (
    'sh -c \'stty -echo icrnl; echo VLAB"-"%(token)s-up; [ "$VLAB_LOOP" ] && exit; '
    'export VLAB_LOOP=1; trap "stty echo" 0; trap exit 2;'
    ' while IFS= read -r V; do eval "$V"; done\''
)
_SETUP = (
    'VLAB_T=${VLAB_T:-$(mktemp -d)} && trap "rm -rf $VLAB_T; stty echo" 0; '
    'f() { base64 <$1 | grep -n "" | sed -n "$2s/^/VLAB-%(token)s-$3:/p"; }; '
    "for K in sha256sum sha256 cksum none; do command -v $K >/dev/null && break; done; "
    "k() { echo $(wc -c <$1) $($K <$1); }; "
    's() { R="VLAB-%(token)s-r:$1:$(k $2):$(k $3):;"; echo "$R"; }; '
    '[ -d "$VLAB_T" ] && command -v base64 >/dev/null && [ $K != none ]; '
    'echo "VLAB-%(token)s-setup:$?:$K:"'
)
_RUN = "{ printf %%s %s | base64 -d >$VLAB_T/c && sh $VLAB_T/c </dev/null; } >$VLAB_T/o 2>$VLAB_T/e"
_RUN_FILES = "sh $VLAB_T/c <$VLAB_T/i >$VLAB_T/o 2>$VLAB_T/e"
# Short outputs follow the result at once.
_REPORT = (
    "; s $? $VLAB_T/o $VLAB_T/e"
    "; [ -s $VLAB_T/o ] && f $VLAB_T/o 1,40 o; [ -s $VLAB_T/e ] && f $VLAB_T/e 1,40 e"
)
_SUM = rb"(\d{1,15}) (\w+)[^:]*"  # size and checksum, as the function k prints them


class SerialShell:
    """A shell session; a context manager that logs in, and restores the terminal at its end.

    console: open. timeout: seconds for the login, and for each answer that does not depend on a
    program of the user.
    Raises GuestNotReady if nothing answers, GuestGone if the guest ends or restarts, LoginFailed,
    GuestError.
    """

    def __init__(self, console: Console, login: Login | None = None, timeout: float = 10) -> None:
        self.console, self.login, self.timeout = console, login or Login(), timeout
        self.token = base64.b32encode(os.urandom(5)).decode("ascii")
        self._up = re.compile(self._marker("up"))
        self._is_sha256 = True

    def _marker(self, subject: str) -> bytes:
        """Return the text that an answer of this session starts with."""
        return ("VLAB-%s-%s" % (self.token, subject)).encode("ascii")

    def __enter__(self) -> SerialShell:
        start_shell(self.console, self.login, self.timeout, _LOOP % {"token": self.token}, self._up)
        match = self._ask(_SETUP % {"token": self.token}, rb"setup:(\d{1,3}):(\w+):")
        self._is_sha256 = match.group(2) != b"cksum"
        if match.group(1) != b"0":
            self.__exit__()
            raise GuestError(
                "the guest lacks tools that the serial connection needs: a folder for temporary "
                "files, base64, and sha256sum, sha256 or cksum"
            )
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            # Sent once only: the next shell would run a second one.
            self._send("exit")
            self.console.drain(time.monotonic() + self.timeout)
        except GuestError:
            pass  # the guest has ended, and the session with it

    def run(
        self, command: str, data: bytes = b"", timeout: float | None = None
    ) -> tuple[int, bytes, bytes]:
        """Run a line of the guest's sh; return (exit code, output, error output), in bytes.

        data: its standard input. timeout: seconds for the command; default: until the guest ends.
        """
        if len(command) < MAX_LINE // 2 and not data:
            line = _RUN % _base64(command)
        else:
            self._upload(command.encode("utf-8", "surrogateescape"), "$VLAB_T/c")
            self._upload(data, "$VLAB_T/i")
            line = _RUN_FILES
        match = self._ask(
            line + _REPORT, rb"r:(\d{1,3}):" + _SUM + b":" + _SUM + b":;", 'echo "$R"', timeout
        )
        code, *sums = match.groups()
        return (
            int(code),
            self._download("$VLAB_T/o", "o", *sums[:2]),
            self._download("$VLAB_T/e", "e", *sums[2:]),
        )

    def write(self, path: str, data: bytes, append: bool = False) -> None:
        """Write a file of the guest, or append to it, once all data has arrived.

        Raises GuestError.
        """
        code, _out, error = self.run("cat >%s%s" % (">" if append else "", quote(path)), data)
        if code:
            raise GuestError(
                "cannot write %s in the guest: %s"
                % (path, error.decode("utf-8", "replace").strip())
            )

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes of a guest's file from offset on, at most size of them.

        Raises GuestError.
        """
        end = "" if size is None else " | head -c %d" % size
        # The shell opens the file, so that a failure becomes the exit code.
        code, data, error = self.run("{ tail -c +%d%s; } <%s" % (offset + 1, end, quote(path)))
        if code:
            raise GuestError(
                "cannot read %s in the guest: %s" % (path, error.decode("utf-8", "replace").strip())
            )
        return data

    def _send(self, line: str) -> None:
        self.console.send(
            line.encode("utf-8", "surrogateescape") + b"\r", time.monotonic() + self.timeout
        )

    def _ask(
        self, line: str, answer: bytes, again: str | None = None, timeout: float | None = 0
    ) -> re.Match[bytes]:
        """Send a line and wait for our token and answer (a pattern) after it.

        again: the line to send if the answer is missing or damaged; default: line.
        timeout: in seconds; 0: that of the session; None: until the guest ends.
        """
        expected = re.compile(re.escape(self._marker("")) + answer)
        self._send(line)
        limit = time.monotonic() + (timeout or self.timeout) if timeout is not None else None
        login = compile_pattern("login_prompt", self.login.login_prompt)
        tries = prompts = 0
        while True:
            pause = time.monotonic() + _retry_interval(tries)
            # A guest that has rebooted asks for a login each time it gets a line.
            which, match = self.console.expect_alive(
                [expected, login] if tries > 3 else [expected],
                pause if limit is None else min(pause, limit),
            )
            if match is not None and which == 0:
                return match
            prompts += which == 1
            if prompts > 2:
                raise GuestGone(
                    "the guest's shell has ended: the console at %s asks for a login"
                    % self.console.location
                )
            if limit is not None and time.monotonic() >= limit:
                error = GuestError if timeout else GuestNotReady
                raise error(
                    "the guest did not answer within %d s on its console"
                    % (timeout or self.timeout)
                )
            self._send(again or line)
            tries += 1

    def _upload(self, data: bytes, path: str) -> None:
        """Write data to a temporary file of the guest."""
        letters = _base64(data)
        lines = [letters[start : start + MAX_LINE] for start in range(0, len(letters), MAX_LINE)]
        for _try in range(MAX_TRIES):
            self._ask(": >$VLAB_T/b; echo VLAB-%s-new:" % self.token, rb"new:")
            for number, line in enumerate(lines):
                self._send("printf %%s %s >>$VLAB_T/b" % line)
                if number % LINES_PER_CONFIRMATION == LINES_PER_CONFIRMATION - 1:
                    self._ask("echo VLAB-%s-has:%d:" % (self.token, number), rb"has:%d:" % number)
            match = self._ask(
                'base64 -d <$VLAB_T/b >%s; echo "VLAB-%s-sum:$(k %s):"' % (path, self.token, path),
                b"sum:" + _SUM + b":",
            )
            if (int(match.group(1)), match.group(2)) == (len(data), self._checksum(data)):
                return
        raise GuestError(
            "%d bytes did not reach the guest undamaged in %d tries on its console"
            % (len(data), MAX_TRIES)
        )

    def _checksum(self, data: bytes) -> bytes:
        return (
            hashlib.sha256(data).hexdigest() if self._is_sha256 else str(posix_cksum(data))
        ).encode("ascii")

    def _download(self, path: str, subject: str, size: bytes, checksum: bytes) -> bytes:
        """Return the content of a temporary file of the guest, whose first lines are on their way.

        size, checksum: as the guest reported them.
        """
        if int(size) > MAX_OUTPUT:
            raise GuestError(
                "the command wrote more than %d MiB to its console: redirect the output to a "
                "file, and fetch that" % (MAX_OUTPUT >> 20)
            )
        letters = -(-int(size) // 3) * 4
        total = -(-letters // BASE64_WIDTH)
        line = re.compile(re.escape(self._marker(subject)) + rb":(\d{1,9}):([A-Za-z0-9+/]+=*)\r?\n")
        found: dict[int, bytes] = {}
        if not total:
            return b""
        limit = time.monotonic() + MIN_TRANSFER_TIME + letters / MIN_RATE
        for number in range(MAX_TRIES):
            if time.monotonic() > limit:
                break
            deadline = time.monotonic() + _retry_interval(number)
            end = re.compile(re.escape(self._marker("end")) + b":%d:" % number)
            self._send("echo VLAB-%s-end:%d:" % (self.token, number))
            while len(found) < total:
                which, match = self.console.expect_alive([line, end], min(deadline, limit))
                if match is None or which == 1 or time.monotonic() > deadline:
                    break
                index, piece = int(match.group(1)), match.group(2)
                if 1 <= index <= total and len(piece) == (
                    BASE64_WIDTH if index < total else letters - BASE64_WIDTH * (total - 1)
                ):
                    if index not in found:  # a guest that repeats itself makes no progress
                        deadline = time.monotonic() + _retry_interval(number)
                    found[index] = piece
            if len(found) == total:
                data = _decode(b"".join(found[index] for index in sorted(found)))
                if data is not None and self._checksum(data) == checksum:
                    return data
                found = {}
            for part in _ranges(index for index in range(1, total + 1) if index not in found):
                self._send("f %s %s %s" % (path, part, subject))
        raise GuestError(
            "%d bytes did not come from the guest undamaged in %d tries on its console"
            % (int(size), MAX_TRIES)
        )


def start_shell(
    console: Console, login: Login, timeout: float, line: str, started: Pattern[bytes]
) -> None:
    """Log in if a login is requested, then send line until its output matches started.

    Raises GuestNotReady if the console stays silent, LoginFailed.
    """
    deadline = time.monotonic() + timeout
    patterns = LoginPatterns(login)
    prompts = [patterns.login_prompt, patterns.password_prompt, patterns.prompt]
    last_output, empty_lines = b"", 0
    while time.monotonic() < deadline:
        console.send(_wake_up(empty_lines), deadline)
        number, _match = console.expect(prompts, min(deadline, time.monotonic() + PROMPT_TIMEOUT))
        if number == 0:
            log_in(console, login, patterns, deadline)
        elif number == 1:
            # Another client's unfinished login, which an empty line ends. The guest delays the
            # login prompt after a failed one.
            console.send(b"\r", deadline)
            if console.expect([prompts[0]], deadline)[0] == 0:
                log_in(console, login, patterns, deadline)
        elif number is None and empty_lines < MAX_EMPTY_LINES:
            empty_lines += 1
            continue
        if _send_until_started(console, login, line, started, deadline):
            return
        last_output, empty_lines = console.printed or last_output, empty_lines + 1
    if not console.drain(time.monotonic() + PROMPT_TIMEOUT):
        raise console.input_error()
    raise GuestNotReady(
        "nothing answered at the console %s within %d s: the guest may still be booting, or its "
        "prompts are others than those in login_prompt, password_prompt and prompt. It showed "
        "last: %s"
        % (
            console.location,
            timeout,
            last_output[-200:].decode("utf-8", "replace").strip() or "nothing",
        )
    )


def _wake_up(empty_lines: int) -> bytes:
    """Return the keys that bring a prompt: Ctrl-U first, as there may be unfinished input.

    After some tries, Ctrl-C ends a running command.
    """
    if empty_lines < MAX_EMPTY_LINES:
        return b"\x15\r"
    return b"\x03\r\n" if empty_lines % 2 else b"\x03\r"


def _send_until_started(
    console: Console, login: Login, line: str, started: Pattern[bytes], deadline: float
) -> bool:
    """Send a line a few times; return True once its output matches started.

    Its output may be damaged; the loop that it has started then answers the next line.
    """
    console.printed = b""
    refusals = [
        compile_pattern("password_prompt", login.password_prompt),
        compile_pattern("login_failed", login.failed),
    ]
    for interval, end in zip(RETRY_INTERVALS, LINE_ENDS):
        console.send(b"\x15" + line.encode("ascii") + end, deadline)
        number, _match = console.expect(
            [started, *refusals], min(deadline, time.monotonic() + 2 * interval)
        )
        if number is not None:
            return number == 0
    return False


def log_in(console: Console, login: Login, patterns: LoginPatterns, deadline: float) -> None:
    """Answer a login prompt that the console shows. Raises LoginFailed.

    A shell may have a prompt that is not known: half of the time is for what comes then.
    """
    limit = (time.monotonic() + deadline) / 2
    LoginSession(console, login, patterns).log_in(limit, at_login_prompt=True)


def _retry_interval(tries: int) -> float:
    return RETRY_INTERVALS[min(tries, len(RETRY_INTERVALS) - 1)]


def _ranges(numbers: Iterable[int]) -> list[str]:
    """Return ascending numbers as ranges for sed: "1,5"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ["%d,%d" % (first, last) for first, last in ranges]


def _decode(letters: bytes) -> bytes | None:
    """Return the bytes of base64 text; None if it is damaged."""
    try:
        return base64.b64decode(letters)
    except ValueError:
        return None


def _base64(data: str | bytes) -> str:
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    return base64.b64encode(data).decode("ascii")
