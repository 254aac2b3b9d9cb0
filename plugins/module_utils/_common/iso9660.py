# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A CD image with named files: ISO 9660 (ECMA-119) with Joliet names.

Linux, Windows and the BSDs prefer the Joliet names.
"""

from __future__ import annotations

import re
import struct
from typing import Callable, Dict, List, NamedTuple, Tuple, Union

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.file_tree import FileTree, file_tree

_SECTOR = 2048
_FIRST_FREE = 19  # after 16 unused sectors and three volume descriptors
_PRIMARY, _JOLIET = 1, 2  # types of volume descriptors
_DATE = bytes([100, 1, 1, 0, 0, 0, 0])  # 1 January 2000: the same files always give the same image
_LONG_DATE = b"2000010100000000\0"
_NO_DATE = b"0" * 16 + b"\0"

_Path = Tuple[str, ...]
_Extent = Tuple[int, int]  # first sector, size in bytes


class _Folder(NamedTuple):
    parent: int  # its number in the path table
    encoded: bytes  # its own name
    entries: List[Tuple[bytes, str, Union[bytes, FileTree]]]  # encoded name, name, content


_View = Dict[_Path, _Folder]  # in the order of the path table


class _Layout(NamedTuple):
    """Where everything is in the image."""

    tables: List[_Extent]  # of each view; a table is there twice, once for each byte order
    folders: List[Dict[_Path, _Extent]]  # of each view
    contents: Dict[_Path, Tuple[int, bytes]]  # of files: first sector and bytes
    sectors: int


def make_iso(files: dict[str, bytes], label: str, option: str = "files") -> bytes:
    """Return an image with the files.

    files: {"a/b.txt": bytes}. A name has at most 64 characters, none of them *:;?\\ and no dot or
    space at its end; two names of a folder differ in more than case; folders are at most 7 deep.
    label: at most 32 ASCII characters, of which Joliet shows 16.
    Raises OptionError, naming option.
    """
    if not re.fullmatch(r"[ -~]{0,32}", label):
        raise OptionError(option, "the label %r is not 32 or fewer ASCII characters" % label)
    root = file_tree(option, files, 64, "*:;?\\")
    views = [_view(root, _plain_names), _view(root, _joliet_names)]
    if max(len(path) for path in views[0]) > 7:
        raise OptionError(option, "folders are more than 7 deep: this file system cannot hold them")
    layout = _layout(views)
    image = bytearray(layout.sectors * _SECTOR)

    def put(sector: int, data: bytes) -> None:
        image[sector * _SECTOR : sector * _SECTOR + len(data)] = data

    for number, kind in enumerate((_PRIMARY, _JOLIET)):
        view, extents = views[number], layout.folders[number]
        table, size = layout.tables[number]
        put(15 + kind, _descriptor(kind, label, layout.sectors, table, size, extents[()]))
        put(table, _path_table(view, extents, "<"))
        put(table + _sector_count(size), _path_table(view, extents, ">"))
        for path in view:
            put(extents[path][0], _directory(path, view[path], extents, layout.contents))
    put(18, b"\xffCD001\x01")
    for sector, data in layout.contents.values():
        put(sector, data)
    return bytes(image)


def _layout(views: list[_View]) -> _Layout:
    """Give sectors to the path tables, then to the folders, then to the files."""
    free = _FIRST_FREE
    tables: list[_Extent] = []
    for view in views:
        size = sum(8 + len(item.encoded) + len(item.encoded) % 2 for item in view.values())
        tables.append((free, size))
        free += 2 * _sector_count(size)
    folders: list[dict[_Path, _Extent]] = []
    for view in views:
        extents = {}
        for path, item in view.items():
            records = [_record(b"\0", (0, 0), True)] * 2
            records += [_record(encoded, (0, 0), False) for encoded, _name, _data in item.entries]
            sectors = _sector_count(len(_pack(records)))
            extents[path] = (free, sectors * _SECTOR)
            free += sectors
        folders.append(extents)
    contents = {}
    for path, item in views[0].items():
        for _encoded, name, data in item.entries:
            if isinstance(data, bytes):
                contents[path + (name,)] = (free, data)
                free += _sector_count(len(data))
    return _Layout(tables, folders, contents, free)


def _directory(
    path: _Path,
    folder: _Folder,
    extents: dict[_Path, _Extent],
    contents: dict[_Path, tuple[int, bytes]],
) -> bytes:
    """Return the records of a folder: itself, its parent, its entries."""
    records = [_record(b"\0", extents[path], True), _record(b"\1", extents[path[:-1]], True)]
    for encoded, name, data in folder.entries:
        if isinstance(data, bytes):
            sector = contents[path + (name,)][0]
            records.append(_record(encoded, (sector, len(data)), False))
        else:
            records.append(_record(encoded, extents[path + (name,)], True))
    return _pack(records)


def _sector_count(size: int) -> int:
    return -(-size // _SECTOR)


def _both(layout: str, number: int) -> bytes:
    """Pack a number in both byte orders."""
    return struct.pack("<" + layout, number) + struct.pack(">" + layout, number)


def _view(root: FileTree, encode: Callable[[FileTree], Dict[str, bytes]]) -> _View:
    """List all folders, breadth first, with their names encoded."""
    view: _View = {}
    queue: list[tuple[_Path, int, bytes, FileTree]] = [((), 1, b"\0", root)]
    for number, (path, parent, encoded, folder) in enumerate(queue, 1):
        names = encode(folder)
        entries = sorted((names[name], name) for name in folder)
        view[path] = _Folder(
            parent, encoded, [(code, name, folder[name]) for code, name in entries]
        )
        for code, name, data in view[path].entries:
            if not isinstance(data, bytes):
                queue.append((path + (name,), number, code, data))
    return view


def _joliet_names(folder: FileTree) -> dict[str, bytes]:
    return {
        name: (name + ";1" if isinstance(data, bytes) else name).encode("utf-16-be")
        for name, data in folder.items()
    }


def _plain_names(folder: FileTree) -> dict[str, bytes]:
    """Return names for readers without Joliet.

    Hyphens stay, as with mkisofs -relaxed-filenames, so that Linux still finds user-data.
    """
    names: dict[str, bytes] = {}
    for name, data in folder.items():
        is_folder = not isinstance(data, bytes)
        stem, dot, end = re.sub(r"[^A-Z0-9_.-]", "_", name.upper()).rpartition(".")
        if is_folder or not dot or not stem or len(end) > 8:
            stem, end = (stem + dot + end).replace(".", "_"), ""
        stem, tail = stem.replace(".", "_"), "" if is_folder else "." + end + ";1"
        longest = 29 - len(end)
        number, encoded = 0, stem[:longest] + tail
        while encoded.encode("ascii") in names.values():
            number += 1
            encoded = stem[: longest - len(str(number))] + str(number) + tail
        names[name] = encoded.encode("ascii")
    return names


def _record(name: bytes, extent: _Extent, is_folder: bool) -> bytes:
    """Return a directory record: ECMA-119, 9.1."""
    record = b"".join(
        (
            _both("I", extent[0]),
            _both("I", extent[1]),
            _DATE,
            bytes([2 if is_folder else 0, 0, 0]),
            _both("H", 1),
            bytes([len(name)]),
            name,
        )
    )
    record += b"\0" * (len(record) % 2)
    return bytes([len(record) + 2, 0]) + record


def _pack(records: list[bytes]) -> bytes:
    """Join records so that none crosses the end of a sector."""
    data = bytearray()
    for record in records:
        if len(data) % _SECTOR + len(record) > _SECTOR:
            data += b"\0" * (-len(data) % _SECTOR)
        data += record
    return bytes(data)


def _path_table(view: _View, extents: dict[_Path, _Extent], order: str) -> bytes:
    """Return the path table in one byte order: ECMA-119, 9.4."""
    return b"".join(
        struct.pack(order + "BBIH", len(folder.encoded), 0, extents[path][0], folder.parent)
        + folder.encoded
        + b"\0" * (len(folder.encoded) % 2)
        for path, folder in view.items()
    )


def _descriptor(kind: int, label: str, total: int, table: int, size: int, root: _Extent) -> bytes:
    """Return the primary (ECMA-119, 8.4) or the Joliet volume descriptor."""

    def text(value: str, length: int) -> bytes:
        if kind == _PRIMARY:
            return value.encode("ascii").ljust(length)
        return (value[: length // 2].encode("utf-16-be") + b"\0 " * length)[
            : length // 2 * 2
        ].ljust(length, b"\0")

    return b"".join(
        (
            bytes([kind]),
            b"CD001\x01\0",
            text("", 32),
            text(label, 32),
            bytes(8),
            _both("I", total),
            (b"%/E" if kind == _JOLIET else b"").ljust(32, b"\0"),
            _both("H", 1),
            _both("H", 1),
            _both("H", _SECTOR),
            _both("I", size),
            struct.pack("<II", table, 0),
            struct.pack(">II", table + _sector_count(size), 0),
            _record(b"\0", root, True),
            text("", 128) * 4,
            text("", 37) * 3,
            _LONG_DATE,
            _LONG_DATE,
            _NO_DATE,
            _NO_DATE,
            b"\x01\0",
        )
    )
