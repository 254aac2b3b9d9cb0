# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A FAT12 or FAT16 disk image with named files and long file names, for config drives and floppies.

Source: Microsoft, FAT: General Overview of On-Disk Format, version 1.03.
"""

from __future__ import annotations

import re
import struct
import zlib

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.file_tree import file_tree
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size

FLOPPY = 1474560  # bytes of a 1.44 MB disk
_SECTOR = 512
_DATE = 20 << 9 | 1 << 5 | 1  # 1 January 2000: the same files always give the same image
_SHORT = "A-Z0-9!#$%&'()@^_`{}~-"


def make_fat(files, label, size=None, option="files"):
    """The image as bytes. files: {"a/b.txt": bytes}; label: at most 11 ASCII characters.

    size: bytes of the image, a multiple of 512, at most 2000 MiB; default: as small as the files allow; FLOPPY gives a floppy disk.
    A name is at most 255 characters, without any of "*:<>?\\| and without a dot or a space at its end; two differ in more than case.
    Raises OptionError, naming option, for what does not fit.
    """
    if not re.fullmatch(r"""[ !#-)@-Z^-{}~0-9-]{0,11}""", label):
        raise OptionError(
            option, "the label %r is not 11 or fewer ASCII letters, digits and hyphens" % label
        )
    root = file_tree(option, files, 255, '"*:<>?\\|')
    root_entries = -(-max(224, sum(_slots(root)) + 1) // 16) * 16
    if size is not None and (size % _SECTOR or size > 2000 << 20):
        raise OptionError(
            option, "a FAT image has a multiple of 512 bytes, and at most 2000M: not %d" % size
        )
    for per_cluster in (1, 2, 4, 8, 16, 32, 64):
        needed = _clusters(root, per_cluster * _SECTOR)
        layout = _layout(size, needed, per_cluster, root_entries)
        if layout:
            break
    else:
        raise OptionError(
            option, "the files do not fit on a disk of %s" % format_size(size or 2000 << 20)
        )
    total, clusters, fat_sectors = layout
    start = 1 + 2 * fat_sectors + root_entries // 16
    image = bytearray(total * _SECTOR)
    floppy = total * _SECTOR == FLOPPY
    media = 0xF0 if floppy else 0xF8
    bits = 12 if clusters < 4085 else 16
    chain = [0xF00 | media if bits == 12 else 0xFF00 | media, 0xFFF if bits == 12 else 0xFFFF]

    def store(data):
        """Put data into the next free clusters; return the first of them, 0 for no data."""
        count = -(-len(data) // (per_cluster * _SECTOR))
        if not count:
            return 0
        first = len(chain)
        chain.extend(range(first + 1, first + count))
        chain.append(0xFFF if bits == 12 else 0xFFFF)
        place = (start + (first - 2) * per_cluster) * _SECTOR
        image[place : place + len(data)] = data
        return first

    def folder(items, own, parent):
        """The entries of a folder; own: its first cluster, 0 for the root."""
        data = bytearray()
        if own:
            data += _entry(b".          ", 0x10, own, 0) + _entry(b"..         ", 0x10, parent, 0)
        elif label:
            data += _entry(label.encode("ascii").ljust(11), 0x08, 0, 0)
        for name, short in _short_names(items).items():
            item = items[name]
            if isinstance(item, dict):
                first = store(bytes(32 * (2 + sum(_slots(item)))))
                content = folder(item, first, own)
                place = (start + (first - 2) * per_cluster) * _SECTOR
                image[place : place + len(content)] = content
                data += _long_name(name, short) + _entry(short, 0x10, first, 0)
            else:
                data += _long_name(name, short) + _entry(short, 0x20, store(item), len(item))
        return data

    content = folder(root, 0, 0)
    place = (start - root_entries // 16) * _SECTOR
    image[place : place + len(content)] = content
    image[:62] = struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s",
        b"\xeb\x3c\x90",
        b"MSWIN4.1",
        _SECTOR,
        per_cluster,
        1,
        2,
        root_entries,
        total if total < 65536 else 0,
        media,
        fat_sectors,
        18 if floppy else 63,
        2 if floppy else 255,
        0,
        0 if total < 65536 else total,
        0 if floppy else 0x80,
        0,
        0x29,
        zlib.crc32(image[_SECTOR:]),
        label.encode("ascii").ljust(11) if label else b"NO NAME    ",
        b"FAT%d   " % bits,
    )
    image[510:512] = b"\x55\xaa"
    table = _table(chain, bits)
    for copy in range(2):
        place = (1 + copy * fat_sectors) * _SECTOR
        image[place : place + len(table)] = table
    return bytes(image)


def _slots(folder):
    """How many directory entries each item of a folder takes."""
    return [1 + (0 if _is_short(name) else -(-len(name) // 13)) for name in folder]


def _clusters(folder, size):
    """How many clusters of size bytes the content of a folder takes."""
    count = 0
    for item in folder.values():
        if isinstance(item, dict):
            count += -(-32 * (2 + sum(_slots(item))) // size) + _clusters(item, size)
        else:
            count += -(-len(item) // size)
    return count


def _layout(size, needed, per_cluster, root_entries):
    """Sectors, clusters and sectors of one FAT; None when clusters of this size do not do."""

    def fat_sectors(clusters):
        return -(-(clusters + 2) * (3 if clusters < 4085 else 4) // (2 * _SECTOR))

    if size is None:
        clusters = max(needed, 16)
        if 4069 < clusters < 4101:  # readers disagree about the type near the border
            clusters = 4101
        if clusters > 65500:
            return None
        return (
            1 + 2 * fat_sectors(clusters) + root_entries // 16 + clusters * per_cluster,
            clusters,
            fat_sectors(clusters),
        )
    total = size // _SECTOR
    for sectors in range(1, 257):
        clusters = (total - 1 - 2 * sectors - root_entries // 16) // per_cluster
        if clusters < 1 or fat_sectors(clusters) <= sectors:
            break
    fits = needed <= clusters <= 65500 and clusters >= 1 and not 4069 < clusters < 4101
    return (total, clusters, sectors) if fits else None


def _table(chain, bits):
    if bits == 16:
        return struct.pack("<%dH" % len(chain), *chain)
    pairs = chain + [0] * (len(chain) % 2)
    return b"".join(
        struct.pack("<I", low | high << 12)[:3] for low, high in zip(pairs[::2], pairs[1::2])
    )


def _is_short(name):
    return re.fullmatch("[%s]{1,8}([.][%s]{1,3})?" % (_SHORT, _SHORT), name) is not None


def _short_names(folder):
    """Every name with its 11 bytes for readers that know no long names; names that are short by themselves come first."""
    names, used = {}, set()
    for name in sorted(folder, key=lambda name: (not _is_short(name), name)):
        stem, dot, end = name.upper().lstrip(".").rpartition(".")
        stem, end = (stem, end) if dot else (end, "")
        stem, end = (
            re.sub("[^%s]" % _SHORT, "_", part.replace(" ", "").replace(".", ""))
            for part in (stem, end)
        )
        if _is_short(name):
            short = stem.ljust(8) + end.ljust(3)
        else:
            number = 1
            while True:
                tail = "~%d" % number
                short = (stem[: 8 - len(tail)] + tail).ljust(8) + end[:3].ljust(3)
                if short not in used:
                    break
                number += 1
        used.add(short)
        names[name] = short.encode("ascii")
    return names


def _long_name(name, short):
    """The entries before the short one that hold the long name, its last part first."""
    if _is_short(name):
        return b""
    check = 0
    for byte in short:
        check = ((check & 1) << 7) + (check >> 1) + byte & 0xFF
    text = name.encode("utf-16-le")
    if len(name) % 13:
        text = (text + b"\0\0").ljust(-(-len(name) // 13) * 26, b"\xff")
    parts = [text[place : place + 26] for place in range(0, len(text), 26)]
    return b"".join(
        struct.pack(
            "<B10sBBB12sH4s",
            number | (0x40 if number == len(parts) else 0),
            part[:10],
            0x0F,
            0,
            check,
            part[10:22],
            0,
            part[22:],
        )
        for number, part in reversed(list(enumerate(parts, 1)))
    )


def _entry(short, attributes, cluster, size):
    return struct.pack(
        "<11sBBBHHHHHHHI", short, attributes, 0, 0, 0, _DATE, _DATE, 0, 0, _DATE, cluster, size
    )
