# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import struct

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common import fat
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.fat import make_fat
from ansible_collections.vlab.qemu.plugins.module_utils._common.file_tree import file_tree
from ansible_collections.vlab.qemu.plugins.module_utils._common.iso9660 import make_iso

SETS = {
    "empty": {},
    "seed": {
        "user-data": b"#cloud-config\n",
        "meta-data": b"instance-id: x\n",
        "network-config": b"",
    },
    "folders": {
        "a/b/c/d.txt": b"deep" * 1000,
        "a/b.txt": b"1" * 2048,
        "z": b"2" * 2049,
        "openstack/latest/meta_data.json": b"{}",
    },
    "many": {
        "folder %d/a rather long file name %d.conf" % (number % 3, number): b"%d" % number * number
        for number in range(200)
    },
    "names": {
        "x" * 64: b"1",
        "x" * 63 + "y": b"2",
        "\u00e9 \u65e5.txt": b"3",
        ".hidden": b"4",
        "two.dots.conf": b"5",
        "file.longext": b"6",
        "A.TXT": b"7",
    },
}


def read_iso(image, joliet=True):
    """Files of an ISO image, read by the descriptors and directory records of ECMA-119."""
    place = 17 if joliet else 16
    descriptor = image[place * 2048 : (place + 1) * 2048]
    assert descriptor[:7] == bytes([2 if joliet else 1]) + b"CD001\x01"
    assert struct.unpack_from("<I", descriptor, 80)[0] * 2048 == len(image)
    files = {}

    def folder(extent, size, prefix):
        data, at, number = image[extent * 2048 : extent * 2048 + size], 0, 0
        while at < len(data):
            length = data[at]
            if not length:
                at = (at // 2048 + 1) * 2048
                continue
            assert at // 2048 == (at + length - 1) // 2048
            start, start_big, amount, amount_big = (
                struct.unpack("<I", data[at + 2 : at + 6])
                + struct.unpack(">I", data[at + 6 : at + 10])
                + struct.unpack("<I", data[at + 10 : at + 14])
                + struct.unpack(">I", data[at + 14 : at + 18])
            )
            assert (start, amount) == (start_big, amount_big)
            name = data[at + 33 : at + 33 + data[at + 32]]
            is_folder = data[at + 25] & 2
            if number >= 2:
                name = name.decode("utf-16-be" if joliet else "ascii")
                if is_folder:
                    folder(start, amount, prefix + name + "/")
                else:
                    assert name.endswith(";1")
                    files[prefix + name[:-2]] = image[start * 2048 : start * 2048 + amount]
            number += 1
            at += length

    root = descriptor[156:190]
    folder(struct.unpack_from("<I", root, 2)[0], struct.unpack_from("<I", root, 10)[0], "")
    return files


def path_table(image, joliet, big):
    """Names and parents of a path table."""
    descriptor = image[(16 + joliet) * 2048 :]
    size = struct.unpack_from("<I", descriptor, 132)[0]
    at = struct.unpack_from(">I" if big else "<I", descriptor, 148 if big else 140)[0] * 2048
    end, found = at + size, []
    while at < end:
        extent, parent = struct.unpack_from(">IH" if big else "<IH", image, at + 2)
        found.append((image[at + 8 : at + 8 + image[at]], extent, parent))
        at += 8 + image[at] + image[at] % 2
    return found


@pytest.mark.parametrize("name", sorted(SETS))
def test_iso(name):
    files = SETS[name]
    image = make_iso(files, "cidata")
    assert read_iso(image) == files
    assert sorted(
        hashlib.md5(data).digest() for data in read_iso(image, joliet=False).values()
    ) == sorted(hashlib.md5(data).digest() for data in files.values())
    assert image == make_iso(dict(reversed(list(files.items()))), "cidata")
    assert image[16 * 2048 + 40 : 16 * 2048 + 72] == b"cidata".ljust(32)
    assert image[17 * 2048 + 40 : 17 * 2048 + 52] == "cidata".encode("utf-16-be")
    assert image[17 * 2048 + 88 : 17 * 2048 + 91] == b"%/E"
    for joliet in (False, True):
        assert path_table(image, joliet, True) == path_table(image, joliet, False)


def test_iso_path_table():
    image = make_iso(SETS["folders"], "x")
    assert [(name, parent) for name, extent, parent in path_table(image, False, False)] == [
        (b"\0", 1),
        (b"A", 1),
        (b"OPENSTACK", 1),
        (b"B", 2),
        (b"LATEST", 3),
        (b"C", 4),
    ]


def test_iso_plain_names():
    files = {"user-data": b"", "a b.conf": b"", "a,b.conf": b"", "no.dots.here": b"", ".x": b""}
    assert sorted(read_iso(make_iso(files, "x"), joliet=False)) == [
        "A_B.CONF",
        "A_B1.CONF",
        "NO_DOTS.HERE",
        "USER-DATA.",
        "_X.",
    ]


@pytest.mark.parametrize(
    "name, words",
    [
        ("x" * 65, "longer than the 64 characters"),
        ("a:b", "cannot hold ':'"),
        ("a;1", "cannot hold ';'"),
        ("../x", "is not a name"),
        ("/x", "is not a name"),
        ("a//b", "is not a name"),
        ("", "is not a name"),
        ("a.", "cannot hold '. at the end'"),
        ("\U0001f600", "cannot hold"),
        ("a\nb", "cannot hold"),
        ("a/b/c/d/e/f/g/h/i", "more than 7 deep"),
    ],
)
def test_iso_names_that_do_not_fit(name, words):
    with pytest.raises(OptionError, match=words) as caught:
        make_iso({name: b""}, "x", "cloud_init.files")
    assert caught.value.facts["option"] == "cloud_init.files"


def test_labels_that_do_not_fit():
    for label in ("x" * 33, "\u00e9"):
        with pytest.raises(OptionError, match="the label"):
            make_iso({}, label)
    for label in ("x" * 12, "a/b", "\u00e9", "a.b", "a*b"):
        with pytest.raises(OptionError, match="the label"):
            make_fat({}, label)


def next_cluster(fat, bits, cluster):
    """Return the entry of a cluster in a FAT12 or FAT16."""
    if bits == 16:
        return struct.unpack_from("<H", fat, 2 * cluster)[0]
    pair = struct.unpack_from("<H", fat, cluster * 3 // 2)[0]
    return pair >> (4 if cluster % 2 else 0) & 0xFFF


def read_fat(image):
    """Return the files by long name, the label and the cluster count of a FAT image."""
    sector, per_cluster, reserved, fats, root_entries, total, media, fat_sectors = (
        struct.unpack_from("<HBHBHHBH", image, 11)
    )
    total = total or struct.unpack_from("<I", image, 32)[0]
    assert total * sector == len(image)
    assert image[510:512] == b"\x55\xaa"
    root = (reserved + fats * fat_sectors) * sector
    start = root + root_entries * 32
    clusters = (total - start // sector) // per_cluster
    bits = 12 if clusters < 4085 else 16
    assert image[54:62].decode().strip() == "FAT%d" % bits
    fat = image[reserved * sector : (reserved + fat_sectors) * sector]
    assert fat == image[(reserved + fat_sectors) * sector : root]
    assert len(fat) * 8 >= (clusters + 2) * bits
    assert fat[0] == media

    def chain(cluster):
        data = []
        while 2 <= cluster < (0xFF0 if bits == 12 else 0xFFF0):
            place = start + (cluster - 2) * per_cluster * sector
            data.append(image[place : place + per_cluster * sector])
            cluster = next_cluster(fat, bits, cluster)
        return b"".join(data)

    files, labels = {}, []

    def folder(data, prefix):
        parts, shorts, left = [], set(), 0
        for place in range(0, len(data), 32):
            entry = data[place : place + 32]
            if not entry[0]:
                break
            if entry[11] == 0x0F:
                assert bool(entry[0] & 0x40) == (not parts)
                assert parts == [] or entry[0] & 0x3F == left - 1
                left = entry[0] & 0x3F
                parts.insert(0, entry[1:11] + entry[14:26] + entry[28:32])
                check = entry[13]
                continue
            if entry[11] & 8:
                labels.append(entry[:11].decode().strip())
                continue
            short = entry[:11]
            assert short not in shorts
            shorts.add(short)
            name = short[:8].decode().strip() + ("." + short[8:].decode().strip()).rstrip(".")
            if parts:
                total = 0
                for byte in short:
                    total = ((total & 1) << 7 | total >> 1) + byte & 0xFF
                assert total == check
                assert left == 1
                name = (
                    b"".join(parts).decode("utf-16-le").split("\0", maxsplit=1)[0].rstrip("\uffff")
                )
                parts = []
            cluster, size = struct.unpack_from("<HI", entry, 26)
            if entry[11] & 16:
                if name not in (".", ".."):
                    folder(chain(cluster), prefix + name + "/")
            else:
                files[prefix + name] = chain(cluster)[:size]

    folder(image[root:start], "")
    return files, labels, clusters


@pytest.mark.parametrize("name", sorted(SETS))
def test_fat(name):
    image = make_fat(SETS[name], "cidata")
    files, labels, clusters = read_fat(image)
    assert files == SETS[name]
    assert labels == ["cidata"]
    assert image == make_fat(dict(reversed(list(SETS[name].items()))), "cidata")


def test_fat_types_and_sizes():
    assert len(make_fat({"a": b"1"}, "x")) < 20000
    assert read_fat(make_fat({"a": bytes(4080 * 512)}, ""))[2] == 4101
    assert read_fat(make_fat({"a": bytes(40 << 20)}, ""))[0]["a"] == bytes(40 << 20)
    assert read_fat(make_fat({}, ""))[1] == []


def test_fat_of_many_short_aliases():
    files = {"long name %d.text" % number: b"%d" % number for number in range(120)}
    files["LONGNA~1.TEX"] = b"short"
    assert read_fat(make_fat(files, "x"))[0] == files


@pytest.mark.parametrize(
    "files, words",
    [
        ({"x" * 256: b""}, "longer than the 255"),
        ({'a"b': b""}, "cannot hold"),
        ({"a": bytes(4 << 20)}, "do not fit on a FAT disk"),
    ],
)
def test_fat_refuses(monkeypatch, files, words):
    monkeypatch.setattr(fat, "_MAX_CLUSTERS", 100)
    with pytest.raises(OptionError, match=words):
        make_fat(files, "x")


def test_file_tree():
    assert file_tree("o", {"a/b": b"1", "a/c/d": b"2", "A2": b"3"}, 10, "") == {
        "a": {"b": b"1", "c": {"d": b"2"}},
        "A2": b"3",
    }
    with pytest.raises(OptionError, match="a is a file and a folder"):
        file_tree("o", {"a": b"", "a/b": b""}, 10, "")


@pytest.mark.parametrize("make", [make_iso, make_fat])
@pytest.mark.parametrize("names", [("a", "A"), ("D/x", "d/y"), ("d/X", "d/x"), ("e", "E/x")])
def test_names_that_differ_only_in_case(make, names):
    with pytest.raises(OptionError, match="differ only in case"):
        make({name: b"" for name in names}, "x")
