# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The checksum that cksum prints, which every POSIX system has (POSIX.1-2017, cksum)."""

from __future__ import annotations

_POLYNOMIAL = 0x04C11DB7


def _make_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _bit in range(8):
            value = (value << 1) ^ _POLYNOMIAL if value & 0x80000000 else value << 1
        table.append(value & 0xFFFFFFFF)
    return table


_TABLE = _make_table()


def posix_cksum(data: bytes) -> int:
    """Return the CRC of data followed by its length, as cksum computes it."""
    value = 0
    length = len(data)
    tail = []
    while length:
        tail.append(length & 255)
        length >>= 8
    table = _TABLE
    for part in (data, bytes(tail)):
        for byte in part:
            value = ((value << 8) & 0xFFFFFFFF) ^ table[(value >> 24) ^ byte]
    return value ^ 0xFFFFFFFF
