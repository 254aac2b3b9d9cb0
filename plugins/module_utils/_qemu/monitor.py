# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""QEMU's monitor over a UNIX socket. Source: QEMU, docs/interop/qmp-spec."""

from __future__ import annotations

import collections
import errno
import json
import os
import re
import socket
import struct
import time
from typing import Any, Iterable, Mapping, NoReturn, Optional, Sequence, Tuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    MonitorClosed,
    MonitorError,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.json_input import parse_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.sockets import (
    connect_unix,
    peer_credentials,
)

# QEMU queues 8 requests of a client (monitor/qmp.c, QMP_REQ_QUEUE_LEN_MAX): 7 and qmp_capabilities.
MAX_REQUESTS = 7
MAX_MESSAGE = 16 << 20  # bytes
# A guest can cause events without a pause: the oldest are dropped, and those that are too long.
MAX_EVENTS = 1000
MAX_EVENT = 1 << 16  # bytes

Command = Tuple[str, Optional[Mapping[str, Any]]]  # name, arguments


# An event to wait for: its name, and what its data contains.
DesiredEvent = Tuple[str, Optional[Mapping[str, Any]]]


def _contains(data: Any, part: Any) -> bool:
    """Return whether data has all of part: keys of dicts at any depth, and equal values.

    None equals a missing key: QMP omits the optional members that have no value.
    """
    if isinstance(part, Mapping):
        return isinstance(data, dict) and all(
            _contains(data.get(key), value) for key, value in part.items()
        )
    return bool(data == part)


