# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hypervisor's share of a lab: the plan for its VMs and segments. No QEMU is started."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import types

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LockTimeout,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import (
    converge,
    lab_record,
    lab_service,
    node_run,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.done_digest import DoneDigest
from ansible_collections.vlab.qemu.plugins.module_utils._lab.node_run import NodeRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm import run as vm_run
from ansible_collections.vlab.qemu.plugins.module_utils._vm import node_facts, settings
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, remove_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState
from ansible_collections.vlab.qemu.tests.unit.vm_world import (
    FakeHost,
    compose,
    granted,
    snapshot_record,
)

SETTINGS = {name: option.get("default") for name, option in settings.SETTINGS_SPEC.items()}


def node(name, state="started", **more):
    options = dict({"memory": "32", "disks": [], "nics": []}, **more.pop("options", {}))
    return dict({"name": name, "state": state, "options": options}, **more)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Plan a lab in check mode: its result."""

    def host(folder):
        made = FakeHost(name=folder.name, lab=folder.lab, root=folder.root)
        made.folder = folder
        return made

    monkeypatch.setattr(node_run, "Host", host)

    def refuse_start(allowed):
        if not allowed:
            raise HostError("a container")

    monkeypatch.setattr(vm_run, "refuse_start", refuse_start)
    monkeypatch.setattr(
        converge,
        "available_resources",
        lambda _root: {"memory_available_mb": 1000, "cpus": 8, "vcpus_used": 0, "labs": []},
    )
    monkeypatch.setattr(converge, "resource_rows", lambda *_args: [])

    def run(nodes, check_mode=True, **params):
        given = dict(
            {
                "root": str(tmp_path),
                "lab": "lab1",
                "vms": nodes,
                "state": "started",
                "purge": False,
                "allow_restart": False,
                "wait_ready": True,
                "keep_disks": False,
                "allow_container": True,
            },
            **SETTINGS,
        )
        return converge.converge_lab(dict(given, **params), check_mode)

    return run


def define(root, name, **given):
    folder = Folder(str(root), "lab1", name)
    os.makedirs(folder.path)
    definitions.save(
        folder,
        granted(
            compose(
                dict({"memory": "32", "disks": [], "nics": []}, **given),
                host=FakeHost(name=name, root=root),
            )
        ),
    )


def options_of(result):
    return [change["option"] for change in result["changes"]]


def test_a_new_lab_is_all_change_and_nothing_is_made(lab, tmp_path):
    result = lab([node("a"), node("b", "present")])
    assert result["changed"] and not os.listdir(tmp_path)
    assert {option.partition(".")[0] for option in options_of(result)} == {"a", "b"}
    assert [(vm["name"], vm["status"]) for vm in result["vms"]] == [
        ("a", "running"),
        ("b", "stopped"),
    ]
    assert result["actions"] == {} and result["progress"] == []


def test_what_is_there_already_is_no_change(lab, tmp_path):
    define(tmp_path, "a")
    assert not lab([node("a", "present")])["changed"]
    assert not lab([node("a", "stopped")])["changed"]
    assert options_of(lab([node("a")])) == ["a.state"]


def test_keep_leaves_a_vm_as_it_is_and_does_not_make_one(lab, tmp_path):
    define(tmp_path, "a")
    result = lab([node("a", "keep"), node("b", "keep")])
    assert not result["changed"] and [vm["name"] for vm in result["vms"]] == ["a"]


@pytest.mark.parametrize(
    "params, changes, warned",
    [
        ({}, [], True),
        ({"purge": True}, ["old.state"], False),
        ({"state": "absent"}, ["old.state"], False),
    ],
)
def test_vms_that_no_node_names_are_reported_or_removed(lab, tmp_path, params, changes, warned):
    define(tmp_path, "a")
    define(tmp_path, "old")
    result = lab([node("a", "present")], **params)
    assert [option for option in options_of(result) if option.startswith("old.")] == changes
    assert (
        any(
            "the lab has VMs that the topology does not name: old" in text
            for text in result["warnings"]
        )
        == warned
    )


@pytest.mark.parametrize("purge", [True, False])
@pytest.mark.parametrize("check_mode", [True, False])
def test_a_vm_whose_node_is_placed_elsewhere_is_not_lost(lab, tmp_path, purge, check_mode):
    define(tmp_path, "a")
    define(tmp_path, "b", disks=[{"name": "disk0", "size": "1M"}])
    params = {"purge": purge, "placed": {"a": "hv1", "b": "hv2"}}
    with pytest.raises(HostError) as caught:
        lab([node("a", "present")], check_mode=check_mode, **params)
    says = "nodes.b.hypervisor: the topology places it on hv2, but its VM is here and is stopped. "
    assert caught.value.message.startswith(says) and "lab_info" in caught.value.message
    assert (tmp_path / "lab1" / "b" / "vm.json").exists()
    lab([node("a", "present"), node("b", "present")], placed={"a": "hv1", "b": "hv1"}, purge=purge)
    lab([], check_mode=check_mode, state="absent", placed=params["placed"])


def test_a_stopped_vm_without_disks_may_be_created_again_elsewhere(lab, tmp_path):
    define(tmp_path, "b")
    result = lab([node("a", "present")], purge=True, placed={"a": "hv1", "b": "hv2"})
    assert "b.state" in options_of(result)


@pytest.mark.parametrize("peer, down", [("started", False), ("stopped", True), ("present", True)])
def test_a_neighbour_that_will_not_run_takes_the_carrier(lab, peer, down):
    nic = {"name": "eth1", "link": {"type": "none"}, "peer": "b"}
    result = lab([node("a", options={"nics": [nic]}), node("b", peer)])
    nic = next(vm for vm in result["vms"] if vm["name"] == "a")["nics"][0]
    assert nic["link_down"] == down


def test_everything_that_is_wrong_is_reported_at_once(lab):
    with pytest.raises(VlabError) as caught:
        lab([node("a", options={"memory": "nonsense"}), node("b", options={"vcpus": 0}), node("c")])
    assert "cannot plan 2 nodes of the lab:" in caught.value.message
    assert sorted(caught.value.facts["failed"]) == ["a", "b"]


def test_a_pattern_of_ready_that_is_none(lab):
    with pytest.raises(VlabError, match=r"nodes.a.ready.console"):
        lab([node("a", ready={"console": "("})])


def test_too_little_memory_is_a_table_and_comes_before_anything_is_done(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(
        converge,
        "resource_rows",
        lambda host, need, has: [(host, "memory", "%d MiB" % need["memory_mb"], "10 MiB")],
    )
    monkeypatch.setattr(
        converge, "shortage_message", lambda lab, rows: "%s lacks %s" % (lab, rows[0][2])
    )
    with pytest.raises(HostError, match="lab1 lacks %d MiB" % (2 * (32 + converge.QEMU_OVERHEAD))):
        lab([node("a"), node("b")], check_mode=False)
    assert not list(tmp_path.rglob("vm.json"))


def test_nothing_is_started_in_a_container_unless_asked(lab):
    with pytest.raises(HostError, match="a container"):
        lab([node("a")], allow_container=False)
    assert lab([node("a", "present")], allow_container=False)["changed"]


def test_hubs_come_with_the_lab_and_those_that_are_not_named_go_with_purge(lab, tmp_path):
    port = {
        "local_address": "127.0.0.1",
        "local_port": 1,
        "remote_address": "127.0.0.1",
        "remote_port": 2,
    }
    os.makedirs(tmp_path / "lab1/.segments/old")
    segments = [{"name": "office", "ports": {"a:eth1": port}}]
    assert [
        option for option in options_of(lab([], segments=segments)) if option.startswith("segments")
    ] == ["segments.office"]
    purged = lab([], segments=segments, purge=True)
    assert [option for option in options_of(purged) if option.startswith("segments")] == [
        "segments.office",
        "segments.old",
    ]


def test_a_definition_made_in_a_run_is_no_change_in_the_next(lab):
    nodes = [node("a", "present", options={"nics": [{"name": "eth1"}], "vcpus": 2})]
    assert lab(nodes, check_mode=False)["changed"]
    assert not lab(nodes, check_mode=False)["changed"]
    assert options_of(
        lab([node("a", "present", options={"nics": [{"name": "eth1"}], "vcpus": 1})])
    ) == ["a.vcpus"]


def display(password):
    return {"display": {"type": "vnc", "password": password}}


def test_a_display_password_is_set_in_each_run_and_kept_nowhere(lab, tmp_path, monkeypatch):
    lab([node("a", "present", options=display("secret-1"))], check_mode=False)
    asked = []
    observe = vm_run.observe

    def running(folder):
        observation = observe(folder)
        (
            observation.alive,
            observation.status,
            observation.running,
            observation.devices,
            observation.pid,
        ) = (
            True,
            "running",
            dict(observation.saved),
            {},
            1,
        )
        observation.run = {"definition": observation.running}
        observation.monitor = types.SimpleNamespace(
            execute=lambda *words: asked.append(words), close=lambda: None
        )
        return observation

    monkeypatch.setattr(vm_run, "observe", running)
    for password in ("secret-1", "secret-2"):
        result = lab([node("a", options=display(password))], check_mode=False, wait_ready=False)
        assert not result["changed"]
    assert asked == [
        ("set_password", {"protocol": "vnc", "password": password})
        for password in ("secret-1", "secret-2")
    ]
    kept = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.json"))
    digests = [
        hashlib.sha256(
            json.dumps(node("a", options=display(word))["options"], sort_keys=True).encode()
        ).hexdigest()
        for word in ("secret-1", "secret-2")
    ]
    assert "secret" not in kept and not any(digest in kept for digest in digests)


def test_a_damaged_vm_that_is_left_as_it_is_stops_no_other(lab, tmp_path):
    define(tmp_path, "r1")
    define(tmp_path, "r2")
    with open(Folder(str(tmp_path), "lab1", "r2").definition, "w", encoding="utf-8") as stream:
        stream.write("[]")
    result = lab([node("r1"), node("r2", "keep")])
    assert [vm["name"] for vm in result["vms"]] == ["r1"]
    assert "vm.json is damaged" in result["warnings"][0]
    with pytest.raises(VlabError, match="r2: .*is damaged.* The state absent removes the VM"):
        lab([node("r1"), node("r2")])
    result = lab([node("r1", "keep"), node("r2", "absent")], check_mode=False)
    assert not os.path.exists(str(tmp_path / "lab1" / "r2"))


def derived(allocations, based_on=0, revision=1, origin=None):
    record = lab_record.LabRecord("lab1", origin, revision, allocations)
    return lab_record.to_send(record, based_on, None)


def test_the_record_is_written_by_a_run_only_and_only_when_it_changed(lab, tmp_path):
    define(tmp_path, "a")
    given, path = derived({"nodes": {"a": {}}}), tmp_path / "lab1" / "lab.json"
    assert not lab([node("a", "present")], record=given)["changed"] and not path.exists()
    lab([node("a", "present")], check_mode=False, record=given)
    first = path.stat()
    lab([node("a", "present")], check_mode=False, record=given)
    assert path.stat().st_mtime_ns == first.st_mtime_ns and first.st_mode & 0o777 == 0o600
    assert lab_record.read(str(path.parent)).revision == 1


def test_a_share_that_was_derived_without_the_record_changes_nothing(lab, tmp_path):
    define(tmp_path, "a")
    saved = lab_record.LabRecord("lab1", None, 2, {"nodes": {"a": {"asn": 1}}})
    lab_record.write(str(tmp_path / "lab1"), saved)
    given = derived({"nodes": {"a": {}, "b": {}}})
    result = lab([node("a", "present"), node("b", "present")], check_mode=False, record=given)
    assert not result["changed"] and result["vms"] == []
    assert lab_record.from_text(result["lab_record"]) == saved
    assert sorted(os.listdir(tmp_path / "lab1")) == ["a", "lab.json"]
    # The one that knows it goes on.
    given = derived({"nodes": {"a": {}}}, based_on=2, revision=3)
    assert "lab_record" not in lab([node("a", "present")], check_mode=False, record=given)
    assert lab_record.read(str(tmp_path / "lab1")).revision == 3


def test_a_record_that_stays_is_not_parsed(lab, tmp_path, monkeypatch):
    define(tmp_path, "a")
    given, more = derived({"nodes": {"a": {}}}, 4, 4, MINE), {"origin": MINE}
    lab([node("a", "present")], check_mode=False, record=given, **more)
    path = tmp_path / "lab1" / "lab.json"
    written = path.read_bytes()
    monkeypatch.setattr(lab_record, "parse_json", None)
    monkeypatch.setattr(lab_record, "read", None)
    for check_mode in (False, True):
        assert not lab([node("a", "present")], check_mode, record=given, **more)["changed"]
    assert path.read_bytes() == written
    # Whose lab it is comes from the file all the same.
    with pytest.raises(OptionError, match="allow_takeover"):
        lab([node("b", "present")], record=given, origin=OTHER)


def test_a_damaged_record_stops_a_run_unless_another_hypervisor_has_it(lab, tmp_path):
    define(tmp_path, "a")
    path = tmp_path / "lab1" / "lab.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(HostError, match="lab.json is damaged"):
        lab([node("a", "present")], check_mode=False, record=derived({"nodes": {}}))
    lab([node("a", "present")], check_mode=False, record=derived({"nodes": {}}, 4, 4))
    assert lab_record.read(str(path.parent)).revision == 4
    path.write_text("[]", encoding="utf-8")
    assert lab([], check_mode=False, state="absent")["changed"] and not path.exists()


def test_addresses_that_change_are_in_the_changes(lab, tmp_path):
    define(tmp_path, "a")
    facts = {"a": {"loopback": "10.0.0.1"}}
    lab([node("a", "present")], check_mode=False, node_facts=facts)
    moved = {"a": {"loopback": "10.0.0.2"}, "b": {"loopback": "10.0.0.1"}}
    result = lab([node("a", "present")], node_facts=moved)
    assert result["changed"] and options_of(result) == ["a.loopback"]
    assert result["diff"] == {
        "before": {"a.loopback": "10.0.0.1"},
        "after": {"a.loopback": "10.0.0.2"},
    }
    lab([node("a", "present")], check_mode=False, node_facts=moved)
    assert not lab([node("a", "present")], node_facts=moved)["changed"]


def test_the_digest_of_the_options_has_a_salt():
    options = {"cloud_init": {"user_data": "password: guess"}, "nics": []}
    one, other = node_run._digest(options, None), node_run._digest(options, None)
    assert one != other and len(one.partition(":")[0]) == 16
    assert node_run._digest(options, one) == one
    assert node_run._digest(options, one + " without 2") == one
    assert node_run._digest(dict(options, nics=[1]), one) != one
    unsalted = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
    assert unsalted not in one and not node_run._digest(options, unsalted).startswith(unsalted)


MINE, OTHER = "/labs/mine.yml", "/home/other/"


def origin(root):
    return lab_record.read(str(root / "lab1")).origin


def test_a_new_lab_belongs_to_its_topology(lab, tmp_path):
    lab([node("a", "present")], origin=MINE)
    assert not os.path.exists(tmp_path / "lab1"), "check mode"
    lab([node("a", "present")], check_mode=False, origin=MINE)
    assert origin(tmp_path) == MINE
    assert not lab([node("a", "present")], check_mode=False, origin=MINE)["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(
    "nodes, params, affected",
    [
        ([node("a", options={"memory": "64"})], {}, ["a"]),
        ([node("a")], {}, ["a"]),  # it is started
        ([node("a", "present", later=True)], {}, ["a"]),
        ([node("c", "present")], {"purge": True}, ["a", "b", "c"]),
        ([], {"state": "absent"}, ["a", "b"]),
        ([node("a", "keep"), node("c", "present")], {}, ["c"]),
        # A change that would need allow_restart, or that is impossible.
        ([node("a", options={"memory": "none"})], {}, ["a"]),
        # It changes nothing.
        ([node("a", "present")], {}, []),
        ([], {"state": "absent", "origin": None}, []),
        ([node("c", "present")], {"purge": True, "origin": MINE}, []),
        ([node("c", "present")], {"purge": True, "allow_takeover": True}, []),
    ],
)
def test_another_topology_of_the_name_leaves_the_nodes_alone(
    lab, tmp_path, nodes, params, affected, check_mode
):
    lab([node("a", "present"), node("b", "present")], check_mode=False, origin=MINE)
    before = sorted(os.listdir(tmp_path / "lab1"))
    params = dict({"origin": OTHER}, **params)
    if not affected:
        lab(nodes, check_mode=check_mode, **params)
        return
    with pytest.raises(OptionError, match="^allow_takeover: the lab lab1 was made by") as caught:
        lab(nodes, check_mode=check_mode, **params)
    assert caught.value.facts["affected"] == affected
    assert all(word in caught.value.message for word in (MINE, OTHER, *affected))
    assert sorted(os.listdir(tmp_path / "lab1")) == before and origin(tmp_path) == MINE


@pytest.mark.parametrize(
    "nodes, params, owner, changes",
    [
        ("a", {}, MINE, []),
        ("b", {"allow_takeover": True}, OTHER, ["b.", "origin"]),
        ("a", {"allow_takeover": True}, OTHER, ["origin"]),
        ("ab", {"origin": None}, MINE, ["b."]),
        # Another checkout, and a playbook of the same folder.
        ("ab", {"origin": "/builds/2/mine.yml"}, "/builds/2/mine.yml", ["b."]),
        ("ab", {"origin": "/labs/"}, MINE, ["b."]),
    ],
)
def test_who_owns_a_lab_after_a_run_of_another_topology(
    lab, tmp_path, nodes, params, owner, changes
):
    lab([node("a", "present")], check_mode=False, origin=MINE)
    given = [node(name, "present") for name in nodes]
    params = dict({"origin": OTHER}, **params)
    foreseen = lab(given, **params)
    result = lab(given, check_mode=False, **params)
    assert options_of(foreseen) == options_of(result)
    assert all(any(option.startswith(c) for c in changes) for option in options_of(result))
    assert bool(changes) == result["changed"] and ("origin" in changes) == (
        result["diff"]["before"].get("origin") == MINE
    )
    assert origin(tmp_path) == owner
    assert not lab(given, check_mode=False, **params)["changed"]


def test_vms_of_other_hypervisors_are_those_of_the_lab(lab, tmp_path):
    known = {"origin": MINE, "vms": ["x"]}
    with pytest.raises(OptionError, match="would add a"):
        lab([node("a", "present")], origin=OTHER, queried_lab=known)
    lab([node("a", "present")], check_mode=False, origin=MINE, queried_lab=known)
    # A node that the topology places elsewhere is named nevertheless.
    moved = "/builds/2/mine.yml"
    more = {"queried_lab": known, "placed": dict.fromkeys("abx", "hv2"), "purge": True}
    lab([node("b", "present")], check_mode=False, origin=moved, **more)
    assert origin(tmp_path) == moved


def test_vms_that_no_topology_made_are_not_purged_by_another(lab, tmp_path):
    define(tmp_path, "pet")
    with pytest.raises(OptionError, match="by another topology, and .* would remove pet"):
        lab([node("a", "present")], origin=MINE, purge=True)
    lab([node("a", "present")], check_mode=False, origin=MINE)
    assert sorted(os.listdir(tmp_path / "lab1"))[-2:] == ["a", "pet"]


def test_a_removed_lab_belongs_to_nobody(lab, tmp_path):
    lab([node("a", "present")], check_mode=False, origin=MINE)
    lab([], check_mode=False, state="absent")
    assert os.listdir(tmp_path) == []
    lab([node("a", "present")], check_mode=False, origin=OTHER)
    assert origin(tmp_path) == OTHER


def test_a_lab_without_a_record_is_adopted(lab, tmp_path):
    define(tmp_path, "a")
    lab([node("a", "present", options={"memory": "64"})], check_mode=False, origin=MINE)
    assert origin(tmp_path) == MINE


def test_a_damaged_record_does_not_keep_a_lab_from_its_removal(lab, tmp_path):
    lab([node("a", "present")], check_mode=False, origin=MINE)
    (tmp_path / "lab1" / "lab.json").write_text("{")
    with pytest.raises(HostError, match="lab.json is damaged"):
        lab([node("a", "present")], check_mode=False, origin=MINE)
    lab([], check_mode=False, state="absent", origin=MINE, placed={"a": "hv2"})
    assert os.listdir(tmp_path) == []


def test_labs_of_two_topologies_keep_the_facts_of_both(lab, tmp_path):
    facts = {name: {"name": name} for name in "ab"}
    lab([node("a", "present")], check_mode=False, node_facts={"a": facts["a"]})
    lab([node("b", "present")], check_mode=False, node_facts={"b": facts["b"]})
    assert node_facts.read_node_facts(str(tmp_path), "lab1") == facts
    lab([node("b", "present")], check_mode=False, purge=True, node_facts={"b": facts["b"]})
    assert node_facts.read_node_facts(str(tmp_path), "lab1") == {"b": facts["b"]}


def test_the_last_vm_takes_the_files_of_the_lab_along(lab, tmp_path):
    lab([node("a", "present")], check_mode=False, origin=MINE, node_facts={"a": {}})
    remove_folder(Folder(str(tmp_path), "lab1", "a"), ())
    assert os.listdir(tmp_path / "lab1" if os.path.exists(tmp_path / "lab1") else tmp_path) in (
        [],
        [".host"],
    )


def test_what_the_host_refuses_is_an_error_of_the_node(lab, monkeypatch):
    def refuse(_folder):
        raise OSError(errno.ENOSPC, "No space left on device", "/x")

    monkeypatch.setattr(vm_run, "observe", refuse)
    with pytest.raises(VlabError, match="a: cannot observe the VM a: /x: No space left on device"):
        lab([node("a")])


def test_what_the_host_refuses_to_a_lab_is_its_result(monkeypatch):
    def refuse(*_args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lab_service, "converge_lab", refuse)
    result = lab_service.result_of({"lab": "lab1"}, False)
    assert result["failed"]
    assert result["msg"] == "cannot converge the lab lab1: Read-only file system"


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_damaged_vm_does_not_keep_the_others_from_their_state(lab, tmp_path, check_mode):
    define(tmp_path, "a")
    (tmp_path / "lab1" / "a" / "vm.json").write_text("[]")
    with pytest.raises(VlabError, match="a: .*vm.json is damaged.*The state absent") as caught:
        lab([node("a", "present"), node("b", "present")], check_mode=check_mode)
    assert list(caught.value.facts["failed"]) == ["a"]
    assert os.path.exists(tmp_path / "lab1" / "b" / "vm.json") == (not check_mode)


def test_a_lab_without_its_topology_keeps_the_definitions(lab, tmp_path):
    nic = {"name": "eth1", "link": {"type": "none"}}
    nodes = [node("a", "present", options={"nics": [nic]}), node("b", "present")]
    lab(nodes, check_mode=False, origin=MINE)
    (tmp_path / "lab1" / "kept").mkdir()
    files = [tmp_path / "lab1" / name / "vm.json" for name in "ab"]
    before = [path.read_text() for path in files]
    result = lab([], check_mode=False, state="stopped", by_name=True)
    assert not result["changed"] and result["warnings"] == []
    assert [vm["name"] for vm in result["vms"]] == ["a", "b"]
    assert [path.read_text() for path in files] == before and origin(tmp_path) == MINE
    # To see that the state is that of all VMs: this one would change them.
    assert options_of(lab([], state="started", by_name=True)) == ["a.state", "b.state"]
    with pytest.raises(OptionError, match="would change a, b"):
        lab([], state="started", by_name=True, origin="owner x")


def test_another_topology_that_changes_nothing_leaves_the_files_of_the_lab(lab, tmp_path):
    def given(address):
        return derived({"nodes": {"a": {"loopback": address}}}, 2, 2)

    facts = {"a": {"name": "a"}}
    mine = {"origin": MINE, "record": given("10.0.0.1"), "node_facts": facts}
    lab([node("a", "present")], check_mode=False, **mine)
    files = [path for path in sorted((tmp_path / "lab1").iterdir()) if path.is_file()]
    before = [path.read_text() for path in files]
    other = {"origin": OTHER, "record": given("10.0.0.2"), "node_facts": {"a": {"name": "b"}}}
    assert not lab([node("a", "present")], check_mode=False, **other)["changed"]
    assert [path.read_text() for path in files] == before and len(files) >= 2
    lab([node("a", "present")], check_mode=False, allow_takeover=True, **other)
    assert all(path.read_text() != text for path, text in zip(files, before))


def save_origin(root):
    """Save a snapshot s of the VM a of the lab origin, without a disk."""
    host = FakeHost(name="a", lab="origin", root=root)
    host.folder.make()
    nics = [{"name": "e0", "mac": "52:54:00:00:00:01"}, {"name": "unused"}]
    definition = compose(host=host, memory="32", disks=[], nics=nics)
    definitions.save(host.folder, granted(definition))
    state = SavedState(host.folder, "s")
    state.make()
    state.save(snapshot_record(definition))
    return definition


SOURCE = {"from": {"lab": "origin", "checkpoint": "s"}}


def test_a_clone_has_the_macs_of_its_origin_and_nics_that_the_topology_does_not_name(lab, tmp_path):
    origin = save_origin(tmp_path)
    spare = {"name": "e9", "mac": "52:54:00:00:00:09", "spare": True}
    nics = [{"name": "e0", "mac": "52:54:00:00:00:02", "link": {"type": "user"}}, spare]
    result = lab([node("a", options={"nics": nics})], **SOURCE)
    assert result["vms"][0]["status"] == "running" and result["changed"]
    found = {nic["name"]: nic["mac"] for nic in result["vms"][0]["nics"]}
    assert found == {nic["name"]: nic["mac"] for nic in origin["nics"]}
    assert result["vms"][0]["nics"][0]["link"]["type"] == "user"


def test_a_clone_that_exists_keeps_its_macs_without_its_source(lab, tmp_path):
    saved = dict(save_origin(tmp_path), lab="lab1")
    saved["origin"] = {"lab": "origin", "vm": "a", "snapshot": "s"}
    folder = Folder(str(tmp_path), "lab1", "a")
    folder.make()
    definitions.save(folder, granted(saved))
    nics = [{"name": "e0", "mac": "52:54:00:00:00:02"}, {"name": "unused"}]
    given = node("a", "present", options={"nics": nics, "config_drive": {"files": {"x": "y"}}})
    assert options_of(lab([given])) == options_of(lab([given], **SOURCE)) == []
    with pytest.raises(VlabError, match="not a clone of the snapshot t"):
        lab([given], **{"from": {"lab": "origin", "checkpoint": "t"}})


@pytest.mark.parametrize("again", ["change", "boot"])
def test_what_was_typed_in_the_origin_of_a_clone_is_typed_again_only_if_it_changes(
    lab, tmp_path, again
):
    saved = save_origin(tmp_path)
    state = SavedState(Folder(str(tmp_path), "origin", "a"), "s")
    DoneDigest("bootstrap", [{"send": "one"}]).put(saved)
    state.save(snapshot_record(saved))
    nics = [{"name": "e0", "link": {"type": "user"}}]
    for text, is_typed in (("one", False), ("two", again == "change")):
        script = {"prompt": "# *$", "again": again, "steps": [{"send": text}]}
        given = dict(node("a", options={"nics": nics}), bootstrap=script)
        assert ("a.bootstrap" in options_of(lab([given], **SOURCE))) == is_typed


@pytest.mark.parametrize(
    "name, more, says",
    [
        ("b", {}, "the lab origin has no VM b"),
        ("a", {"options": {"memory": "64"}}, "another one now: memory"),
        ("a", {"state": "stopped"}, "use state: started or paused"),
    ],
)
def test_what_cannot_be_a_clone(lab, tmp_path, name, more, says):
    save_origin(tmp_path)
    with pytest.raises(VlabError, match=says):
        lab([node(name, **more)], **SOURCE)
    assert not os.path.exists(tmp_path / "lab1")


def test_a_clone_takes_the_record_of_its_origin_first(lab, tmp_path):
    save_origin(tmp_path)
    allocations = {"nodes": {"a": {"loopback": "10.0.0.7"}}}
    lab_record.write(str(tmp_path / "origin"), lab_record.LabRecord("origin", None, 5, allocations))
    result = lab([node("a")], record=derived({}), **SOURCE)
    assert "10.0.0.7" in result["lab_record"]
    given = derived(allocations, 5, 6)
    assert "lab_record" not in lab([node("a")], record=given, **SOURCE)


def test_guests_that_continue_are_not_counted_as_booting(lab, tmp_path, monkeypatch):
    save_origin(tmp_path)
    seen = {}

    class Scheduler:
        def __init__(self, nodes, limit, *_more):
            seen.update(limit=limit, after=[entry.after for entry in nodes.values()])

        def run(self):
            return {}

    def apply(run):
        assert not run.nodes["a"].boots
        run._start([run.nodes["a"]])

    monkeypatch.setattr(converge, "StartScheduler", Scheduler)
    monkeypatch.setattr(converge.LabRun, "_apply", apply)
    given = node("a", after={"b": "ready"})
    lab([given], check_mode=False, limits={"booting": 1}, **SOURCE)
    assert seen == {"limit": None, "after": [{}]}


def test_the_origin_is_locked_while_a_clone_is_made(lab, tmp_path):
    save_origin(tmp_path)
    with Folder(str(tmp_path), "origin", "a").locked(False, 5):
        with pytest.raises(LockTimeout, match="origin/a/lock"):
            lab([node("a")], lock_timeout=1, **SOURCE)
    lab([node("a")], lock_timeout=1, **SOURCE)


def test_the_content_key_follows_what_guests_boot_from(lab, tmp_path):
    kernel = tmp_path / "kernel"
    kernel.write_text("k")
    given = {"kernel": str(kernel), "memory": "64"}

    def key(**more):
        return lab([node("a", options=dict(given, **more))])["content_key"]

    first = key()
    assert key() == first
    assert lab([node("a", "stopped", options=given)])["content_key"] == first
    assert key(memory="96") != first
    assert key(config_drive={"files": {"motd": "hello"}}) != first
    os.utime(kernel, (1, 1))
    assert key() != first


def test_the_content_key_follows_what_is_typed_on_a_console(lab):
    keys = set()
    for name, secret in (("r1", "one"), ("r1", "two"), ("r2", "one")):
        steps = [
            {"login": {"user": "admin", "password": secret}},
            {"send": "hostname " + name},
            {"secret": secret},
        ]
        one = dict(node("a", "stopped"), bootstrap={"prompt": "# *$", "steps": steps})
        keys.add(lab([one])["content_key"])
    assert len(keys) == 2


def test_the_content_key_follows_commands_but_not_what_may_be_secret(lab):
    keys = {lab([node("a", "stopped")])["content_key"]}
    for text, secret in (("one", "x"), ("one", "y"), ("two", "x")):
        commands = {
            "commands": ["echo %s %s" % (text, secret)],
            "shown": ["echo %s {vars.key}" % text],
            "secrets": [secret],
            "agent": False,
        }
        keys.add(lab([dict(node("a", "stopped"), exec=commands)])["content_key"])
    assert len(keys) == 3


def test_the_content_key_has_no_passwords(lab):
    keys = set()
    for password in ("one", "two"):
        display = {"type": "vnc", "password": password}
        keys.add(lab([node("a", options={"display": display})])["content_key"])
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, {"acpi": True, "timeout": 30}),
        ({}, {"acpi": True, "timeout": 30}),
        ({"timeout": 300, "acpi": None}, {"acpi": True, "timeout": 300}),
        ({"acpi": False}, {"acpi": False, "timeout": 30}),
    ],
)
def test_a_node_can_be_stopped_in_another_way(tmp_path, own, expected):
    lab_settings = settings.settings_of({})
    run = NodeRun(str(tmp_path), "t", dict(node("n1"), shutdown=own), lab_settings)
    policy = run.vm.settings["shutdown"]
    assert {key: policy[key] for key in expected} == expected
    assert lab_settings == settings.settings_of({}), "the others keep theirs"
