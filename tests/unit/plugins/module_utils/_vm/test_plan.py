# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import random
import types

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    LIVE,
    RESTART,
    Change,
    Item,
    module_diff,
    changed_keys,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    RestartRequired,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm import plan as planning
from ansible_collections.vlab.qemu.plugins.module_utils._vm.apply import adopt
from ansible_collections.vlab.qemu.plugins.module_utils._vm.plan import STATES
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose

BASE = {
    "disks": [{"name": "d", "size": "1G"}, {"name": "i", "size": "1G", "bus": "ide"}],
    "nics": [{"name": "e"}, {"name": "f", "link": {"type": "user"}}],
    "cdroms": [{"name": "c"}],
    "memory": "64",
    "machine": "q35",
}
SAVED = compose(BASE)
DEAD = ("absent", "stopped", "crashed")
ALIVE = (
    "running",
    "paused",
    "prelaunch",
    "inmigrate",
    "io-error",
    "watchdog",
    "suspended",
    "shutdown",
    "internal-error",
    "guest-panicked",
    "debug",
    "colo",
    "postmigrate",
    "finish-migrate",
    "save-vm",
    "restore-vm",
)
HELD, BROKEN = (
    {"paused", "prelaunch", "io-error", "watchdog"},
    {"shutdown", "internal-error", "guest-panicked"},
)
# To let these run would be wrong: the error that says so.
MOVED = {
    "postmigrate": "continues from there: use state: stopped",
    "finish-migrate": "is sending the state",
    "save-vm": "is saving the state",
    "restore-vm": "is loading a state",
}


def observation(status, saved=None, running=None):
    """An Observation."""
    saved = SAVED if saved is None else saved
    alive = status in ALIVE
    saved = None if status == "absent" else copy.deepcopy(saved)
    running = copy.deepcopy(running or saved) if alive else None
    return types.SimpleNamespace(
        status=status,
        alive=alive,
        saved=saved,
        running=running,
        run={"definition": copy.deepcopy(running)} if alive else None,
        folder=FakeHost().folder,
        orphan=None,
        resume=None,
        suspended=False,
        debris=False,
        lost_definition=False,
    )


def plan(now, desired, state, **more):
    """The plan for a state, with the steps of its power."""
    return planning.plan(now, desired, planning.plan_power(now, state), **more)


def table_row(status, state):
    """The steps from a status to a state, if nothing else changes, as documented."""
    if state == "absent":
        return (
            ["remove"]
            if status in DEAD and status != "absent"
            else []
            if status == "absent"
            else ["stop", "remove"]
        )
    if state == "reset":
        if status in DEAD:
            return "cannot be reset: use started"
        if status == "inmigrate":
            return "waits for its state from another QEMU"
        if status in MOVED:
            return MOVED[status]
        return ["reset", "resume"] if status in HELD | BROKEN | {"suspended"} else ["reset"]
    if state == "suspended":
        return ["suspend"] if status in ALIVE else "does not run, so it cannot be suspended"
    define = ["define"] if status == "absent" else []
    if status in DEAD:
        return (
            define
            + {
                "started": ["start", "resume"],
                "present": [],
                "stopped": [],
                "paused": ["start"],
                "restarted": ["start", "resume"],
            }[state]
        )
    if state == "started" and status in MOVED:
        return MOVED[status]
    still = HELD | BROKEN | {"suspended", "inmigrate", *MOVED}
    return {
        "started": ["resume"]
        if status in HELD
        else ["wake"]
        if status == "suspended"
        else ["reset", "resume"]
        if status in BROKEN
        else [],
        "present": [],
        "stopped": ["stop"],
        "paused": [] if status in still else ["pause"],
        "restarted": ["stop", "start", "resume"],
    }[state]


def agree(made):
    """changed, changes and diff are one thing."""
    assert made.changed == bool(made.changes) == bool(made.steps)
    diff = module_diff(made.changes)
    for change in made.changes:
        assert change.before != change.after or change.option == "state", (
            "a restart ends in the state where it began"
        )
        assert (
            diff["before"].get(change.option) == change.before
            and diff["after"].get(change.option) == change.after
        )
    assert len({change.option for change in made.changes}) == len(made.changes), (
        "an option is reported once"
    )
    assert set(diff["before"]) | set(diff["after"]) == {change.option for change in made.changes}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("status", DEAD + ALIVE)
