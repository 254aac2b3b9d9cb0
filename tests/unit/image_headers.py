# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The headers of images."""

from __future__ import annotations

import struct


def qcow2(
    version=3,
    size=1 << 30,
    backing=b"",
    backing_format=b"",
    data_file=b"",
    features=0,
    encryption=0,
    snapshots=0,
):
    """The first cluster of a qcow2 image, written from docs/interop/qcow2."""
    length = 104 if version == 3 else 72
    extensions = b""
    for kind, content in ((0xE2792ACA, backing_format), (0x44415441, data_file)):
        if content:
            extensions += struct.pack(">II", kind, len(content)) + content.ljust(
                -(-len(content) // 8) * 8, b"\0"
            )
    extensions += bytes(8)
    offset = length + len(extensions) if backing else 0
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        offset,
        len(backing),
        16,
        size,
        encryption,
        1,
        0,
        0,
        1,
        snapshots,
        0,
    )
    if version == 3:
        head += struct.pack(">QQQII", features, 0, 0, 4, length)
    return head + extensions + backing
