# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""A program run inside a guest, through its agent. Source: QEMU, docs/interop/qemu-ga-ref, guest-exec."""

from __future__ import annotations

import base64
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import GuestError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent

_FIRST_LOOK = 0.005  # seconds; the agent sends no event when a program ends, so we look again, ever more slowly
_SLOWEST_LOOK = 0.25


def run_in_guest(agent, argv, timeout=60, data=None):
    """Run a program to its end; return {"rc", "stdout", "stderr"}: bytes as text, a signal as 128 and its number.

    agent: GuestAgent. argv: list of words. timeout: seconds. data: its standard input, str. Raises GuestError.
    """
    request = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    if data is not None:
        request["input-data"] = base64.b64encode(data.encode("utf-8", "surrogateescape")).decode("ascii")
    # A busy guest may let the agent wait: its answers have as long as the program has.
    pid = agent.execute("guest-exec", request, timeout=timeout)["pid"]
    deadline, pause = time.monotonic() + timeout, _FIRST_LOOK
    while True:
        status = agent.execute("guest-exec-status", {"pid": pid}, timeout=max(deadline - time.monotonic(), agent.timeout))
        if status["exited"]:
            return {"rc": status["exitcode"] if "exitcode" in status else 128 + status.get("signal", 0),
                    "stdout": _text(status.get("out-data")), "stderr": _text(status.get("err-data"))}
        left = deadline - time.monotonic()
        if left <= 0:
            raise GuestError("%s did not end within %d s in the guest; it still runs there" % (argv[0], timeout), path=agent.path, argv=argv)
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


def _text(data):
    return base64.b64decode(data).decode("utf-8", "replace") if data else ""
