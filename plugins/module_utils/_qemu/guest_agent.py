# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The guest agent, over the UNIX socket of its virtio-serial port.

Source: QEMU, docs/interop/qemu-ga-ref.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from typing import Any, Mapping, NoReturn

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestNotReady,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sockets import connect_unix


class GuestAgent:
    """One connection to a guest agent; a context manager that connects and synchronises.

    timeout: seconds for each call that has none of its own; default 5.
    Raises GuestError if there is no socket, and if the agent does not answer in time or refuses a
    command.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = 5) -> None:
        self.path = os.fspath(path)
        self.timeout = timeout
        self._channel: socket.socket | None = None
        self._received = b""
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
    ) -> Any:
        """Run one command of the agent; return its result.

        answers: False for a command that does not answer if it succeeds, such as guest-shutdown:
        then return at once.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        if not self._synchronised:
            self._synchronise(deadline)
        self._send(b"", command, arguments, deadline)
        if not answers:
            self._synchronised = False
            return None
        message = self._receive(deadline, command)
        if "error" in message:
            raise GuestError(
                "the guest agent refused %s: %s" % (command, message["error"].get("desc")),
                command=command,
                error_class=message["error"].get("class"),
            )
        return message.get("return")

    def pause(self, seconds: float) -> None:
        """Wait for seconds, but raise GuestError as soon as the VM ends."""
        channel = self._connected()
        if select.select([channel], [], [], seconds)[0] and not channel.recv(1, socket.MSG_PEEK):
            self._fail_closed()

    def interfaces(self) -> list[dict[str, Any]]:
        """Return the guest's network interfaces: dicts with name, mac and addresses.

        mac: in lower case, or None. addresses: a list of str.
        """
        return [
            {
                "name": item["name"],
                "mac": item["hardware-address"].lower() if item.get("hardware-address") else None,
                "addresses": [address["ip-address"] for address in item.get("ip-addresses", [])],
            }
            for item in self.execute("guest-network-get-interfaces")
        ]

    def _synchronise(self, deadline: float) -> None:
        """Make the agent drop an incomplete request of an earlier client; skip its old answers."""
        self._last_id += 1
        self._received = b""
        self._send(b"\xff", "guest-sync-delimited", {"id": self._last_id}, deadline)
        while True:
            while b"\xff" not in self._received:
                self._received = b""
                self._read(deadline, "guest-sync-delimited")
            self._received = self._received.rpartition(b"\xff")[2]
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

    def _receive(self, deadline: float, command: str) -> Any:
        while b"\n" not in self._received:
            self._read(deadline, command)
        line, _newline, self._received = self._received.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            self._synchronised = False
            raise GuestError(
                "the guest agent at %s sent something that is not JSON" % self.path, path=self.path
            )

    def _read(self, deadline: float, command: str) -> None:
        channel = self._connected()
        try:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
            data = channel.recv(65536)
        except socket.timeout:
            self._fail_silent(command)
        except ConnectionResetError:
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
        raise GuestError(
            "the guest agent did not answer %s in time" % command, path=self.path, command=command
        )

    def _fail_closed(self) -> NoReturn:
        self._synchronised = False
        raise GuestError(
            "the connection to the guest agent at %s was closed: the VM has ended" % self.path,
            path=self.path,
        )
