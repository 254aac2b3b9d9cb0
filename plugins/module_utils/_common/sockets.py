# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""UNIX sockets with any path and with deadlines."""

from __future__ import annotations

import os
import socket
import struct

_LONGEST = 107  # sun_path of 108 bytes with its closing zero: unix(7)


def connect_unix(path, timeout):
    """A socket connected to the UNIX stream socket at path, in blocking mode.

    timeout: seconds to wait for a place in a full backlog. Raises OSError: ENOENT or ECONNREFUSED when nobody listens,
    EAGAIN (BlockingIOError) when the backlog stayed full.
    """
    handle = None
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        address = path
        if len(os.fsencode(path)) > _LONGEST:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            address = "/proc/self/fd/%d" % handle
        seconds = max(timeout, 0.001)  # 0 would be for ever
        # Python's own time-out makes the socket non-blocking, and then a full backlog is refused at once: socket(7), SO_SNDTIMEO.
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


def peer_credentials(channel):
    """Process id, user id and group id of the process at the other end: unix(7), SO_PEERCRED."""
    return struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
