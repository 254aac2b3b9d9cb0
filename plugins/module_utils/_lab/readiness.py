# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Wait until a node is usable, check by check; if it is not, report how far it came."""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import tail
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import process_start_time
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import log_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.links import forward_key
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import reachable

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_POLL_INTERVAL = 0.05  # seconds: no event reports the progress of a guest
# QEMU keeps each connection that the guest does not answer for a minute: try few of them.
_PORT_POLL_INTERVAL, _MAX_PORT_POLLS = 0.25, 8
_TIMEOUT = 300
_AGENT_TIMEOUT = 2
# Bytes of a console's log that are read at once, and that the next search begins before.
_LOG_PIECE, _LOG_OVERLAP = 1 << 20, 1 << 12
_MAX_SHOWN_OUTPUT = 200  # characters of a command's output, in an error
CHECKS = ("console", "agent", "port", "command")


def check_ready(option: str, ready: dict[str, Any]) -> None:
    """Raise OptionError for a pattern of the console that is no regular expression."""
    for key in ("console", "failed"):
        try:
            re.compile(ready.get(key) or "")
        except re.error as error:
            raise OptionError(
                "%s.ready.%s" % (option, key),
                "%r is not a regular expression: %s" % (ready[key], error),
            )


def has_checks(ready: dict[str, Any]) -> bool:
    """Whether there is anything to wait for."""
    return any(ready.get(check) for check in CHECKS)


