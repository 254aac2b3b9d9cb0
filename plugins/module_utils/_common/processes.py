# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Processes: who runs, since when, how it ends; and programs run to their end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    ProgramError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text


def run_program(argv, timeout=600, accept=(0,), data=None, purpose=None, pass_fds=()):
    """Run a program to its end; return (rc, stdout, stderr), bytes decoded as text.

    argv: list of words, never a shell string. accept: return codes that are not errors. data: its standard input, bytes.
    pass_fds: descriptors that it gets.
    Raises ProgramError with cmd, rc, stderr; HostError when it cannot be run at all.
    """
    argv = [os.fspath(word) for word in argv]
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            argv,
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
        raise HostError("the program %s is not on this host" % argv[0], cmd=argv)
    except OSError as error:
        raise HostError("cannot run %s: %s" % (argv[0], error.strerror), cmd=argv)
    except subprocess.TimeoutExpired:
        raise ProgramError("%s did not end within %d s" % (purpose or argv[0], timeout), cmd=argv)
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    if done.returncode not in accept:
        raise ProgramError(
            "%s failed (exit code %d): %s"
            % (purpose or argv[0], done.returncode, err.strip() or out.strip()),
            cmd=argv,
            rc=done.returncode,
            stderr=err,
        )
    return done.returncode, out, err


def start_program(argv, **options):
    """Start a program and return its subprocess.Popen, whose options these are. Raises OSError.

    Every program is started here or by run(): the module's own run_command neither passes descriptors nor leaves one running.
    """
    return subprocess.Popen(argv, **options)  # pylint: disable=ansible-bad-function


def process_start_time(pid):
    """When a process started, in clock ticks since boot: with the pid it names one process.

    None when it is gone. A zombie is gone, unless threads of it are left: they hold its files and ports. Source: proc(5), stat.
    """
    text = read_text("/proc/%d/stat" % pid)
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and int(fields[17]) < 2 else int(fields[19])


def boot_id():
    """The id of this boot of the host: pids and start times of another boot mean nothing."""
    return (read_text("/proc/sys/kernel/random/boot_id") or "").strip()


def command_line(pid):
    """The argv of a process as a list of str; empty when it is gone."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            words = stream.read().split(b"\0")[:-1]
    except OSError:
        return []
    return [os.fsdecode(word) for word in words]


def find_processes(*words):
    """The pids of live processes whose argv holds each of words, by start time."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            argv = command_line(int(entry))
            if all(word in argv for word in words):
                start = process_start_time(int(entry))
                if start is not None:
                    found.append((start, int(entry)))
    return [pid for start, pid in sorted(found)]


def wait_for_exit(pid, start, timeout):
    """Wait until the process (pid, start) has ended; False when it has not after timeout seconds."""
    deadline = time.monotonic() + timeout
    with process_handle(pid) as handle:
        while process_start_time(pid) == start:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select(
                [] if handle is None else [handle],
                [],
                [],
                left if handle is not None else min(left, 0.01),
            )
    return True


@contextlib.contextmanager
def process_handle(pid):
    """A descriptor that becomes readable when the process ends, as a context; None where the kernel (before 5.3) has none."""
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def send_signal(pid, start, number=signal.SIGTERM):
    """Signal the process (pid, start); False when it is gone."""
    if process_start_time(pid) != start:
        return False
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False
    except PermissionError:
        raise HostError("no permission to signal process %d: it belongs to another user" % pid)
