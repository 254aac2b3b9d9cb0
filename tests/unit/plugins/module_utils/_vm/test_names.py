# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import folder as folders
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import macs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name, merge_items
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    check_removal,
    definitions,
    users_of,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import make_folder, write_json
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2


@pytest.mark.parametrize(
    "name, fits",
    [
        ("r1", True),
        ("a b", True),
        ("a,b=c", True),
        ("-S", True),
        ("é日\U0001f600", True),
        ("a\"'\\%s{{ x }}", True),
        ("n" * 200, True),
        ("é" * 100, True),
        ("a.b", True),
        ("a..", True),
        (" a ", True),
        ("", False),
        (" ", False),
        (".", False),
        ("..", False),
        (".a", False),
        ("a/b", False),
        ("/", False),
        ("a\nb", False),
        ("a\0b", False),
        ("a\x7f", False),
        ("n" * 201, False),
        ("é" * 101, False),
        ("\ud800", False),
        ("\udcff", False),
    ],
)
def test_names(name, fits):
    if fits:
        assert folders.check_name("x", name) == name
        return
    with pytest.raises(OptionError) as caught:
        folders.check_name("x", name)
    assert caught.value.facts["option"] == "x"
    caught.value.message.encode("utf-8")


def test_the_files_of_a_vm(tmp_path):
    folder = folders.Folder(str(tmp_path), "lab,1", "r 1")
    assert folder.path == "%s/lab,1/r 1" % tmp_path and not folder.exists()
    folder.make()
    folder.make()
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    assert (
        folder.sockets == folder.path
        and folder.socket("a.sock") == folder.file("a.sock")
        and folder.host == "%s/.host" % tmp_path
    )
    write_json(folder.definition, {})
    assert folder.exists()


@pytest.mark.parametrize(
    "lab, name, option",
    [("..", "a", "lab"), ("a", "..", "name"), ("a/b", "c", "lab"), ("a", "", "name")],
)
def test_a_folder_that_cannot_be(tmp_path, lab, name, option):
    with pytest.raises(OptionError, match="^%s: " % option):
        folders.Folder(str(tmp_path), lab, name)


