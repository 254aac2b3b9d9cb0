# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The other files that an image needs: its bases, and those that hold its data.

Sources: QEMU, docs/interop/qcow2, qed_spec and qapi/block-core.json; block.c, path_has_protocol and
bdrv_get_full_backing_filename; block/qcow.c; block/vmdk.c.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import ImageError
from ansible_collections.vlab.qemu.plugins.module_utils._common.json_input import parse_json
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import ImageHeader, probe

_MAX_FILES = 500
_MAX_DESCRIPTOR = 1 << 16  # bytes of the text part of a vmdk
_LOCAL_PROTOCOLS = ("file:", "host_device:", "host_cdrom:")
_VMDK_EXTENT = re.compile(rb'^(?:RW|RDONLY|NOACCESS) +\d+ +\w+ +"([^"\n]+)"', re.MULTILINE)
_VMDK_PARENT = re.compile(rb'^parentFileNameHint="([^"\n]+)"', re.MULTILINE)

# What the file at a path is: other names of it have the same one.
Identity = Tuple[object, ...]


class NeededFile(NamedTuple):
    """A file that an image needs.

    format: None if the image does not state it. is_base: whether it is (of) a base, which is only
    read; the others hold data of the image itself, and are written with it.
    """

    path: str
    format: Optional[str]
    is_base: bool


def identity(path: str) -> Identity:
    """Return what two names of one file or device have in common."""
    try:
        state = os.stat(path)
    except OSError:
        return ("path", os.path.realpath(path))
    except ValueError:  # no file has such a name
        return ("path", path)
    if stat.S_ISBLK(state.st_mode):
        return ("device", state.st_rdev)
    return ("file", state.st_dev, state.st_ino)


def local_files(name: str, folder: str) -> list[str]:
    """Return the local files that a file name of QEMU names.

    It may be relative to folder, have a protocol, or be json:{...}; one that names a server has no
    local files.
    """
    if name.startswith("json:"):
        try:
            return list(_named_in(parse_json(name[len("json:") :].encode()), folder))
        except (ValueError, RecursionError):
            return []
    for protocol in _LOCAL_PROTOCOLS:
        if name.startswith(protocol):
            name = name[len(protocol) :]
            break
    else:
        if ":" in name.partition("/")[0]:
            return []
    is_name = name and "\0" not in name
    return [os.path.normpath(os.path.join(folder, name))] if is_name else []


def _named_in(value: Any, folder: str, key: str = "") -> Iterator[str]:
    """Yield the files that the options of a block node name."""
    if isinstance(value, dict):
        for inner, content in value.items():
            yield from _named_in(content, folder, inner)
    elif isinstance(value, str) and key.rpartition(".")[2] == "filename":
        yield from local_files(value, folder)


def backing_path(path: str, header: ImageHeader) -> str | None:
    """Return the path of the backing file that the header of the image at path names.

    None without one, and for one that is no local file.
    """
    if header.backing_file is None:
        return None
    found = local_files(header.backing_file, os.path.dirname(os.path.abspath(path)))
    return found[0] if found else None


def files_needed(path: str, format: str | None = None) -> list[NeededFile]:
    """Return the files that the image at path needs, at any depth, each once.

    format: of the image. A guest can write any header into a raw disk: it needs no file. Files that
    cannot be read are returned, but need no others.
    """
    found: List[NeededFile] = []
    visited = {identity(path)}
    queue = [NeededFile(path, format, False)]
    while queue and len(found) < _MAX_FILES:
        current = queue.pop(0)
        for needed in _named_by(current.path, current.format):
            key = identity(needed.path)
            if key not in visited:
                visited.add(key)
                needed = needed._replace(is_base=needed.is_base or current.is_base)
                found.append(needed)
                queue.append(needed)
    return found


# The files named by an image, as long as it has the same state.
_cache: dict[Identity, tuple[NeededFile, ...]] = {}


def _named_by(path: str, format: str | None) -> tuple[NeededFile, ...]:
    """Return the files that an image itself names."""
    if format == "raw":
        return ()
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return ()
    key = (path, format, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if os.path.realpath(path) != os.path.abspath(path):
        return tuple(_read_names(path, format))  # what it names depends on other files
    if key not in _cache:
        _cache[key] = tuple(_read_names(path, format))
    return _cache[key]


def _read_names(path: str, format: str | None) -> Iterator[NeededFile]:
    try:
        header = probe(path)
        if format not in (None, header.format):
            return
        if header.data_file:
            yield from _located(header.data_file, path, "raw", False)
        if header.backing_file:
            yield from _located(header.backing_file, path, _stated_format(header), True)
        if header.format in _OTHER_NAMES:
            with open(path, "rb", buffering=0) as stream:
                start = stream.read(_MAX_DESCRIPTOR)
            for name, is_base in _OTHER_NAMES[header.format](start):
                yield from _located(os.fsdecode(name), path, None if is_base else "raw", is_base)
    except (OSError, ImageError):
        return


def _located(name: str, image: str, format: str | None, is_base: bool) -> Iterator[NeededFile]:
    """Yield the files of a name in an image.

    QEMU takes a relative name from the folder of the name by which it opened the image. Another
    user may open the image by another name.
    """
    folder, real = (
        os.path.dirname(convert(image)) for convert in (os.path.abspath, os.path.realpath)
    )
    for local in local_files(name, folder):
        yield NeededFile(local, format, is_base)
    for local in local_files(name, real) if real != folder else ():
        if os.path.exists(local):
            yield NeededFile(local, format, is_base)


def _stated_format(header: ImageHeader) -> str | None:
    """Return the format of a base; a json: name with a driver of its own counts more."""
    if (header.backing_file or "").startswith("json:"):
        try:
            driver = json.loads((header.backing_file or "")[len("json:") :]).get("driver")
        except (ValueError, AttributeError, RecursionError):
            driver = None
        return "raw" if driver == "raw" else None
    return header.backing_format


def _qcow_names(start: bytes) -> Iterator[tuple[bytes, bool]]:
    offset, size = struct.unpack_from(">QI", start.ljust(20, b"\0"), 8)
    if offset and size < 1024:
        yield start[offset : offset + size], True


def _qed_names(start: bytes) -> Iterator[tuple[bytes, bool]]:
    start = start.ljust(64, b"\0")
    features = struct.unpack_from("<Q", start, 16)[0]
    offset, size = struct.unpack_from("<II", start, 56)
    if features & 1 and size < 1024:
        yield start[offset : offset + size], True


def _vmdk_names(start: bytes) -> Iterator[tuple[bytes, bool]]:
    # A description within an image names that image itself, by the name of its creation.
    for name in _VMDK_EXTENT.findall(start) if start.startswith(b"# Disk") else ():
        yield name, False
    for name in _VMDK_PARENT.findall(start):
        yield name, True


_OTHER_NAMES = {"qcow": _qcow_names, "qed": _qed_names, "vmdk": _vmdk_names}
