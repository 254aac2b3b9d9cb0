# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Read image files directly: format, readability, checksum, fingerprint."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from typing import IO, Any, NamedTuple, NoReturn, Optional

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
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
)
_ENCRYPTION = {1: "aes", 2: "luks"}
# Types of qcow2 header extensions.
_END_OF_EXTENSIONS, _BACKING_FORMAT, _DATA_FILE = 0, 0xE2792ACA, 0x44415441


class ImageHeader(NamedTuple):
    """What the header of an image states.

    format: as QEMU names it; raw if no other format is recognised.
    virtual_size: bytes; None for formats other than raw and qcow2, which only qemu-img can read.
    backing_file: as written in the image; it may be relative to the image's folder.
    snapshots: the number of internal ones. iso: a raw image with an ISO 9660 file system.
    encryption: luks; what QEMU cannot open: aes (in qcow2) and luks2.
    """

    format: str
    virtual_size: Optional[int] = None
    backing_file: Optional[str] = None
    backing_format: Optional[str] = None
    encrypted: bool = False
    dirty: bool = False
    corrupt: bool = False
    data_file: Optional[str] = None
    snapshots: int = 0
    iso: bool = False
    encryption: Optional[str] = None


def probe(path: str | os.PathLike[str]) -> ImageHeader:
    """Return the ImageHeader of an image file or block device.

    A guest can write any header into a raw disk: do not probe an image that a guest has written to,
    but keep its format elsewhere.
    Raises ImageError. Sources: QEMU docs/interop/qcow2 and the probe functions in block/; ECMA-119,
    8.1; cryptsetup, LUKS on-disk formats 1 and 2.
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
            if start.startswith(b"LUKS\xba\xbe"):
                version = int.from_bytes(start[6:8], "big")
                return ImageHeader(
                    "luks", encrypted=True, encryption="luks2" if version == 2 else "luks"
                )
            if size >= 512 and _read_at(stream, size - 512, 8) == b"conectix":
                return ImageHeader("vpc")
            return ImageHeader("raw", size, iso=_read_at(stream, 0x8001, 5) == b"CD001")
    except OSError as error:
        raise _unreadable(path, error)


def _unreadable(path: str | os.PathLike[str], error: OSError) -> ImageError:
    return ImageError("cannot read the image %s: %s" % (path, error.strerror), path=str(path))


def _read_at(stream: IO[bytes], offset: int, length: int) -> bytes:
    stream.seek(offset)
    return stream.read(length)


def _qcow2(stream: IO[bytes], start: bytes, path: str | os.PathLike[str]) -> ImageHeader:
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
    backing_file = None
    if backing_offset:
        backing_file = os.fsdecode(_read_at(stream, backing_offset, min(backing_size, 1023)))
    extensions = {}
    if length < 1 << cluster_bits:
        end = backing_offset or 1 << cluster_bits
        extensions = _extensions(_read_at(stream, length, min(end - length, 1 << 16)))
    backing_format = extensions.get(_BACKING_FORMAT)
    data_file = extensions.get(_DATA_FILE)
    return ImageHeader(
        "qcow2",
        size,
        backing_file,
        None if backing_format is None else backing_format.decode("ascii", "replace"),
        bool(encryption),
        bool(features & 1),
        bool(features & 2),
        None if data_file is None else os.fsdecode(data_file),
        struct.unpack_from(">I", start, 60)[0],
        encryption=_ENCRYPTION.get(encryption),
    )


def _extensions(data: bytes) -> dict[int, bytes]:
    """Return the header extensions of a qcow2 image: type -> content."""
    found = {}
    offset = 0
    while offset + 8 <= len(data):
        kind, length = struct.unpack_from(">II", data, offset)
        if kind == _END_OF_EXTENSIONS:
            break
        found[kind] = data[offset + 8 : offset + 8 + length]
        offset += 8 + (length + 7) // 8 * 8
    return found


def check_readable(option: str, path: str | os.PathLike[str]) -> os.stat_result:
    """Return the stat result of an image that can be opened for reading.

    Raises ImageError, naming option and path.
    """

    def refuse(message: str, *values: object) -> NoReturn:
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


def checksum(path: str | os.PathLike[str], algorithm: str, first: int | None = None) -> str:
    """Return the checksum of a file, in hexadecimal digits.

    first: the number of bytes at its start to which the checksum applies; default: all.
    """
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
        raise _unreadable(path, error)
    return digest.hexdigest()


def normalise_checksum(option: str, text: str) -> str:
    """Return a checksum in lower case. Raises OptionError for other text."""
    algorithm, _colon, digits = text.strip().lower().partition(":")
    if len(digits) != _DIGITS.get(algorithm) or digits.strip("0123456789abcdef"):
        raise OptionError(
            option,
            "%r is not a checksum: give sha256:, sha512:, sha1: or md5: and its hexadecimal digits"
            % text,
        )
    return "%s:%s" % (algorithm, digits)


def verify_checksum(
    option: str, path: str | os.PathLike[str], expected: str, first_mib: bool = False
) -> None:
    """Compare a file with a checksum such as sha256:0123...; first_mib: only its first MiB.

    Raises OptionError if expected is not a checksum, ImageError with both checksums if they differ.
    """
    algorithm, _colon, expected_digest = normalise_checksum(option, expected).partition(":")
    found = checksum(path, algorithm, _MIB if first_mib else None)
    if found != expected_digest:
        raise ImageError(
            "%s: %s%s has the checksum %s:%s, not %s:%s: it is another image, or damaged"
            % (
                option,
                "the first MiB of " if first_mib else "",
                path,
                algorithm,
                found,
                algorithm,
                expected_digest,
            ),
            option=option,
            path=str(path),
            checksum="%s:%s" % (algorithm, found),
        )


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what identifies a base image, without reading all of it.

    That is size, mtime_ns, inode and samples: the sha256 of at most 64 samples of 4 KiB, evenly
    spread, with the first and the last.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as stream:
            state = os.fstat(stream.fileno())
            size = stream.seek(0, os.SEEK_END)
            count = min(_SAMPLES, -(-size // _SAMPLE))
            for number in range(count):
                offset = number * (size - _SAMPLE) // (count - 1) if count > 1 else 0
                digest.update(_read_at(stream, offset, _SAMPLE))
    except OSError as error:
        raise _unreadable(path, error)
    return {
        "size": size,
        "mtime_ns": state.st_mtime_ns,
        "inode": state.st_ino,
        "samples": digest.hexdigest(),
    }


def same_content(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether two fingerprints are of the same content.

    A file that was written in place counts as changed, even if its samples are equal.
    """
    written = old["inode"] == new["inode"] and old["mtime_ns"] != new["mtime_ns"]
    return bool(old["size"] == new["size"] and old["samples"] == new["samples"] and not written)
