# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A shell behind a serial console, on which the guest's kernel and other programs print whenever they like.

Nothing is taken from the console that does not prove itself. After the login a loop of the guest's own sh reads our lines, without
echo and prompt. Outputs go to files; they come in numbered lines of base64, with a sum of the whole,
and what noise has damaged is asked for again. Our lines carry a word that is new with each connection.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from shlex import quote
from typing import NamedTuple, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.checksums import posix_cksum
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestNotReady,
    LoginFailed,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.console import compile_pattern

_PATIENCE = 0.5  # seconds for a prompt to show
_EMPTY_LINES = (
    7  # that may bring one, before a shell is asked in words; a failed login makes us wait for 3 s
)
_LINE = 900  # bytes of a line: a terminal keeps 4095 of one (termios(3), canonical mode)
_LINES = 3  # lines that are sent before the guest is asked whether it has them: its terminal keeps 4096 bytes that nobody has read yet
_ASK_AGAIN = (
    0.4,
    0.8,
    1.5,
    3,
    6,
    12,
    24,
)  # seconds until what did not come, or came damaged, is asked for again
_WIDTH = 76  # letters in a line of base64 (RFC 2045)
_TRIES = 20
# A terminal that a program left without ICRNL (termios(3)) does not take a carriage return for the end of a line.
_LINE_ENDS = (b"\r", b"\n", b"\r")

_LOOP = (
    'sh -c \'stty -echo icrnl; echo VLAB"-"%(word)s-up; [ "$VLAB_LOOP" ] && exit; export VLAB_LOOP=1; trap "stty echo" 0; trap exit 2;'
    ' while IFS= read -r V; do eval "$V"; done\''
)
_SETUP = (
    'VLAB_T=${VLAB_T:-$(mktemp -d)} && trap "rm -rf $VLAB_T; stty echo" 0; '
    'f() { base64 <$1 | grep -n "" | sed -n "$2s/^/VLAB-%(word)s-$3:/p"; }; '
    "for K in sha256sum sha256 cksum none; do command -v $K >/dev/null && break; done; "
    "k() { echo $(wc -c <$1) $($K <$1); }; "
    's() { R="VLAB-%(word)s-r:$1:$(k $2):$(k $3):;"; echo "$R"; }; '
    '[ -d "$VLAB_T" ] && command -v base64 >/dev/null && [ $K != none ]; echo "VLAB-%(word)s-setup:$?:$K:"'
)
_SUM = rb"(\d+) (\w+)[^:]*"  # size and sum, as k gives them


class Login(NamedTuple):
    """How to get in. Patterns are regular expressions."""

    user: str = "root"
    password: Optional[str] = None
    login_prompt: str = r"(?<!Last )\blogin: *"
    password_prompt: str = r"[Pp]assword: *"
    prompt: str = r"[$#%>] *$"
    failed: str = r"[Ll]ogin incorrect|[Aa]uthentication fail"


