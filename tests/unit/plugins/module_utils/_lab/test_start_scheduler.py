# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import types

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    LaunchError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import start_scheduler


class World:
    """Nodes whose events are recorded.

    fails: {name: (where, error)}, where is launch or ready. hold(name): called while it boots.
    commands: the nodes that have commands. template: whether they continue from one.
    """

    def __init__(self, fails=None, hold=None, commands=(), template=False, accel="tcg"):
        self.commands, self.template, self.accel = commands, template, accel
        self.fails, self.hold = fails or {}, hold or (lambda name: None)
        self.events, self.booting, self.most, self.lock = [], 0, 0, threading.Lock()

    def note(self, name, what):
        with self.lock:
            self.events.append((name, what))
            self.booting += {"launch": 1, "ready": -1}.get(what, 0)
            self.most = max(self.most, self.booting)

    def fail(self, name, where):
        if self.fails.get(name, ("",))[0] == where:
            with self.lock:
                self.booting -= 1
            raise self.fails[name][1]

    def job(self, name, after=None):
        def launch():
            self.note(name, "launch")
            self.fail(name, "launch")

        vm = types.SimpleNamespace(
            host=types.SimpleNamespace(is_template=self.template, accel=self.accel),
            resume=lambda: self.note(name, "resume"),
            desired={},
            observation=types.SimpleNamespace(run={}, pid=1, start=1, monitor=None),
        )
        return types.SimpleNamespace(
            name=name,
            start=launch,
            after=after or {},
            starts=True,
            is_running=True,
            bootstrap=None,
            guest_changes=[],
            has_commands=name in self.commands,
            run_commands=lambda: self.note(name, "exec"),
            vm=vm,
            node={},
            folder=name,
            ready={"console": "ready"},
        )


@pytest.fixture
def bring_up(monkeypatch):
    def bring_up(world, jobs, booting=None, wait_ready=True):
        class Ready:
            def __init__(self, folder, *_rest):
                self.name = folder

            def wait(self, _pid, _start):
                world.hold(self.name)
                world.fail(self.name, "ready")
                world.note(self.name, "ready")

        monkeypatch.setattr(start_scheduler, "Readiness", Ready)
        scheduler = start_scheduler.StartScheduler(
            {name: world.job(name, after) for name, after in jobs.items()},
            booting,
            wait_ready,
            lambda text: None,
        )
        done = threading.Thread(target=scheduler.run, daemon=True)
        done.start()
        done.join(20)
        assert not done.is_alive(), "it waits for ever"
        return scheduler.failed

    return bring_up


@pytest.mark.parametrize("booting", [1, 2, 3])
def test_no_more_boot_at_a_time_than_may(bring_up, booting):
    world = World(hold=lambda name: threading.Event().wait(0.02))
    assert bring_up(world, {"n%d" % n: {} for n in range(8)}, booting) == {}
    assert world.most == booting


def resumed_at_once(events):
    """Return how many guests at most ran that were not ready."""
    running, most = 0, 0
    for _name, what in events:
        running += {"resume": 1, "ready": -1}.get(what, 0)
        most = max(most, running)
    return most


@pytest.mark.parametrize(
    "template, accel, most", [(True, "tcg", 2), (True, "kvm", 6), (False, "tcg", 6)]
)
def test_emulated_guests_continue_from_their_templates_in_turn(
    bring_up, monkeypatch, template, accel, most
):
    monkeypatch.setattr(start_scheduler.os, "sched_getaffinity", lambda _pid: {0})
    everybody = threading.Barrier(most)
    world = World(hold=lambda _name: everybody.wait(10), template=template, accel=accel)
    assert bring_up(world, {"n%d" % n: {} for n in range(6)}) == {}
    assert resumed_at_once(world.events) == most


def test_order_is_kept(bring_up):
    world = World()
    assert bring_up(world, {"c": {"b": "started"}, "b": {"a": "ready"}, "a": {}}, 1) == {}
    events = world.events
    assert (
        events.index(("a", "ready")) < events.index(("b", "launch")) < events.index(("c", "launch"))
    )


@pytest.mark.parametrize("wait_ready", [True, False])
def test_commands_are_run_once_a_node_is_ready_and_before_those_after_it(bring_up, wait_ready):
    world = World(commands=["a"])
    assert bring_up(world, {"a": {}, "b": {"a": "ready"}, "c": {}}, None, wait_ready) == {}
    events = world.events
    assert (
        events.index(("a", "ready")) < events.index(("a", "exec")) < events.index(("b", "launch"))
    )
    assert [name for name, what in events if what == "exec"] == ["a"]


def test_a_run_that_does_not_wait_waits_for_nodes_with_commands(bring_up):
    world = World(commands=["a"])
    assert bring_up(world, {"a": {}, "b": {}}, None, wait_ready=False) == {}
    assert [event for event in world.events if event[1] in ("ready", "exec")] == [
        ("a", "ready"),
        ("a", "exec"),
    ]


@pytest.mark.parametrize("booting", [None, 1])
@pytest.mark.parametrize("where", ["launch", "ready"])
def test_one_that_fails_stops_those_after_it_and_no_others(bring_up, booting, where):
    world = World({"a": (where, (LaunchError if where == "launch" else GuestError)("broken"))})
    failed = bring_up(
        world,
        {
            "a": {},
            "b": {"a": "ready"},
            "c": {"b": "started"},
            "x": {},
            "y": {"x": "ready"},
            "z": {},
        },
        booting,
    )
    assert sorted(failed) == ["a", "b", "c"] and failed["a"].message == "broken"
    assert failed["b"].message == "b was not started: it comes after a, which failed"
    assert {name for name, what in world.events if what == "ready"} == {"x", "y", "z"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_one_lets_nobody_wait_for_ever(bring_up):
    failed = bring_up(
        World({"a": ("launch", ZeroDivisionError("ours"))}),
        {"a": {}, "b": {"a": "ready"}, "x": {}},
        1,
    )
    assert sorted(failed) == ["a", "b"]


def test_without_waiting_only_those_are_awaited_that_others_come_after(bring_up):
    world = World()
    assert bring_up(world, {"a": {}, "b": {"a": "ready"}, "x": {}}, wait_ready=False) == {}
    assert {name for name, what in world.events if what == "ready"} == {"a"}
