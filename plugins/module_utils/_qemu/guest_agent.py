# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The guest agent, over the UNIX socket of its virtio-serial port.

Source: QEMU, docs/interop/qemu-ga-ref.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
import select
import socket
import time
from typing import Any, Mapping, NoReturn, TypeVar

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestGone,
    GuestNotReady,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.json_input import parse_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.sockets import connect_unix

MAX_ANSWER = 16 << 20  # bytes

_T = TypeVar("_T")


class GuestAgent:
    """One connection to a guest agent; a context manager that connects and synchronises.

    timeout: seconds for each call that has none of its own; default 5.
    Raises GuestError if there is no socket and if the agent refuses a command, GuestNotReady if it
    does not answer in time, GuestGone if the VM ends.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = 5) -> None:
        self.path = os.fspath(path)
        self.timeout = timeout
        self._channel: socket.socket | None = None
        self._received = bytearray()
        self._synchronised = False
        # Unlike the ids of earlier clients, whose answers may still be in the channel.
        self._last_id = time.monotonic_ns() & 0x3FFFFFFF

    def __enter__(self) -> GuestAgent:
        try:
            self._channel = connect_unix(self.path, self.timeout)
        except OSError as error:
            raise GuestError(
                "no guest agent answers at %s: %s. Does the VM run?"
                % (self.path, error.strerror or error),
                path=self.path,
            )
        try:
            self._synchronise(time.monotonic() + self.timeout)
        except GuestError:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing it again does nothing."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        answers: bool = True,
        max_answer: int = MAX_ANSWER,
        silence: float | None = None,
    ) -> Any:
        """Run one command of the agent; return its result.

        answers: False for a command that does not answer if it succeeds, such as guest-shutdown:
        then return at once.
        max_answer: the most bytes to accept. silence: seconds until the answer must begin.
        The shape of the result is not checked: see field().
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        if not self._synchronised:
            self._synchronise(
                deadline if silence is None else min(deadline, time.monotonic() + silence)
            )
        self._send(b"", command, arguments, deadline)
        if not answers:
            self._synchronised = False
            return None
        if silence is not None and not self._received:
            self._read(min(deadline, time.monotonic() + silence), command)
        message = self._receive(deadline, command, max_answer)
        if "error" in message:
            raise GuestError(
                "the guest agent refused %s: %s" % (command, field(message["error"], "desc", str)),
                command=command,
                error_class=field(message["error"], "class", str),
            )
        return message["return"]

    def pause(self, seconds: float) -> None:
        """Wait for seconds, but raise GuestGone as soon as the VM ends."""
        channel = self._connected()
        if select.select([channel], [], [], seconds)[0]:
            try:
                data = channel.recv(1, socket.MSG_PEEK)
            except OSError:
                data = b""
            if not data:
                self._fail_closed()
            select.select([], [], [], seconds)  # the guest sends what nobody asked for

    def interfaces(self) -> list[dict[str, Any]]:
        """Return the guest's network interfaces: dicts with name, mac and addresses.

        mac: in lower case, or None. addresses: a list of str.
        """
        items = self.execute("guest-network-get-interfaces")
        if not isinstance(items, list):
            raise invalid_answer("it is not a list of interfaces")
        return [_interface(item) for item in items]

    def _synchronise(self, deadline: float) -> None:
        """Make the agent drop an incomplete request of an earlier client; skip its old answers."""
        self._last_id += 1
        self._received.clear()
        self._send(b"\xff", "guest-sync-delimited", {"id": self._last_id}, deadline)
        while True:
            while b"\xff" not in self._received:
                self._received.clear()
                self._read(deadline, "guest-sync-delimited")
            del self._received[: self._received.rindex(b"\xff") + 1]
            if self._receive(deadline, "guest-sync-delimited").get("return") == self._last_id:
                self._synchronised = True
                return

    def _send(
        self, prefix: bytes, command: str, arguments: Mapping[str, Any] | None, deadline: float
    ) -> None:
        channel = self._connected()
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._synchronised, before = False, self._synchronised
        try:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
            channel.sendall(prefix + json.dumps(request).encode("utf-8") + b"\n")
        except socket.timeout:
            self._fail_silent(command)
        except OSError:
            self._fail_closed()
        self._synchronised = before

    def _receive(
        self, deadline: float, command: str, max_answer: int = MAX_ANSWER
    ) -> dict[str, Any]:
        """Return the next message, which has a return or an error."""
        line = self._receive_line(deadline, command, max_answer)
        try:
            message = parse_json(line)
        except ValueError:
            self._synchronised = False
            raise GuestError(
                "the guest agent at %s sent something that is not JSON" % self.path, path=self.path
            )
        if not isinstance(message, dict) or not ("return" in message or "error" in message):
            self._synchronised = False
            raise invalid_answer("it has neither a result nor an error")
        return message

    def _receive_line(self, deadline: float, command: str, max_answer: int) -> bytearray:
        searched = 0
        while True:
            end = self._received.find(b"\n", searched)
            if end >= 0:
                line = self._received[:end]
                del self._received[: end + 1]
                return line
            searched = len(self._received)
            if searched > max_answer:
                self._received.clear()
                self._synchronised = False
                raise invalid_answer("it is larger than %d MiB" % (max_answer >> 20))
            self._read(deadline, command)

    def _read(self, deadline: float, command: str) -> None:
        channel = self._connected()
        left = deadline - time.monotonic()
        if left <= 0:  # even if a guest sends without a pause
            self._fail_silent(command)
        try:
            channel.settimeout(left)
            data = channel.recv(65536)
        except socket.timeout:
            self._fail_silent(command)
        except OSError:
            data = b""
        if not data:
            self._fail_closed()
        self._received += data

    def _connected(self) -> socket.socket:
        if self._channel is None:
            raise GuestError("not connected to the guest agent at %s" % self.path, path=self.path)
        return self._channel

    def _fail_silent(self, command: str) -> NoReturn:
        self._synchronised = False
        if command == "guest-sync-delimited":
            raise GuestNotReady(
                "no guest agent answers at %s: is qemu-guest-agent installed in the guest, and has "
                "it started?" % self.path,
                path=self.path,
            )
        raise GuestNotReady(
            "the guest agent did not answer %s in time" % command, path=self.path, command=command
        )

    def _fail_closed(self) -> NoReturn:
        self._synchronised = False
        raise GuestGone(
            "the connection to the guest agent at %s was closed: the VM has ended" % self.path,
            path=self.path,
        )


