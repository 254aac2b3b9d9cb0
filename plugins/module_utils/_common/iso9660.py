# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A CD image with named files: ISO 9660 (ECMA-119) with Joliet names, which Linux, Windows and the BSDs prefer."""

from __future__ import annotations

import re
import struct

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.file_tree import file_tree

_SECTOR = 2048
_DATE = bytes([100, 1, 1, 0, 0, 0, 0])  # 1 January 2000: the same files always give the same image
_LONG_DATE = b"2000010100000000\0"
_NO_DATE = b"0" * 16 + b"\0"


def make_iso(files, label, option="files"):
    """The image as bytes. files: {"a/b.txt": bytes}; label: at most 32 ASCII characters (Joliet shows 16 of them).

    A name is at most 64 characters, without any of *:;?\\ and without a dot or a space at its end; two differ
    in more than case; folders are at most 7 deep.
    Raises OptionError, naming option, for what does not fit.
    """
    if not re.fullmatch(r"[ -~]{0,32}", label):
        raise OptionError(option, "the label %r is not 32 or fewer ASCII characters" % label)
    root = file_tree(option, files, 64, "*:;?\\")
    views = [_view(root, _plain_names), _view(root, _joliet_names)]
    if max(len(path) for path in views[0]) > 7:
        raise OptionError(option, "folders are more than 7 deep: this file system cannot hold them")
    place = 19
    tables = []
    for view in views:
        size = sum(8 + len(name) + len(name) % 2 for parent, name, entries in view.values())
        tables.append((place, size))
        place += 2 * _sectors(size)
    folders = [{}, {}]
    for view, extents in zip(views, folders):
        for path, (parent, name, entries) in view.items():
            size = _sectors(
                len(
                    _pack(
                        [_record(b"\0", 0, 0, True)] * 2
                        + [_record(name, 0, 0, False) for name, key, item in entries]
                    )
                )
            )
            extents[path] = (place, size * _SECTOR)
            place += size
    contents = {}
    for path, (parent, name, entries) in views[0].items():
        for encoded, key, item in entries:
            if not isinstance(item, dict):
                contents[path + (key,)] = (place, item)
                place += _sectors(len(item))
    image = bytearray(place * _SECTOR)

    def put(sector, data):
        image[sector * _SECTOR : sector * _SECTOR + len(data)] = data

    for kind, view, extents, (table, size) in zip((1, 2), views, folders, tables):
        put(15 + kind, _descriptor(kind, label, place, table, size, extents[()]))
        put(table, _path_table(view, extents, "<"))
        put(table + _sectors(size), _path_table(view, extents, ">"))
        for path, (parent, name, entries) in view.items():
            records = [
                _record(b"\0", *extents[path], True),
                _record(b"\1", *extents[path[:-1]], True),
            ]
            for encoded, key, item in entries:
                if isinstance(item, dict):
                    records.append(_record(encoded, *extents[path + (key,)], True))
                else:
                    records.append(_record(encoded, contents[path + (key,)][0], len(item), False))
            put(extents[path][0], _pack(records))
    put(18, b"\xffCD001\x01")
    for sector, data in contents.values():
        put(sector, data)
    return bytes(image)


def _sectors(size):
    return -(-size // _SECTOR)


def _both(layout, number):
    return struct.pack("<" + layout, number) + struct.pack(">" + layout, number)


def _view(root, encode):
    """Folders in the order of a path table: path -> (number of the parent, encoded name, [(encoded name, name, item)])."""
    view, queue = {}, [((), 1, b"\0", root)]
    for number, (path, parent, encoded, folder) in enumerate(queue, 1):
        names = encode(folder)
        entries = (
            sorted((names[name], name, item) for name, item in folder.items()) if folder else []
        )
        view[path] = (parent, encoded, entries)
        queue += [
            (path + (name,), number, code, item)
            for code, name, item in entries
            if isinstance(item, dict)
        ]
    return view


def _joliet_names(folder):
    return {
        name: (name if isinstance(item, dict) else name + ";1").encode("utf-16-be")
        for name, item in folder.items()
    }


def _plain_names(folder):
    """Names for readers without Joliet. As mkisofs -relaxed-filenames: hyphens stay, so that Linux still sees user-data."""
    names = {}
    for name, item in folder.items():
        stem, dot, end = re.sub(r"[^A-Z0-9_.-]", "_", name.upper()).rpartition(".")
        if isinstance(item, dict) or not dot or not stem or len(end) > 8:
            stem, dot, end = (stem + dot + end).replace(".", "_"), "", ""
        stem, tail = stem.replace(".", "_"), "" if isinstance(item, dict) else "." + end + ";1"
        room = 29 - len(end)
        number, encoded = 0, stem[:room] + tail
        while encoded.encode("ascii") in names.values():
            number += 1
            encoded = stem[: room - len(str(number))] + str(number) + tail
        names[name] = encoded.encode("ascii")
    return names


def _record(name, extent, size, is_folder):
    """A directory record: ECMA-119, 9.1."""
    record = b"".join(
        (
            _both("I", extent),
            _both("I", size),
            _DATE,
            bytes([2 if is_folder else 0, 0, 0]),
            _both("H", 1),
            bytes([len(name)]),
            name,
        )
    )
    record += b"\0" * (len(record) % 2)
    return bytes([len(record) + 2, 0]) + record


def _pack(records):
    """Records one after the other, none across the end of a sector."""
    data = bytearray()
    for record in records:
        if len(data) % _SECTOR + len(record) > _SECTOR:
            data += b"\0" * (-len(data) % _SECTOR)
        data += record
    return bytes(data)


def _path_table(view, extents, order):
    """ECMA-119, 9.4."""
    return b"".join(
        struct.pack(order + "BBIH", len(name), 0, extents[path][0], parent)
        + name
        + b"\0" * (len(name) % 2)
        for path, (parent, name, entries) in view.items()
    )


def _descriptor(kind, label, total, table, size, root):
    """The primary (kind 1, ECMA-119, 8.4) or the Joliet (kind 2) volume descriptor."""

    def text(value, length):
        if kind == 1:
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
            (b"%/E" if kind == 2 else b"").ljust(32, b"\0"),
            _both("H", 1),
            _both("H", 1),
            _both("H", _SECTOR),
            _both("I", size),
            struct.pack("<II", table, 0),
            struct.pack(">II", table + _sectors(size), 0),
            _record(b"\0", *root, True),
            text("", 128) * 4,
            text("", 37) * 3,
            _LONG_DATE,
            _LONG_DATE,
            _NO_DATE,
            _NO_DATE,
            b"\x01\0",
        )
    )
