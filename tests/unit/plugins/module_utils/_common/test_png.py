# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
import zlib

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.png import (
    Picture,
    png_of,
    read_ppm,
)

PIXELS = bytes(range(36))


def chunks(data):
    """Return the chunks of a PNG, with their checksums checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, found = 8, []
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        (checksum,) = struct.unpack(">I", data[place + 8 + size : place + 12 + size])
        assert checksum == zlib.crc32(kind + content)
        found.append((kind, content))
        place += 12 + size
    return found


def test_png():
    (header, data, end) = chunks(png_of(Picture(4, 3, PIXELS)))
    assert header == (b"IHDR", b"\0\0\0\4\0\0\0\3\x08\x02\0\0\0") and end == (b"IEND", b"")
    assert data[0] == b"IDAT"
    rows = zlib.decompress(data[1])
    assert rows == b"".join(b"\0" + PIXELS[at : at + 12] for at in (0, 12, 24))


@pytest.mark.parametrize("header", [b"P6\n4 3\n255\n", b"P6\n# a comment\n4 3\n255\n"])
def test_ppm(header):
    assert read_ppm(header + PIXELS) == Picture(4, 3, PIXELS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P6\n4 3\n255\n",
        b"P6\n4 3\n255\n" + PIXELS[:-1],
        b"P6\n4 3\n255\n" + PIXELS + b"x",
        b"P6\n0 0\n255\n",
        b"P5\n4 3\n255\n" + PIXELS,
        b"P6\n4 3\n65535\n" + PIXELS * 2,
        b"P6\n999999999 999999999\n255\n" + PIXELS,
    ],
)
def test_what_is_no_picture(data):
    with pytest.raises(ValueError):
        read_ppm(data)