class SerialShell:
    """A context manager that gets in on the way in, and leaves the terminal as it was on the way out.

    console: Console, open. timeout: seconds for the way in and for each answer of the guest that needs no program of the user.
    Raises GuestNotReady when nobody answers, LoginRefused, GuestError.
    """

    def __init__(self, console, login=None, timeout=10):
        self.console, self.login, self.timeout = console, login or Login(), timeout
        self.word = base64.b32encode(os.urandom(5)).decode("ascii")
        self._up = re.compile(self._said("up"))

    def _said(self, what):
        return ("VLAB-%s-%s" % (self.word, what)).encode("ascii")

    def __enter__(self):
        get_in(self.console, self.login, self.timeout, _LOOP % {"word": self.word}, self._up)
        match = self._ask(_SETUP % {"word": self.word}, rb"setup:(\d+):(\w+):")
        self._is_sha256 = match.group(2) != b"cksum"
        if match.group(1) != b"0":
            self.__exit__()
            raise GuestError(
                "the guest has not what the serial connection needs: a folder for temporary files, base64, and sha256sum, sha256 or cksum"
            )
        return self

    def __exit__(self, *exception):
        try:
            # Asked for once only: the next shell would take it, too.
            self._send("exit")
            self.console.drain(time.monotonic() + self.timeout)
        except GuestError:
            pass  # it has ended, and so have we

    def run(self, command, data=b"", timeout=None):
        """Run a line for the guest's sh, with data (bytes) on its standard input: (exit code, output, error output), bytes.

        timeout: seconds for the command; for ever without one.
        """
        if len(command) < _LINE // 2 and not data:
            line = (
                "{ printf %%s %s | base64 -d >$VLAB_T/c && sh $VLAB_T/c </dev/null; } >$VLAB_T/o 2>$VLAB_T/e; s $? $VLAB_T/o $VLAB_T/e"
                % _base64(command)
            )
        else:
            self._upload(command.encode("utf-8", "surrogateescape"), "$VLAB_T/c")
            self._upload(data, "$VLAB_T/i")
            line = "sh $VLAB_T/c <$VLAB_T/i >$VLAB_T/o 2>$VLAB_T/e; s $? $VLAB_T/o $VLAB_T/e"
        # Short outputs come at once.
        line += "; [ -s $VLAB_T/o ] && f $VLAB_T/o 1,40 o; [ -s $VLAB_T/e ] && f $VLAB_T/e 1,40 e"
        match = self._ask(line, rb"r:(\d+):" + _SUM + b":" + _SUM + b":;", 'echo "$R"', timeout)
        code, *sums = match.groups()
        return (
            int(code),
            self._download("$VLAB_T/o", "o", *sums[:2]),
            self._download("$VLAB_T/e", "e", *sums[2:]),
        )

    def write(self, path, data, append=False):
        """Write a file of the guest, or add to its end, once all of it has arrived. Raises GuestError."""
        code, _out, error = self.run("cat >%s%s" % (">" if append else "", quote(path)), data)
        if code:
            raise GuestError(
                "cannot write %s in the guest: %s"
                % (path, error.decode("utf-8", "replace").strip())
            )

    def read(self, path, offset=0, size=None):
        """Bytes of a file of the guest from offset on, at most size of them. Raises GuestError."""
        end = "" if size is None else " | head -c %d" % size
        # So that the shell opens the file, and says when it cannot.
        code, data, error = self.run("{ tail -c +%d%s; } <%s" % (offset + 1, end, quote(path)))
        if code:
            raise GuestError(
                "cannot read %s in the guest: %s" % (path, error.decode("utf-8", "replace").strip())
            )
        return data

    def _send(self, line):
        self.console.send(
            line.encode("utf-8", "surrogateescape") + b"\r", time.monotonic() + self.timeout
        )

    def _ask(self, line, answer, again=None, timeout=0):
        """Send a line and wait for our word and what follows it; a damaged answer is asked for again. timeout 0: ours; None: for ever."""
        expected = re.compile(re.escape(self._said("")) + answer)
        self._send(line)
        limit = time.monotonic() + (timeout or self.timeout) if timeout is not None else None
        login = compile_pattern("login_prompt", self.login.login_prompt)
        number = prompts = 0
        while True:
            pause = time.monotonic() + _ASK_AGAIN[min(number, len(_ASK_AGAIN) - 1)]
            # A guest that has started again asks for a login each time that we ask it for an answer.
            which, match = self.console.expect(
                [expected, login] if number > 3 else [expected],
                pause if limit is None else min(pause, limit),
            )
            if which == 0:
                return match
            prompts += which == 1
            if prompts > 2:
                raise GuestError(
                    "the guest's shell has gone: the console at %s asks for a login"
                    % self.console.location
                )
            if limit is not None and time.monotonic() >= limit:
                raise GuestError(
                    "the guest did not answer within %d s on its console"
                    % (timeout or self.timeout)
                )
            self._send(again or line)
            number += 1

    def _upload(self, data, path):
        letters = _base64(data)
        lines = [letters[start : start + _LINE] for start in range(0, len(letters), _LINE)]
        for _try in range(_TRIES):
            self._ask(": >$VLAB_T/b; echo VLAB-%s-new:" % self.word, rb"new:")
            for number, line in enumerate(lines):
                self._send("printf %%s %s >>$VLAB_T/b" % line)
                if number % _LINES == _LINES - 1:
                    self._ask("echo VLAB-%s-has:%d:" % (self.word, number), rb"has:%d:" % number)
            match = self._ask(
                'base64 -d <$VLAB_T/b >%s; echo "VLAB-%s-sum:$(k %s):"' % (path, self.word, path),
                b"sum:" + _SUM + b":",
            )
            if (int(match.group(1)), match.group(2)) == (len(data), self._sum(data)):
                return
        raise GuestError(
            "%d bytes did not reach the guest unharmed in %d tries on its console"
            % (len(data), _TRIES)
        )

    def _sum(self, data):
        return (
            hashlib.sha256(data).hexdigest() if self._is_sha256 else str(posix_cksum(data))
        ).encode("ascii")

    def _download(self, path, mark, size, checksum):
        """What a file of the guest holds, of which the first lines are on their way."""
        size = int(size)
        letters = -(-size // 3) * 4
        total = -(-letters // _WIDTH)
        line = re.compile(re.escape(self._said(mark)) + rb":(\d+):([A-Za-z0-9+/]+=*)\r?\n")
        got = {}
        if not total:
            return b""
        for number in range(_TRIES):
            pause = _ASK_AGAIN[min(number, len(_ASK_AGAIN) - 1)]
            deadline = time.monotonic() + pause
            end = re.compile(re.escape(self._said("end")) + b":%d:" % number)
            self._send("echo VLAB-%s-end:%d:" % (self.word, number))
            while len(got) < total:
                which, match = self.console.expect([line, end], deadline)
                if match is None or which == 1:
                    break
                deadline = time.monotonic() + pause
                index, piece = int(match.group(1)), match.group(2)
                if 1 <= index <= total and len(piece) == (
                    _WIDTH if index < total else letters - _WIDTH * (total - 1)
                ):
                    got[index] = piece
            if len(got) == total:
                data = base64.b64decode(b"".join(got[index] for index in sorted(got)))
                if self._sum(data) == checksum:
                    return data
                got = {}
            for part in _ranges(index for index in range(1, total + 1) if index not in got):
                self._send("f %s %s %s" % (path, part, mark))
        raise GuestError(
            "%d bytes did not come from the guest unharmed in %d tries on its console"
            % (size, _TRIES)
        )


def get_in(console, login, timeout, wake, up):
    """Log in where a login is asked for, and go on until what wake (a line) starts has printed up (a compiled pattern).

    Raises GuestNotReady when the console stays silent, LoginRefused.
    """
    deadline = time.monotonic() + timeout
    asks = [
        compile_pattern("login_prompt", login.login_prompt),
        compile_pattern("password_prompt", login.password_prompt),
        compile_pattern("prompt", login.prompt),
    ]
    refused, said, empty = compile_pattern("login_failed", login.failed), b"", 0
    while time.monotonic() < deadline:
        # A line that somebody left half typed must not have our words; nor must a command, when nothing else helps.
        console.send(
            b"\x15\r" if empty < _EMPTY_LINES else b"\x03\r\n" if empty % 2 else b"\x03\r", deadline
        )
        number, _match = console.expect(asks, min(deadline, time.monotonic() + _PATIENCE))
        if number == 0:
            log_in(console, login, asks, deadline)
        elif number == 1:
            # Somebody else's half login, which the next empty line ends; guests make those wait who fail.
            console.send(b"\r", deadline)
            if console.expect([asks[0]], deadline)[0] == 0:
                log_in(console, login, asks, deadline)
        elif number is None and empty < _EMPTY_LINES:
            empty += 1
            continue
        console.printed = b""
        for pause, end in zip(_ASK_AGAIN, _LINE_ENDS):
            # Its answer may be damaged; the loop that may be there by now answers, too.
            console.send(b"\x15" + wake.encode("ascii") + end, deadline)
            number, _match = console.expect(
                [up, asks[1], refused], min(deadline, time.monotonic() + 2 * pause)
            )
            if number == 0:
                return
            if number is not None:
                break
        said, empty = console.printed or said, empty + 1
    if not console.drain(time.monotonic() + _PATIENCE):
        raise console.input_error()
    raise GuestNotReady(
        "nobody answered at the console %s within %d s: the guest may still be booting, or its prompts are others than those in "
        "login_prompt, password_prompt and prompt. It showed last: %s"
        % (console.location, timeout, said[-200:].decode("utf-8", "replace").strip() or "nothing")
    )


def log_in(console, login, asks, deadline):
    """Answer a login prompt. asks: the compiled patterns of the login prompt, of the password prompt and of the prompt. Raises LoginRefused."""
    console.send(login.user.encode("utf-8") + b"\r", deadline)
    number, _match = console.expect([asks[1], asks[2]], deadline)
    if number == 0:
        if login.password is None:
            console.send(b"\r", deadline)  # the next who comes finds a login prompt
            raise LoginFailed(
                "the guest asks for the password of %s, and none was given" % login.user
            )
        console.send(login.password.encode("utf-8") + b"\r", deadline)
        number, _match = console.expect(
            [compile_pattern("login_failed", login.failed), asks[0], asks[2]],
            (time.monotonic() + deadline) / 2,
        )
        if number in (0, 1):
            raise LoginFailed("the guest did not let %s in with the password given" % login.user)


def _ranges(numbers):
    """The ranges "1,5" of some ascending numbers, for sed."""
    ranges = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ["%d,%d" % tuple(each) for each in ranges]


def _base64(data):
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    return base64.b64encode(data).decode("ascii")
