# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import os
import random
import types

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_json
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.apply import Applier, adopt
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    remove_folder,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import BY_NAME, PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.bases import disk_path
from ansible_collections.vlab.qemu.plugins.module_utils._vm.plan import Plan
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted

SAVED = compose(
    memory="64",
    machine="q35",
    disks=[
        {"name": "d", "size": "1G", "limits": {"iops_total": "5"}},
        {"name": "a[b].c", "size": "1G"},
    ],
    nics=[{"name": "e.1"}, {"name": "f", "link": {"type": "user"}}],
    cdroms=[{"name": "c.d"}],
)
USER = {"type": "user"}
# Changes that a running VM takes, one after the other.
STEPS = [
    {"nics": [{"name": "e.1", "link": USER}]},
    {"nics": [{"name": "e.1", "link_down": True}]},
    {"nics": [{"name": "f", "capture": {"enabled": True}}]},
    {"nics": [{"name": "g"}]},
    {"remove_nics": ["f"]},
    {"disks": [{"name": "d", "size": "2G"}]},
    {"disks": [{"name": "d", "limits": {"iops_total": "9"}}]},
    {"disks": [{"name": "a[b].c", "checksum": "md5:" + "0" * 32}]},
    {"disks": [{"name": "n", "size": "1G"}]},
    {"remove_disks": ["a[b].c"]},
    {"cdroms": [{"name": "c.d", "path": "/x"}]},
    {"cdroms": [{"name": "c.d", "path": ""}]},
    {"priority": "low"},
    {"cpu_limit": 20},
    {"mac_base": "52:54:00:00:00:00"},
]


def changes(before, after):
    return [change for part in PARTS for change in part.compare(before, after)]


def plain(definition):
    """Lists by name: their order is not what adopt() is about."""
    made = json.loads(json.dumps(definition))
    for option in ("disks", "nics"):
        made[option] = {item["name"]: item for item in made[option]}
    return made


@pytest.mark.parametrize("seed", range(15))
def test_live_changes_entered_one_by_one_make_the_desired_definition(seed):
    chance = random.Random(seed)
    running = copy.deepcopy(SAVED)
    for given in chance.sample(STEPS, 6):
        try:
            desired = compose(given, saved=running)
        except OptionError:
            continue  # a capture on a NIC that has no link, for one
        made = changes(running, desired)
        if not all(change.how == LIVE for change in made):
            continue
        untouched = copy.deepcopy(desired)
        for change in made:
            adopt(change, running, desired)
        assert plain(running) == plain(desired) and desired == untouched
        assert changes(running, desired) == []


def test_what_is_entered_is_a_copy():
    desired = compose(
        {"nics": [{"name": "e.1", "link": USER}, {"name": "g", "link": USER}]}, saved=SAVED
    )
    running = copy.deepcopy(SAVED)
    for change in changes(running, desired):
        adopt(change, running, desired)
    for nic in running["nics"]:
        nic["link"]["x"] = 1
    assert not any("x" in nic["link"] for nic in desired["nics"])


def test_a_half_way_definition_has_what_was_done():
    """A run that fails at its second change leaves a record that has the first."""
    desired = compose(
        {"nics": [{"name": "e.1", "link_down": True}], "disks": [{"name": "n", "size": "1G"}]},
        saved=SAVED,
    )
    running = copy.deepcopy(SAVED)
    made = changes(running, desired)
    adopt(made[0], running, desired)
    assert changes(running, desired) == made[1:] and len(made) == 2


@pytest.mark.parametrize("keep", [(), ("disk0.qcow2",), ("disk0.qcow2", "gone.qcow2")])
def test_a_folder_is_removed(tmp_path, keep):
    folder = Folder(str(tmp_path), "lab", "vm")
    folder.make()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    for name in ("vm.json", "disk0.qcow2", "lock"):
        (tmp_path / "lab" / "vm" / name).write_text("x")
    os.mkdir(folder.captures)
    (tmp_path / "lab" / "vm" / "captures" / "a.pcap").write_text("x")
    (tmp_path / "lab" / "vm" / "link").symlink_to(outside)
    remove_folder(folder, {folder.file(name) for name in keep})
    assert (outside / "precious").exists(), "a link is not followed"
    if keep:
        assert os.listdir(folder.path) == ["disk0.qcow2"]
    else:
        assert sorted(os.listdir(tmp_path)) == ["outside"], "the lab goes with its last VM"
    remove_folder(folder, set())
    assert not os.path.exists(folder.path)


def test_a_lab_with_another_vm_stays(tmp_path):
    one, other = (Folder(str(tmp_path), "lab", name) for name in ("a", "b"))
    one.make()
    other.make()
    remove_folder(one, set())
    assert os.listdir(tmp_path / "lab") == ["b"]


@pytest.fixture(name="vm")
def _vm(tmp_path):
    """The folder of a VM that runs with two disks and is defined with one of them."""
    host = FakeHost(root=tmp_path)
    disks = [{"name": name, "size": "1G"} for name in ("left", "removed")]
    ran = granted(compose(disks=disks, nics=[], host=host))
    host.folder.make()
    for disk in ran["disks"]:
        with open(disk_path(host.folder, disk), "w", encoding="utf-8") as stream:
            stream.write("data")
    definitions.save(host.folder, compose({"remove_disks": ["removed"]}, saved=ran, host=host))
    write_json(host.folder.run, {"definition": ran})
    return host


def images(host):
    return sorted(name for name in os.listdir(host.folder.path) if name.endswith(".qcow2"))


def applier(host, keep_disks=False):
    observation = Observation(host.folder)
    settings = settings_of({"keep_disks": keep_disks})
    return Applier(host, observation, copy.deepcopy(observation.saved), Plan([], []), settings)


def test_an_image_goes_before_the_record_forgets_its_disk(vm, monkeypatch):
    """A run that is killed in between would leave it to a later disk of the name."""
    made = applier(vm)
    ran = copy.deepcopy(made.observation.run["definition"])
    live = types.SimpleNamespace(running=ran, last_with=lambda _option, _name: ran)
    saved = []
    monkeypatch.setattr(BY_NAME["storage"], "apply", lambda *_args: None, raising=False)
    monkeypatch.setattr(made, "_save_run", lambda running: saved.append(images(vm)))
    (change,) = changes(ran, made.desired)
    made._change_one(change, live)
    assert saved == [["left.qcow2"]]
    assert [disk["name"] for disk in ran["disks"]] == ["left"]


@pytest.mark.parametrize("keep, left", [(False, ["left.qcow2"]), (True, None)])
def test_the_image_of_a_disk_goes_whose_removal_was_killed_with_its_qemu(vm, keep, left):
    applier(vm, keep).apply()
    assert images(vm) == (left or ["left.qcow2", "removed.qcow2"])


def test_an_image_that_the_definition_has_again_stays(vm):
    definitions.save(vm.folder, json.loads(open(vm.folder.run).read())["definition"])
    applier(vm).apply()
    assert images(vm) == ["left.qcow2", "removed.qcow2"]
