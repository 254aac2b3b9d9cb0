# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that an image needs, by whatever name it calls them."""

from __future__ import annotations

import json
import os
import struct

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.image_files import (
    backing_path,
    files_needed,
    identity,
    local_files,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import probe
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2


def needed(path, format=None):
    return [(file.path, file.is_base) for file in files_needed(str(path), format)]


@pytest.mark.parametrize(
    "name, files",
    [
        ("base.img", ["/f/base.img"]),
        ("../b/base.img", ["/b/base.img"]),
        ("/x/base.img", ["/x/base.img"]),
        ("/x/a:b", ["/x/a:b"]),
        ("file:/x/base.img", ["/x/base.img"]),
        ("file:base.img", ["/f/base.img"]),
        ("host_device:/dev/sdz", ["/dev/sdz"]),
        ("nbd://server/export", []),
        ("https://server/base.img", []),
        ("json:{", []),
        ("json:[]", []),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/x/y"}}', ["/x/y"]),
        ('json:{"driver":"qcow2","file.filename":"y"}', ["/f/y"]),
        ('json:{"file":{"driver":"nbd","host":"h"},"backing":{"file":{"filename":"z"}}}', ["/f/z"]),
        ("json:" + "[" * 100000, []),
    ],
)
def test_file_names_of_qemu(name, files):
    assert local_files(name, "/f") == files


@pytest.mark.parametrize("kind", ["relative", "absolute", "link", "file:", "json"])
def test_a_chain_is_followed_to_its_end_by_any_name(tmp_path, kind):
    folder = tmp_path / "bases"
    folder.mkdir()
    bottom, middle, top = folder / "bottom", folder / "middle.qcow2", tmp_path / "top.qcow2"
    bottom.write_bytes(bytes(1024))
    (folder / "link").symlink_to("middle.qcow2")
    name = {
        "relative": "bases/middle.qcow2",
        "absolute": str(middle),
        "link": "bases/link",
        "file:": "file:" + str(middle),
        "json": "json:" + json.dumps({"driver": "qcow2", "file": {"filename": str(middle)}}),
    }[kind]
    middle.write_bytes(qcow2(backing=b"bottom", backing_format=b"raw"))
    top.write_bytes(qcow2(backing=name.encode(), backing_format=b"qcow2"))
    found = files_needed(str(top), "qcow2")
    assert [identity(file.path) for file in found] == [identity(str(middle)), identity(str(bottom))]
    assert all(file.is_base for file in found)
    assert identity(backing_path(str(top), probe(top))) == identity(str(middle))


def test_a_relative_name_is_of_the_folder_of_the_image_and_of_the_file_it_links_to(tmp_path):
    for name in ("real", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "base").write_bytes(bytes(512))
    (tmp_path / "real" / "top").write_bytes(qcow2(backing=b"base"))
    (tmp_path / "other" / "top").symlink_to("../real/top")
    assert needed(tmp_path / "other" / "top") == [
        (str(tmp_path / "other" / "base"), True),
        (str(tmp_path / "real" / "base"), True),
    ]
    (tmp_path / "real" / "base").unlink()
    assert needed(tmp_path / "other" / "top") == [(str(tmp_path / "other" / "base"), True)]


def test_data_files_belong_to_the_image_and_those_of_a_base_to_the_base(tmp_path):
    (tmp_path / "base").write_bytes(qcow2(data_file=b"base.data"))
    (tmp_path / "top").write_bytes(qcow2(data_file=b"top.data", backing=b"base"))
    assert needed(tmp_path / "top") == [
        (str(tmp_path / "top.data"), False),
        (str(tmp_path / "base"), True),
        (str(tmp_path / "base.data"), True),
    ]


QCOW = struct.pack(">4sIQI", b"QFI\xfb", 1, 48, 4) + bytes(28) + b"base"
QED = struct.pack("<4sIIIQQQQQII", b"QED\0", 65536, 4, 1, 1, 0, 0, 0, 0, 72, 4) + bytes(8) + b"base"
VMDK = b"# Disk DescriptorFile\n"


@pytest.mark.parametrize(
    "content, files",
    [
        (QCOW, [("base", True)]),
        (QED, [("base", True)]),
        (
            VMDK + b'RW 20480 FLAT "x-flat.vmdk" 0\nRW 1 FLAT "y" 0\n',
            [("x-flat.vmdk", False), ("y", False)],
        ),
        (
            b"KDMV" + bytes(508) + VMDK + b'parentFileNameHint="base"\nRW 2 SPARSE "13"\n',
            [("base", True)],
        ),
    ],
    ids=["qcow", "qed", "vmdk of several files", "vmdk with a parent"],
)
def test_other_formats(tmp_path, content, files):
    (tmp_path / "top").write_bytes(content)
    assert needed(tmp_path / "top") == [(str(tmp_path / name), base) for name, base in files]


def test_a_raw_disk_needs_nothing_whatever_the_guest_wrote_to_it(tmp_path):
    (tmp_path / "top").write_bytes(qcow2(backing=b"/etc/passwd"))
    assert needed(tmp_path / "top", "raw") == []
    (tmp_path / "over").write_bytes(qcow2(backing=b"top", backing_format=b"raw"))
    assert needed(tmp_path / "over") == [(str(tmp_path / "top"), True)]


def test_rings_and_missing_files_end(tmp_path):
    (tmp_path / "a").write_bytes(qcow2(backing=b"b"))
    (tmp_path / "b").write_bytes(qcow2(backing=b"a"))
    assert needed(tmp_path / "a") == [(str(tmp_path / "b"), True)]
    assert needed(tmp_path / "none") == []
    (tmp_path / "c").write_bytes(qcow2(backing=b"none"))
    assert needed(tmp_path / "c") == [(str(tmp_path / "none"), True)]


def test_an_image_that_changes_is_read_again(tmp_path):
    (tmp_path / "a").write_bytes(qcow2(backing=b"b"))
    assert needed(tmp_path / "a") == [(str(tmp_path / "b"), True)]
    (tmp_path / "a").write_bytes(qcow2(backing=b"other"))
    assert needed(tmp_path / "a") == [(str(tmp_path / "other"), True)]


def test_the_identity_of_a_file_is_that_of_all_its_names(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"")
    os.link(path, tmp_path / "hard")
    (tmp_path / "soft").symlink_to("a")
    names = [str(tmp_path / name) for name in ("a", "hard", "soft", "../%s/a" % tmp_path.name)]
    assert len({identity(name) for name in names}) == 1
    assert identity("/no/such") == identity("/no/../no/such")
