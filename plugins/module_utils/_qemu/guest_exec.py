# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A program run inside a guest, through its agent. Source: QEMU, docs/interop/qemu-ga-ref, guest-exec."""

from __future__ import annotations

import base64
import math
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import GuestError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent

_FIRST_LOOK = 0.005  # seconds; the agent sends no event when a program ends, so we look again, ever more slowly
_SLOWEST_LOOK = 0.25
_PATIENCE = 60  # seconds for an answer of the agent itself, where the program may take for ever


def run_in_guest(agent, argv, timeout=60, data=None):
    """Run a program to its end; return {"rc", "stdout", "stderr"}: bytes as text, a signal as 128 and its number.

    agent: GuestAgent. argv: list of words. timeout: seconds. data: its standard input, str. Raises GuestError.
    """
    code, out, error = exec_in_guest(
        agent, argv, timeout, None if data is None else data.encode("utf-8", "surrogateescape")
    )
    return {
        "rc": code,
        "stdout": out.decode("utf-8", "replace"),
        "stderr": error.decode("utf-8", "replace"),
    }


def exec_in_guest(agent, argv, timeout=None, data=None):
    """The same with bytes: (exit code, output, error output). timeout: for ever without one, which ends with the VM."""
    request = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    if data is not None:
        request["input-data"] = base64.b64encode(data).decode("ascii")
    # A busy guest may let the agent wait: its answers have as long as the program has.
    pid = agent.execute("guest-exec", request, timeout=timeout or _PATIENCE)["pid"]
    deadline, pause = time.monotonic() + (timeout or math.inf), _FIRST_LOOK
    while True:
        left = deadline - time.monotonic()
        status = agent.execute(
            "guest-exec-status", {"pid": pid}, timeout=max(min(left, _PATIENCE), agent.timeout)
        )
        if status["exited"]:
            if status.get("out-truncated") or status.get("err-truncated"):
                raise GuestError(
                    "%s wrote more than the guest agent keeps of an output (16 MiB): let it write to a file, and fetch that"
                    % argv[0]
                )
            return (
                status["exitcode"] if "exitcode" in status else 128 + status.get("signal", 0),
                base64.b64decode(status.get("out-data") or ""),
                base64.b64decode(status.get("err-data") or ""),
            )
        left = deadline - time.monotonic()
        if left <= 0:
            raise GuestError(
                "%s did not end within %d s in the guest; it still runs there" % (argv[0], timeout),
                path=agent.path,
                argv=argv,
            )
        agent.pause(min(pause, left))
        pause = min(pause * 2, _SLOWEST_LOOK)


def wait_for_agent(path, timeout):
    """A connected GuestAgent, as soon as the guest has one; retries until timeout seconds have passed. Raises GuestError."""
    deadline = time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        # An agent that comes up answers what was asked before: one long wait would do, were it not for guests that reset the port.
        agent = GuestAgent(path, timeout=min(left, 2))
        try:
            return agent.__enter__()
        except GuestError:
            if time.monotonic() >= deadline:
                raise
