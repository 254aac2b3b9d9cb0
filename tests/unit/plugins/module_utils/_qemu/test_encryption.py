# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encrypted images: what QEMU gets, and what it cannot open."""

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import encryption
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2

LUKS = b"LUKS\xba\xbe\0\1" + bytes(600)


@pytest.fixture(name="images")
def fixture_images(tmp_path):
    contents = {
        "luks": LUKS,
        "luks2": b"LUKS\xba\xbe\0\2" + bytes(600),
        "aes": qcow2(encryption=1),
        "secret": qcow2(encryption=2),
        "plain": qcow2(),
        "over luks": qcow2(backing=b"luks", backing_format=b"luks"),
        "both": qcow2(encryption=2, backing=b"over luks", backing_format=b"qcow2"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_every_encrypted_image_of_a_chain_gets_the_secret(images):
    node = encryption.node_options(str(images / "both"), "qcow2", "s")
    assert node == {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": str(images / "both")},
        "encrypt": {"format": "luks", "key-secret": "s"},
        "backing": {
            "driver": "qcow2",
            "file": {"driver": "file", "filename": str(images / "over luks")},
            "backing": {
                "driver": "luks",
                "key-secret": "s",
                "file": {"driver": "file", "filename": str(images / "luks")},
            },
        },
    }
    assert encryption.node_options(str(images / "luks"), "raw", "s") == {
        "driver": "raw",
        "file": {"driver": "file", "filename": str(images / "luks")},
    }


@pytest.mark.parametrize(
    "name, expected",
    [("plain", False), ("luks", True), ("secret", True), ("over luks", True), ("none", False)],
)
def test_what_is_encrypted(images, name, expected):
    assert encryption.is_encrypted(str(images / name)) is expected
    assert not encryption.is_encrypted(str(images / name), "raw")


@pytest.mark.parametrize(
    "name, secret, says",
    [
        ("luks", None, "luks is encrypted with LUKS: give secret_file"),
        ("luks", "/s", None),
        ("over luks", None, "/luks is encrypted with LUKS: give secret_file"),
        ("both", "/s", None),
        (
            "luks2",
            "/s",
            "with LUKS2, .* set format: raw; .*cryptsetup convert --type luks1 .*/luks2",
        ),
        ("aes", "/s", "with AES"),
        ("plain", None, None),
    ],
)
def test_what_cannot_be_opened(images, name, secret, says):
    if says is None:
        encryption.check_encryption("o", str(images / name), None, secret)
        return
    with pytest.raises(ImageError, match="^o: .*" + says):
        encryption.check_encryption("o", str(images / name), None, secret)
    encryption.check_encryption("o", str(images / name), "raw", None)


def test_secret_files(tmp_path):
    path = tmp_path / "s,x"
    with pytest.raises(ImageError, match="^secret_file: there is no file"):
        encryption.check_secret_file("secret_file", str(path))
    path.write_text("")
    with pytest.raises(OptionError, match="secret_file: .* is empty"):
        encryption.check_secret_file("secret_file", str(path))
    path.write_text("passphrase")
    encryption.check_secret_file("secret_file", str(path))
