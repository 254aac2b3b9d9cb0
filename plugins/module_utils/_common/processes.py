# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Processes: run programs to their end, identify processes, signal them, wait for their exit."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import Any, Collection, Iterator, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    ProgramError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text

POLL_INTERVAL = 0.01  # seconds, where the kernel has no descriptor for a process


def run_program(
    argv: Sequence[str | os.PathLike[str]],
    timeout: float = 600,
    accept: Collection[int] = (0,),
    data: bytes | None = None,
    purpose: str | None = None,
    pass_fds: Collection[int] = (),
) -> tuple[int, str, str]:
    """Run a program to its end; return (rc, stdout, stderr), decoded as text.

    argv: list of words, never a shell string. accept: return codes that are not errors.
    data: its standard input. purpose: names the run in errors. pass_fds: descriptors to inherit.
    Raises ProgramError with cmd, rc, stderr; HostError if it cannot be run at all.
    """
    words = [os.fspath(word) for word in argv]
    try:
        process = subprocess.run(  # pylint: disable=ansible-bad-function
            words,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout,
            env=dict(os.environ, LC_ALL="C"),
            check=False,
            pass_fds=pass_fds,
        )
    except FileNotFoundError:
        raise HostError("the program %s is not on this host" % words[0], cmd=words)
    except OSError as error:
        raise HostError("cannot run %s: %s" % (words[0], error.strerror), cmd=words)
    except subprocess.TimeoutExpired:
        raise ProgramError("%s did not end within %d s" % (purpose or words[0], timeout), cmd=words)
    out, err = (text.decode("utf-8", "replace") for text in (process.stdout, process.stderr))
    if process.returncode not in accept:
        raise ProgramError(
            "%s failed (exit code %d): %s"
            % (purpose or words[0], process.returncode, err.strip() or out.strip()),
            cmd=words,
            rc=process.returncode,
            stderr=err,
        )
    return process.returncode, out, err


def start_program(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program; return its subprocess.Popen, which takes the options. Raises OSError.

    All programs start here or in run_program(): the run_command of a module neither passes
    descriptors nor leaves a program running.
    """
    return subprocess.Popen(argv, **options)  # pylint: disable=ansible-bad-function


def process_start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot. With the pid it is its identity.

    None if it has ended. A zombie has ended, unless some of its threads still run: they hold its
    files and ports. Source: proc(5), stat.
    """
    text = read_text("/proc/%d/stat" % pid)
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and int(fields[17]) < 2 else int(fields[19])


def boot_id() -> str:
    """Return the id of this boot of the host. Pids and start times hold for one boot only."""
    return read_text("/proc/sys/kernel/random/boot_id", "").strip()


def command_line(pid: int) -> list[str]:
    """Return the argv of a process; empty if it has ended."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            words = stream.read().split(b"\0")[:-1]
    except OSError:
        return []
    return [os.fsdecode(word) for word in words]


def find_processes(*words: str, uids: Collection[int] | None = None) -> list[int]:
    """Return the pids of running processes whose argv has words in a row, by start time.

    uids: their users, the current one by default. Any user can start a process with any argv.
    """
    if uids is None:
        uids = (os.geteuid(),)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            argv = command_line(int(entry))
            if _has_in_a_row(argv, words) and process_user(int(entry)) in uids:
                start = process_start_time(int(entry))
                if start is not None:
                    found.append((start, int(entry)))
    return [pid for start, pid in sorted(found)]


def _has_in_a_row(argv: list[str], words: Sequence[str]) -> bool:
    return any(
        argv[place : place + len(words)] == list(words)
        for place, word in enumerate(argv)
        if word == words[0]
    )


def process_user(pid: int) -> int | None:
    """Return the effective user id of a process, None if it has ended.

    The owner of its folder in /proc is root if the process cannot be traced: proc(5).
    """
    for line in (read_text("/proc/%d/status" % pid) or "").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return None


def executable(pid: int) -> str:
    """Return the path of the program that a process runs, empty if it is unknown."""
    try:
        path = os.readlink("/proc/%d/exe" % pid)
    except OSError:
        return ""
    deleted = " (deleted)"  # the program was upgraded
    return path[: -len(deleted)] if path.endswith(deleted) else path


def wait_for_exit(pid: int, start: int | None, timeout: float) -> bool:
    """Wait until the process (pid, start) has ended; return False if it still runs at timeout."""
    deadline = time.monotonic() + timeout
    with process_handle(pid) as handle:
        while process_start_time(pid) == start:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if handle is None:
                time.sleep(min(left, POLL_INTERVAL))
            else:
                select.select([handle], [], [], left)
    return True


@contextlib.contextmanager
def process_handle(pid: int) -> Iterator[int | None]:
    """Yield a descriptor that becomes readable when the process ends.

    None where the kernel (before 5.3) does not support it, and for a process that has ended.
    """
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def send_signal(pid: int, start: int | None, number: int = signal.SIGTERM) -> bool:
    """Send a signal to the process (pid, start); return False if it has ended."""
    if process_start_time(pid) != start:
        return False
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False
    except PermissionError:
        raise HostError("no permission to signal process %d: it belongs to another user" % pid)
