# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Readiness: whether a node is usable, rung by rung, and if not, how far it came and what its console said last."""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import tail
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import process_start_time
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.links import forward_key
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import log_name

_LOOK = 0.05  # seconds between two looks: nothing tells when a guest has come so far
# Each connection that the guest does not answer stays with QEMU for a minute: we try few of them.
_LOOK_AT_PORT, _LOOKS_AT_PORT = 0.25, 8
_TIMEOUT = 300
RUNGS = ("console", "agent", "port", "command")


def check_ready(option, ready):
    """Raise OptionError for a pattern of the console that is no regular expression."""
    for key in ("console", "failed"):
        try:
            re.compile(ready.get(key) or "")
        except re.error as error:
            raise OptionError(
                "%s.ready.%s" % (option, key),
                "%r is not a regular expression: %s" % (ready[key], error),
            )


def is_asked(ready):
    """Whether there is anything to wait for."""
    return any(ready.get(rung) for rung in RUNGS)


class Readiness:
    """The wait for one node. ready: the rungs asked for, timeout in seconds, hint. log_from: where its console's log began.

    monitor: open.
    """

    def __init__(self, folder, definition, ready, monitor, log_from=0):
        self.folder, self.definition, self.ready, self.monitor, self.log_from = (
            folder,
            definition,
            ready,
            monitor,
            log_from,
        )
        self.stop = threading.Event()
        self.why = ""

    def wait(self, pid, start):
        """Return when all rungs hold; raise GuestError naming the one that does not, when time is over or QEMU has ended."""
        seconds = self.ready.get("timeout") or _TIMEOUT
        deadline = time.monotonic() + seconds
        for number, rung in enumerate(RUNGS):
            if not self.ready.get(rung):
                continue
            while not _CHECKS[rung](self, deadline):
                if process_start_time(pid) != start:
                    raise self._failure(rung, number, "its QEMU has ended")
                if time.monotonic() > deadline:
                    raise self._failure(rung, number, "within %d s" % seconds)
                self.stop.wait(_LOOK)

    def _console(self, deadline):
        console = self.definition["consoles"][0]
        try:
            with open(self.folder.file(log_name(console)), "rb") as stream:
                stream.seek(self.log_from)
                text = stream.read().decode("utf-8", "replace")
        except OSError:
            text = ""
        failed = (
            re.search(self.ready["failed"], text, re.MULTILINE)
            if self.ready.get("failed")
            else None
        )
        if failed:
            self.why = "the guest said"
            raise self._failure("console", 0, failed.group(0).strip())
        self.why = "its console has not shown %r" % self.ready["console"]
        return re.search(self.ready["console"], text, re.MULTILINE) is not None

    def _agent(self, deadline):
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent

        self.why = "its guest agent does not answer"
        try:
            with GuestAgent(
                self.folder.socket("agent.sock"),
                timeout=min(2, max(0.1, deadline - time.monotonic())),
            ):
                return True
        except GuestError:
            return False

    def _port(self, deadline):
        port = self.ready["port"]
        nic, forward = next(
            (
                (nic["name"], forward)
                for nic in self.definition["nics"]
                for forward in nic["link"].get("forwards", ())
                if (forward["protocol"], forward["guest_port"]) == ("tcp", port)
            ),
            (None, None),
        )
        self.why = "the guest's port %d %s" % (
            port,
            "does not answer" if forward else "is not forwarded",
        )
        if not forward:
            return False
        host_port = self.definition["ports"][forward_key(nic, forward)]
        try:
            with socket.create_connection(
                (forward["host_address"].replace("0.0.0.0", "127.0.0.1"), host_port), timeout=1
            ) as channel:
                for _look in range(_LOOKS_AT_PORT):
                    if select.select([channel], [], [], _LOOK_AT_PORT)[0]:
                        # QEMU closes when the guest refuses.
                        return bool(channel.recv(1))
                    if self._has_guest_accepted(host_port):
                        return True
        except OSError:
            pass
        return False

    def _has_guest_accepted(self, host_port):
        """Whether the guest has taken a connection to a forwarded port: QEMU itself takes it at once, whatever the guest does."""
        states = re.findall(
            r"^ *TCP\[(\w+)\] +\d+ +\S+ +%d " % host_port,
            self.monitor.execute("human-monitor-command", {"command-line": "info usernet"}),
            re.MULTILINE,
        )
        return "ESTABLISHED" in states or "HOST_FORWARD" not in states

    def _command(self, deadline):
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_exec import run_in_guest

        left = max(1, deadline - time.monotonic())
        try:
            with GuestAgent(self.folder.socket("agent.sock"), timeout=min(2, left)) as agent:
                done = run_in_guest(agent, ["/bin/sh", "-c", self.ready["command"]], timeout=left)
        except GuestError as error:
            self.why = error.message
            return False
        self.why = "the command %r ended with %d: %s" % (
            self.ready["command"],
            done["rc"],
            (done["stderr"] or done["stdout"]).strip()[-200:],
        )
        return done["rc"] == 0

    def _failure(self, rung, number, what):
        reached = [name for name in RUNGS[:number] if self.ready.get(name)]
        path = self.folder.file(log_name(self.definition["consoles"][0]))
        last = tail(path) if os.path.exists(path) else ""
        return GuestError(
            "%s is not ready (%s): %s %s; before that: running%s.%s Its console said last:\n%s"
            % (
                self.folder.name,
                rung,
                self.why,
                what,
                "".join(", " + name for name in reached),
                " Hint: %s." % self.ready["hint"] if self.ready.get("hint") else "",
                last or "nothing",
            ),
            node=self.folder.name,
            rung=rung,
            console=last,
        )


# Whether each rung holds.
_CHECKS = {
    "console": Readiness._console,
    "agent": Readiness._agent,
    "port": Readiness._port,
    "command": Readiness._command,
}
