# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clones of snapshots: what they take from their origin, and what is refused."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    process_start_time,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import clone as cloning
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.remove import check_unused
from ansible_collections.vlab.qemu.tests.unit.vm_world import (
    FakeHost,
    compose,
    granted,
    snapshot_record,
)

MCAST = {"type": "mcast", "group": "239.1.1.1", "port": 5000}
WIRE = {"type": "unix", "path": "/x/a", "remote_path": "/x/b"}
ORIGIN = {"lab": "first", "vm": "r1", "snapshot": "s"}


@pytest.fixture
def origin(tmp_path):
    """Save a snapshot of the VM r1 of the lab first, with memory."""

    def save(**more):
        host = FakeHost(name="r1", lab="first", root=tmp_path)
        host.folder.make()
        definition = granted(
            compose(
                host=host,
                memory="32",
                disks=[{"name": "d", "size": "1M"}],
                nics=[
                    {"name": "e0", "link": {"type": "user", "forwards": [{"guest_port": 22}]}},
                    {"name": "e1", "link": WIRE},
                ],
            )
        )
        definitions.save(host.folder, definition)
        state = SavedState(host.folder, "s")
        state.make()
        given = {"console_from": 3, "console_to": 8, "disks": {"d": "d.qcow2"}, **more}
        state.save(snapshot_record(dict(definition, digest="x"), **given))
        with open(state.memory, "w", encoding="ascii") as stream:
            stream.write("pages")
        return state

    return save


def clone(state, name="r1", lab="second"):
    made = cloning.Clone(Folder(state.vm.root, lab, name), **ORIGIN)
    made.load()
    return made


def run_now(folder):
    """Record a run of this process."""
    pid = os.getpid()
    definition = compose()
    process = {"pid": pid, "start": process_start_time(pid), "boot_id": boot_id()}
    write_json(folder.run, {**process, "uuid": definition["uuid"], "definition": definition})


def test_a_clone_is_its_origin_under_another_name(origin):
    state = origin()
    saved = state.load()["definition"]
    made, other = clone(state).definition(), clone(state, "r7", "first").definition()
    assert (made["lab"], made["name"], made["ports"]) == ("second", "r1", {})
    assert made["origin"] == other["origin"] == ORIGIN and "digest" not in made
    assert made["uuid"] == saved["uuid"] and made["slots"] == saved["slots"]
    assert [nic["mac"] for nic in made["nics"]] == [nic["mac"] for nic in saved["nics"]]
    # A killed run and the next one make the same overlay.
    assert made["disks"] == clone(state).definition()["disks"]
    assert made["disks"][0]["image"] != saved["disks"][0].get("image")
    definitions.save(state.vm, made)
    assert definitions.load(state.vm)["origin"] == ORIGIN


def test_the_origin_stays_in_the_definition(origin):
    made = clone(origin()).definition()
    host = FakeHost(name="r1", lab="second")
    assert compose({"description": "x"}, saved=made, host=host)["origin"] == ORIGIN


@pytest.mark.parametrize(
    "given, refused",
    [
        ({}, None),
        ({"description": "of ann"}, None),
        ({"nics": [{"name": "e0", "link_down": True}]}, None),
        ({"nics": [{"name": "e1", "link": {"type": "user"}}]}, None),
        ({"nics": [{"name": "e1", "link": {"type": "tap", "queues": 2}}]}, r"nics\[e1\]\.link"),
        ({"memory": "64"}, "memory"),
        ({"vcpus": 2}, "vcpus"),
        ({"nics": [{"name": "e2"}]}, r"nics\[e2\]"),
        ({"remove_nics": ["e0"]}, r"nics\[e0\]"),
        ({"nics": [{"name": "e0", "mac": "52:54:00:00:00:01"}]}, "mac"),
        ({"disks": [{"name": "d", "size": "2M"}]}, r"disks\[d\]\.size"),
    ],
)
@pytest.mark.parametrize("memory", [True, False])
def test_the_machine_of_a_guest_that_continues_stays(origin, given, refused, memory):
    made = clone(origin(memory=memory))
    host = FakeHost(name="r1", lab="second", root=made.folder.root)
    desired = compose(given, saved=made.definition(), host=host)
    if not refused or not memory:
        made.check_definition(desired)
        return
    with pytest.raises(OptionError, match=refused):
        made.check_definition(desired)


@pytest.mark.parametrize(
    "link, refused",
    [
        ({"type": "user"}, False),
        (WIRE, True),
        (dict(WIRE, path="/x/c"), False),
        (MCAST, True),
        ({"type": "bridge", "bridge": "br0"}, True),
        ({"type": "tap", "script": "/somebody"}, True),
        ({"type": "tap", "script": "/own"}, False),
    ],
)
@pytest.mark.parametrize("runs", ["origin", "other clone", "nobody"])
def test_links_on_which_a_relative_runs(origin, link, refused, runs):
    state = origin()
    made = clone(state)
    made.own_scripts = {"/own"}
    other = clone(state, "r1", "third")
    other.folder.make()
    definitions.save(other.folder, other.definition())
    if runs != "nobody":
        run_now(state.vm if runs == "origin" else other.folder)
    host = FakeHost(name="r1", lab="second", root=made.folder.root)
    given = {"nics": [{"name": "e1", "link": link}]}
    desired = compose(given, saved=made.definition(), host=host)
    if not refused or runs == "nobody":
        made.check_definition(desired)
        return
    lab = "first" if runs == "origin" else "third"
    with pytest.raises(OptionError, match=r"VM r1 of the lab %s, which runs" % lab) as error:
        made.check_definition(desired)
    assert error.value.facts["option"] == "nics[e1].link"


