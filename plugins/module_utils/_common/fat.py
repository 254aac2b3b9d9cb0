# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A FAT12 or FAT16 disk image with named files and long file names, for config drives.

Source: Microsoft, FAT: General Overview of On-Disk Format, version 1.03.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.file_tree import FileTree, file_tree

_SECTOR = 512
_DATE = 20 << 9 | 1 << 5 | 1  # 1 January 2000: the same files always give the same image
_SHORT = "A-Z0-9!#$%&'()@^_`{}~-"  # characters of a name without a long name
_MAX_FAT12 = 4084  # clusters; more make a FAT16
_MAX_CLUSTERS = 65500
_FIXED_DISK = 0xF8
_LABEL, _FOLDER, _FILE, _LONG = 0x08, 0x10, 0x20, 0x0F  # attributes of a directory entry


class _Layout(NamedTuple):
    """The sizes that the boot sector states."""

    cluster_sectors: int
    clusters: int
    root_entries: int

    @property
    def bits(self) -> int:
        """Bits of one entry of the file allocation table."""
        return 12 if self.clusters <= _MAX_FAT12 else 16

    @property
    def fat_sectors(self) -> int:
        return -(-(self.clusters + 2) * self.bits // (8 * _SECTOR))

    @property
    def root_sector(self) -> int:
        return 1 + 2 * self.fat_sectors

    @property
    def data_sector(self) -> int:
        return self.root_sector + self.root_entries * 32 // _SECTOR

    @property
    def sectors(self) -> int:
        return self.data_sector + self.clusters * self.cluster_sectors


class _Image:
    """The bytes of an image, filled file by file."""

    def __init__(self, layout: _Layout) -> None:
        self.layout = layout
        self.data = bytearray(layout.sectors * _SECTOR)
        self._end = (1 << layout.bits) - 1  # marks the last cluster of a file
        self._chain = [self._end & 0xFF00 | _FIXED_DISK, self._end]

    def put(self, sector: int, data: bytes) -> None:
        """Write data from the start of a sector."""
        self.data[sector * _SECTOR : sector * _SECTOR + len(data)] = data

    def add_file(self, data: bytes) -> int:
        """Store data in the next free clusters; return the first of them, 0 for no data."""
        count = -(-len(data) // (self.layout.cluster_sectors * _SECTOR))
        if not count:
            return 0
        first = len(self._chain)
        self._chain.extend(range(first + 1, first + count))
        self._chain.append(self._end)
        self._put_cluster(first, data)
        return first

    def add_folder(self, folder: FileTree, parent: int) -> int:
        """Store a folder and everything in it; return its first cluster."""
        first = self.add_file(bytes(32 * (2 + sum(_entry_counts(folder)))))
        dots = _entry(b".".ljust(11), _FOLDER, first) + _entry(b"..".ljust(11), _FOLDER, parent)
        self._put_cluster(first, dots + self.add_entries(folder, first))
        return first

    def add_entries(self, folder: FileTree, cluster: int) -> bytes:
        """Store the content of a folder, which starts at cluster; return its directory entries."""
        entries = bytearray()
        for name, short in _short_names(folder).items():
            item = folder[name]
            entries += _long_name(name, short)
            if isinstance(item, bytes):
                entries += _entry(short, _FILE, self.add_file(item), len(item))
            else:
                entries += _entry(short, _FOLDER, self.add_folder(item, cluster))
        return bytes(entries)

    def put_tables(self) -> None:
        """Write both copies of the file allocation table."""
        chain = self._chain
        if self.layout.bits == 16:
            table = struct.pack("<%dH" % len(chain), *chain)
        else:
            pairs = chain + [0] * (len(chain) % 2)
            table = b"".join(
                struct.pack("<I", low | high << 12)[:3]
                for low, high in zip(pairs[::2], pairs[1::2])
            )
        self.put(1, table)
        self.put(1 + self.layout.fat_sectors, table)

    def _put_cluster(self, cluster: int, data: bytes) -> None:
        self.put(self.layout.data_sector + (cluster - 2) * self.layout.cluster_sectors, data)


def make_fat(files: dict[str, bytes], label: str, option: str = "files") -> bytes:
    """Return an image that is as small as the files allow.

    files: {"a/b.txt": bytes}. A name has at most 255 characters, none of them "*:<>?\\| and no dot
    or space at its end; two names of a folder differ in more than case.
    label: at most 11 ASCII characters.
    Raises OptionError, naming option.
    """
    if not re.fullmatch(r"""[ !#-)@-Z^-{}~0-9-]{0,11}""", label):
        raise OptionError(
            option, "the label %r is not 11 or fewer ASCII letters, digits and hyphens" % label
        )
    root = file_tree(option, files, 255, '"*:<>?\\|')
    image = _Image(_layout(option, root))
    label_entry = _entry(label.encode("ascii").ljust(11), _LABEL, 0) if label else b""
    image.put(image.layout.root_sector, label_entry + image.add_entries(root, 0))
    image.put(0, _boot_sector(image.layout, label, zlib.crc32(image.data[_SECTOR:])))
    image.put_tables()
    return bytes(image.data)


def _layout(option: str, root: FileTree) -> _Layout:
    root_entries = -(-max(224, sum(_entry_counts(root)) + 1) // 16) * 16
    for cluster_sectors in (1, 2, 4, 8, 16, 32, 64):
        clusters = max(_cluster_count(root, cluster_sectors * _SECTOR), 16)
        if 4069 < clusters < 4101:  # readers disagree about the type near the border
            clusters = 4101
        if clusters <= _MAX_CLUSTERS:
            return _Layout(cluster_sectors, clusters, root_entries)
    raise OptionError(option, "the files do not fit on a FAT disk, which holds up to 2000M")


def _boot_sector(layout: _Layout, label: str, serial_number: int) -> bytes:
    is_small = layout.sectors < 65536
    sector = struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s",
        b"\xeb\x3c\x90",  # a jump, which readers expect
        b"MSWIN4.1",
        _SECTOR,
        layout.cluster_sectors,
        1,  # reserved sectors: this one
        2,  # tables
        layout.root_entries,
        layout.sectors if is_small else 0,
        _FIXED_DISK,
        layout.fat_sectors,
        63,  # sectors per track
        255,  # heads
        0,  # hidden sectors
        0 if is_small else layout.sectors,
        0x80,  # drive number of a fixed disk
        0,
        0x29,  # the next three fields are present
        serial_number,
        label.encode("ascii").ljust(11) if label else b"NO NAME    ",
        b"FAT%d   " % layout.bits,
    )
    return sector.ljust(510, b"\0") + b"\x55\xaa"


def _entry_counts(folder: FileTree) -> list[int]:
    """Return how many directory entries each item of a folder takes."""
    return [1 + (0 if _is_short(name) else -(-len(name) // 13)) for name in folder]


def _cluster_count(folder: FileTree, size: int) -> int:
    """Return how many clusters of size bytes the content of a folder takes."""
    count = 0
    for item in folder.values():
        if isinstance(item, bytes):
            count += -(-len(item) // size)
        else:
            count += -(-32 * (2 + sum(_entry_counts(item))) // size) + _cluster_count(item, size)
    return count


def _is_short(name: str) -> bool:
    return re.fullmatch("[%s]{1,8}([.][%s]{1,3})?" % (_SHORT, _SHORT), name) is not None


def _short_names(folder: FileTree) -> dict[str, bytes]:
    """Return the 11 bytes that stand for each name where long names are unknown.

    Names that are short already come first and keep theirs.
    """
    names: dict[str, bytes] = {}
    used: set[str] = set()
    for name in sorted(folder, key=lambda name: (not _is_short(name), name)):
        stem, dot, end = name.upper().lstrip(".").rpartition(".")
        stem, end = (stem, end) if dot else (end, "")
        stem, end = (
            re.sub("[^%s]" % _SHORT, "_", part.replace(" ", "").replace(".", ""))
            for part in (stem, end)
        )
        short = stem.ljust(8) + end.ljust(3)
        number = 0
        while not _is_short(name) and (not number or short in used):
            number += 1
            tail = "~%d" % number
            short = (stem[: 8 - len(tail)] + tail).ljust(8) + end[:3].ljust(3)
        used.add(short)
        names[name] = short.encode("ascii")
    return names


def _long_name(name: str, short: bytes) -> bytes:
    """Return the entries that hold a long name: they precede the short one, the last part first."""
    if _is_short(name):
        return b""
    checksum = 0
    for byte in short:
        checksum = ((checksum & 1) << 7) + (checksum >> 1) + byte & 0xFF
    text = name.encode("utf-16-le")
    if len(name) % 13:
        text = (text + b"\0\0").ljust(-(-len(name) // 13) * 26, b"\xff")
    parts = [text[start : start + 26] for start in range(0, len(text), 26)]
    return b"".join(
        struct.pack(
            "<B10sBBB12sH4s",
            number | (0x40 if number == len(parts) else 0),
            part[:10],
            _LONG,
            0,
            checksum,
            part[10:22],
            0,
            part[22:],
        )
        for number, part in reversed(list(enumerate(parts, 1)))
    )


def _entry(short: bytes, attributes: int, cluster: int, size: int = 0) -> bytes:
    return struct.pack(
        "<11sBBBHHHHHHHI", short, attributes, 0, 0, 0, _DATE, _DATE, 0, 0, _DATE, cluster, size
    )
