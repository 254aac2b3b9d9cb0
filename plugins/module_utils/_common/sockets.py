# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""UNIX sockets: paths of any length, and connecting with a timeout."""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

_MAX_PATH = 107  # bytes of sun_path, without its final zero: unix(7)


class PeerCredentials(NamedTuple):
    """The process at the other end of a UNIX socket."""

    pid: int
    uid: int
    gid: int


def connect_unix(path: str, timeout: float) -> socket.socket:
    """Return a blocking socket connected to the UNIX stream socket at path.

    timeout: seconds to wait while the backlog is full. Raises OSError: ENOENT or ECONNREFUSED if no
    process listens, EAGAIN (BlockingIOError) if the backlog stayed full.
    """
    handle = None
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        address = path
        if len(os.fsencode(path)) > _MAX_PATH:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            address = "/proc/self/fd/%d" % handle
        seconds = max(timeout, 0.001)  # 0 would mean no timeout
        # settimeout would make the socket non-blocking, which refuses a full backlog at once:
        # socket(7), SO_SNDTIMEO.
        channel.setsockopt(
            socket.SOL_SOCKET,
            socket.SO_SNDTIMEO,
            struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6)),
        )
        channel.connect(address)
    except OSError:
        channel.close()
        raise
    finally:
        if handle is not None:
            os.close(handle)
    return channel


def peer_credentials(channel: socket.socket) -> PeerCredentials:
    """Return the credentials of the process at the other end: unix(7), SO_PEERCRED."""
    data = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return PeerCredentials(*struct.unpack("3i", data))
