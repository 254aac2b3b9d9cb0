# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A capture as a ring of files: NAME.pcap, and the earlier NAME.1.pcap, NAME.2.pcap and so on.

QEMU writes to a spool without end. Its packets are copied to NAME.pcap, and its space is released
behind them. A file beside the spool has the position: it is written after the packets, and before
their space is released. What a killed program copied after that is cut off and copied again, so
that no packet is lost or doubled.

The program of the captures imports this module, so it imports only the standard library,
detached_program and release_space.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import struct

from ansible_collections.vlab.qemu.plugins.module_utils._common.detached_program import write_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.release_space import release_space

# Not imported from typing, see detached_program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = 24  # bytes before the first packet
PACKET_HEADER = 16  # bytes: seconds, microseconds, bytes kept, bytes of the frame
MAX_PACKET = 1 << 17  # bytes kept; QEMU has less
MIN_SIZE = 1 << 18  # bytes of a file: any packet has space in it
_MAGIC = 0xA1B2C3D4
_BATCH = 1 << 20  # bytes of a read
_RELEASE = 1 << 18  # bytes that are released at once


class Ring:
    """The files of a capture.

    settings: {"spool", "path": of the current file, "size": bytes of a file, "count": of files}.
    Raises KeyError, TypeError or ValueError for others.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._spool: str = settings["spool"]
        self._path: str = settings["path"]
        self._size: int = settings["size"]
        self._count: int = settings["count"]
        if not isinstance(self._size, int) or not isinstance(self._count, int) or self._count < 1:
            raise ValueError("size and count are numbers")
        self._record = self._spool + ".json"
        # The positions in the spool of the first packet of the current file, and of the next one.
        self._start = self._position = 0
        self._released = HEADER

    def copy(self) -> bool:
        """Copy packets; return whether there may be more. Raises OSError.

        Raises ValueError if the spool is not what QEMU writes; what comes before has been copied.
        """
        try:
            spool = os.open(self._spool, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            header = os.pread(spool, HEADER, 0)
            return len(header) == HEADER and self._copy(spool, header)
        finally:
            os.close(spool)

    def finish(self) -> int:
        """Copy the rest of the spool, which does not grow any more, and remove it.

        Return the bytes of an incomplete packet at its end. Raises as copy.
        """
        while self.copy():
            pass
        left = 0
        with contextlib.suppress(FileNotFoundError):
            left = max(0, os.stat(self._spool).st_size - max(HEADER, self._position))
        self.remove()
        return left

    def remove(self) -> None:
        """Remove the spool. Raises OSError."""
        # In this order: a spool without a position would be copied from its beginning.
        for path in (self._spool, self._record):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def trim(self) -> None:
        """Remove the oldest files, if there are more than there are to be. Raises OSError."""
        number = self._count
        while os.path.lexists(self._numbered(number)):
            os.unlink(self._numbered(number))
            number += 1

    def _copy(self, spool: int, header: bytes) -> bool:
        order = _byte_order(header)
        if not self._position:
            self._load()
        output = self._open(header)
        try:
            data = os.pread(spool, _BATCH, self._position)
            end = _whole_packets(data, order, self._space())
            first = end or _first_packet(data, order)
            if not first:
                return False
            if not end and self._position > self._start:
                os.close(output)
                output = -1
                output = self._begin(header)
                end = _whole_packets(data, order, self._space())
            end = end or first  # a packet that is larger than a file has one for itself
            _write(output, data[:end], HEADER + self._position - self._start)
        finally:
            if output >= 0:
                os.close(output)
        self._save(self._start, self._position + end)
        if self._position - self._released >= _RELEASE:
            release_space(spool, self._released, self._position - self._released)
            self._released = self._position
        return True

    def _space(self) -> int:
        """Return how many bytes the current file may take."""
        return self._size - (HEADER + self._position - self._start)

    # The position.

    def _load(self) -> None:
        try:
            with open(self._record, encoding="ascii") as stream:
                found = json.load(stream)
            start, position = found["start"], found["position"]
            if not HEADER <= start <= position:
                raise ValueError("start is %d, and position %d" % (start, position))
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError("%s is damaged: %r" % (self._record, error)) from error
        self._start, self._position = start, position

    def _save(self, start: int, position: int) -> None:
        write_json(self._record, {"start": start, "position": position})
        self._start, self._position = start, position

    # The files.

    def _open(self, header: bytes) -> int:
        """Return the current file, without what a killed program has added to it."""
        size = HEADER + self._position - self._start
        if self._position:
            flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            try:
                output = os.open(self._path, flags)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
            else:
                found = os.fstat(output).st_size
                if found >= size:
                    if found > size:
                        os.ftruncate(output, size)
                    return output
                os.close(output)
        # It does not exist, or its beginning was interrupted.
        return self._begin(header)

    def _begin(self, header: bytes) -> int:
        """Begin another file, and return it."""
        self._shift()
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL
        output = os.open(self._path, flags, 0o600)
        try:
            _write(output, header, 0)
            position = self._position or HEADER
            self._save(position, position)
        except OSError:
            os.close(output)
            raise
        return output

    def _numbered(self, number: int) -> str:
        stem, suffix = os.path.splitext(self._path)
        return "%s.%d%s" % (stem, number, suffix) if number else self._path

    def _shift(self) -> None:
        """Rename x.pcap to x.1.pcap, x.1.pcap to x.2.pcap and so on; the oldest is replaced.

        If this was interrupted, a number is free, and the files before it are those to rename.
        """
        self.trim()
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return
        is_empty = stat.S_ISREG(found.st_mode) and found.st_size <= HEADER
        if is_empty or self._count == 1:
            os.unlink(self._path)
            return
        last = self._count - 1
        free = next((n for n in range(1, last) if not os.path.lexists(self._numbered(n))), last)
        for number in range(free, 0, -1):
            os.replace(self._numbered(number - 1), self._numbered(number))


def _byte_order(header: bytes) -> str:
    for order in "<>":
        if struct.unpack(order + "I", header[:4])[0] == _MAGIC:
            return order
    raise ValueError("it does not begin as a pcap file")


def _first_packet(data: bytes, order: str) -> int:
    """Return the bytes of the packet at the beginning of data; 0 if it is not complete.

    Raises ValueError if it cannot be one.
    """
    if len(data) < PACKET_HEADER:
        return 0
    kept, length = struct.unpack_from(order + "II", data, 8)
    if not _can_be(kept, length):
        raise ValueError("a packet cannot have %d of %d bytes" % (kept, length))
    size = PACKET_HEADER + int(kept)
    return size if size <= len(data) else 0


def _can_be(kept: int, length: int) -> bool:
    return 0 < kept <= min(length, MAX_PACKET)


def _whole_packets(data: bytes, order: str, space: int) -> int:
    """Return the bytes of the whole packets at the beginning of data that fit into space."""
    unpack, limit = struct.Struct(order + "II").unpack_from, min(len(data), space)
    end = 0
    while end + PACKET_HEADER < limit:
        kept, length = unpack(data, end + 8)
        after = end + PACKET_HEADER + kept
        if after > limit or not _can_be(kept, length):
            break
        end = after
    return end


def _write(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
