# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A serial console: what is typed, what is printed, and waiting for it. QEMU serves one client of a console at a time."""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import struct
import termios
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestNotReady,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sockets import connect_unix

_MOST = 1 << 20  # bytes that are kept to be searched
# What moves the cursor and paints (ECMA-48): it stands in the way of patterns.
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78DEHMZc])"
)
_MOMENT = 0.05  # seconds between two looks: nothing tells when QEMU reads


class Console:
    """One connection to a console; a context manager.

    address: the path of its UNIX socket, or (host, port). Raises GuestError when nobody listens there.
    printed: what came since the connection or since the last match, bytes.
    """

    def __init__(self, address, timeout=5):
        self.address, self.timeout = address, timeout
        self.printed = b""
        self._channel = None

    def __enter__(self):
        try:
            if isinstance(self.address, (str, os.PathLike)):
                self._channel = connect_unix(os.fspath(self.address), self.timeout)
            else:
                self._channel = socket.create_connection(self.address, self.timeout)
        except BlockingIOError:
            raise GuestNotReady(
                "the console at %s has a client already, and others wait: it takes one at a time"
                % self.location
            )
        except OSError as error:
            raise GuestError(
                "no console answers at %s: %s. Does the VM run?"
                % (self.location, error.strerror or error)
            )
        return self

    def __exit__(self, *exception):
        self._channel.close()

    @property
    def location(self):
        """Its address, as text."""
        return (
            os.fspath(self.address)
            if isinstance(self.address, (str, os.PathLike))
            else "%s:%s" % self.address
        )

    def send(self, data, deadline):
        """Type bytes. Raises GuestNotReady when nobody takes them until deadline (as time.monotonic())."""
        self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            self._channel.sendall(data)
        except socket.timeout:
            raise self.input_error()
        except OSError:
            raise self._ended()

    def expect(self, patterns, deadline):
        """The number of the first of some patterns (compiled, of bytes) that is printed, and its match; (None, None) at deadline.

        What was printed up to the end of the match is taken out of printed.
        """
        while True:
            found = [
                (match.start(), number, match)
                for number, match in (
                    (number, pattern.search(self.printed))
                    for number, pattern in enumerate(patterns)
                )
                if match
            ]
            if found:
                _start, number, match = min(found, key=lambda entry: entry[:2])
                self.printed = self.printed[match.end() :]
                return number, match
            if not self.read(deadline):
                return None, None

    def read(self, deadline):
        """Take what is printed next; False when nothing is until deadline. Raises GuestError when the VM has ended."""
        if not select.select([self._channel], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = self._channel.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise self._ended()
        self.printed = _ESCAPES.sub(b"", self.printed + data)[-_MOST:]
        return True

    def drain(self, deadline):
        """Wait until QEMU has taken all that was typed: what is under way when we leave is lost. False when it has not by deadline.

        It takes nothing while another client is on the console or the guest does not read.
        """
        while struct.unpack("i", fcntl.ioctl(self._channel, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
            if time.monotonic() > deadline:
                return False
            self.read(min(deadline, time.monotonic() + _MOMENT))
        return True

    def input_error(self):
        """The error for a console that takes nothing."""
        return GuestNotReady(
            "the console at %s takes nothing: another client is connected to it (QEMU serves one at a time), the VM is paused, "
            "or the guest does not read its console yet" % self.location
        )

    def _ended(self):
        return GuestError("the console at %s was closed: the VM has ended" % self.location)


def compile_pattern(option, text):
    """A compiled pattern of bytes. Raises OptionError."""
    try:
        return re.compile(text.encode("utf-8", "surrogateescape"), re.MULTILINE)
    except re.error as error:
        raise OptionError(option, "%r is not a regular expression: %s" % (text, error))