@pytest.mark.parametrize("length", [50, 85, 86, 87, 88, 89, 90, 91, 95, 120])
def test_sockets_fit_where_the_path_does_not(monkeypatch, length):
    """sun_path holds 108 bytes with its end; the longest name of a socket is console-255.sock."""
    for user, base in ((0, "/run/vlab"), (1000, "/tmp/vlab-1000")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
        one, other = (
            folders.Folder("/" + "r" * (length - 9), "lab", name) for name in ("é1", "é2")
        )
        assert len(os.fsencode(one.socket("console-255.sock"))) <= 107
        assert (one.sockets == one.path) == (len(os.fsencode(one.path)) <= 90)
        assert one.sockets != other.sockets and (
            one.sockets == one.path or os.path.dirname(one.sockets) == base
        )
        assert one.file("x").startswith(one.path)


@pytest.fixture(name="deep")
def fixture_deep(tmp_path, monkeypatch):
    """A VM whose path is too long for sockets, with folders for them below tmp_path."""
    bases = {"": tmp_path / "a" / "vlab", "/other": tmp_path / "b" / "vlab"}

    def socket_folders(self):
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        names = [runtime] + [name for name in bases if name != runtime]
        return [str(bases[name] / self._path_digest()) for name in names]

    monkeypatch.setattr(folders.Folder, "_socket_folders", socket_folders)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    return lambda: folders.Folder(str(tmp_path / ("r" * 100)), "lab", "r1")


def test_sockets_stay_where_the_vm_was_made(deep, monkeypatch):
    first = deep()
    first.make()
    expected = first.qmp
    assert os.path.isdir(first.sockets) and first.sockets != first.path
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/other")
    assert deep().qmp == expected
    again = deep()
    again.make()
    assert again.qmp == expected
    write_json(first.definition, {})
    folders.remove_folder(again, ())
    assert not os.path.exists(first.path) and not os.path.exists(os.path.dirname(expected))


def test_sockets_of_an_earlier_version_are_found(deep, monkeypatch):
    """It recorded no folder."""
    first = deep()
    first.make()
    os.unlink(first.file("socket_folder"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/other")
    assert deep().sockets == first.sockets
    first.make()
    assert os.path.exists(first.file("socket_folder"))


def test_a_folder_of_sockets_that_cannot_be_used_is_replaced(deep, monkeypatch):
    """As when the user has logged out, or another user has made a folder of that name."""
    first = deep()
    first.make()
    before = first.sockets
    os.rmdir(before)
    os.rmdir(os.path.dirname(before))
    write_json(os.path.dirname(before), "not a folder")
    first.make()
    assert first.sockets != before and os.path.isdir(first.sockets)
    assert deep().sockets == first.sockets


@pytest.mark.parametrize("record", ["/etc", "", "vlab/%s", "/etc/%s", "/vlab/../%s", "/x/vlab/%s/"])
def test_a_record_that_no_run_has_written_is_ignored(deep, record):
    first = deep()
    first.make()
    before = first.sockets
    text = record.replace("%s", first._path_digest())
    with open(first.file("socket_folder"), "w", encoding="utf-8") as stream:
        stream.write(text)
    assert first.sockets == before


def test_a_failed_run_leaves_no_folder_of_sockets(deep):
    first = deep()
    with first.locked(True):
        pass
    before = first.sockets
    first.tidy()
    assert not os.path.exists(first.path) and not os.path.exists(before)


def test_a_killed_removal_leaves_no_empty_folder_for_long(deep):
    first = deep()
    os.makedirs(first.path)
    first.tidy()
    assert not os.path.exists(first.path)


def test_roots(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert folders.default_root() == "/var/lib/vlab"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    assert folders.default_root() == "/s/vlab"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert folders.default_root() == "/h/.local/state/vlab"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("52-54-00-AB-cd-EF", "52:54:00:ab:cd:ef"),
        ("5254.00ab.cdef", "52:54:00:ab:cd:ef"),
        ("525400ABCDEF", "52:54:00:ab:cd:ef"),
        ("52:54:00:12:34", None),
        ("52:54:00:12:34:5g", None),
        ("52:54:00:12:34:56:78", None),
        ("", None),
        ("01:00:5e:00:00:01", None),
        ("ff:ff:ff:ff:ff:ff", None),
        ("52:54:00:12:34:56,x", None),
        ("٣" * 12, None),
    ],
)
def test_macs(text, expected):
    if expected:
        assert macs.normalise("x", text) == expected
    else:
        with pytest.raises(OptionError, match="^x: "):
            macs.normalise("x", text)


def test_derived_macs():
    made = {
        macs.derived(lab, vm, nic)
        for lab in ("a", "b", "ab")
        for vm in ("a", "b", "")
        for nic in ("e0", "e1", "b")
    }
    assert len(made) == 27 and macs.derived("a", "b", "c") == macs.derived("a", "b", "c")
    assert all(macs.normalise("x", mac) == mac and int(mac[:2], 16) & 3 == 2 for mac in made), (
        "unicast, locally administered"
    )


@pytest.mark.parametrize(
    "base, index, expected",
    [
        ("52:54:00:00:00:00", 0, "52:54:00:00:00:00"),
        ("52:54:00:00:00:ff", 1, "52:54:00:00:01:00"),
        ("52:54:00:ff:ff:ff", 1, "52:54:00:00:00:00"),
        ("52:54:00:00:00:01", 254, "52:54:00:00:00:ff"),
    ],
)
def test_counted_macs(base, index, expected):
    assert macs.counted(base, index) == expected


DEFAULTS = {"a": 1, "b": None, "index": None}


@pytest.mark.parametrize(
    "saved, given, more, expected",
    [
        ([], None, {}, []),
        ([], [], {}, []),
        ([], [{"name": "x"}], {}, [{"name": "x", "a": 1, "b": None, "index": None}]),
        ([{"name": "x", "a": 5}], None, {}, [{"name": "x", "a": 5}]),
        (
            [{"name": "x", "a": 5}],
            [{"name": "x", "b": 2}],
            {},
            [{"name": "x", "a": 5, "b": 2, "index": None}],
        ),
        (
            [{"name": "x", "a": 5}],
            [{"name": "y"}],
            {},
            [{"name": "x", "a": 5}, {"name": "y", "a": 1, "b": None, "index": None}],
        ),
        (
            [{"name": "x", "a": 5}],
            [{"name": "y"}],
            {"purge": True},
            [{"name": "y", "a": 1, "b": None, "index": None}],
        ),
        ([{"name": "x", "a": 5}], None, {"purge": True}, [{"name": "x", "a": 5}]),
        ([{"name": "x", "a": 5}], [], {"purge": True}, []),
        ([{"name": "x"}, {"name": "y"}], None, {"remove": ["x", "z"]}, [{"name": "y"}]),
        (
            [{"name": "x", "a": 5, "index": 3}],
            [{"name": "x", "a": "", "index": -1}],
            {},
            [{"name": "x", "a": 1, "b": None, "index": None}],
        ),
        (
            [{"name": "x", "a": 5, "index": 3}],
            [{"name": "x", "a": None, "index": None}],
            {},
            [{"name": "x", "a": 5, "b": None, "index": 3}],
        ),
    ],
)
def test_items(saved, given, more, expected):
    def normalise(path, item):
        return {key: value for key, value in item.items() if value is not None}

    assert merge_items("o", saved, given, DEFAULTS, normalise, **more) == expected
    assert list(by_name(expected)) == [item["name"] for item in expected]


@pytest.mark.parametrize(
    "given, option",
    [
        ([{"name": None}], r"o\[0\]\.name"),
        ([{}], r"o\[0\]\.name"),
        ([{"name": "x"}, {"name": "x"}], r"o\[1\]\.name: 'x' is also the name of o\[0\]"),
        ([{"name": "../x"}], r"o\[0\]\.name"),
        ([{"name": "x", "index": -2}], r"o\[x\]\.index"),
        ([{"name": "x", "index": 1 << 40}], r"o\[x\]\.index"),
    ],
)
def test_items_that_are_refused(given, option):
    with pytest.raises(OptionError, match="^" + option):
        merge_items("o", [], given, DEFAULTS, lambda path, item: item)


def test_who_uses_an_image(tmp_path):
    root, image = str(tmp_path), str(tmp_path / "img")
    for lab, name, disk in (
        ("l", "a", {"path": image}),
        ("l", "b", {"backing_file": image, "format": "qcow2"}),
        ("m", "c", {"path": image, "read_only": True}),
        ("m", "d", {"path": image, "snapshot": True}),
    ):
        make_folder(os.path.join(root, lab, name))
        write_json(
            os.path.join(root, lab, name, "vm.json"), {"disks": [dict({"name": "disk"}, **disk)]}
        )
    make_folder(os.path.join(root, "l", "damaged"))
    (tmp_path / "l" / "damaged" / "vm.json").write_text("{")
    make_folder(os.path.join(root, "l", "list"))
    (tmp_path / "l" / "list" / "vm.json").write_text("[]")
    make_folder(os.path.join(root, ".host", "x"))
    (tmp_path / "link").symlink_to(image)
    assert [(lab, name) for lab, name, definition in definitions(root)] == [
        ("l", "a"),
        ("l", "b"),
        ("m", "c"),
        ("m", "d"),
    ]
    for path in (image, str(tmp_path / "link"), str(tmp_path / "l" / ".." / "img")):
        assert [tuple(user) for user in users_of(root, path)] == [
            ("l/a", "disk", "disk", True),
            ("l/b", "disk", "base", False),
            ("m/c", "disk", "disk", False),
            ("m/d", "disk", "disk", False),
        ]
    assert [user.vm for user in users_of(root, os.path.join(root, "l", "b", "disk.qcow2"))] == [
        "l/b"
    ], "an image without a path of its own"
    assert users_of(str(tmp_path / "none"), image) == []


def test_who_uses_an_image_at_any_depth(tmp_path):
    root = str(tmp_path / "root")
    images = {"a": None, "b": b"a", "c": b"b"}
    for name, base in images.items():
        content = bytes(1024) if base is None else qcow2(backing=base, data_file=b"data-" + base)
        (tmp_path / name).write_bytes(content)
    for name, definition in (
        (
            "over",
            {"disks": [{"name": "d", "backing_file": str(tmp_path / "c"), "format": "qcow2"}]},
        ),
        ("itself", {"disks": [{"name": "d", "path": str(tmp_path / "b"), "format": "qcow2"}]}),
        ("raw", {"disks": [{"name": "d", "path": str(tmp_path / "c"), "format": "raw"}]}),
        ("odd", {"disks": [{"name": "d", "path": "/x", "format": ["raw"]}], "cdroms": {"a": 1}}),
        ("media", {"cdroms": [{"name": "cd", "path": str(tmp_path / "a")}]}),
    ):
        make_folder(os.path.join(root, "l", name))
        write_json(os.path.join(root, "l", name, "vm.json"), definition)

    def users(name):
        return [str(user) for user in users_of(root, str(tmp_path / name))]

    assert users("a") == [
        "base image of the VM l/itself",
        "cdrom cd of the VM l/media",
        "base image of the VM l/over",
    ]
    assert users("b") == ["disk d of the VM l/itself", "base image of the VM l/over"]
    assert users("c") == ["base image of the VM l/over", "disk d of the VM l/raw"]
    assert users("data-a") == ["disk d of the VM l/itself", "base image of the VM l/over"]
    assert [user.writes for user in users_of(root, str(tmp_path / "data-a"))] == [True, False]


def test_images_that_another_vm_uses_are_not_removed(tmp_path):
    folder = Folder(str(tmp_path), "l", "golden")
    make_folder(folder.path)
    base = os.path.join(folder.path, "disk.qcow2")
    with open(base, "wb") as stream:
        stream.write(qcow2())
    other = os.path.join(str(tmp_path), "m", "clone")
    make_folder(other)
    write_json(
        os.path.join(other, "vm.json"),
        {"disks": [{"name": "d", "backing_file": "/elsewhere", "format": "qcow2"}]},
    )
    check_removal(folder)
    with open(os.path.join(other, "d.qcow2"), "wb") as stream:
        stream.write(qcow2(backing=base.encode()))
    for paths in (None, [base]):
        with pytest.raises(ImageError, match="disk.qcow2 cannot be removed: .* VM m/clone"):
            check_removal(folder, paths)
    check_removal(folder, [base + "x"])
    check_removal(Folder(str(tmp_path), "m", "clone"))
