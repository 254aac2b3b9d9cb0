# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
import types
from collections.abc import Iterator

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    ProgramError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import new_images, qemu_img
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import ImageHeader

BASE = ImageHeader("qcow2", 1 << 30)
OVERLAY = ImageHeader("qcow2", 1 << 30, "base.img", "qcow2")


class FakeRun:
    """Replace processes.run_program: keeps the argv lists, answers by command."""

    def __init__(self):
        self.calls = []
        self.answers = {}

    def __call__(self, argv, timeout, accept, purpose, pass_fds):
        self.calls.append(argv[1:])
        answer = self.answers.get(argv[1], "")
        if isinstance(answer, Iterator):
            answer = next(answer)
        if isinstance(answer, ProgramError):
            raise answer
        if isinstance(answer, tuple):
            assert answer[0] in accept
            return answer
        return 0, answer if isinstance(answer, str) else json.dumps(answer), ""


@pytest.fixture
def run(monkeypatch):
    fake = FakeRun()
    monkeypatch.setattr(qemu_img, "run_program", fake)
    return fake


@pytest.fixture
def image(monkeypatch, tmp_path):
    """Where images are; headers: what probe returns."""
    image = qemu_img.QemuImg("qemu-img")
    image.headers = {}
    monkeypatch.setattr(
        qemu_img, "probe", lambda path: image.headers.get(os.path.basename(path), BASE)
    )
    monkeypatch.chdir(tmp_path)
    return image


def test_create_writes_a_file_that_has_no_name_yet(run, image, tmp_path):
    image.create(
        "nbd:x",
        "qcow2",
        1024,
        {"preallocation": "off", "lazy_refcounts": True, "data_file": "/a,b"},
    )
    (command,) = run.calls
    assert command[:6] == [
        "create",
        "-f",
        "qcow2",
        "-o",
        "data_file=/a,,b,lazy_refcounts=on,preallocation=off",
        "--",
    ]
    assert command[7:] == ["1024"]
    assert command[6].startswith("/proc/self/fd/")
    assert os.listdir(tmp_path) == ["nbd:x"]
    assert os.stat("nbd:x").st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("failures", "is_created"), [(1, True), (4, True), (5, False)])
def test_a_calibration_that_failed_by_chance_is_repeated(run, image, failures, is_created):
    words = "qemu-img: x: Unable to get accurate CPU usage"
    failed = ProgramError("failed", cmd=[], rc=1, stderr=words)
    run.answers["create"] = iter([failed] * failures + [""])
    with contextlib.nullcontext() if is_created else pytest.raises(ProgramError):
        image.create("x", "qcow2", 1024)
    assert os.path.exists("x") == is_created
    assert len(run.calls) == min(failures + 1, 5)


def test_a_new_layer_of_a_killed_run_stays(run, image):
    image.layer("x", "base", 1024)
    before = os.stat("x").st_ino
    image.layer("x", "base", 1024)
    assert os.stat("x").st_ino == before
    assert os.listdir() == ["x"]


@pytest.mark.parametrize("is_link", [False, True])
def test_a_layer_with_content_is_not_overwritten(run, image, is_link):
    with open("x", "w", encoding="ascii") as stream:
        stream.write("" if is_link else "what a guest wrote")
    if is_link:
        os.rename("x", "file")
        os.symlink("file", "x")
    before = os.lstat("x")
    with pytest.raises(ImageError, match="x exists already and is not overwritten"):
        image.layer("x", "base", 1024)
    assert os.lstat("x") == before


def test_create_leaves_nothing_after_a_failure(run, image, tmp_path):
    run.answers["create"] = ProgramError("no space", cmd=[], rc=1, stderr="no space")
    with pytest.raises(ProgramError, match="no space"):
        image.create("x", "qcow2", 1024)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda image: image.create("x", "qcow2", 1),
        lambda image: image.overlay("x", "b"),
        lambda image: image.convert("s", "x", "raw"),
    ],
)
def test_nothing_is_overwritten(run, image, tmp_path, make):
    (tmp_path / "x").symlink_to("/nowhere")
    with pytest.raises(ImageError, match="x exists already"):
        make(image)
    assert run.calls == []