def test_power(status, state):
    expected = table_row(status, state)
    now = observation(status)
    desired = (
        None
        if state == "absent" or status == "absent" and state == "reset"
        else compose(BASE, saved=now.saved)
    )
    if isinstance(expected, str):
        if desired is None:
            desired = compose(BASE)
        with pytest.raises(HostError, match=expected):
            plan(now, desired, state)
        return
    made = plan(now, desired, state)
    assert made.steps == expected
    agree(made)
    power = [change for change in made.changes if change.option == "state"]
    if set(expected) - {"define"}:
        after = {
            "absent": "absent",
            "stopped": "stopped",
            "paused": "prelaunch" if status in DEAD else "paused",
            "reset": "running" if "resume" in expected else status,
            "suspended": "suspended",
        }.get(state, "running")
        assert [(change.before, change.after) for change in power] == [(status, after)]
    elif status == "absent" and state != "absent":
        assert [(change.before, change.after) for change in power] == [("absent", "stopped")]
    else:
        assert not power


# The steps of a VM whose memory is saved, without QEMU: to each state.
SUSPENDED = {
    "started": (["start", "resume"], "running"),
    "present": ([], "suspended"),
    "stopped": (["discard"], "stopped"),
    "paused": (["start"], "prelaunch"),
    "suspended": ([], "suspended"),
    "restarted": (["discard", "start", "resume"], "running"),
    "absent": (["remove"], "absent"),
}


def suspended():
    now = observation("stopped")
    now.status, now.suspended = "suspended", True
    return now


@pytest.mark.parametrize("state", SUSPENDED)
def test_power_of_a_suspended_vm(state):
    now, (steps, after) = suspended(), SUSPENDED[state]
    made = plan(now, None if state == "absent" else copy.deepcopy(now.saved), state)
    assert made.steps == steps
    agree(made)
    assert made.status_after("suspended") == after


def test_a_suspended_vm_keeps_its_definition():
    now = suspended()
    desired = compose(BASE, saved=now.saved, memory="128")
    for state in ("started", "present", "suspended", "paused"):
        with pytest.raises(
            HostError, match="is suspended, so its definition cannot change .memory"
        ):
            plan(now, desired, state)
    assert plan(now, desired, "stopped").steps == ["define", "discard"]
    with pytest.raises(HostError, match="cannot be reset"):
        plan(now, desired, "reset")


def test_a_change_that_needs_a_restart_is_not_combined_with_suspended():
    desired = compose(BASE, saved=SAVED, memory="128")
    with pytest.raises(RestartRequired, match="memory"):
        plan(observation("running"), desired, "suspended", allow_restart=True)


# A run was killed while it saved the guest, which is to run again.
@pytest.mark.parametrize("status", ["paused", "prelaunch", "postmigrate", "finish-migrate"])
def test_power_of_a_vm_whose_saving_was_killed(status):
    now = observation(status)
    now.resume = "running"
    desired = copy.deepcopy(now.saved)
    for state in ("started", "present"):
        assert plan(now, desired, state).steps == ["resume"]
    assert plan(now, desired, "suspended").steps == ["resume", "suspend"]
    now.suspended = True  # killed between the end of the saving and that of QEMU
    assert plan(now, desired, "suspended").steps == ["suspend"]
    assert plan(now, desired, "stopped").steps == ["stop"]


