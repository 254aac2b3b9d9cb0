# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seeds and config drives: what is written, what cloud-init notices, and what is refused."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json

import pytest
import yaml

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    NEXT_START,
    RESTART,
    module_diff,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.yaml_output import to_yaml
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media import nocloud, seeds
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose

SMALL = {"memory": "32", "disks": []}
UUID = "6b1a7f0c-5d0e-4a43-9d6f-0d4a3a0c7e11"


def files_of(given, saved=None, name="r1", option="cloud_init"):
    """The seed or drive for a value, its files before they become digests, and the warnings."""
    drive = getattr(seeds, option)(option, given)
    host = FakeHost(name=name)
    kept = {}
    original = seeds._image
    try:
        seeds._image = lambda made: kept.update(made["files"]) or b""
        desired = {option: drive, "uuid": UUID}
        seeds.finish(option, desired, saved, host)
    finally:
        seeds._image = original
    return desired[option], kept, host.warnings


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "caf\u00e9",
        "\U0001f600 outside the BMP",
        "\x00\x01\x1f\x7f\x80\x85\x9f\xa0",
        "\u2028\u2029\ufeff\ufffe\uffff\ue000\ud7ff",
        'quotes " and \\ back',
        "lines\nand\r\ntabs\t",
        "# no comment: [x] {y} - z",
    ],
)
def test_yaml_reads_what_is_written(text):
    data = {"key " + text: [text, {"inner": text}], "number": 5, "none": None, "real": 1.5}
    written = to_yaml(data)
    assert yaml.safe_load(written) == data and json.loads(written) == data
    written.encode("utf-8")


@pytest.mark.parametrize("value", ["\ud83d", "\udc80", float("nan"), float("inf")])
def test_what_yaml_cannot_hold_is_refused(value):
    with pytest.raises(ValueError):
        to_yaml({"a": value})
    with pytest.raises(OptionError, match="give the file as text or base64") as caught:
        seeds.cloud_init("cloud_init", {"user_data": {"a": value}})
    assert caught.value.option == "cloud_init.user_data"


GZIP = base64.b64encode(gzip.compress(b"#!/bin/sh\n", mtime=0)).decode()


@pytest.mark.parametrize(
    "value, content",
    [
        ("text", b"text"),
        ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600".encode()),
        ("\udcff", b"\xff"),  # a byte that is not UTF-8, as Ansible passes it
        ({"base64": GZIP}, base64.b64decode(GZIP)),
        ({"base64": GZIP[:10] + "\n" + GZIP[10:]}, base64.b64decode(GZIP)),
        ({"base64": GZIP, "more": 1}, None),
        ({"a": "\U0001f600"}, '{\n "a": "\U0001f600"\n}\n'.encode()),
        ([1], b"[\n 1\n]\n"),
        (5, b"5\n"),
    ],
)
def test_the_content_of_a_file(value, content):
    assert seeds.content("x", value) == (content or to_yaml(value).encode())


@pytest.mark.parametrize(
    "value, message",
    [
        ({"base64": "%"}, "x.base64: it is not base64"),
        ({"base64": 5}, "x.base64: it is not base64"),
        ({"src": "a"}, "x: src is a file of the controller"),
        ("\ud83d", "x: its text is not valid UTF-8: give the file as base64"),
    ],
)
def test_content_that_is_refused(value, message):
    with pytest.raises(OptionError, match=message):
        seeds.content("x", value)


@pytest.mark.parametrize(
    "user_data, start",
    [
        ({"users": []}, b"#cloud-config\n{"),
        ([{"type": "text/cloud-config", "content": "a: 1"}], b"#cloud-config-archive\n["),
        (None, b"#cloud-config\n{}\n"),
    ],
)
def test_user_data_from_data_has_its_header(user_data, start):
    _drive, files, warnings = files_of({"user_data": user_data, "network_config": "version: 2\n"})
    assert files["user-data"].startswith(start) and not warnings


@pytest.mark.parametrize(
    "content, is_recognised",
    [
        (b"", True),
        (b" \n", True),
        (b"#cloud-config\nusers: []\n", True),
        (b"#Cloud-Config\nusers: []\n", True),
        (b"\n  #cloud-config\n", True),
        (b"#cloud-config-archive\n- a\n", True),
        (b"#!/bin/sh\n", True),
        (b"#include\nhttps://example.com\n", True),
        (b"#include-once\nhttps://example.com\n", True),
        (b"#cloud-boothook\n", True),
        (b"#part-handler\n", True),
        (b"## template: jinja\n#cloud-config\n", True),
        (b"Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n\n--x--\n", True),
        (gzip.compress(b"anything", mtime=0), True),
        (b"users: []\n", False),
        (b"hostname: r1\n#cloud-config\n", False),
        ("\ufeff#cloud-config\n".encode(), False),
        (b"# cloud-config\n", False),
    ],
)
@pytest.mark.parametrize("option", ["user_data", "vendor_data"])
def test_cloud_init_recognises_it_or_there_is_a_warning(content, is_recognised, option):
    given = {option: {"base64": base64.b64encode(content).decode()}}
    _drive, files, warnings = files_of(given)
    assert content in files.values()
    assert bool(warnings) != is_recognised
    assert is_recognised or warnings[0].startswith("cloud_init.%s: cloud-init ignores" % option)