def test_what_appears_meanwhile_is_not_overwritten(run, image, tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ImageError, match="x exists already"):
        image.create("x", "raw", 1)
    assert (tmp_path / "x").read_text() == "mine"
    assert os.listdir(tmp_path) == ["x"]


def test_overlay_names_format_and_safe_path(run, image, tmp_path):
    image.headers["json:{x"] = ImageHeader("raw", 5)
    image.overlay("x", "json:{x", size=2048)
    assert run.calls[0][:7] == [
        "create",
        "-f",
        "qcow2",
        "-b",
        str(tmp_path / "json:{x"),
        "-F",
        "raw",
    ]
    image.overlay("y", "/images/json:{x", "raw")
    assert run.calls[1][4] == "/images/json:{x"
    with pytest.raises(ImageError, match="is raw, not qcow2: leave backing_format out"):
        image.overlay("z", "json:{x", "qcow2")


def test_overlays_that_are_alike_are_made_once(image, tmp_path, monkeypatch):
    made = []

    def run(argv, timeout, accept, purpose, pass_fds):
        made.append(argv)
        os.pwrite(pass_fds[0], b"QFI" + b"\0" * 8192 + b"L1", 0)
        os.ftruncate(pass_fds[0], 196616)
        return 0, "", ""

    monkeypatch.setattr(qemu_img, "run_program", run)
    base = tmp_path / "base.img"
    base.write_bytes(b"1")
    for name in ("a", "b"):
        image.overlay(name, str(base))
    assert len(made) == 1
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() and os.stat(
        "b"
    ).st_size == 196616
    assert os.stat("b").st_mode & 0o777 == 0o600
    with pytest.raises(ImageError, match="b exists already"):
        image.overlay("b", str(base))
    image.overlay("c", str(base), size=1 << 20)
    image.create("d", "qcow2", None, {"cluster_size": 4096}, str(base))
    image.create("e", "qcow2", None, {"cluster_size": 4096}, str(base))
    assert len(made) == 4
    # Another base of the same name.
    base.write_bytes(b"22")
    image.overlay("f", str(base))
    assert len(made) == 5


def test_vmdk_of_several_files(run, image):
    with pytest.raises(ImageError, match="several files"):
        image.create("x", "vmdk", 1, {"subformat": "monolithicFlat"})


def test_convert(run, image, tmp_path):
    image.convert("-s", "t", "raw", compress=True)
    assert run.calls[0][:-1] == [
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        "-c",
        "--",
        str(tmp_path / "-s"),
    ]
    assert os.listdir(tmp_path) == ["t"]


def test_resize(run, image, tmp_path):
    path = str(tmp_path / "x")
    image.resize("x", 2 << 30)
    with pytest.raises(
        ImageError, match="x has 1G: making it 512M would cut off its end. Set allow_shrink"
    ):
        image.resize("x", 1 << 29)
    image.resize("x", 1 << 29, shrink=True)
    assert run.calls == [
        ["resize", "-f", "qcow2", "--", path, str(2 << 30)],
        ["resize", "-f", "qcow2", "--shrink", "--", path, str(1 << 29)],
    ]


def test_resize_of_a_format_only_qemu_img_knows(run, image):
    image.headers["x"] = ImageHeader("vdi")
    run.answers["info"] = {"virtual-size": 4096}
    with pytest.raises(ImageError, match="x has 4K"):
        image.resize("x", 512)
    assert run.calls[0][:5] == ["info", "--output=json", "-U", "-f", "vdi"]


def test_rebase_and_commit(run, image, tmp_path):
    path = str(tmp_path / "x")
    image.rebase("x", "/new", unsafe=True)
    image.rebase("x", None)
    image.commit("x")
    image.commit("x", "base")
    assert run.calls == [
        ["rebase", "-f", "qcow2", "-u", "-b", "/new", "-F", "qcow2", "--", path],
        ["rebase", "-f", "qcow2", "-b", "", "--", path],
        ["commit", "-f", "qcow2", "--", path],
        ["commit", "-f", "qcow2", "-b", str(tmp_path / "base"), "--", path],
    ]


