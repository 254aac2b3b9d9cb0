# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A serial console: type, read, and wait for patterns. QEMU serves one client of it at a time."""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import struct
import termios
import time
from typing import Pattern, Sequence, Tuple, Union

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestGone,
    GuestNotReady,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sockets import connect_unix
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.console_relay import TelnetReader

POLL_INTERVAL = 0.05  # seconds; there is no event for QEMU reading its input
MAX_PRINTED = 1 << 20  # bytes of output that are kept and searched
_MAX_SHOWN_LINE = 100  # bytes of a line of output, in an error
MAX_ESCAPE = 1024  # bytes of an escape sequence
# Cursor movements and colours (ECMA-48), which would keep patterns from matching.
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78DEHMZc])"
)

# What a system prints when it ends or begins, at the start of a line: kernels, firmware, and boot
# loaders.
_END = re.compile(
    rb"^(?:\[ *\d+\.\d+\] )?(?:reboot: (?:Restarting system|Power down|System halted)"
    rb"|Kernel panic - not syncing|Restarting system\.)"
    rb"|^(?:\[ *0\.0+\] )(?:Linux version |Booting Linux )"
    rb"|^Linux version \d"
    rb"|^(?:SeaBIOS \(|iPXE |BdsDxe: |UEFI Interactive Shell|Booting from (?:Hard|DVD|ROM|Floppy))"
    rb"|^(?:GRUB loading|Welcome to GRUB|GNU GRUB|U-Boot \d|---<<BOOT>>---|>> OpenBSD/)",
    re.MULTILINE,
)

Address = Union[str, "os.PathLike[str]", Tuple[str, int]]


class Console:
    """One connection to a console; a context manager.

    address: the path of its UNIX socket, or (host, port). telnet: whether it speaks telnet.
    printed: the output since the connection or the last match, as bytes without escape sequences.
    Raises GuestError if there is no console at the address.
    """

    def __init__(self, address: Address, timeout: float = 5, telnet: bool = False) -> None:
        self.address, self.timeout, self.telnet = address, timeout, telnet
        self.printed = b""
        self._telnet = TelnetReader()
        self._channel: socket.socket | None = None

    def __enter__(self) -> Console:
        try:
            if isinstance(self.address, tuple):
                self._channel = socket.create_connection(self.address, self.timeout)
            else:
                self._channel = connect_unix(os.fspath(self.address), self.timeout)
        except BlockingIOError:
            raise GuestNotReady(
                "the console at %s has a client already, and others wait: it serves one at a time"
                % self.location
            )
        except OSError as error:
            raise GuestError(
                "no console answers at %s: %s. Does the VM run?"
                % (self.location, error.strerror or error)
            )
        return self

    def __exit__(self, *exception: object) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @property
    def location(self) -> str:
        """The address as text."""
        if isinstance(self.address, tuple):
            return "%s:%s" % self.address
        return os.fspath(self.address)

    def send(self, data: bytes, deadline: float) -> None:
        """Type bytes. Raises GuestNotReady if they are not read by deadline (time.monotonic())."""
        channel = self._connected()
        channel.settimeout(max(deadline - time.monotonic(), 0.001))
        if self.telnet:
            data = data.replace(b"\xff", b"\xff\xff")
        try:
            channel.sendall(data)
        except socket.timeout:
            raise self.input_error()
        except OSError:
            raise self._closed()

    def expect(
        self, patterns: Sequence[Pattern[bytes]], deadline: float
    ) -> tuple[int, re.Match[bytes]] | tuple[None, None]:
        """Wait for a pattern; return its index and its first match, or (None, None) at deadline.

        The output up to the end of the match is removed from printed.
        """
        is_late = False
        while True:
            found = []
            for index, pattern in enumerate(patterns):
                match = pattern.search(self.printed)
                if match:
                    found.append((match.start(), index, match))
            if found:
                _start, index, match = min(found, key=lambda entry: entry[:2])
                self.printed = self.printed[match.end() :]
                return index, match
            # A guest may print without a pause: check the clock after each search.
            if is_late or not self.read(deadline):
                return None, None
            is_late = time.monotonic() >= deadline

    def read(self, deadline: float) -> bool:
        """Wait for output and add it to printed; return False if none arrives by deadline.

        Raises GuestGone if the VM has ended.
        """
        channel = self._connected()
        if not select.select([channel], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = channel.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise self._closed()
        if self.telnet:
            data = self._telnet.text_of(data)
        # An escape sequence may have come in two parts.
        start = max(0, len(self.printed) - MAX_ESCAPE)
        cleaned = _ESCAPES.sub(b"", self.printed[start:] + data)
        self.printed = (self.printed[:start] + cleaned)[-MAX_PRINTED:]
        return True

    def drain(self, deadline: float) -> bool:
        """Wait until QEMU has read all input: what it has not read is lost with the connection.

        Return False if it has not by deadline. QEMU reads nothing while another client is connected
        or the guest does not read.
        """
        channel = self._connected()
        while struct.unpack("i", fcntl.ioctl(channel, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
            if time.monotonic() > deadline:
                return False
            self.read(min(deadline, time.monotonic() + POLL_INTERVAL))
        return True

    def expect_alive(
        self, patterns: Sequence[Pattern[bytes]], deadline: float
    ) -> tuple[int, re.Match[bytes]] | tuple[None, None]:
        """Wait for a pattern like expect; raise GuestGone if the system ends or boots again."""
        number, match = self.expect([*patterns, _END], deadline)
        if number is None or match is None:
            return None, None
        if number == len(patterns):
            raise self.gone(match)
        return number, match

    def has_restarted(self, output: bytes) -> bool:
        """Whether output shows that the system has ended or begun."""
        return _END.search(output) is not None

    def gone(self, match: re.Match[bytes]) -> GuestGone:
        """Return the error for a system that has ended. match: what shows it."""
        line = match.string[match.start() :].splitlines()[0][:_MAX_SHOWN_LINE]
        return GuestGone(
            "the guest has ended or is restarting: its console %s shows: %s"
            % (self.location, line.decode("utf-8", "replace"))
        )

    def input_error(self) -> GuestNotReady:
        """Return the error for a console that does not accept input."""
        return GuestNotReady(
            "the console at %s does not accept input: another client is connected to it (QEMU "
            "serves one at a time), the VM is paused, or the guest does not read its console yet"
            % self.location
        )

    def _connected(self) -> socket.socket:
        if self._channel is None:
            raise GuestError("not connected to the console at %s" % self.location)
        return self._channel

    def _closed(self) -> GuestGone:
        return GuestGone("the console at %s was closed: the VM has ended" % self.location)


def compile_pattern(option: str, text: str) -> Pattern[bytes]:
    """Return text compiled as a regular expression for bytes. Raises OptionError, naming option."""
    try:
        return re.compile(text.encode("utf-8", "surrogateescape"), re.MULTILINE)
    except re.error as error:
        raise OptionError(option, "%r is not a regular expression: %s" % (text, error))