def test_a_config_drive_for_cloud_init_is_a_seed():
    drive, files, warnings = files_of(
        {"label": "CIDATA", "files": {"user-data": "a: 1\n", "other": "x"}}, option="config_drive"
    )
    assert b"instance-id: " in files["meta-data"] and set(drive["files"]) == {
        "user-data",
        "meta-data",
        "other",
    }
    assert warnings[0].startswith("config_drive.files[user-data]: cloud-init ignores")
    drive, files, warnings = files_of({"files": {"user-data": "a: 1\n"}}, option="config_drive")
    assert set(files) == {"user-data"} and not warnings


@pytest.mark.parametrize(
    "name, host_name",
    [
        ("r1", "r1"),
        ("web.example", "web.example"),
        ("a_b", "a-b"),
        ("my router", "my-router"),
        ("-x-", "x"),
        ("\u65e5\u672c", "vm"),
        ("a" * 70, "a" * 63),
        ("a..b", "a-b"),
    ],
)
def test_the_default_host_name_is_one(name, host_name):
    _drive, files, _warnings = files_of({"user_data": {}}, name=name)
    assert yaml.safe_load(files["meta-data"]) == {"instance-id": UUID, "local-hostname": host_name}


@pytest.mark.parametrize("name", ["a b", "a_b", "", "-a", "a-", "a..b", "a" * 64, 5, ["a"]])
def test_a_host_name_that_is_none(name):
    with pytest.raises(OptionError, match="cloud_init.meta_data.local-hostname: .* is not one"):
        seeds.cloud_init("cloud_init", {"meta_data": {"local-hostname": name}})


def test_own_meta_data():
    _drive, files, _warnings = files_of({"meta_data": {"local-hostname": "x.y", "tags": ["a"]}})
    assert yaml.safe_load(files["meta-data"]) == {
        "instance-id": UUID,
        "local-hostname": "x.y",
        "tags": ["a"],
    }
    _drive, files, _warnings = files_of({"meta_data": "instance-id: mine\n"})
    assert files["meta-data"] == b"instance-id: mine\n"


def identities(option, *values):
    """The instance IDs of a VM whose seed has these values one after the other."""
    saved, found = None, []
    for value in values:
        saved, files, warnings = files_of(value, saved, option=option)
        found.append((yaml.safe_load(files["meta-data"])["instance-id"], len(warnings)))
    return found


def seed(text, **more):
    return dict({"user_data": "#!/bin/sh\n%s\n" % text}, **more)


@pytest.mark.parametrize(
    "values, expected",
    [
        ([seed("a"), seed("a")], ["", ""]),
        ([seed("a"), seed("b"), seed("b")], ["", "-1", "-1"]),
        # Back to what it was: cloud-init has seen the first ID.
        ([seed("a"), seed("b"), seed("a")], ["", "-1", "-2"]),
        ([seed("a"), seed("a", network_config={"version": 2})], ["", "-1"]),
        ([seed("a", vendor_data="#!/bin/sh\n"), seed("a")], ["", "-1"]),
        ([seed("a"), seed("a", meta_data={"local-hostname": "x"})], ["", "-1"]),
        ([seed("a"), seed("a", bus="scsi")], ["", ""]),
    ],
)
def test_a_changed_seed_has_another_instance_id(values, expected):
    assert identities("cloud_init", *values) == [(UUID + suffix, 0) for suffix in expected]


@pytest.mark.parametrize(
    "meta_data, again, warned",
    [
        ("instance-id: i1\n", "instance-id: i1\n", 1),
        ("instance-id: i1\n", "instance-id: i2\n", 0),
        ({"instance-id": "i1"}, {"instance-id": "i1"}, 1),
        ({"instance-id": "i1"}, {"instance-id": "i2"}, 0),
    ],
)
def test_a_changed_seed_with_its_own_instance_id(meta_data, again, warned):
    found = identities("cloud_init", seed("a", meta_data=meta_data), seed("b", meta_data=again))
    assert [count for _identity, count in found] == [0, warned]