def test_check(run, image):
    run.answers["check"] = (3, '{"check-errors": 0, "leaks": 4}', "")
    assert image.check("x") == {
        "supported": True,
        "ok": False,
        "errors": 0,
        "corruptions": 0,
        "leaks": 4,
        "corruptions_fixed": 0,
        "leaks_fixed": 0,
    }
    run.answers["check"] = (63, "", "This image format does not support checks")
    report = image.check("x", repair="leaks")
    assert (report["supported"], report["ok"]) == (False, True)
    assert run.calls[1][:6] == ["check", "--output=json", "-f", "qcow2", "-r", "leaks"]


def test_snapshots(run, image):
    run.answers["info"] = {
        "snapshots": [
            {"id": "1", "name": "2", "date-sec": 5, "vm-state-size": 6},
            {"id": "2", "name": "a,b", "date-sec": 7, "vm-state-size": 0},
        ]
    }
    assert image.snapshots("x")[0] == {"id": "1", "name": "2", "date": 5, "vm_state_size": 6}
    image.snapshot_apply("x", "2")
    assert run.calls[-1][:3] == ["snapshot", "-a", "1"]
    image.snapshot_delete("x", "a,b")
    assert run.calls[-1][:3] == ["snapshot", "-d", "a,b"]
    image.snapshot_create("x", "new")
    assert run.calls[-1][:3] == ["snapshot", "-c", "new"]
    with pytest.raises(ImageError, match="has a snapshot 2 already"):
        image.snapshot_create("x", "2")
    with pytest.raises(ImageError, match="has no snapshot 1; it has 2, a,b"):
        image.snapshot_apply("x", "1")


@pytest.mark.parametrize(
    "header, parts, empty",
    [
        (OVERLAY, [{"depth": 1, "start": 0, "zero": False, "data": True}], True),
        (
            OVERLAY,
            [
                {"depth": 1, "start": 0, "zero": True, "data": False},
                {"depth": 0, "start": 1024, "zero": True, "data": False},
            ],
            True,
        ),
        (OVERLAY, [{"depth": 0, "start": 0, "zero": True, "data": False}], False),
        (OVERLAY, [{"depth": 0, "start": 1024, "zero": False, "data": True}], False),
        (OVERLAY._replace(snapshots=1), [], False),
        (BASE, [], False),
    ],
)
def test_empty_overlay(run, image, header, parts, empty):
    image.headers["x"] = header
    run.answers.update({"info": [{"virtual-size": 4096}, {"virtual-size": 1024}], "map": parts})
    assert image.is_empty_overlay("x") is empty


def test_image_in_use(run, image):
    run.answers["resize"] = ProgramError(
        "failed", cmd=["q"], rc=1, stderr='Failed to get "write" lock'
    )
    with pytest.raises(
        ImageError, match="resize of x is not possible: .* in use by a running QEMU. Stop that VM"
    ) as caught:
        image.resize("x", 2 << 30)
    assert caught.value.facts["path"] == "x"
    assert caught.value.facts["rc"] == 1


def test_a_full_disk_is_reported_with_what_is_free_and_what_was_needed(run, image, tmp_path):
    (tmp_path / "s").write_bytes(b"x" * 8192)
    full = "qemu-img: error while writing at byte 0: No space left on device"
    run.answers["convert"] = ProgramError("failed", cmd=["q"], rc=1, stderr=full)
    run.answers["measure"] = {"required": 8192, "fully-allocated": 1 << 30}
    with pytest.raises(
        ImageError,
        match="convert of s failed: the disk or the quota of %s is full .* free, about 8K needed"
        % tmp_path,
    ):
        image.convert("s", "t", "qcow2")
    assert os.listdir(tmp_path) == ["s"]
    quota = ProgramError("failed", cmd=["q"], rc=1, stderr="Disk quota exceeded")
    run.answers["create"] = quota
    with pytest.raises(ImageError, match="about 1M needed"):
        image.create("t", "raw", 1 << 20, {"preallocation": "full"})
    assert os.listdir(tmp_path) == ["s"]


def test_a_file_system_without_inodes_is_reported_as_such(monkeypatch):
    facts = {"f_bavail": 100, "f_frsize": 4096, "f_files": 10, "f_favail": 0}
    monkeypatch.setattr(os, "statvfs", lambda _path: types.SimpleNamespace(**facts))
    assert "is full (400K free, and no inodes): make space" in new_images.space_text("/x/y", None)
    facts["f_files"] = 0  # unknown, as on btrfs
    assert "is full (400K free): make space" in new_images.space_text("/x/y", None)


