# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Image files read directly: what they are, whether they can be read, whether they are still the same."""

from __future__ import annotations

import collections
import errno
import hashlib
import os
import stat
import struct

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)

_MIB = 1 << 20
_SAMPLE = 4096
_SAMPLES = 64
_DIGITS = {"sha256": 64, "sha512": 128, "sha1": 40, "md5": 32}
_MAGICS = (
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
    ("vhdx", 0, b"vhdxfile"),
    ("vpc", 0, b"conectix"),
    ("qed", 0, b"QED\0"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
)

ImageHeader = collections.namedtuple(
    "ImageHeader",
    "format virtual_size backing_file backing_format encrypted dirty corrupt data_file snapshots iso",
    defaults=(None, None, None, False, False, False, None, 0, False),
)


def probe(path):
    """The ImageHeader of an image file or block device.

    format: as QEMU names it; raw when nothing known is there. virtual_size: bytes; None for formats that only qemu-img
    reads here (all but raw and qcow2). backing_file: as it is written in the image, so it may be relative to the image's
    folder. snapshots: how many internal ones. iso: a raw image that holds an ISO 9660 file system.
    A guest can write any header into a raw disk: keep the format of an image that a guest has written to.
    Raises ImageError. Sources: QEMU docs/interop/qcow2 and the probe functions in block/; ECMA-119, 8.1.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            start = stream.read(4096)
            size = stream.seek(0, os.SEEK_END)
            if start.startswith(b"QFI\xfb") and len(start) >= 32:
                return _qcow2(stream, start, path)
            for name, offset, magic in _MAGICS:
                if start.startswith(magic, offset):
                    return ImageHeader(name)
            if size >= 512 and _at(stream, size - 512, 8) == b"conectix":
                return ImageHeader("vpc")
            return ImageHeader("raw", size, iso=_at(stream, 0x8001, 5) == b"CD001")
    except OSError as error:
        raise ImageError("cannot read the image %s: %s" % (path, error.strerror), path=str(path))


def _at(stream, offset, length):
    stream.seek(offset)
    return stream.read(length)


def _qcow2(stream, start, path):
    version, backing_offset, backing_size, cluster_bits, size, encryption = struct.unpack_from(
        ">IQIIQI", start.ljust(104, b"\0"), 4
    )
    if version == 1:
        return ImageHeader("qcow")
    if version not in (2, 3) or len(start) < 72 or not 9 <= cluster_bits <= 21:
        raise ImageError(
            "%s is a damaged qcow2 image, or one of a later version than 3" % path, path=str(path)
        )
    features, length = 0, 72
    if version == 3:
        (features,) = struct.unpack_from(">Q", start.ljust(104, b"\0"), 72)
        (length,) = struct.unpack_from(">I", start.ljust(104, b"\0"), 100)
    backing_file = backing_format = data_file = None
    if backing_offset:
        backing_file = os.fsdecode(_at(stream, backing_offset, min(backing_size, 1023)))
    extensions = (
        _at(stream, length, min((backing_offset or 1 << cluster_bits) - length, 1 << 16))
        if length < 1 << cluster_bits
        else b""
    )
    place = 0
    while place + 8 <= len(extensions):
        kind, amount = struct.unpack_from(">II", extensions, place)
        if not kind:
            break
        content = extensions[place + 8 : place + 8 + amount]
        if kind == 0xE2792ACA:
            backing_format = content.decode("ascii", "replace")
        elif kind == 0x44415441:
            data_file = os.fsdecode(content)
        place += 8 + (amount + 7) // 8 * 8
    return ImageHeader(
        "qcow2",
        size,
        backing_file,
        backing_format,
        bool(encryption),
        bool(features & 1),
        bool(features & 2),
        data_file,
        struct.unpack_from(">I", start, 60)[0],
    )


def check_readable(option, path):
    """Return the stat result of an image that can be opened for reading; else raise ImageError naming option and path."""

    def refuse(message, *values):
        raise ImageError("%s: %s" % (option, message % values), option=option, path=str(path))

    try:
        state = os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            refuse("the link %s points to %s, which does not exist", path, os.readlink(path))
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            refuse("there is no file %s on this hypervisor", path)
        refuse("cannot reach %s: %s", path, error.strerror)
    if stat.S_ISDIR(state.st_mode):
        refuse("%s is a folder: give an image file or a block device", path)
    if not stat.S_ISREG(state.st_mode) and not stat.S_ISBLK(state.st_mode):
        refuse("%s is neither a file nor a block device", path)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        refuse("cannot read %s as user id %d: %s", path, os.geteuid(), error.strerror)
    return state


def checksum(path, algorithm, first=None):
    """The checksum of a file in hexadecimal digits; first: of that many bytes at its start only."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open(path, "rb", buffering=0) as stream:
            left = first
            while left is None or left > 0:
                part = stream.read(_MIB if left is None else min(_MIB, left))
                if not part:
                    break
                digest.update(part)
                left = None if left is None else left - len(part)
    except OSError as error:
        raise ImageError("cannot read the image %s: %s" % (path, error.strerror), path=str(path))
    return digest.hexdigest()


def normalise_checksum(option, text):
    """A checksum in lower case. Raises OptionError when it is none."""
    algorithm, colon, digits = text.strip().lower().partition(":")
    if len(digits) != _DIGITS.get(algorithm) or digits.strip("0123456789abcdef"):
        raise OptionError(
            option,
            "%r is not a checksum: give sha256:, sha512:, sha1: or md5: and its hexadecimal digits"
            % text,
        )
    return "%s:%s" % (algorithm, digits)


def verify_checksum(option, path, expected, first_mib=False):
    """Compare a file with expected, such as sha256:0123...; first_mib: its first MiB only.

    Raises OptionError when expected is no checksum, ImageError naming both sums when it is another file.
    """
    algorithm, colon, wanted = normalise_checksum(option, expected).partition(":")
    found = checksum(path, algorithm, _MIB if first_mib else None)
    if found != wanted:
        raise ImageError(
            "%s: %s%s has the checksum %s:%s, not %s:%s: it is another image, or damaged"
            % (
                option,
                "the first MiB of " if first_mib else "",
                path,
                algorithm,
                found,
                algorithm,
                wanted,
            ),
            option=option,
            path=str(path),
            checksum="%s:%s" % (algorithm, found),
        )


def fingerprint(path):
    """What tells a base image from another one, in a moment: size, mtime_ns, inode, samples.

    samples: sha256 over at most 64 samples of 4 KiB, evenly spread, with the first and the last.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as stream:
            state = os.fstat(stream.fileno())
            size = stream.seek(0, os.SEEK_END)
            count = min(_SAMPLES, -(-size // _SAMPLE))
            for number in range(count):
                digest.update(
                    _at(
                        stream,
                        number * (size - _SAMPLE) // (count - 1) if count > 1 else 0,
                        _SAMPLE,
                    )
                )
    except OSError as error:
        raise ImageError("cannot read the image %s: %s" % (path, error.strerror), path=str(path))
    return {
        "size": size,
        "mtime_ns": state.st_mtime_ns,
        "inode": state.st_ino,
        "samples": digest.hexdigest(),
    }


def same_content(old, new):
    """Whether two fingerprints are of one content. A file written to in place is another one, whatever its samples say."""
    written = old["inode"] == new["inode"] and old["mtime_ns"] != new["mtime_ns"]
    return old["size"] == new["size"] and old["samples"] == new["samples"] and not written
