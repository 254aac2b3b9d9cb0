# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The ports of this host as its kernel has them: whether one can be bound, and who has it."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import time
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest

_CHECK_TIMEOUT, _CHECK_INTERVAL = 0.3, 0.02  # seconds
_TCP_LISTEN = "0A"  # TCP_LISTEN in include/net/tcp_states.h
_UNPRIVILEGED = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_ANY = ("", "*")
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def canonical(address: str) -> str:
    """Return the one way to write an address to listen on."""
    if address in _ANY:
        return "0.0.0.0"
    if address == "localhost":
        return "127.0.0.1"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def overlap(one: str, other: str) -> bool:
    """Whether a port cannot be bound at both addresses, as canonical returns them.

    QEMU binds :: for IPv4, too.
    """
    if one == other or "::" in (one, other):
        return True
    return "0.0.0.0" in (one, other) and ":" not in one + other


def reachable(address: str) -> str:
    """Return where this host itself reaches what listens on an address."""
    return _LOOPBACK.get(address, address)


def bind_error(protocol: str, address: str, port: int) -> OSError | None:
    """Return why a port cannot be bound at an address; None if it can."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
            if protocol == "tcp":
                # Connections in TIME_WAIT do not keep QEMU from listening.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        return error
    return None


def is_free(protocol: str, address: str, port: int) -> bool:
    """Whether a port can be bound at an address."""
    return bind_error(protocol, address, port) is None


class Reservation:
    """UDP ports that no other run can take until QEMU has bound them; a context manager.

    QEMU binds the ports of UDP links so that others can bind them as well, and does not notice if
    they do. A reservation binds them exclusively, and lets QEMU bind them afterwards.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Release all ports of the reservation."""
        for reserved in self._sockets:
            reserved.close()

    def add(self, request: PortRequest, address: str, port: int) -> bool:
        """Reserve a port, or only check it if QEMU binds it exclusively; return whether it is free.

        Another run may be checking the same port at this moment.
        """
        deadline = time.monotonic() + _CHECK_TIMEOUT
        while True:
            if self._try(request, address, port):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_CHECK_INTERVAL)

    def _try(self, request: PortRequest, address: str, port: int) -> bool:
        if not request.is_shared:
            return is_free(request.protocol, address, port)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        reserved = socket.socket(family, socket.SOCK_DGRAM)
        try:
            reserved.bind((address, port))
        except OSError:
            reserved.close()
            return False
        # The kernel looks at this option of both sockets when the second one is bound.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sockets.append(reserved)
        return True


def refusal(error: OSError, protocol: str, address: str, port: int) -> str:
    """Return what bind_error returned as the end of a sentence about the port."""
    if error.errno in (errno.EACCES, errno.EPERM):
        first = (read_text(_UNPRIVILEGED) or "1024").strip()
        return (
            "is privileged: only root can use ports below %s"
            " (sysctl net.ipv4.ip_unprivileged_port_start)" % first
        )
    if error.errno == errno.EADDRINUSE:
        return "is taken by %s" % who_has(protocol, port, address)
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return "is not possible: this host does not have the address"
    return "is not possible: %s" % error.strerror


def who_has(protocol: str, port: int, address: str = "::") -> str:
    """Return who listens on a port of this host: "process 12 (sshd)", or "another process"."""
    inodes = _sockets_at(protocol, canonical(address), port)
    for pid in filter(str.isdigit, os.listdir("/proc") if inodes else ()):
        with contextlib.suppress(OSError):
            for handle in os.scandir("/proc/%s/fd" % pid):
                with contextlib.suppress(OSError):
                    if os.readlink(handle.path) in inodes:
                        name = (read_text("/proc/%s/comm" % pid) or "").strip()
                        return "process %s (%s)" % (pid, re.sub(r"[^\x20-\x7e]", "?", name))
    return "another process"


def _sockets_at(protocol: str, address: str, port: int) -> set[str]:
    """Return the sockets that listen on a port, as /proc/PID/fd names them (proc(5))."""
    found = set()
    for name in (protocol, protocol + "6"):
        for line in (read_text("/proc/net/%s" % name) or "").splitlines()[1:]:
            fields = line.split()
            where, _colon, number = fields[1].rpartition(":")
            if (
                int(number, 16) == port
                and (protocol == "udp" or fields[3] == _TCP_LISTEN)
                and overlap(_kernel_address(where), address)
            ):
                found.add("socket:[%s]" % fields[9])
    return found


def _kernel_address(digits: str) -> str:
    """Return an address of /proc/net: words of 32 bits in the byte order of the host."""
    raw = b"".join(
        socket.htonl(int(digits[start : start + 8], 16)).to_bytes(4, "big")
        for start in range(0, len(digits), 8)
    )
    return canonical(str(ipaddress.ip_address(raw)))
