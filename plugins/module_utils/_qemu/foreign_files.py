# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Files that are no disk images but are often given as one: archives, web pages, empty files.

QEMU takes any file for a raw disk, and the guest finds nothing to boot on it.
Sources: RFC 1952 (gzip), RFC 8878 (zstd), the format descriptions of xz, bzip2, zip, 7z and lz4;
POSIX, pax (tar); git-lfs, docs/spec.
"""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import ImageError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import probe

# Offset and magic number, what the file is, the command that unpacks it (%s: the path).
_PACKED = (
    (0, b"\x1f\x8b\x08", "compressed with gzip", "gunzip -k %s"),
    (0, b"\xfd7zXZ\0", "compressed with xz", "unxz -k %s"),
    (4, b"1AY&SY", "compressed with bzip2", "bunzip2 -k %s"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unzstd %s"),
    (0, b"\x04\x22\x4d\x18", "compressed with lz4", "unlz4 %s"),
    (0, b"PK\x03\x04", "a zip archive", "unzip %s"),
    (0, b"PK\x05\x06", "an empty zip archive", "unzip %s"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x %s"),
    (0, b"Rar!\x1a\x07", "a rar archive", "unrar x %s"),
)
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")
_LFS = b"version https://git-lfs.github.com/spec/"


def check_content(option: str, path: str, hint: str = "") -> None:
    """Raise ImageError for a file that is no image.

    path: it can be read. hint: what to set to use it as it is.
    """
    found = describe(path)
    if found:
        raise ImageError(
            "%s: %s is no disk image, but %s%s" % (option, path, found, hint and ". " + hint),
            option=option,
            path=str(path),
        )


def describe(path: str) -> str | None:
    """Return what a file is and what to do with it, None for what can be an image."""
    header = probe(path)
    if header.format != "raw" or header.iso:
        return None
    if not header.virtual_size:
        return "empty. Was it downloaded completely?"
    with open(path, "rb", buffering=0) as stream:
        start = stream.read(512)
    for offset, magic, what, command in _PACKED:
        if start.startswith(magic, offset):
            return "%s. Unpack it first: %s" % (what, command % path)
    if start[257:262] == b"ustar":
        kind = "an appliance (ova)" if path.lower().endswith(".ova") else "a tar archive"
        command = "tar -xf %s -C %s" % (path, os.path.dirname(path) or ".")
        return "%s. Unpack it first, and use the image in it: %s" % (kind, command)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_MARKUP):
        return "a web page or an XML document. Did the download need a login, or another address?"
    if start.startswith(_LFS):
        return "the pointer of a file in git-lfs. Fetch the file: git lfs pull"
    return None
