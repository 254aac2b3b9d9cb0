# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""QEMU's monitor over a UNIX socket. Source: QEMU, docs/interop/qmp-spec."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    MonitorError,
    MonitorClosed,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sockets import (
    connect_unix,
    peer_credentials,
)

_CHUNK = 7  # QEMU holds 8 requests of a client (monitor/qmp.c, QMP_REQ_QUEUE_LEN_MAX): 7 and qmp_capabilities


def _contains(data, wanted):
    """Whether wanted is a part of data: each key of its dicts, at any depth, and everything else equal."""
    if isinstance(wanted, dict):
        return isinstance(data, dict) and all(
            key in data and _contains(data[key], value) for key, value in wanted.items()
        )
    return data == wanted


class Monitor:
    """One connection to a QMP socket; a context manager.

    QEMU serves one client of a socket at a time: keep the connection short.
    timeout: seconds that each call may take unless it is given its own; default 10.
    version: QEMU's version as a tuple of three numbers. peer_pid: the process that listens.
    events: what came and nobody has waited for, oldest first: dicts with event, data and time (seconds since 1970).
    Raises MonitorGone when nobody listens or QEMU ends, MonitorTimeout when it does not answer.
    """

    def __init__(self, path, timeout=10):
        self.path = os.fspath(path)
        self.timeout = timeout
        self.version = None
        self.peer_pid = None
        self.events = []
        self._channel = None
        self._negotiated = False
        self._received = b""
        self._pending = b""
        # Not that of the client before us: QEMU gives us what that one was killed too early to read.
        self._last_id = int.from_bytes(os.urandom(4), "big") << 20

    def __enter__(self):
        return self.connect()

    def __exit__(self, *exception):
        self.close()

    def connect(self):
        """Connect and read the greeting, which tells version and peer_pid; return self.

        Nothing is sent yet: a busy QEMU would run it long after we have given up.
        """
        deadline = self._deadline(None)
        try:
            self._channel = connect_unix(self.path, self.timeout)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
                raise MonitorClosed("no QEMU listens at %s" % self.path, path=self.path)
            if error.errno == errno.EAGAIN:
                raise MonitorTimeout(self._busy(), path=self.path)
            raise MonitorError(
                "cannot connect to QEMU's monitor %s: %s" % (self.path, error.strerror or error),
                path=self.path,
            )
        try:
            self.peer_pid = peer_credentials(self._channel)[0]
            greeting = self._receive(deadline)
            if greeting is None:
                raise MonitorTimeout(self._busy(), path=self.path)
            if "QMP" not in greeting:
                raise self._foreign()
        except MonitorError:
            self.close()
            raise
        version = greeting["QMP"]["version"]
        self.version = tuple(version["qemu"][part] for part in ("major", "minor", "micro"))
        return self

    def close(self):
        """Leave; the next client is served. Closing twice does no harm."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._negotiated = False
        self._received = self._pending = b""

    def batch(self, commands, timeout=None):
        """Send all commands, a list of (name, arguments or None), at once; return what they return, in their order.

        A command that QEMU refuses gives a MonitorError, not raised, in its place; those after it still run.
        timeout: seconds for all of them together.
        """
        deadline = self._deadline(timeout)
        results = []
        commands = list(commands)
        for start in range(0, len(commands), _CHUNK):
            results += self._exchange(commands[start : start + _CHUNK], (), deadline)
        return results

    def execute(self, command, arguments=None, fds=(), timeout=None):
        """Run one command and return what it returns; a refusal is raised as MonitorError(command, error_class).

        fds: file descriptors that go with it (getfd and add-fd take one).
        """
        result = self._exchange([(command, arguments)], fds, self._deadline(timeout))[0]
        if isinstance(result, MonitorError):
            raise result
        return result

    def human(self, command_line):
        """Run a line of the human monitor and return its text. Its errors are text, too."""
        return self.execute("human-monitor-command", {"command-line": command_line})

    def wait_event(self, names, match=None, timeout=None):
        """Take the earliest event, queued or to come, that has one of names (a str or several) and whose data contains match."""
        names = (names,) if isinstance(names, str) else tuple(names)
        deadline = self._deadline(timeout)
        seen = 0
        while True:
            for index in range(seen, len(self.events)):
                event = self.events[index]
                if event["event"] in names and _contains(event["data"], match or {}):
                    return self.events.pop(index)
            seen = len(self.events)
            if not self._negotiated:
                self._exchange([], (), deadline)
            elif not self._collect(deadline):
                raise MonitorTimeout(
                    "QEMU did not send %s%s within %g s"
                    % (
                        " or ".join(names),
                        " with %s" % json.dumps(match) if match else "",
                        self._seconds(timeout),
                    ),
                    path=self.path,
                )

    def _exchange(self, commands, fds, deadline):
        requests = (
            list(commands) if self._negotiated else [("qmp_capabilities", None)] + list(commands)
        )
        first = self._last_id + 1
        text = []
        for command, arguments in requests:
            self._last_id += 1
            request = {"execute": command, "id": self._last_id}
            if arguments:
                request["arguments"] = arguments
            text.append(json.dumps(request, separators=(",", ":")) + "\n")
        self._send("".join(text).encode("utf-8"), fds, deadline, requests)
        replies = {}
        while len(replies) < len(requests):
            message = self._collect(deadline)
            if message is None:
                missing = [
                    request[0]
                    for number, request in enumerate(requests, first)
                    if number not in replies
                ]
                raise MonitorTimeout(
                    "QEMU did not answer %s in time" % missing[0],
                    command=missing[0],
                    path=self.path,
                )
            if "event" in message:
                continue
            number = message.get("id")
            if number is None and "error" in message:
                raise MonitorError(
                    "QEMU could not read a request: %s" % message["error"]["desc"],
                    command=requests[len(replies)][0],
                    error_class=message["error"]["class"],
                )
            if (
                isinstance(number, int) and first <= number <= self._last_id
            ):  # else a late answer, to us or to the client before
                replies[number] = self._result(requests[number - first][0], message)
        results = [replies[number] for number in range(first, self._last_id + 1)]
        if not self._negotiated:
            refusal = results.pop(0)
            if isinstance(refusal, MonitorError):
                raise refusal
            self._negotiated = True
        return results

    @staticmethod
    def _result(command, message):
        if "error" not in message:
            return message["return"]
        error = message["error"]
        return MonitorError(
            "QEMU refused %s: %s" % (command, error["desc"]),
            command=command,
            error_class=error["class"],
        )

    def _send(self, data, fds, deadline, requests):
        if self._channel is None:
            raise MonitorClosed("not connected to QEMU's monitor %s" % self.path, path=self.path)
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("%di" % len(fds), *fds))]
            if fds
            else []
        )
        try:
            while data:
                self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
                data = data[self._channel.sendmsg([data], rights) :]
                rights = []
        except socket.timeout:
            raise MonitorTimeout(
                "QEMU did not take %s in time" % requests[-1][0],
                command=requests[-1][0],
                path=self.path,
            )
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone()

    def _collect(self, deadline):
        """The next message, its event queued; None at the deadline."""
        message = self._receive(deadline)
        if message is not None and "event" in message:
            stamp = message.get("timestamp", {})
            self.events.append(
                {
                    "event": message["event"],
                    "data": message.get("data", {}),
                    "time": stamp.get("seconds", 0) + stamp.get("microseconds", 0) / 1e6,
                }
            )
        return message

    def _receive(self, deadline):
        """The next JSON object; None at the deadline. One is a line, or several where the monitor has pretty=on."""
        if self._channel is None:
            raise MonitorClosed("not connected to QEMU's monitor %s" % self.path, path=self.path)
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                self._pending += line
                if self._pending.strip()[:1] not in (b"{", b""):
                    raise self._foreign()
                try:
                    message = json.loads(self._pending)
                except ValueError:
                    continue
                self._pending = b""
                return message
            parts = [self._received]
            while b"\n" not in parts[-1]:
                left = deadline - time.monotonic()
                self._channel.settimeout(max(left, 0.001))
                try:
                    part = self._channel.recv(1 << 18)
                except socket.timeout:
                    self._received = b"".join(parts)
                    return None
                except ConnectionResetError:
                    part = b""
                if not part:
                    raise self._gone()
                parts.append(part)
            self._received = b"".join(parts)

    def _deadline(self, timeout):
        return time.monotonic() + self._seconds(timeout)

    def _seconds(self, timeout):
        return self.timeout if timeout is None else timeout

    def _busy(self):
        return (
            "no greeting from QEMU's monitor %s within %g s: another client holds the monitor, or QEMU hangs"
            % (self.path, self.timeout)
        )

    def _foreign(self):
        return MonitorError(
            "%s does not speak QMP: is it a human monitor?" % self.path, path=self.path
        )

    def _gone(self):
        return MonitorClosed("QEMU closed its monitor %s: it has ended" % self.path, path=self.path)
