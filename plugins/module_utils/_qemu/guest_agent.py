# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The guest agent over the UNIX socket of its virtio-serial port. Source: QEMU, docs/interop/qemu-ga-ref."""

from __future__ import annotations

import json
import os
import select
import socket
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestNotReady,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sockets import connect_unix


class GuestAgent:
    """One connection to a guest agent; a context manager that connects and synchronises on the way in.

    timeout: seconds that each call may take unless it is given its own; default 5.
    Raises GuestError when nothing listens, when no agent answers in time and when it refuses a command.
    """

    def __init__(self, path, timeout=5):
        self.path = os.fspath(path)
        self.timeout = timeout
        self._channel = None
        self._received = b""
        self._synchronised = False
        self._last_id = (
            time.monotonic_ns() & 0x3FFFFFFF
        )  # what an earlier client left unread must not look like ours

    def __enter__(self):
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

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Leave; closing twice does no harm."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def execute(self, command, arguments=None, timeout=None, answers=True):
        """Run one command of the agent and return what it returns.

        answers=False: for commands that do not answer when they succeed, such as guest-shutdown: return at once.
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

    def pause(self, seconds):
        """Wait for seconds, or until the VM ends: that closes the connection, which raises GuestError."""
        if select.select([self._channel], [], [], seconds)[0] and not self._channel.recv(
            1, socket.MSG_PEEK
        ):
            raise self._ended()

    def interfaces(self):
        """The guest's network interfaces: a list of dicts with name, mac (lower case, or None) and addresses (a list of str)."""
        return [
            {
                "name": item["name"],
                "mac": item["hardware-address"].lower() if item.get("hardware-address") else None,
                "addresses": [address["ip-address"] for address in item.get("ip-addresses", [])],
            }
            for item in self.execute("guest-network-get-interfaces")
        ]

    def _synchronise(self, deadline):
        """Make the agent forget half a request of an earlier client, and skip what it still had to say to that one."""
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

    def _send(self, prefix, command, arguments, deadline):
        if self._channel is None:
            raise GuestError("not connected to the guest agent at %s" % self.path, path=self.path)
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._synchronised, before = False, self._synchronised
        try:
            self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
            self._channel.sendall(prefix + json.dumps(request).encode("utf-8") + b"\n")
        except socket.timeout:
            raise self._silent(command)
        except OSError:
            raise self._ended()
        self._synchronised = before

    def _receive(self, deadline, command):
        while b"\n" not in self._received:
            self._read(deadline, command)
        line, newline, self._received = self._received.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            self._synchronised = False
            raise GuestError(
                "the guest agent at %s sent something that is not JSON" % self.path, path=self.path
            )

    def _read(self, deadline, command):
        try:
            self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self._channel.recv(65536)
        except socket.timeout:
            self._synchronised = False
            raise self._silent(command)
        except ConnectionResetError:
            data = b""
        if not data:
            raise self._ended()
        self._received += data

    def _silent(self, command):
        if command == "guest-sync-delimited":
            return GuestNotReady(
                "no guest agent answers at %s: is qemu-guest-agent installed in the guest, and has it started?"
                % self.path,
                path=self.path,
            )
        return GuestError(
            "the guest agent did not answer %s in time" % command, path=self.path, command=command
        )

    def _ended(self):
        self._synchronised = False
        return GuestError(
            "the connection to the guest agent at %s was closed: the VM has ended" % self.path,
            path=self.path,
        )