class Monitor:
    """One connection to a QMP socket; a context manager.

    QEMU serves one client of a socket at a time: keep the connection short.
    timeout: seconds for each call that has none of its own; default 10.
    version: QEMU's version as a tuple of three numbers. peer_pid: the process that listens.
    events: those that no call has waited for, oldest first: dicts with event, data and time
    (seconds since 1970).
    Raises MonitorClosed if no process listens or QEMU ends, MonitorTimeout if it does not answer.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = 10) -> None:
        self.path = os.fspath(path)
        self.timeout = timeout
        self.version: tuple[int, ...] = ()
        self.peer_pid = 0
        self.events: list[dict[str, Any]] = []
        self._channel: socket.socket | None = None
        self._negotiated = False
        self._lines: collections.deque[bytes] = collections.deque()  # complete lines
        self._partial = bytearray()  # the line that is not complete
        self._message = bytearray()  # the lines of an incomplete message
        self._message_size = 0  # of the last message
        # Random, to differ from earlier clients: QEMU sends the replies that a killed one has not
        # read to the next one.
        self._last_id = int.from_bytes(os.urandom(4), "big") << 20

    def __enter__(self) -> Monitor:
        return self.connect()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def connect(self) -> Monitor:
        """Connect and read the greeting, which sets version and peer_pid; return self.

        Send nothing yet: a busy QEMU would run it long after a timeout.
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
            self.peer_pid = peer_credentials(self._channel).pid
            greeting = self._collect(deadline)
            # QEMU greets in its I/O thread; its main thread may send an event just before, such as
            # RESUME of a QEMU that was just started without -S.
            while greeting is not None and "event" in greeting:
                greeting = self._collect(deadline)
            if greeting is None:
                raise MonitorTimeout(self._busy(), path=self.path)
            if "QMP" not in greeting:
                raise self._not_qmp()
            self.version = self._version(greeting)
        except MonitorError:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close the connection, so that QEMU serves the next client; closing it again is fine."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._negotiated = False
        self._lines.clear()
        self._partial.clear()
        self._message.clear()

    def batch(self, commands: Iterable[Command], timeout: float | None = None) -> list[Any]:
        """Send all commands at once; return their results in the same order.

        commands: (name, arguments or None). timeout: seconds for all of them together.
        A command that QEMU refuses has a MonitorError as its result, which is not raised; those
        after it still run.
        """
        deadline = self._deadline(timeout)
        results = []
        commands = list(commands)
        for start in range(0, len(commands), MAX_REQUESTS):
            results += self._exchange(commands[start : start + MAX_REQUESTS], (), deadline)
        return results

    def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        fds: Sequence[int] = (),
        timeout: float | None = None,
    ) -> Any:
        """Run one command; return its result, or raise MonitorError(command, error_class).

        fds: file descriptors to send with it (getfd and add-fd take one).
        """
        result = self._exchange([(command, arguments)], fds, self._deadline(timeout))[0]
        if isinstance(result, MonitorError):
            raise result
        return result

    def human(self, command_line: str) -> str:
        """Run a line of the human monitor; return its output. Errors are output, too."""
        return str(self.execute("human-monitor-command", {"command-line": command_line}))

    def wait_event(
        self,
        names: str | Iterable[str],
        match: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Remove and return the first matching event; wait for it if none has come yet.

        names: one or several. match: what its data contains.
        """
        names = (names,) if isinstance(names, str) else tuple(names)
        return self.wait_any([(name, match) for name in names], timeout)

    def wait_any(
        self, desired: Sequence[DesiredEvent], timeout: float | None = None
    ) -> dict[str, Any]:
        """Remove and return the first event that is one of those desired.

        timeout: 0 to consider only the events that QEMU has sent until now.
        """
        deadline = self._deadline(timeout)
        event = self._take_event(desired)
        if event is None and (timeout == 0 or not self._negotiated):
            # QEMU sends the reply to a command after all earlier events.
            queries: list[Command] = [("query-name", None)] if timeout == 0 else []
            self._exchange(queries, (), self._deadline(None) if timeout == 0 else deadline)
            event = self._take_event(desired)
        while event is None:
            message = None if timeout == 0 else self._collect(deadline)
            if message is None:
                raise self._no_event(desired, timeout)
            event = self._take_event(desired, max(len(self.events) - 1, 0))
        return event

    def _no_event(self, desired: Sequence[DesiredEvent], timeout: float | None) -> MonitorTimeout:
        names = [
            name + (" with %s" % json.dumps(match) if match else "") for name, match in desired
        ]
        return MonitorTimeout(
            "QEMU did not send %s %s"
            % (
                " or ".join(names),
                "until now" if timeout == 0 else "within %g s" % self._seconds(timeout),
            ),
            path=self.path,
        )

    def _take_event(self, desired: Sequence[DesiredEvent], start: int = 0) -> dict[str, Any] | None:
        """Remove and return the first desired event of the queue, from index start on."""
        for index in range(start, len(self.events)):
            event = self.events[index]
            for name, match in desired:
                if event["event"] == name and _contains(event["data"], match or {}):
                    return self.events.pop(index)
        return None

    def _exchange(
        self, commands: Sequence[Command], fds: Sequence[int], deadline: float
    ) -> list[Any]:
        """Send commands, after qmp_capabilities if needed; return their results."""
        negotiation: list[Command] = [] if self._negotiated else [("qmp_capabilities", None)]
        requests = negotiation + list(commands)
        first = self._last_id + 1
        self._send(self._encode(requests), fds, deadline, requests)
        replies: dict[int, Any] = {}
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
            # Other ids are of late replies, to this client or to an earlier one.
            if isinstance(number, int) and first <= number <= self._last_id:
                replies[number] = self._result(requests[number - first][0], message)
        results = [replies[number] for number in range(first, self._last_id + 1)]
        if not self._negotiated:
            refusal = results.pop(0)
            if isinstance(refusal, MonitorError):
                raise refusal
            self._negotiated = True
        return results

    def _encode(self, requests: Sequence[Command]) -> bytes:
        lines = []
        for command, arguments in requests:
            self._last_id += 1
            request: dict[str, Any] = {"execute": command, "id": self._last_id}
            if arguments:
                request["arguments"] = arguments
            lines.append(json.dumps(request, separators=(",", ":")) + "\n")
        return "".join(lines).encode("utf-8")

    def _result(self, command: str, message: dict[str, Any]) -> Any:
        if "return" in message:
            return message["return"]
        if "error" not in message:
            self._fail_invalid("it has neither a result nor an error")
        error = message["error"]
        return MonitorError(
            "QEMU refused %s: %s" % (command, error["desc"]),
            command=command,
            error_class=error["class"],
        )

    def _send(
        self, data: bytes, fds: Sequence[int], deadline: float, requests: Sequence[Command]
    ) -> None:
        channel = self._connected()
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("%di" % len(fds), *fds))]
            if fds
            else []
        )
        try:
            while data:
                channel.settimeout(max(deadline - time.monotonic(), 0.001))
                data = data[channel.sendmsg([data], rights) :]
                rights = []
        except socket.timeout:
            raise MonitorTimeout(
                "QEMU did not read %s in time" % requests[-1][0],
                command=requests[-1][0],
                path=self.path,
            )
        except (BrokenPipeError, ConnectionResetError):
            raise self._closed()

    def _collect(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message, and queue it if it is an event; None at the deadline."""
        message = self._receive(deadline)
        if message is not None and "event" in message:
            stamp = message.get("timestamp", {})
            if self._message_size <= MAX_EVENT:
                self.events.append(
                    {
                        "event": message["event"],
                        "data": message.get("data", {}),
                        "time": stamp.get("seconds", 0) + stamp.get("microseconds", 0) / 1e6,
                    }
                )
                del self.events[:-MAX_EVENTS]
        return message

    def _receive(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message; None at the deadline.

        It takes one line, or several if the monitor has pretty=on.
        """
        channel = self._connected()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:  # even if QEMU sends without a pause
                return None
            message = self._next_message(deadline)
            if message is not None:
                return message
            channel.settimeout(left)
            try:
                data = channel.recv(1 << 18)
            except socket.timeout:
                return None
            except ConnectionResetError:
                data = b""
            if not data:
                raise self._closed()
            *lines, rest = data.split(b"\n")
            if lines:
                self._lines.append(bytes(self._partial) + lines[0])
                self._lines.extend(lines[1:])
                self._partial.clear()
            self._partial += rest
            if len(self._partial) + len(self._message) > MAX_MESSAGE:
                self._fail_invalid("it is larger than %d MiB" % (MAX_MESSAGE >> 20))

    def _next_message(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message in the lines received so far, or None."""
        while self._lines:
            self._message += self._lines.popleft()
            if not re.match(rb"\s*(\{|$)", self._message):
                raise self._not_qmp()
            try:
                message = parse_json(self._message)
            except json.JSONDecodeError:  # it has more lines
                if time.monotonic() > deadline:
                    return None
                continue
            except ValueError as error:
                self._fail_invalid(str(error))
            self._message_size = len(self._message)
            self._message.clear()
            return self._checked(message)
        return None

    def _checked(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message; raise MonitorError if its event or error does not have its form."""
        if "event" in message:
            stamp = message.get("timestamp", {})
            if (
                not isinstance(message["event"], str)
                or not isinstance(message.get("data", {}), dict)
                or not isinstance(stamp, dict)
                or not all(isinstance(number, (int, float)) for number in stamp.values())
            ):
                self._fail_invalid("its event is not valid")
        elif "error" in message:
            error = message["error"]
            if not isinstance(error, dict) or not all(
                isinstance(error.get(key), str) for key in ("class", "desc")
            ):
                self._fail_invalid("its error is not valid")
        return message

    def _version(self, greeting: dict[str, Any]) -> tuple[int, ...]:
        try:
            version = greeting["QMP"]["version"]["qemu"]
            numbers = tuple(version[part] for part in ("major", "minor", "micro"))
        except (LookupError, TypeError):
            numbers = ()
        if not numbers or not all(isinstance(number, int) for number in numbers):
            self._fail_invalid("its greeting has no version")
        return numbers

    def _fail_invalid(self, reason: str) -> NoReturn:
        self.close()
        raise MonitorError(
            "QEMU's monitor %s sent an invalid message: %s" % (self.path, reason), path=self.path
        )

    def _connected(self) -> socket.socket:
        if self._channel is None:
            raise MonitorClosed("not connected to QEMU's monitor %s" % self.path, path=self.path)
        return self._channel

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + self._seconds(timeout)

    def _seconds(self, timeout: float | None) -> float:
        return max(self.timeout if timeout is None else timeout, 0.001)

    def _busy(self) -> str:
        return (
            "no greeting from QEMU's monitor %s within %g s: another client holds the monitor, or "
            "QEMU hangs" % (self.path, self.timeout)
        )

    def _not_qmp(self) -> MonitorError:
        return MonitorError(
            "%s does not speak QMP: is it a human monitor?" % self.path, path=self.path
        )

    def _closed(self) -> MonitorClosed:
        return MonitorClosed("QEMU closed its monitor %s: it has ended" % self.path, path=self.path)
