# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are often given as a disk image and are none."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import ImageError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.foreign_files import check_content
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2


def tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("disk.vmdk"))
    return stream.getvalue()


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("disk.img", "x")
    return stream.getvalue()


FOREIGN = [
    ("x.img", gzip.compress(b"x"), "compressed with gzip. Unpack it first: gunzip -k "),
    ("x.img", lzma.compress(b"x"), "compressed with xz"),
    ("x.img", bz2.compress(b"x" * 100), "compressed with bzip2"),
    ("x.img", b"\x28\xb5\x2f\xfd" + bytes(20), "compressed with zstd"),
    ("x.img", b"\x04\x22\x4d\x18" + bytes(20), "compressed with lz4"),
    ("x.img", zipped(), "a zip archive"),
    ("x.img", b"7z\xbc\xaf\x27\x1c" + bytes(20), "a 7z archive"),
    ("x.img", tar(), "a tar archive"),
    ("x.OVA", tar(), r"an appliance \(ova\)"),
    ("x.img", b"", "empty"),
    ("x.img", b"\xef\xbb\xbf\r\n <!DOCTYPE html><html>", "a web page"),
    ("x.img", b"<html><body>403", "a web page"),
    ("x.img", b'<?xml version="1.0"?><Error>', "an XML document"),
    ("x.img", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
]


@pytest.mark.parametrize("name, content, says", FOREIGN, ids=[row[2] for row in FOREIGN])
def test_what_is_no_image(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"^disks\[d\]\.path: .*%s.*\. Or else$" % says) as caught:
        check_content("disks[d].path", str(path), "Or else")
    assert caught.value.facts == {"option": "disks[d].path", "path": str(path)}


@pytest.mark.parametrize(
    "content",
    [
        bytes(512),
        b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa",
        qcow2(),
        b"<htm" + bytes(2000),
        bytes(0x8001) + b"CD001" + bytes(100),
        tar()[:200].ljust(0x8001, b"\0") + b"CD001" + bytes(100),
    ],
)
def test_what_may_be_an_image(tmp_path, content):
    path = tmp_path / "image"
    path.write_bytes(content)
    check_content("o", str(path))
