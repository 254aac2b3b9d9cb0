# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Ask a QEMU binary, started without a machine, about itself."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, TypeVar

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import start_program

# A list of accelerators, so that a binary without TCG answers on a host without KVM too.
_ARGUMENTS = (
    "-machine",
    "none,accel=tcg:qtest:kvm",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-S",
    "-qmp",
    "stdio",
)

T = TypeVar("T")
Ask = Callable[..., Any]  # a QMP command and its arguments -> what it returns, None if refused
Version = Dict[str, Any]


def ask_binary(path: str, questions: Callable[[Ask, Version], T], timeout: float) -> T:
    """Start the binary without a machine, and return what questions(ask, version) returns.

    It is one process, some 60 ms. ask(command, **arguments) returns the answer to a QMP command,
    None if QEMU refuses it; version is that of QEMU's greeting. timeout: seconds for everything.
    Raises HostError, with cmd and stderr, for a binary that does not run or does not answer.
    """
    argv = [path] + list(_ARGUMENTS)
    with report_os_errors("cannot make a temporary file"):
        output = tempfile.TemporaryFile()
    with output as errors:
        try:
            # stdin stays open until the end: a QEMU whose monitor is closed drops the commands
            # that it has not read yet.
            process = start_program(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env=dict(os.environ, LC_ALL="C"),
            )
        except OSError as error:
            raise HostError("cannot run %s: %s" % (path, error.strerror), cmd=argv, stderr="")
        try:
            return _run_session(process, questions, time.monotonic() + timeout)
        except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired) as error:
            process.kill()
            code = process.wait()
            errors.seek(0)
            text = errors.read()[-4096:].decode("utf-8", "replace").strip()
            raise HostError(
                "%s does not answer as QEMU does (%s): %s"
                % (
                    path,
                    getattr(error, "strerror", None) or error,
                    text or ("it ended with code %d" % code if code >= 0 else "it printed nothing"),
                ),
                cmd=argv,
                rc=code,
                stderr=text,
            )
        finally:
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()


def _run_session(
    process: subprocess.Popen[bytes], questions: Callable[[Ask, Version], T], deadline: float
) -> T:
    """Query a QEMU that has its monitor on stdin and stdout, and end it."""
    if not process.stdin or not process.stdout:
        raise ValueError("no pipes")
    stdin = process.stdin
    messages = _read_messages(process.stdout.fileno(), deadline)

    def ask(command: str, **arguments: Any) -> Any:
        request = {"execute": command, "arguments": arguments}
        stdin.write(json.dumps(request).encode() + b"\n")
        return next(item for item in messages if "return" in item or "error" in item).get("return")

    version = next(messages)["QMP"]["version"]
    ask("qmp_capabilities")
    answer = questions(ask, version)
    ask("quit")
    process.wait(max(0, deadline - time.monotonic()))
    return answer


def _read_messages(handle: int, deadline: float) -> Iterator[Any]:
    """Yield the JSON values from a descriptor, one for each line.

    Raises LookupError at its end, TimeoutError at the deadline.
    """
    waiting = b""
    while True:
        line, newline, rest = waiting.partition(b"\n")
        if newline:
            waiting = rest
            yield json.loads(line)
            continue
        if not select.select([handle], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError("no answer in time")
        data = os.read(handle, 1 << 18)
        if not data:
            raise LookupError("it ended")
        waiting += data
