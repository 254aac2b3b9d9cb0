# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One image: what is to be done to it, and in which order, without qemu-img."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import image, image_plan
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import disk_options
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import User

MIB = 1 << 20
DEFAULTS = {name: option.get("default") for name, option in image.SPEC.items()}


class FakeQemuImg:
    """Notes what it is asked to do."""

    def __init__(self, empty=False, report=None):
        self.calls, self.empty, self.report = [], empty, report or {}

    def is_empty_overlay(self, _path):
        return self.empty

    def virtual_size(self, _path, _format=None):
        return 8 * MIB

    def check(self, _path, repair=None):
        self.calls.append(("check", repair))
        return self.report

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, *args[1:]))


def now(**more):
    return dict(
        {
            "format": "qcow2",
            "size": 8 * MIB,
            "actual_size": 1,
            "backing_file": None,
            "backing_format": None,
            "snapshots": [],
        },
        **more,
    )


@pytest.fixture
def converge(tmp_path, monkeypatch):
    """Converge an image; return the result and the calls. has: its facts, None if it is missing."""
    path = tmp_path / "disk.qcow2"

    def run(has, check_mode=False, users=(), qemu_img=None, **options):
        program = qemu_img or FakeQemuImg()
        monkeypatch.setattr(image, "find_qemu_img", lambda: "qemu-img")
        monkeypatch.setattr(image, "QemuImg", lambda _path: program)
        monkeypatch.setattr(
            image, "describe", lambda _path, _program: dict(has or now(), path=str(path))
        )
        monkeypatch.setattr(image, "users_of", lambda _root, _path: list(users))
        if has is not None:
            path.write_bytes(b"an image")
        if options.get("backing_file") == "BASE":
            options["backing_file"] = str(tmp_path / "base")
            (tmp_path / "base").write_bytes(bytes(512))
        params = dict(
            DEFAULTS, path=str(path), root=str(tmp_path / "lab"), state="present", **options
        )
        result = image.converge_image(params, check_mode)
        return result, program.calls

    return run


def user(role="disk", writes=True):
    return User("default/r1", "disk0", role, writes)


@pytest.mark.parametrize(
    "has, options, changes",
    [
        (None, {"size": "8M"}, ["path"]),
        (None, {"size": "8M", "snapshots": ["a", "b"]}, ["path", "snapshots[a]", "snapshots[b]"]),
        (now(), {"size": "8M"}, []),
        (now(), {"size": "16M"}, ["size"]),
        (now(), {"size": "4M", "allow_shrink": True}, ["size"]),
        (now(), {"format": "raw", "convert": True}, ["format"]),
        (now(format="raw"), {"format": "raw"}, []),
        (now(), {"snapshots": ["a"]}, ["snapshots[a]"]),
        (now(snapshots=[{"name": "a"}, {"name": "b"}]), {"snapshots": ["a"]}, []),
        (
            now(snapshots=[{"name": "a"}, {"name": "b"}]),
            {"snapshots": ["a"], "purge_snapshots": True},
            ["snapshots[b]"],
        ),
        (now(snapshots=[{"name": "a"}]), {"restore_snapshot": "a"}, ["restore_snapshot"]),
        (now(backing_file="/srv/base"), {"commit": True}, ["commit"]),
        (now(backing_file="/srv/base"), {"backing_file": ""}, ["backing_file"]),
    ],
)
def test_changes_are_the_same_in_check_mode_and_run(converge, has, options, changes):
    foreseen, calls = converge(has, check_mode=True, **options)
    assert calls == []
    assert [change["option"] for change in foreseen["changes"]] == changes
    assert foreseen["changed"] == bool(changes)
    if has is None or options.get("convert"):
        return  # makes files, which the fake does not
    done, calls = converge(has, **options)
    assert done["changes"] == foreseen["changes"] and len(calls) == len(changes)


def test_nothing_is_committed_from_an_overlay_that_is_empty(converge):
    result, calls = converge(
        now(backing_file="/srv/base"), qemu_img=FakeQemuImg(empty=True), commit=True
    )
    assert not result["changed"] and calls == []


@pytest.mark.parametrize(
    "has, options, users, error, says",
    [
        (None, {}, (), OptionError, "size"),
        (None, {"size": "8M", "restore_snapshot": "a"}, (), OptionError, "does not exist yet"),
        (
            None,
            {"size": "8M", "snapshots": ["a"], "format": "raw"},
            (),
            OptionError,
            "no snapshots",
        ),
        (None, {"size": "8M", "format": "luks"}, (), OptionError, "secret_file: "),
        (
            now(snapshots=[{"name": "a"}]),
            {"format": "raw", "convert": True},
            (),
            OptionError,
            "internal snapshots a, which",
        ),
        (now(), {"size": "4M"}, (), OptionError, "allow_shrink"),
        (now(), {"format": "raw"}, (), OptionError, "convert: true"),
        (now(), {"restore_snapshot": "a"}, (), OptionError, "it has none"),
        (now(), {"commit": True}, (), OptionError, "no overlay"),
        (now(), {"size": "16M"}, [user("base")], ImageError, "base image of the VM default/r1"),
        (now(), {"snapshots": ["a"]}, [user("base")], ImageError, "cannot be changed"),
        (now(), {"backing_file": "BASE"}, [user()], ImageError, "writes to it, and nobody may"),
        (None, {"backing_file": "BASE"}, [user()], ImageError, "writes to it, and nobody may"),
        (
            now(),
            {"format": "raw", "convert": True},
            [user()],
            ImageError,
            "disk disk0 of the VM default/r1",
        ),
        (
            now(backing_file="/srv/base"),
            {"commit": True},
            [user("base")],
            ImageError,
            "cannot be committed",
        ),
    ],
)
def test_what_cannot_be_is_an_error_and_does_nothing(converge, has, options, users, error, says):
    program = FakeQemuImg()
    with pytest.raises(error, match=says):
        converge(has, users=users, qemu_img=program, **options)
    assert program.calls == []


