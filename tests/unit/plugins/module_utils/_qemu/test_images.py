# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import (
    checksum,
    fingerprint,
    probe,
    check_readable,
    same_content,
    verify_checksum,
)
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2


@pytest.mark.parametrize("version", [2, 3])
def test_qcow2(tmp_path, version):
    path = tmp_path / "image"
    path.write_bytes(
        qcow2(version, backing=b"../base,1\n.img", backing_format=b"raw", encryption=2, snapshots=3)
    )
    header = probe(path)
    assert header[:5] == ("qcow2", 1 << 30, "../base,1\n.img", "raw", True)
    assert (header.dirty, header.corrupt, header.snapshots, header.data_file) == (
        False,
        False,
        3,
        None,
    )


def test_qcow2_without_backing_file(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(qcow2(features=4, data_file=b"data.raw"))
    header = probe(path)
    assert (header.backing_file, header.backing_format) == (None, None)
    assert (header.dirty, header.corrupt, header.data_file) == (False, False, "data.raw")


@pytest.mark.parametrize(
    "features, dirty, corrupt", [(0, False, False), (1, True, False), (2, False, True)]
)
def test_qcow2_that_was_not_closed(tmp_path, features, dirty, corrupt):
    path = tmp_path / "image"
    path.write_bytes(qcow2(features=features))
    assert (probe(path).dirty, probe(path).corrupt) == (dirty, corrupt)


@pytest.mark.parametrize("content", [qcow2()[:40], b"QFI\xfb" + bytes([0, 0, 0, 9]) + bytes(200)])
def test_damaged_qcow2(tmp_path, content):
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged qcow2"):
        probe(path)


@pytest.mark.parametrize(
    "expected, content",
    [
        ("vmdk", b"KDMV" + bytes(600)),
        ("vmdk", b"# Disk DescriptorFile\nversion=1\n"),
        ("vdi", bytes(64) + b"\x7f\x10\xda\xbe"),
        ("vhdx", b"vhdxfile"),
        ("vpc", b"conectix"),
        ("vpc", bytes(1024) + b"conectix" + bytes(504)),
        ("qed", b"QED\0"),
        ("luks", b"LUKS\xba\xbe\0\1"),
        ("parallels", b"WithoutFreeSpace"),
        ("qcow", b"QFI\xfb\0\0\0\x01" + bytes(60)),
    ],
)
def test_other_formats(tmp_path, expected, content):
    path = tmp_path / "image"
    path.write_bytes(content)
    assert probe(path)[:2] == (expected, None)


@pytest.mark.parametrize(
    "content, encryption",
    [
        (b"LUKS\xba\xbe\0\1", "luks"),
        (b"LUKS\xba\xbe\0\2", "luks2"),
        (qcow2(encryption=0), None),
        (qcow2(encryption=1), "aes"),
        (qcow2(encryption=2), "luks"),
    ],
)
def test_encryption(tmp_path, content, encryption):
    path = tmp_path / "image"
    path.write_bytes(content)
    assert (probe(path).encryption, probe(path).encrypted) == (encryption, encryption is not None)


def test_raw(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"")
    assert probe(path)[:2] == ("raw", 0)
    path.write_bytes(bytes(5000))
    assert probe(path)[:2] == ("raw", 5000)
    assert not probe(path).iso
    path.write_bytes(bytes(0x8001) + b"CD001" + bytes(2000))
    assert probe(path)[:2] == ("raw", 0x8001 + 2005)
    assert probe(path).iso
    with pytest.raises(ImageError, match="cannot read the image .*: No such file"):
        probe(tmp_path / "none")


def test_readable(tmp_path):
    good = tmp_path / "good"
    good.write_bytes(b"123")
    (tmp_path / "link").symlink_to("good")
    (tmp_path / "dangling").symlink_to("/nowhere/at all")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert check_readable("disks[0].path", str(good)).st_size == 3
    assert check_readable("disks[0].path", str(tmp_path / "link")).st_size == 3
    for name, words in (
        ("none", "there is no file {0} on this hypervisor"),
        ("dangling", "the link {0} points to /nowhere/at all, which does not exist"),
        ("folder", "{0} is a folder"),
        ("good/x", "there is no file {0}"),
        ("loop", "cannot reach {0}: Too many levels"),
    ):
        path = str(tmp_path / name)
        with pytest.raises(ImageError) as caught:
            check_readable("disks[1].path", path)
        assert caught.value.message.startswith("disks[1].path: " + words.format(path))
        assert caught.value.facts == {"option": "disks[1].path", "path": path}
    with pytest.raises(ImageError, match="neither a file nor a block device"):
        check_readable("disks[0].path", "/dev/null")


def test_unreadable(tmp_path, monkeypatch):
    path = tmp_path / "image"
    path.write_bytes(b"")

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        ImageError, match="^cdroms.0.: cannot read .*/image as user id [0-9]+: Permission denied$"
    ):
        check_readable("cdroms[0]", str(path))


def test_checksums(tmp_path):
    path = tmp_path / "image"
    content = b"x" * (1 << 20) + b"y" * (3 << 19)
    path.write_bytes(content)
    assert checksum(path, "sha256") == hashlib.sha256(content).hexdigest()
    assert checksum(path, "md5", first=1 << 20) == hashlib.md5(content[: 1 << 20]).hexdigest()
    assert checksum(path, "sha1", first=3 << 20) == hashlib.sha1(content).hexdigest()
    verify_checksum("o", path, "SHA256:" + hashlib.sha256(content).hexdigest().upper())
    verify_checksum("o", path, "md5:" + hashlib.md5(content[: 1 << 20]).hexdigest(), first_mib=True)
    found, other = hashlib.sha1(content).hexdigest(), "0" * 40
    with pytest.raises(ImageError, match="^o: .*sha1:%s, not sha1:%s" % (found, other)):
        verify_checksum("o", path, "sha1:" + other)
    for wrong in ("md5:12", "crc32:12345678", "0" * 64, "md5:" + "g" * 32, "md5:" + "0" * 40):
        with pytest.raises(OptionError, match="is not a checksum"):
            verify_checksum("o", path, wrong)


def test_fingerprint(tmp_path):
    path = tmp_path / "image"
    content = bytearray(os.urandom(1 << 20))
    path.write_bytes(content)
    first = fingerprint(path)
    assert first["size"] == 1 << 20
    assert same_content(first, fingerprint(path))
    copy = tmp_path / "copy"
    copy.write_bytes(content)
    assert same_content(first, fingerprint(copy))
    for place in (0, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        copy.write_bytes(changed)
        assert not same_content(first, fingerprint(copy))
    copy.write_bytes(content[:-1])
    assert not same_content(first, fingerprint(copy))


def test_fingerprint_of_an_image_written_in_place(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(bytes(1 << 20))
    first = fingerprint(path)
    with open(path, "r+b") as stream:
        stream.seek(4096)
        stream.write(b"between two samples")
    os.utime(path, ns=(1, first["mtime_ns"] + 1))
    second = fingerprint(path)
    assert second["samples"] == first["samples"]
    assert not same_content(first, second)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192, 64 * 4096 - 1])
def test_fingerprint_of_a_small_file_is_of_all_of_it(tmp_path, size):
    path = tmp_path / "image"
    path.write_bytes(bytes(size))
    first = fingerprint(path)
    for place in range(0, size, 1000):
        path.write_bytes(bytes(place) + b"x" + bytes(size - place - 1))
        assert fingerprint(path)["samples"] != first["samples"]
