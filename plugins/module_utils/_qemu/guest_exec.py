# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Run a program inside a guest, through its agent.

Source: QEMU, docs/interop/qemu-ga-ref, guest-exec.
"""

from __future__ import annotations

import base64
import math
import select
import time
from typing import Any, Callable, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestGone,
    GuestNotReady,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import (
    GuestAgent,
    base64_field,
    field,
)

# Seconds; the agent sends no event when a program ends, so it is polled, at growing intervals.
FIRST_POLL_INTERVAL = 0.005
MAX_POLL_INTERVAL = 0.25
# Bytes: two outputs of 16 MiB each, in base64.
MAX_ANSWER = 46 << 20
REPLY_TIMEOUT = 60  # seconds for an answer of the agent itself, while the program may run on
# Seconds until an answer must begin, after which the request is sent again: one that a guest gets
# while it restarts is lost.
MAX_SILENCE = 20
RECONNECT_INTERVAL = 0.25  # seconds


def run_in_guest(
    agent: GuestAgent, argv: Sequence[str], timeout: float | None = 60, data: str | None = None
) -> dict[str, Any]:
    """Run a program to its end; return a dict with rc, stdout and stderr, decoded as text.

    argv: list of words. timeout: in seconds. data: its standard input.
    rc is 128 and the number of the signal if one ended the program. Raises GuestError.
    """
    code, out, error = exec_in_guest(
        agent, argv, timeout, None if data is None else data.encode("utf-8", "surrogateescape")
    )
    return {
        "rc": code,
        "stdout": out.decode("utf-8", "replace"),
        "stderr": error.decode("utf-8", "replace"),
    }


def exec_in_guest(
    agent: GuestAgent,
    argv: Sequence[str],
    timeout: float | None = None,
    data: bytes | None = None,
) -> tuple[int, bytes, bytes]:
    """Run a program to its end; return (exit code, output, error output), in bytes.

    timeout: in seconds; default: wait until the VM ends.
    Raises GuestGone if the guest ends, restarts or stops answering meanwhile.
    """
    request = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    if data is not None:
        request["input-data"] = base64.b64encode(data).decode("ascii")
    # A busy guest may delay the agent, which is given as long as the program, within reason.
    started = agent.execute(
        "guest-exec", request, timeout=min(timeout or REPLY_TIMEOUT, REPLY_TIMEOUT)
    )
    pid = field(started, "pid", int)
    deadline, pause = time.monotonic() + (timeout or math.inf), FIRST_POLL_INTERVAL
    while True:
        left = deadline - time.monotonic()
        status = _status(agent, argv[0], pid, max(min(left, REPLY_TIMEOUT), agent.timeout))
        if field(status, "exited", bool):
            return _result(argv[0], status)
        left = deadline - time.monotonic()
        if left <= 0:
            raise GuestError(
                "%s did not end within %d s in the guest; it still runs there"
                % (argv[0], timeout or 0),
                path=agent.path,
                argv=argv,
            )
        agent.pause(min(pause, left))
        pause = min(pause * 2, MAX_POLL_INTERVAL)


def _status(agent: GuestAgent, program: str, pid: int, timeout: float) -> Any:
    """Return the answer to guest-exec-status. Raises GuestGone."""
    deadline = time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), 0.001)
        try:
            return agent.execute(
                "guest-exec-status",
                {"pid": pid},
                timeout=left,
                max_answer=MAX_ANSWER,
                silence=MAX_SILENCE,
            )
        except GuestNotReady:
            if time.monotonic() >= deadline:
                raise GuestGone(
                    "the guest stopped answering while it ran %s: it hangs, or is restarting"
                    % program,
                    path=agent.path,
                )
        except GuestError as error:
            if "error_class" not in error.facts:
                raise
            raise GuestGone(
                "the guest agent does not know the process of %s any more: the guest or its agent "
                "has restarted" % program,
                path=agent.path,
            )


def _result(program: str, status: Any) -> tuple[int, bytes, bytes]:
    if field(status, "out-truncated", bool, False) or field(status, "err-truncated", bool, False):
        raise GuestError(
            "%s wrote more than the guest agent keeps of an output (16 MiB): redirect the output "
            "to a file, and fetch that" % program
        )
    return (
        field(status, "exitcode", int, 128 + field(status, "signal", int, 0)),
        base64_field(status, "out-data", ""),
        base64_field(status, "err-data", ""),
    )


def wait_for_agent(
    path: str, timeout: float, diagnose: Callable[[GuestError], object] | None = None
) -> GuestAgent:
    """Wait until the guest has an agent; return a connected GuestAgent.

    diagnose: called after each failure; raises an error if waiting is in vain.
    Raises GuestError after timeout seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        # An agent answers requests from before its start, but guests that reset the port lose them.
        # So ask again every 2 seconds.
        agent = GuestAgent(path, timeout=min(left, 2))
        try:
            return agent.__enter__()
        except GuestError as error:
            if time.monotonic() >= deadline:
                raise
            if diagnose:
                diagnose(error)
            select.select([], [], [], min(RECONNECT_INTERVAL, left))
