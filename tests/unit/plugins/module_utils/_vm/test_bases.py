# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import shutil
import types

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import BY_NAME
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import (
    bases,
    disk_options,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose

OPTION = "disks[d]"


def disk(**more):
    return dict(disk_options.DISK_DEFAULTS, name="d", format="qcow2", **more)


@pytest.fixture(name="base")
def fixture_base(tmp_path):
    path = tmp_path / "base, x=é.img"
    path.write_bytes(bytes(range(256)) * 400)
    os.utime(path, (1000, 1000))
    return path


def refused(given, recorded):
    with pytest.raises(ImageError) as caught:
        bases.check_base(OPTION, given, recorded)
    assert caught.value.facts[
        "option"
    ] == OPTION + ".backing_file" and caught.value.message.startswith(OPTION + ".backing_file: ")
    return caught.value.message


def test_a_base_that_is_what_it_was(base):
    given = disk(backing_file=str(base))
    bases.check_base(OPTION, given, None)
    recorded = bases.record_base(given)
    assert recorded["path"] == str(base) and recorded["size"] == 102400
    bases.check_base(OPTION, given, recorded)


def test_a_base_that_is_missing(base):
    given = disk(backing_file=str(base))
    recorded = bases.record_base(given)
    base.unlink()
    assert "there is no file" in refused(given, None)
    assert "of the overlay no longer exists" in refused(given, recorded)


def test_a_base_that_is_no_image(base, tmp_path):
    assert "is a folder" in refused(disk(backing_file=str(tmp_path)), None)
    os.mkfifo(tmp_path / "fifo")
    assert "neither a file nor a block device" in refused(
        disk(backing_file=str(tmp_path / "fifo")), None
    )
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "which does not exist" in refused(disk(backing_file=str(tmp_path / "link")), None)


@pytest.mark.parametrize("change", ["grown", "written", "touched", "replaced"])
def test_a_base_that_changed_under_its_overlay(base, change):
    given = disk(backing_file=str(base))
    recorded = bases.record_base(given)
    content = bytearray(base.read_bytes())
    if change == "grown":
        base.write_bytes(content + b"x")
    elif change == "written":
        content[-1] ^= 1
        base.write_bytes(content)
    elif change == "replaced":
        other = base.with_name("other")
        other.write_bytes(bytes(102400))
        os.replace(other, base)
    else:
        os.utime(base, (2000, 2000))
    assert "was changed under its overlay" in refused(given, recorded)
    bases.check_base(
        OPTION,
        dict(given, checksum="sha256:" + hashlib.sha256(base.read_bytes()).hexdigest()),
        recorded,
    )


@pytest.mark.parametrize("change", ["written", "removed", "copied"])
def test_a_base_of_a_base_that_changed(base, tmp_path, change):
    middle = tmp_path / "middle.qcow2"
    overlay(middle, base.name)
    given = disk(backing_file=str(middle))
    recorded = bases.record_base(given)
    assert [record["path"] for record in recorded["under"]] == [str(base)]
    bases.check_base(OPTION, given, recorded)
    if change == "written":
        content = bytearray(base.read_bytes())
        content[0] ^= 1
        base.write_bytes(content)
        assert "%s was changed under its overlay" % base in refused(given, recorded)
    elif change == "removed":
        base.unlink()
        for known in (None, recorded):
            assert "middle.qcow2 needs %s, which does not exist" % base in refused(given, known)
    else:
        copy = base.with_name("copy")
        shutil.copyfile(base, copy)
        os.replace(copy, base)
        bases.check_base(OPTION, given, recorded)


def test_a_faithful_copy_in_its_place(base):
    given = disk(backing_file=str(base))
    recorded = bases.record_base(given)
    copy = base.with_name("copy")
    shutil.copyfile(base, copy)
    os.replace(copy, base)
    bases.check_base(OPTION, given, recorded)


def test_a_base_that_moved(base):
    """Another path is another question: follow_base asks whether the content is the same."""
    recorded = bases.record_base(disk(backing_file=str(base)))
    moved = base.with_name("moved")
    base.rename(moved)
    bases.check_base(OPTION, disk(backing_file=str(moved)), recorded)


class FakeImg:
    """A qemu-img that remembers what it was asked."""

    def __init__(self):
        self.done = []

    def __getattr__(self, name):
        return lambda *words, **more: self.done.append((name,) + words)


def overlay(path, base):
    """The header of a qcow2 image over base."""
    name = os.fsencode(str(base))
    header = (
        b"QFI\xfb"
        + (3).to_bytes(4, "big")
        + (112).to_bytes(8, "big")
        + len(name).to_bytes(4, "big")
        + (16).to_bytes(4, "big")
        + (102400).to_bytes(8, "big")
    )
    path.write_bytes(header.ljust(100, b"\0") + (104).to_bytes(4, "big") + bytes(8) + name)


@pytest.mark.parametrize(
    "how, follows",
    [("same", None), ("moved", True), ("copied", True), ("other", False), ("none", False)],
)
def test_an_overlay_follows_its_base(base, tmp_path, how, follows):
    path, fake = tmp_path / "d.qcow2", FakeImg()
    overlay(path, base)
    recorded = bases.record_base(disk(backing_file=str(base)))
    new = base
    if how in ("moved", "copied"):
        new = tmp_path / "new"
        shutil.copyfile(base, new)
        if how == "moved":
            base.unlink()
    elif how == "other":
        new = tmp_path / "new"
        new.write_bytes(bytes(102400))
    elif how == "none":
        path.write_bytes(
            b"QFI\xfb"
            + (3).to_bytes(4, "big")
            + bytes(12)
            + (16).to_bytes(4, "big")
            + (1 << 20).to_bytes(8, "big")
            + bytes(72)
        )
    given = disk(backing_file=str(new))
    if follows is False:
        with pytest.raises((ImageError, OptionError), match=r"disks\[d\]\.backing_file: "):
            bases.follow_base(OPTION, given, str(path), recorded, fake)
        assert fake.done == []
    elif follows:
        assert bases.follow_base(OPTION, given, str(path), recorded, fake) == "rebase %s on %s" % (
            path,
            new,
        )
        assert fake.done == [("rebase", str(path), str(new), None)]
    else:
        assert bases.follow_base(OPTION, given, str(path), recorded, fake) is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1", "md5"])
def test_checksums_are_remembered_until_the_file_changes(base, tmp_path, monkeypatch, algorithm):
    digest = getattr(hashlib, algorithm)(base.read_bytes()).hexdigest()
    given = disk(
        checksum="%s:%s" % (algorithm, digest), checksum_first_mib="%s:%s" % (algorithm, digest)
    )
    host = str(tmp_path / "root" / ".host")
    bases.verify_checksums(OPTION, given, str(base), host)
    assert len(read_json(host + "/checksums.json")) == 2
    monkeypatch.setattr(
        bases.images, "checksum", lambda *words: pytest.fail("it was known already")
    )
    bases.verify_checksums(OPTION, given, str(base), host)
    monkeypatch.undo()
    base.write_bytes(b"other")
    with pytest.raises(ImageError, match=r"disks\[d\]\.checksum: .*another image, or damaged"):
        bases.verify_checksums(OPTION, given, str(base), host)


def test_paths(tmp_path):
    folder = Folder(str(tmp_path), "l", "v")
    assert bases.disk_path(folder, disk()) == folder.path + "/d.qcow2" and bases.is_owned(
        folder, disk()
    )
    assert bases.disk_path(folder, disk(path="/x/y")) == "/x/y" and not bases.is_owned(
        folder, disk(path="/x/y")
    )


def test_layers_of_a_clone_are_in_the_folder_of_its_origin(tmp_path):
    origin, folder, images = tmp_path / "o", tmp_path / "c", tmp_path / "images"
    for path in (origin, folder, images):
        path.mkdir()
    base, layer, top = images / "b.qcow2", origin / "d.qcow2", folder / "d.0123abcd.qcow2"
    base.write_bytes(qcow2())
    layer.write_bytes(qcow2(backing=bytes(base)))
    top.write_bytes(qcow2(backing=bytes(layer)))
    # Without a snapshot, it is a base image like any other.
    assert bases.layers_of(str(top)) == [str(top)]
    record = origin / "snapshots" / "s" / "snapshot.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"disks": {"d": "d.qcow2"}}')
    assert bases.layers_of(str(top)) == [str(top), str(layer)]


def test_the_layers_of_a_disk_are_reported(tmp_path):
    host = FakeHost(root=tmp_path)
    host.folder.make()
    definition = compose(disks=[{"name": "d", "size": "1G"}], host=host)

    def report():
        result = {}
        observation = types.SimpleNamespace(folder=host.folder)
        BY_NAME["storage"].report(definition, observation, result)
        return result["disks"][0]["layers"], result["disks"][0]["layers_bytes"]

    assert report() == (0, 0)
    definition["disks"][0]["image"] = "d.0123abcd.qcow2"
    assert report() == (0, 0)
    first = host.folder.file("d.qcow2")
    with open(first, "wb") as stream:
        stream.write(qcow2() + bytes([1]) * 100000)
        os.fsync(stream.fileno())
    with open(host.folder.file("d.0123abcd.qcow2"), "wb") as stream:
        stream.write(qcow2(backing=os.fsencode(first)))
    assert report() == (1, os.stat(first).st_blocks * 512)


def test_images_are_made(tmp_path):
    fake, path = FakeImg(), str(tmp_path / "new" / "d.qcow2")
    bases.make_image(OPTION, disk(size=1 << 30), path, fake)
    bases.make_image(OPTION, disk(backing_file="/b", size=None), path, fake)
    assert [entry[:2] for entry in fake.done] == [
        ("create", path),
        ("overlay", path),
    ] and os.path.isdir(tmp_path / "new")
    with pytest.raises(OptionError, match=r"disks\[d\]\.size: .* does not exist: give size"):
        bases.make_image(OPTION, disk(size=None), path, fake)
