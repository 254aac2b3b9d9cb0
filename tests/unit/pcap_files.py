# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pcap files as QEMU writes them, and what rings of them hold."""

from __future__ import annotations

import os
import struct

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, 1)


def packet(number, size=84):
    """A packet of size bytes in the file, which begins with its number."""
    kept = size - 16
    return struct.pack("<IIII", 1, 2, kept, kept) + struct.pack("<I", number).ljust(kept, b".")


def packets(*numbers, size=84):
    return b"".join(packet(number, size) for number in numbers)


def numbers(path):
    """The numbers of the packets of a file, which is whole."""
    data = path.read_bytes()
    assert data[:24] == HEADER
    found, at = [], 24
    while at < len(data):
        kept = struct.unpack_from("<I", data, at + 8)[0]
        assert at + 16 + kept <= len(data), "a packet is cut off"
        found.append(struct.unpack_from("<I", data, at + 16)[0])
        at += 16 + kept
    return found


def ring(folder):
    """The numbers in the files of a folder, by name."""
    return {name: numbers(folder / name) for name in sorted(os.listdir(folder)) if ".pcap" in name}


def append(path, data):
    with open(path, "ab") as stream:
        stream.write(data)
