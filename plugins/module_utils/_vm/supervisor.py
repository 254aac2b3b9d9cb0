# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Start a program that outlives the run, under a shell that keeps its exit code."""

from __future__ import annotations

import fcntl
import os
import subprocess
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import remove_file
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import start_program

# The shell waits for the program, keeps its exit code, and reaps it where PID 1 does not. Its
# standard input is the file of the exit code: opened before, so that a shell that ends late never
# writes to the file of the next run, and locked as long as the shell lives.
SCRIPT = '"$@" </dev/null; code=$?; echo $code >&0; exit $code'


def start_supervised(
    name: str, argv: list[str], exit_code: str, log: str, log_head: bytes = b"", **options: Any
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; return the process of its shell.

    name: of the shell, as ps shows it. exit_code, log: files. log_head: how the log begins.
    options: of subprocess.Popen.
    Raises OSError, or HostError if a file cannot be written.
    """
    remove_file(exit_code)
    log_handle = _begin_log(log, log_head)
    code_handle = _open(exit_code, os.O_RDWR)
    fcntl.flock(code_handle, fcntl.LOCK_EX)
    try:
        return start_program(
            ["/bin/sh", "-c", SCRIPT, name, *argv],
            **{"stdout": log_handle, **options},
            stdin=code_handle,
            stderr=log_handle,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(log_handle)
        os.close(code_handle)


def _begin_log(path: str, head: bytes) -> int:
    """Begin a log again; return its descriptor."""
    log = _open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(log, head)
    except OSError as error:
        os.close(log)
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)
    return log


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)