# What a user says, and how it reaches a running VM: option of the change, how.
CHANGES = [
    ({"memory": "128"}, "memory", RESTART),
    ({"vcpus": 2}, "vcpus", RESTART),
    ({"priority": "low"}, "priority", LIVE),
    ({"cpu_limit": 50}, "cpu_limit", LIVE),
    ({"check_host_memory": False}, "check_host_memory", FILE),
    ({"cmdline": "x", "kernel": "/k"}, "kernel", RESTART),
    ({"sandbox": False}, "sandbox", RESTART),
    ({"disks": [{"name": "d", "size": "2G"}]}, "disks[d].size", LIVE),
    ({"disks": [{"name": "d", "limits": {"iops_total": "5"}}]}, "disks[d].limits", RESTART),
    ({"disks": [{"name": "d", "cache": "none"}]}, "disks[d].cache", RESTART),
    ({"disks": [{"name": "n", "size": "1G"}]}, "disks[n]", LIVE),
    ({"disks": [{"name": "n", "size": "1G", "bus": "ide"}]}, "disks[n]", RESTART),
    ({"disks": [{"name": "n", "size": "1G", "bus": "scsi"}]}, "disks[n]", RESTART),
    ({"remove_disks": ["d"]}, "disks[d]", LIVE),
    ({"remove_disks": ["i"]}, "disks[i]", RESTART),
    ({"disks": [], "purge_disks": True, "cdroms": []}, "disks[d]", None),
    ({"disks": [{"name": "d", "checksum": "md5:" + "0" * 32}]}, "disks[d].checksum", LIVE),
    ({"nics": [{"name": "e", "link": {"type": "user"}}]}, "nics[e].link", LIVE),
    ({"nics": [{"name": "e", "link": {"type": "tap", "vhost": True}}]}, "nics[e].link", RESTART),
    ({"nics": [{"name": "e", "link": {"type": "bridge", "bridge": "b"}}]}, "nics[e].link", RESTART),
    ({"nics": [{"name": "f", "link": {"type": "tap", "script": "/s"}}]}, "nics[f].link", RESTART),
    ({"nics": [{"name": "f", "link": {"type": "tap"}}]}, "nics[f].link", LIVE),
    ({"nics": [{"name": "g", "link": {"type": "bridge", "bridge": "b"}}]}, "nics[g]", RESTART),
    ({"nics": [{"name": "e", "link_down": True}]}, "nics[e].link_down", LIVE),
    ({"nics": [{"name": "f", "capture": {"enabled": True}}]}, "nics[f].capture", LIVE),
    ({"nics": [{"name": "e", "model": "e1000"}]}, "nics[e].model", RESTART),
    ({"nics": [{"name": "e", "mac": "52:54:00:00:00:01"}]}, "nics[e].mac", RESTART),
    ({"nics": [{"name": "g"}]}, "nics[g]", LIVE),
    ({"nics": [{"name": "eth31"}]}, "nics[eth31]", RESTART),
    ({"remove_nics": ["e"]}, "nics[e]", LIVE),
    ({"mac_base": "52:54:00:00:00:00"}, "nics[e].mac", RESTART),
    ({"cdroms": [{"name": "c", "path": "/x.iso"}]}, "cdroms[c].path", LIVE),
    ({"cdroms": [{"name": "x"}]}, "cdroms[x]", RESTART),
    ({"floppies": [{"name": "x"}]}, "floppies[x]", RESTART),
    ({"config_drive": {"files": {"a": "b"}}}, "config_drive", RESTART),
    ({"consoles": [{"name": "other"}]}, "consoles", RESTART),
    ({"display": {"type": "vnc"}}, "display", RESTART),
    ({"guest_agent": True}, "guest_agent", RESTART),
]


@pytest.mark.parametrize(
    "given, option, how",
    CHANGES,
    ids=["%s-%s" % (row[1], number) for number, row in enumerate(CHANGES)],
)
def test_changes(given, option, how):
    desired = compose(given, saved=SAVED)
    for status in ("running", "paused"):
        now = observation(status)
        restart = how in (RESTART, None)
        if restart:
            with pytest.raises(RestartRequired) as caught:
                plan(now, desired, "present")
            assert option in caught.value.facts["options"] or how is None
            assert all(name in caught.value.message for name in caught.value.facts["options"])
            made = plan(now, desired, "present", allow_restart=True)
            assert made.steps == ["define", "stop", "start"] + (
                ["resume"] if status == "running" else []
            )
        else:
            made = plan(now, desired, "present")
            assert made.steps == ["define"] + (["live"] if how == LIVE else [])
        assert option in [change.option for change in made.changes]
        assert how is None or [
            change.how for change in made.changes if change.option == option
        ] == [how]
        agree(made)
        for state, steps in (
            ("stopped", ["define", "stop"]),
            ("restarted", ["define", "stop", "start", "resume"]),
        ):
            made = plan(now, desired, state)
            assert made.steps == steps, "what comes with a stop needs no leave"
            agree(made)
    made = plan(observation("stopped"), desired, "present")
    assert made.steps == ["define"] and {change.how for change in made.changes} == {FILE}
    agree(made)
    made = plan(observation("stopped"), desired, "started")
    assert made.steps == ["define", "start", "resume"]
    agree(made)


