# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Functions that the test runners share: run a program with a time limit, print results."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import subprocess
import time
from typing import Callable, Optional

# The exit code of a program that was ended at its time limit, as of timeout(1).
TIMED_OUT = 124
POLL_INTERVAL = 0.2  # seconds between two looks at the log and the time limit of a program

LineHandler = Callable[[str], object]


class Programs:
    """Run programs, from several threads if needed, and end all of them on request.

    Each program has its own session, so that it can be ended together with its children.
    """

    def __init__(self, grace: float) -> None:
        """Allow a program `grace` seconds to end after SIGTERM, then send SIGKILL."""
        self._grace = grace
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(
        self,
        command: list[str],
        log: pathlib.Path,
        timeout: float,
        *,
        cwd: pathlib.Path,
        env: dict[str, str],
        on_line: Optional[LineHandler] = None,
    ) -> int:
        """Run a program that writes to a log and return its exit code, or TIMED_OUT.

        The program writes to the file itself: a child that outlives it blocks nobody. `on_line`
        is called with each line of the log.
        """
        with log.open("wb") as sink, log.open("rb") as source:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
            deadline = time.monotonic() + timeout
            timed_out = False
            rest = b""
            try:
                while process.poll() is None:
                    _wait_for_end(process)
                    rest = _pass_lines(rest + source.read(), on_line)
                    if time.monotonic() > deadline and process.poll() is None:
                        timed_out = True
                        self.end(process)
            finally:
                self._running.discard(process)
            rest = _pass_lines(rest + source.read(), on_line)
            if rest:
                _pass_lines(rest + b"\n", on_line)
        return TIMED_OUT if timed_out else process.returncode

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a program and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(self._grace)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def end_all(self) -> None:
        """End all programs that run now."""
        for process in list(self._running):
            self.end(process)


def _wait_for_end(process: subprocess.Popen[bytes]) -> None:
    """Wait until a program ends, at most POLL_INTERVAL.

    Popen.wait() with a timeout would look twenty times per second, in each thread.
    """
    with contextlib.suppress(ProcessLookupError):  # it has been waited for: another thread ended it
        descriptor = os.pidfd_open(process.pid)
        try:
            select.select([descriptor], [], [], POLL_INTERVAL)
        finally:
            os.close(descriptor)


def _pass_lines(data: bytes, on_line: Optional[LineHandler]) -> bytes:
    """Call `on_line` with each complete line; return the incomplete last line."""
    *lines, rest = data.split(b"\n")
    if on_line:
        for line in lines:
            on_line(line.decode("utf-8", "replace"))
    return rest


def print_result(state: str, name: str, seconds: float, text: str) -> None:
    """Print the result of one test."""
    print(f"{state:<6} {name:<14} {seconds:6.1f} s  {text}", flush=True)


def print_counts(passed: int, failed: int) -> int:
    """Print the last line of a test runner and return its exit code."""
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0