class Readiness:
    """The wait for one node.

    ready: the checks, with timeout in seconds, hint, and failed: a pattern of the console that ends
    the wait. monitor: open. log_from: where this run of the VM begins in its console's log.
    """

    def __init__(
        self,
        folder: Folder,
        definition: Definition,
        ready: dict[str, Any],
        monitor: Monitor | None,
        log_from: int = 0,
    ) -> None:
        self.folder, self.definition, self.ready = folder, definition, ready
        self.monitor = monitor
        self._searched_to, self._last_output = log_from, b""
        self._pause = threading.Event()
        self._problem = ""

    def wait(self, pid: int, start: int) -> None:
        """Wait until all checks pass, one after the other.

        Raises GuestError naming the check that does not pass in time, or before QEMU ends.
        """
        timeout = self.ready.get("timeout") or _TIMEOUT
        deadline = time.monotonic() + timeout
        for check in CHECKS:
            if not self.ready.get(check):
                continue
            self._check_channel(check)
            while not _CHECKS[check](self, deadline):
                if process_start_time(pid) != start:
                    raise self._failure(check, "its QEMU has ended")
                if time.monotonic() > deadline:
                    raise self._failure(check, "within %d s" % timeout)
                self._pause.wait(_POLL_INTERVAL)

    def _check_channel(self, check: str) -> None:
        """Raise GuestError for a check that can never pass, as the VM lacks what it needs."""
        self._problem = "it"
        if check in ("agent", "command") and not self.definition.get("guest_agent"):
            hint = "has no channel for a guest agent: give it guest_agent: true"
            raise self._failure(check, hint)
        if check == "console" and not self._log_path():
            raise self._failure(check, "has no console with a log: give it one in consoles")

    def _log_path(self) -> str:
        """Return the path of the log of the first console, empty without one."""
        consoles = self.definition["consoles"]
        has_log = consoles and consoles[0].get("log", True)
        return self.folder.file(log_name(consoles[0])) if has_log else ""

    def _console(self, deadline: float) -> bool:
        """Search what the console has shown since the last look."""
        for text in self._new_output():
            failed = self.ready.get("failed") and re.search(
                self.ready["failed"], text, re.MULTILINE
            )
            if failed:
                self._problem = "the guest reported"
                raise self._failure("console", failed.group(0).strip())
            if re.search(self.ready["console"], text, re.MULTILINE):
                return True
            if time.monotonic() > deadline:
                break
        self._problem = "its console has not shown %r" % self.ready["console"]
        return False

    def _new_output(self) -> Iterator[str]:
        """Yield new output in pieces, each after the end of the one before."""
        try:
            with open(self._log_path(), "rb") as stream:
                stream.seek(self._searched_to)
                while True:
                    piece = stream.read(_LOG_PIECE)
                    if not piece:
                        return
                    self._searched_to += len(piece)
                    self._last_output = (self._last_output + piece)[-len(piece) - _LOG_OVERLAP :]
                    yield self._last_output.decode("utf-8", "replace")
                    self._last_output = self._last_output[-_LOG_OVERLAP:]
        except OSError:
            pass  # it does not exist yet

    def _agent(self, deadline: float) -> bool:
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent

        self._problem = "its guest agent does not answer"
        timeout = min(_AGENT_TIMEOUT, max(0.1, deadline - time.monotonic()))
        try:
            with GuestAgent(self.folder.socket("agent.sock"), timeout=timeout):
                return True
        except GuestError:
            return False

    def _port(self, _deadline: float) -> bool:
        port = self.ready["port"]
        forward = self._forward_to(port)
        self._problem = "the guest's port %d %s" % (
            port,
            "does not answer" if forward else "is not forwarded",
        )
        if forward is None:
            return False
        address, host_port = forward
        try:
            with socket.create_connection((address, host_port), timeout=1) as channel:
                for _poll in range(_MAX_PORT_POLLS):
                    if select.select([channel], [], [], _PORT_POLL_INTERVAL)[0]:
                        # QEMU closes the connection if the guest refuses it.
                        return bool(channel.recv(1))
                    if self._has_guest_accepted(host_port):
                        return True
        except OSError:
            pass
        return False

    def _forward_to(self, guest_port: int) -> tuple[str, int] | None:
        """Return the address and port on the host that lead to a TCP port of the guest."""
        for nic in self.definition["nics"]:
            for forward in nic["link"].get("forwards", ()):
                if (forward["protocol"], forward["guest_port"]) == ("tcp", guest_port):
                    address = reachable(forward["host_address"])
                    return address, self.definition["ports"][forward_key(nic["name"], forward)]
        return None

    def _has_guest_accepted(self, host_port: int) -> bool:
        """Whether the guest has accepted a connection. QEMU itself accepts it in any case."""
        if self.monitor is None:
            return False
        states = re.findall(
            r"^ *TCP\[(\w+)\] +\d+ +\S+ +%d " % host_port,
            self.monitor.execute("human-monitor-command", {"command-line": "info usernet"}),
            re.MULTILINE,
        )
        return "ESTABLISHED" in states or "HOST_FORWARD" not in states

    def _command(self, deadline: float) -> bool:
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_exec import run_in_guest

        command = self.ready["command"]
        left = max(1, deadline - time.monotonic())
        socket_path = self.folder.socket("agent.sock")
        try:
            with GuestAgent(socket_path, timeout=min(_AGENT_TIMEOUT, left)) as agent:
                result = run_in_guest(agent, ["/bin/sh", "-c", command], timeout=left)
        except GuestError as error:
            self._problem = error.message
            return False
        output = (result["stderr"] or result["stdout"]).strip()[-_MAX_SHOWN_OUTPUT:]
        self._problem = "the command %r ended with %d: %s" % (command, result["rc"], output)
        return bool(result["rc"] == 0)

    def _failure(self, check: str, reason: str) -> GuestError:
        passed = [name for name in CHECKS[: CHECKS.index(check)] if self.ready.get(name)]
        path = self._log_path()
        log = tail(path) if path and os.path.exists(path) else ""
        return GuestError(
            "%s is not ready (%s): %s %s; passed before: running%s.%s "
            "Last output of its console:\n%s"
            % (
                self.folder.name,
                check,
                self._problem,
                reason,
                "".join(", " + name for name in passed),
                " Hint: %s." % self.ready["hint"] if self.ready.get("hint") else "",
                log or "nothing",
            ),
            node=self.folder.name,
            rung=check,
            console=log,
        )


_CHECKS = {
    "console": Readiness._console,
    "agent": Readiness._agent,
    "port": Readiness._port,
    "command": Readiness._command,
}