@pytest.mark.parametrize(
    "state, status, steps",
    [
        ("started", "running", ["define", "stop", "start", "resume"]),
        ("started", "paused", ["define", "stop", "start", "resume"]),
        ("paused", "running", ["define", "stop", "start"]),
        ("present", "prelaunch", ["define", "stop", "start"]),
        ("reset", "running", ["define", "stop", "start", "resume"]),
    ],
)
def test_restarts(state, status, steps):
    assert (
        plan(
            observation(status), compose({"vcpus": 2}, saved=SAVED), state, allow_restart=True
        ).steps
        == steps
    )


@pytest.mark.parametrize(
    "state, status, steps",
    [
        ("started", "paused", ["define", "live", "resume"]),
        ("paused", "running", ["define", "live", "pause"]),
        ("reset", "running", ["define", "live", "reset"]),
        ("present", "running", ["define", "live"]),
        ("started", "shutdown", ["define", "live", "reset", "resume"]),
    ],
)
def test_live_changes_come_before_the_power(state, status, steps):
    assert (
        plan(observation(status), compose({"priority": "low"}, saved=SAVED), state).steps == steps
    )


def test_a_reason_is_reported():
    with pytest.raises(RestartRequired, match="allow_restart.*no scsi controller"):
        plan(
            observation("running"),
            compose({"disks": [{"name": "n", "size": "1G", "bus": "scsi"}]}, saved=SAVED),
            "present",
        )


def test_a_new_vm_reports_what_was_asked_for():
    desired = compose(BASE)
    options = {change.option for change in plan(observation("absent"), desired, "present").changes}
    assert options == {
        "arch",
        "machine",
        "vcpus",
        "memory",
        "disks[d]",
        "disks[i]",
        "nics[e]",
        "nics[f]",
        "cdroms[c]",
        "state",
    }


def test_a_killed_run_left_file_and_vm_apart():
    """vm.json has what the VM has not got, or the other way round: either is a change."""
    newer = compose({"vcpus": 2}, saved=SAVED)
    now = observation("running", saved=newer, running=SAVED)
    with pytest.raises(RestartRequired):
        plan(now, compose({}, saved=newer), "present")
    live = compose({"priority": "low", "check_host_memory": False}, saved=SAVED)
    made = plan(observation("running", saved=SAVED, running=live), copy.deepcopy(live), "present")
    assert {(change.option, change.how) for change in made.changes} == {
        ("priority", LIVE),
        ("check_host_memory", FILE),
    }
    assert made.steps == ["define", "live"]
    agree(made)


def test_files_are_reported_once():
    desired = compose(
        {"disks": [{"name": "d", "size": "2G"}, {"name": "n", "size": "1G"}]}, saved=SAVED
    )
    pending = [
        Change(("disks", Item("d"), "size"), "1G", "2G", FILE),
        Change(("disks", Item("n"), "image"), None, "/x", FILE),
        Change(("disks", Item("i"), "image"), None, "/y", FILE),
    ]
    made = plan(observation("stopped"), desired, "present", pending=pending)
    assert [change.option for change in made.changes] == [
        "disks[d].size",
        "disks[n]",
        "disks[i].image",
    ]
    agree(made)
    made = plan(observation("stopped"), compose({}, saved=SAVED), "present", pending=pending[2:])
    assert made.steps == ["define"] and made.changed


