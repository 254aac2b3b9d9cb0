# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a lab: its file, and when a run takes or refuses what the controller derived."""

from __future__ import annotations

import json
import os
import stat

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._lab import lab_record
from ansible_collections.vlab.qemu.plugins.module_utils._lab.address_changes import address_changes
from ansible_collections.vlab.qemu.plugins.module_utils._lab.lab_record import LabRecord

ONE, TWO = {"nodes": {"r1": {"loopback": "10.0.0.1"}}}, {"nodes": {"r1": {}, "r2": {}}}
RECORD = LabRecord("lab1", "/srv/lab.yml", 3, ONE)


def sent(allocations, based_on=0, revision=1, assumed=None):
    return lab_record.to_send(LabRecord("lab1", None, revision, allocations), based_on, assumed)


def test_a_record_is_read_as_it_was_written(tmp_path):
    assert lab_record.read(str(tmp_path)) == LabRecord()
    lab_record.write(str(tmp_path), RECORD)
    assert lab_record.read(str(tmp_path)) == RECORD
    assert os.listdir(tmp_path) == ["lab.json"]
    path = tmp_path / "lab.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = path.stat().st_mtime_ns
    lab_record.write(str(tmp_path), RECORD)
    assert path.stat().st_mtime_ns == written, "an unchanged record is not written"
    assert lab_record.from_text(lab_record.to_text(RECORD)) == RECORD
    lab_record.remove(str(tmp_path))
    lab_record.remove(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_record_that_is_sent_is_recognised_in_the_file_and_saved_as_it_is(tmp_path):
    folder, same = str(tmp_path), lab_record.to_send(RECORD, 3, None)
    assert not lab_record.is_saved(folder, None) and not lab_record.is_saved(folder, same)
    lab_record.write(folder, RECORD)
    path = tmp_path / "lab.json"
    written = path.read_bytes()
    assert lab_record.is_saved(folder, same) and lab_record.from_sent(same) == RECORD
    for other in ({"revision": 4}, {"origin": None}, {"name": "lab2"}, {"allocations": TWO}):
        changed = lab_record.to_send(RECORD._replace(**other), 3, None)
        assert not lab_record.is_saved(folder, changed)
    path.unlink()
    lab_record.write_sent(folder, same)
    assert path.read_bytes() == written and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_clone_has_the_addresses_of_its_origin_and_not_its_ports(tmp_path):
    lab_record.write(str(tmp_path), RECORD._replace(allocations=dict(ONE, ports={"hv1": {"a": 1}})))
    expected = LabRecord("", None, 3, dict(ONE, ports={}))
    assert lab_record.of_origin(str(tmp_path)) == expected


SAVED = {"format": 1, "name": "lab1", "origin": None, "revision": 3, "allocations": ONE}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "5",
        "[" * 100000,
        '{"format": %s}' % ("9" * 5000),
        *(
            json.dumps(dict(SAVED, **{key: value}))
            for key in SAVED
            for value in (None, True, -1, 0, 1 << 63, "x", [], ["x"], {"nodes": 1}, {"x": None})
            if not (key == "origin" and value in (None, "x") or key == "name" and value == "x")
        ),
        *(
            json.dumps({k: v for k, v in SAVED.items() if k != key})
            for key in SAVED
            if key != "origin"
        ),
    ],
)
def test_a_damaged_record_is_reported_and_never_a_traceback(tmp_path, content):
    (tmp_path / "lab.json").write_text(content, encoding="utf-8")
    with pytest.raises(HostError, match=r"lab\.json is damaged: .*[Rr]estore it"):
        lab_record.read(str(tmp_path))
    assert lab_record.from_text(content) == LabRecord()


def test_a_record_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "lab.json").write_text(json.dumps(dict(SAVED, format=2)), encoding="utf-8")
    with pytest.raises(HostError, match="has format 2; this version of vlab.qemu reads up to 1"):
        lab_record.read(str(tmp_path))


@pytest.mark.parametrize("value", [None, 1, [], {}, "", "x", b"x"])
def test_what_is_no_record_is_an_empty_one(value):
    assert lab_record.from_text(value) == LabRecord()


@pytest.mark.parametrize(
    "saved, given, expected",
    [
        (LabRecord(), None, False),
        (RECORD, None, False),
        (LabRecord(), sent(ONE), False),
        (RECORD, sent(ONE), False),
        (RECORD, sent(TWO), True),
        (RECORD, sent(TWO, based_on=2), True),
        (RECORD, sent(TWO, based_on=3), False),
        (RECORD, sent(TWO, based_on=4), False),
        # From the cache of the controller: the record must be the same.
        (RECORD, sent(TWO, based_on=9, assumed=TWO), True),
        (RECORD, sent(TWO, based_on=9, assumed=ONE), False),
        (RECORD, sent(ONE, based_on=9, assumed=TWO), False),
        (LabRecord(), sent(TWO, assumed={}), False),
        (LabRecord(), sent(TWO, based_on=9, assumed=ONE), True),
    ],
)
def test_when_the_controller_has_to_derive_again(saved, given, expected):
    record = lab_record.from_sent(given) if given else None
    assert lab_record.is_unknown(saved, given, record) is expected


@pytest.mark.parametrize(
    "saved, given, revision, allocations",
    [
        (LabRecord(), sent(ONE), 1, ONE),
        (RECORD, None, 3, ONE),
        (RECORD, sent(ONE), 3, ONE),
        (RECORD, sent(ONE, 5, 5), 5, ONE),
        (RECORD, sent(TWO, 3, 4), 4, TWO),
        (RECORD, sent(TWO, 7, 7), 7, TWO),
    ],
)
def test_the_record_after_a_run(saved, given, revision, allocations):
    record = lab_record.updated(saved, lab_record.from_sent(given) if given else None)
    assert (record.revision, record.allocations) == (revision, allocations)
    assert record.origin == saved.origin


FACTS = {
    "loopback": "10.0.0.1",
    "asn": 65001,
    "nics": [{"name": "eth1", "addresses": ["10.1.0.1/30"]}, {"name": "eth2", "addresses": []}],
}


@pytest.mark.parametrize(
    "before, after, expected",
    [
        ({}, {}, []),
        ({"loopback": "10.0.0.2"}, {}, [("r1.loopback", "10.0.0.2", "10.0.0.1")]),
        ({"asn": None}, {}, [("r1.asn", None, 65001)]),
        (
            {"nics": []},
            {"nics": [{"name": "eth1", "addresses": ["10.1.0.9/30", "fd00::1/64"]}]},
            [("r1.nics[eth1].addresses", None, "10.1.0.9/30, fd00::1/64")],
        ),
        ({}, {"nics": []}, [("r1.nics[eth1].addresses", "10.1.0.1/30", None)]),
        ({"nics": {"eth1": 1}}, {"nics": []}, []),
        ({"nics": [5, {}, {"name": []}]}, {"nics": []}, []),
    ],
)
def test_addresses_are_shown_in_words(before, after, expected):
    changes = address_changes({"r1": {**FACTS, **before}}, {"r1": {**FACTS, **after}})
    assert [(change.option, change.before, change.after) for change in changes] == expected
    assert address_changes({}, {"r1": FACTS}) == [], "a new node is reported as new only"