def test_force_goes_over_the_users_of_an_image(converge):
    assert converge(now(), users=[user("base")], size="16M", force=True)[0]["changed"]


@pytest.mark.parametrize(
    "report, options, changed, error",
    [
        ({"leaks": 0}, {"check": True}, False, None),
        ({"leaks": 2}, {"check": True}, False, None),
        ({"leaks": 2}, {"repair": "leaks"}, True, None),
        ({"corruptions": 1}, {"repair": "leaks"}, None, "repair: all"),
        ({"corruptions": 1}, {"check": True}, None, "1 corruptions"),
        ({"corruptions": 1}, {"repair": "all"}, True, None),
    ],
)
def test_checks_and_repairs(converge, report, options, changed, error):
    program = FakeQemuImg(report=report)
    if error:
        with pytest.raises(ImageError, match=error):
            converge(now(), qemu_img=program, **options)
    else:
        assert converge(now(), qemu_img=program, **options)[0]["changed"] == changed


@pytest.mark.parametrize(
    "has, options, verbs",
    [
        (None, {"size": "8M"}, ["create"]),
        (None, {"source": "/srv/source.raw"}, ["copy"]),
        (now(), {"state": "absent"}, ["remove"]),
        (None, {"state": "absent"}, []),
        (
            now(snapshots=[{"name": "a"}, {"name": "b"}]),
            {
                "backing_file": "/srv/base",
                "size": "16M",
                "restore_snapshot": "a",
                "snapshots": ["b", "c"],
                "purge_snapshots": True,
            },
            [
                "rebase",
                "resize",
                "restore_snapshot",
                "create_snapshot",
                "delete_snapshot",
            ],
        ),
        (
            now(snapshots=[{"name": "a"}]),
            {"format": "raw", "convert": True, "snapshots": [], "purge_snapshots": True},
            ["delete_snapshot", "convert"],
        ),
    ],
)
def test_the_plan_is_a_pure_function_in_the_order_of_the_steps(has, options, verbs):
    params = dict(DEFAULTS, path="/srv/disk", **{"state": "present", **options})
    desired = disk_options.normalise_disk(
        "", {key: params.get(key) for key in disk_options.IMAGE_SPEC}
    )
    for key in ("source", "restore_snapshot", "snapshots"):
        desired[key] = params.get(key)
    observation = image_plan.ImageObservation(has is not None, has)
    changes = image_plan.plan_image(params, desired, observation)
    assert [change.verb for change in changes] == verbs
    assert all(verb in image._STEPS for verb in verbs)


@pytest.mark.parametrize("origin", ["source", "backing_file"])
def test_a_new_image_is_not_smaller_than_what_it_is_made_from(converge, tmp_path, origin):
    path = tmp_path / "origin"
    path.write_bytes(bytes(8192))
    options = {origin: str(path), "size": "4M"}
    with pytest.raises(OptionError, match="^size: 4M is smaller than %s of 8M" % path):
        converge(None, check_mode=True, **options)
    assert converge(None, allow_shrink=True, check_mode=True, **options)[0]["changed"]
    assert converge(None, check_mode=True, **dict(options, size="8M"))[0]["changed"]


def test_what_is_no_image_is_used_only_on_request(converge, tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(b"\x1f\x8b\x08" + bytes(600))
    for options in ({"source": str(path), "source_format": "raw"}, {"backing_file": str(path)}):
        with pytest.raises(
            ImageError, match="%s: .*gunzip .*any_content: true" % next(iter(options))
        ):
            converge(None, check_mode=True, **options)
        assert converge(None, check_mode=True, any_content=True, **options)[0]["changed"]


def test_an_encrypted_image_needs_its_secret(converge, tmp_path):
    (tmp_path / "luks").write_bytes(b"LUKS\xba\xbe\0\1" + bytes(600))
    (tmp_path / "secret").write_text("word")
    secret = str(tmp_path / "secret")
    given = {"source": str(tmp_path / "luks"), "size": "8M"}
    with pytest.raises(ImageError, match="^source: .* give source_secret_file"):
        converge(None, **given)
    _result, calls = converge(None, source_secret_file=secret, **given)
    assert [call[0] for call in calls] == ["convert"]
    with pytest.raises(
        OptionError, match="secret_file: an image of format vdi cannot be encrypted"
    ):
        converge(None, size="8M", format="vdi", secret_file=secret)
    with pytest.raises(OptionError, match="secret_file: .*disk.qcow2 is not encrypted"):
        converge(now(), secret_file=secret)
    with pytest.raises(ImageError, match="secret_file: there is no file"):
        converge(None, size="8M", secret_file=secret + "x")