def drive(text, network="a", vendor="#!/bin/sh\n"):
    names = {"user-data": "#!/bin/sh\n" + text, "network-config": network, "vendor-data": vendor}
    return {"label": "cidata", "files": dict(names, **{"meta-data": {}})}


def test_the_drive_of_a_topology_has_another_instance_id_for_other_user_data_only():
    values = [drive("a"), drive("a", network="b"), drive("a", vendor="#!/bin/sh\nb"), drive("b")]
    assert identities("config_drive", *values) == [
        (UUID, 0),
        (UUID, 0),
        (UUID, 0),
        (UUID + "-1", 0),
    ]


def test_the_definition_is_stable():
    first = compose(SMALL, cloud_init=seed("a"))
    second = compose(cloud_init=seed("b"), saved=first)
    assert "generation" not in first["cloud_init"] and second["cloud_init"]["generation"] == 1
    assert compose(cloud_init=seed("b"), saved=second) == second == compose({}, saved=second)


@pytest.mark.parametrize(
    "option, before, after, how",
    [
        ("config_drive", {"update": "next_start"}, {"update": "next_start"}, NEXT_START),
        ("config_drive", {"update": "next_start"}, {}, RESTART),
        ("config_drive", {"update": "next_start"}, {"update": "next_start", "bus": "ide"}, RESTART),
        ("config_drive", {}, {}, RESTART),
    ],
)
def test_when_a_changed_drive_acts(option, before, after, how):
    made = compose(SMALL, **{option: dict(before, files={"a": "1"})})
    changed = compose({option: dict(after, files={"a": "2"})}, saved=made)
    change = seeds.change(option, made[option], changed[option], "media")
    assert change.how == how and change.is_live == (how == NEXT_START)
    shown = option + (" (at the next start)" if how == NEXT_START else "")
    assert list(module_diff([change])["after"]) == [shown]
    assert list(module_diff([change._replace(how=FILE)])["after"]) == [option]


GIVEN = {
    "cloud_init": {"user_data": {"password": "hunter2"}},
    "config_drive": {"files": {"a": "hunter2", "b": "hunter2"}},
}


@pytest.fixture
def plain(monkeypatch):
    """Two definitions of one VM as earlier versions saved them: their digests have no salt."""
    with monkeypatch.context() as patch:
        patch.setattr(
            nocloud, "digest", lambda data, _salt: "sha256:" + hashlib.sha256(data).hexdigest()
        )
        return compose(SMALL, **GIVEN), compose(SMALL, **GIVEN)


def test_digests_have_a_salt_which_a_vm_keeps():
    one, other = compose(SMALL, **GIVEN), compose(SMALL, **GIVEN)
    for option in GIVEN:
        salts = {text.split(":")[1] for text in one[option]["files"].values()}
        assert len(salts) == 1 and len(salts.pop()) == 16
        assert one[option]["files"] != other[option]["files"]
        assert hashlib.sha256(b"hunter2").hexdigest() not in json.dumps(one)
    assert compose(GIVEN, saved=one) == one
    changed = compose({"config_drive": {"files": {"a": "hunter2", "b": "x"}}}, saved=one)
    before, after = one["config_drive"]["files"], changed["config_drive"]["files"]
    assert before["a"] == after["a"] and before["b"] != after["b"]
    result = seeds.change("config_drive", one["config_drive"], changed["config_drive"], "media")
    assert result.before["files"] == result.after["files"] == {"a": "same", "b": "different"}
    new = seeds.change("config_drive", None, one["config_drive"], "media")
    assert new.before is None and set(new.after["files"].values()) == {"different"}


def test_a_plain_digest_of_an_earlier_version_gets_a_salt_and_is_no_change(plain):
    saved, running = plain
    assert saved["config_drive"]["files"]["a"].count(":") == 1
    for old in (saved, running):
        definitions.migrate(old)
    assert saved == running and all(
        text.count(":") == 2 for option in GIVEN for text in saved[option]["files"].values()
    )
    assert compose(GIVEN, saved=saved) == saved == compose({}, saved=saved)
    again = json.loads(json.dumps(saved))
    definitions.migrate(again)
    assert again == saved
    other = {"config_drive": {"files": {"a": "hunter3", "b": "hunter2"}}}
    before, after = (each["config_drive"]["files"] for each in (saved, compose(other, saved=saved)))
    assert before["a"] != after["a"] and before["b"] == after["b"]


@pytest.mark.parametrize("drive", [None, 5, {}, {"files": None}, {"files": {"a": None, "b": "x"}}])
def test_a_damaged_seed_is_not_converted(drive):
    definition = {"cloud_init": drive, "config_drive": drive}
    definitions.migrate(definition)
    assert definition == {"cloud_init": drive, "config_drive": drive}
