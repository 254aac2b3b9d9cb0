# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The sum that cksum prints, which every POSIX system has (POSIX.1-2017, cksum)."""

from __future__ import annotations

_POLYNOMIAL = 0x04C11DB7


def _table():
    table = []
    for byte in range(256):
        value = byte << 24
        for _bit in range(8):
            value = (value << 1) ^ _POLYNOMIAL if value & 0x80000000 else value << 1
        table.append(value & 0xFFFFFFFF)
    return table


_TABLE = _table()


def posix_cksum(data):
    """The CRC of bytes, with their length at the end, as cksum counts it."""
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