@pytest.mark.parametrize("seed", range(30))
def test_changes_agree_for_any_options(seed):
    """Random pairs of definitions, in all states: after a plan nothing is left to do."""
    chance = random.Random(seed)
    pieces = [given for given, _option, _how in CHANGES if "purge_disks" not in given]
    saved = SAVED
    for _step in range(6):
        given = {}
        for piece in chance.sample(pieces, 2):
            given.update(copy.deepcopy(piece))
        try:
            desired, fresh = compose(given, saved=saved), compose(given)
        except OptionError:
            continue
        status, state = (
            chance.choice(DEAD + ALIVE),
            chance.choice(
                [state for state in STATES if state not in ("absent", "reset", "suspended")]
            ),
        )
        if status in MOVED and state == "started":
            continue
        now = observation(status, saved=saved)
        made = plan(now, desired if now.saved else fresh, state, allow_restart=True)
        agree(made)
        done = plan(observation("running", saved=desired), compose(given, saved=desired), "present")
        assert not done.changed
        saved = desired


@pytest.mark.parametrize(
    "change, result",
    [
        (Change(("a",), 1, 2, LIVE), {"option": "a", "before": 1, "after": 2, "how": "live"}),
        (
            Change(("nics", Item("a"), "link"), None, [], RESTART, reason="so"),
            {
                "option": "nics[a].link",
                "before": None,
                "after": [],
                "how": "restart",
                "reason": "so",
            },
        ),
    ],
)
def test_a_change_as_it_is_returned(change, result):
    assert change.result() == result


def test_differences():
    assert changed_keys({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "d": 4}) == ["b", "d"]
    assert module_diff([Change(("a",), None, 1), Change(("b",), 0, None)]) == {
        "before": {"b": 0},
        "after": {"a": 1},
    }


@pytest.mark.parametrize(("resume", "steps"), [("running", ["resume"]), ("paused", []), (None, [])])
def test_present_lets_a_vm_run_that_a_killed_run_has_started(resume, steps):
    now = observation("prelaunch")
    now.resume = resume
    assert plan(now, compose(BASE, saved=now.saved), "present").steps == steps


class Running:
    """A running VM whose disks change, one run after the other."""

    def __init__(self, **given):
        self.saved = compose(dict(BASE, **given))
        self.running = addresses.with_slots_at_start(
            copy.deepcopy(self.saved), copy.deepcopy(self.saved["slots"])
        )

    def change(self, **given):
        """Make changes, if they can be made live; return whether they need a restart."""
        desired = compose(given, saved=self.saved)
        now = observation("running", saved=self.saved, running=self.running)
        try:
            made = plan(now, desired, "present")
        except RestartRequired:
            return "restart"
        assert made.steps == ["define", "live"]
        for change in made.changes:
            adopt(change, self.running, desired)
        self.saved = desired
        return "live"


@pytest.mark.parametrize("bus", ["scsi", "usb"])
def test_a_controller_stays_when_its_last_disk_goes(bus):
    vm = Running(disks=[*BASE["disks"], {"name": "s", "size": "1G", "bus": bus}])
    assert vm.change(remove_disks=["s"]) == "live"
    assert vm.change(disks=[{"name": "t", "size": "1G", "bus": bus}]) == "live"
    vm = Running()
    assert vm.change(disks=[{"name": "t", "size": "1G", "bus": bus}]) == "restart"


def test_a_running_machine_gets_no_more_ports_with_the_devices_that_take_them():
    """It was started with two spare ports for disks and two for NICs."""
    for option, item in (("disks", {"size": "1G"}), ("nics", {})):
        vm, spare = Running(), []
        for number in range(3):
            spare.append(vm.change(**{option: [dict(item, name="n%c" % (97 + number))]}))
        assert spare == ["live", "live", "restart"], option


def test_a_definition_that_is_lost_is_written_again():
    now = observation("running")
    now.lost_definition = True
    made = plan(now, compose({}, saved=SAVED), "present")
    assert made.steps == ["define"]
    assert [(change.option, change.after) for change in made.changes] == [("definition", "vm.json")]
    assert plan(now, None, "absent").steps == ["stop", "remove"]


def test_what_a_killed_run_has_begun_comes_first():
    """If another change fails, the record of the run still has the disk that is half removed."""
    without = compose({"remove_disks": ["d"]}, saved=SAVED)
    now = observation("running", saved=without, running=without)
    now.run["definition"] = copy.deepcopy(SAVED)
    made = plan(now, compose({"priority": "low"}, saved=without), "present")
    assert [change.option for change in made.changes] == ["disks[d]", "priority"]
    assert {change.how for change in made.changes} == {LIVE}