@pytest.mark.parametrize("port, refused", [("auto", False), ("held", True), ("2222", False)])
def test_fixed_ports_of_a_relative(origin, port, refused):
    state = origin()
    made = clone(state)
    held = state.load()["definition"]["ports"]["nics/e0/tcp/22"]
    host = FakeHost(name="r1", lab="second", root=made.folder.root)
    forward = {"guest_port": 22, "host_port": str(held) if port == "held" else port}
    nics = [
        {"name": "e0", "link": {"type": "user", "forwards": [forward]}},
        {"name": "e1", "link": {"type": "none"}},
    ]
    desired = compose(nics=nics, saved=made.definition(), host=host)
    if not refused:
        made.check_definition(desired)
        return
    with pytest.raises(OptionError, match="r1 of the lab first has port tcp/%d" % held) as error:
        made.check_definition(desired)
    assert error.value.facts["option"] == "nics[e0].link.forwards[0].host_port"


def test_a_clone_of_what_is_not_there(origin):
    state = origin()
    folder = Folder(state.vm.root, "second", "r1")
    with pytest.raises(OptionError, match="has no snapshot t on this host: it has s"):
        cloning.Clone(folder, "first", "r1", "t").load()
    with pytest.raises(OptionError, match="cannot be a clone of itself"):
        cloning.Clone(folder, "second", "r1", "s")
    with pytest.raises(OptionError, match="must not contain a slash"):
        cloning.Clone(folder, "first", "r1", "../s")
    with pytest.raises(OptionError, match="the lab first has no VM r2"):
        cloning.Clone(folder, "first", "r2", "s").load()


def test_a_disk_that_no_snapshot_has(origin):
    state = origin()
    definition = state.load()["definition"]
    definition["disks"].append(dict(definition["disks"][0], name="media", read_only=True))
    slot = definition["slots"]["disks/d"]
    definition["slots"]["disks/media"] = dict(slot, index=slot["index"] + 1)
    state.save(dict(state.load(), definition=definition))
    with pytest.raises(OptionError, match="the disk media of the VM r1"):
        clone(state)


def test_a_vm_that_exists_is_the_same_clone_or_an_error(origin):
    made = clone(origin())
    made.check_same_origin(made.definition())
    with pytest.raises(OptionError, match="was made without a snapshot"):
        made.check_same_origin(compose())
    with pytest.raises(OptionError, match="is a clone of the snapshot t of the VM r1"):
        made.check_same_origin(dict(compose(), origin=dict(ORIGIN, snapshot="t")))


@pytest.mark.parametrize("state", ["present", "stopped", "restarted"])
def test_saved_memory_is_not_lost(origin, state):
    with pytest.raises(OptionError, match="started or paused .* not %s" % state):
        clone(origin()).check_state(state)
    clone(origin(memory=False)).check_state(state)
    clone(origin()).check_state("paused")


def test_a_snapshot_with_clones_stays(origin):
    state = origin(disks={})
    check_unused(state, state.load())
    made = clone(state)
    made.folder.make()
    definitions.save(made.folder, made.definition())
    with pytest.raises(HostError, match="its clones are second/r1"):
        check_unused(state, state.load())


def test_a_clone_has_what_the_console_showed_until_the_snapshot(origin):
    state = origin(disks={})
    made = clone(state)
    made.folder.make()
    made.make_files(None)  # the origin has no log
    log = "console.log"
    assert not os.path.exists(made.folder.file(log))
    with open(state.vm.file(log), "w", encoding="ascii") as stream:
        stream.write("oldready and later")
    made.make_files(None)
    with open(made.folder.file(log), encoding="ascii") as stream:
        assert stream.read() == "ready"
    host = FakeHost()
    made.plan_load(host)
    assert (host.console_from, host.saved_memory) == (0, state.memory)


def test_a_clone_whose_run_is_killed_continues_at_its_next_start(origin):
    state = origin(disks={})
    made = clone(state)
    made.folder.make()
    made.make_files(None)
    made.make_files(None)
    definitions.save(made.folder, made.definition())
    assert observe(made.folder).status == "suspended"
    suspended = SavedState(made.folder, None)
    assert os.path.samefile(suspended.memory, state.memory)
    assert suspended.load()["console_from"] == 0


def test_memory_on_another_file_system_is_copied(origin, monkeypatch):
    def link(*_paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    state = origin(disks={})
    made = clone(state)
    made.folder.make()
    made.make_files(None)
    with open(SavedState(made.folder, None).memory, encoding="ascii") as stream:
        assert stream.read() == "pages"
