# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Pictures: read a PPM, as QEMU writes it, and write a PNG. Sources: ppm(5), W3C PNG."""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

_HEADER = re.compile(rb"P6\s(?:#[^\n]*\n)*\s*(\d{1,5})\s+(\d{1,5})\s+255\s")
_COLOUR = 2  # each pixel is a triple of red, green and blue


class Picture(NamedTuple):
    """A picture. pixels: 3 bytes for each, row by row from the top."""

    width: int
    height: int
    pixels: bytes


def read_ppm(data: bytes) -> Picture:
    """Return the picture in a PPM file with 8 bits for a colour. Raises ValueError."""
    match = _HEADER.match(data)
    if not match:
        raise ValueError("it is not a PPM picture")
    width, height = int(match.group(1)), int(match.group(2))
    pixels = data[match.end() :]
    if len(pixels) != width * height * 3 or not pixels:
        raise ValueError("it is not complete")
    return Picture(width, height, pixels)


def png_of(picture: Picture) -> bytes:
    """Return a picture as a PNG file. The same pixels give the same bytes."""
    stride = picture.width * 3
    rows = b"".join(
        b"\0" + picture.pixels[start : start + stride]  # 0: the row is not filtered
        for start in range(0, stride * picture.height, stride)
    )
    header = struct.pack(">2I5B", picture.width, picture.height, 8, _COLOUR, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, content)
        for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
