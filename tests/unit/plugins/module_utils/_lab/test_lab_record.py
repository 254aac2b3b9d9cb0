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


def derived(allocations, based_on=0, revision=1, digest=None):
    return {
        "allocations": allocations,
        "based_on": based_on,
        "revision": revision,
        "digest": digest,
    }


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
        (LabRecord(), derived(ONE), False),
        (RECORD, derived(ONE), False),
        (RECORD, derived(TWO), True),
        (RECORD, derived(TWO, based_on=2), True),
        (RECORD, derived(TWO, based_on=3), False),
        (RECORD, derived(TWO, based_on=4), False),
        # From the cache of the controller: the record must be the same.
        (RECORD, derived(TWO, based_on=9, digest=lab_record.digest(TWO)), True),
        (RECORD, derived(TWO, based_on=9, digest=lab_record.digest(ONE)), False),
        (RECORD, derived(ONE, based_on=9, digest=lab_record.digest(TWO)), False),
        (LabRecord(), derived(TWO, digest=lab_record.digest({})), False),
        (LabRecord(), derived(TWO, based_on=9, digest=lab_record.digest(ONE)), True),
    ],
)
def test_when_the_controller_has_to_derive_again(saved, given, expected):
    assert lab_record.is_unknown(saved, given) is expected


@pytest.mark.parametrize(
    "saved, given, revision, allocations",
    [
        (LabRecord(), derived(ONE), 1, ONE),
        (RECORD, None, 3, ONE),
        (RECORD, derived(ONE), 3, ONE),
        (RECORD, derived(ONE, 5, 5), 5, ONE),
        (RECORD, derived(TWO, 3, 4), 4, TWO),
        (RECORD, derived(TWO, 7, 7), 7, TWO),
    ],
)
def test_the_record_after_a_run(saved, given, revision, allocations):
    record = lab_record.updated(saved, "lab1", given)
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