def test_a_copy_that_cannot_be_grown_does_not_appear(run, image, tmp_path):
    run.answers["resize"] = ProgramError("no", cmd=["q"], rc=1, stderr="no")
    (tmp_path / "s").write_bytes(b"")
    with pytest.raises(ProgramError):
        image.convert("s", "t", "raw", size=1 << 20)
    assert os.listdir(tmp_path) == ["s"]
    assert [call[0] for call in run.calls] == ["convert", "resize"]
    assert run.calls[1][-2] == run.calls[0][-1] and run.calls[1][-1] == str(1 << 20)


@pytest.mark.parametrize("link", [False, True])
def test_an_image_is_converted_and_replaced(run, image, tmp_path, link):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o640)
    (tmp_path / "x.converted").write_bytes(b"a neighbour")
    name = "x"
    if link:
        name = "l"
        (tmp_path / "l").symlink_to("x")
    image.convert_and_replace(name, "raw")
    assert path.read_bytes() == b"" and path.stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "x.converted").read_bytes() == b"a neighbour"
    assert sorted(os.listdir(tmp_path)) == sorted(["x", "x.converted"] + ["l"] * link)
    assert not link or os.readlink("l") == "x"


def test_a_failed_conversion_changes_nothing(run, image, tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    run.answers["convert"] = ProgramError("no", cmd=["q"], rc=1, stderr="no")
    with pytest.raises(ProgramError):
        image.convert_and_replace("x", "raw")
    del run.answers["convert"]

    def refuse(*_words):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    real = os.stat

    def other_owner(name, **more):
        found = real(name, **more)
        return os.stat_result([*found[:4], 12345, *found[5:10]]) if name == str(path) else found

    monkeypatch.setattr(os, "stat", other_owner)
    with pytest.raises(ImageError, match="keep its owner and mode: Operation not permitted"):
        image.convert_and_replace("x", "raw")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


def test_secrets_are_files_that_qemu_img_reads(image, run, tmp_path, monkeypatch):
    headers = {"x": ImageHeader("qcow2", 1 << 30, encrypted=True, encryption="luks")}
    monkeypatch.setattr(qemu_img.encryption, "probe", lambda _path: headers["x"])
    (tmp_path / "x").write_bytes(b"")
    opened = "driver=qcow2,file.driver=file,file.filename=%s/x,"
    opened += "encrypt.format=luks,encrypt.key-secret=secret0"
    words = ["--object", "secret,id=secret0,file=/a,,b", "--image-opts"]
    image.headers["x"] = headers["x"]
    image.resize("x", 2 << 30, secret="/a,b")
    assert run.calls[-1] == ["resize", *words, "--", opened % tmp_path, str(2 << 30)]
    run.answers["info"] = {}
    image.snapshot_create("x", "s", "/a,b")
    assert run.calls[-1][:4] == ["snapshot", *words] and run.calls[-1][-1] == opened % tmp_path
    image.create("y", "luks", 1 << 20, secret="/a,b")
    assert run.calls[-1][:7] == ["create", "-f", "luks", *words[:2], "-o", "key-secret=secret0"]
    image.create("z", "qcow2", 1 << 20, secret="/a,b")
    assert "encrypt.format=luks,encrypt.key-secret=secret0" in run.calls[-1]
    image.convert("x", "c", "qcow2", secret="/new", source_secret="/a,b")
    command = run.calls[-1]
    assert "secret,id=secret1,file=/a,,b" in command and "secret,id=secret0,file=/new" in command
    assert opened.replace("secret0", "secret1") % tmp_path in command


def test_the_size_of_a_raw_disk_is_not_what_its_guest_wrote(image, tmp_path):
    (tmp_path / "x").write_bytes(bytes(4096))
    image.headers["x"] = ImageHeader("qcow2", 1 << 40)
    assert image.virtual_size(str(tmp_path / "x"), "raw") == 4096
    assert image.virtual_size(str(tmp_path / "x"), "qcow2") == 1 << 40