def field(answer: Any, name: str, kind: type[_T], default: _T | None = None) -> _T:
    """Return a field of an answer of the agent.

    default: for a field that is missing or null; without it the field is required.
    Raises GuestError if the value is not of the type kind, so that nothing else needs to check it.
    """
    if not isinstance(answer, dict):
        raise invalid_answer("%r is expected in it" % name)
    value = answer.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        raise invalid_answer("its %r is not valid" % name)
    return value


def base64_field(answer: Any, name: str, default: str | None = None) -> bytes:
    """Return the bytes of a field in base64. Raises GuestError."""
    try:
        return base64.b64decode(field(answer, name, str, default), validate=True)
    except ValueError:
        raise invalid_answer("its %r is not base64" % name)


def invalid_answer(reason: str) -> GuestError:
    """Return the error for an answer that does not have the documented form."""
    return GuestError("the guest agent gave an invalid answer: %s" % reason)


def _interface(item: Any) -> dict[str, Any]:
    addresses: list[Any] = field(item, "ip-addresses", list, [])
    mac = field(item, "hardware-address", str, "").lower()
    if mac and not re.fullmatch("[0-9a-f]{2}(:[0-9a-f]{2}){0,31}", mac):
        raise invalid_answer("its 'hardware-address' is not valid")
    return {
        "name": field(item, "name", str).encode("utf-8", "replace").decode("utf-8"),
        "mac": mac or None,
        "addresses": [_address(field(entry, "ip-address", str)) for entry in addresses],
    }


def _address(text: str) -> str:
    address, _percent, scope = text.partition("%")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise invalid_answer("its 'ip-address' is not valid")
    if scope and not re.fullmatch(r"[\w.-]{1,64}", scope, re.ASCII):
        raise invalid_answer("its 'ip-address' is not valid")
    return text
