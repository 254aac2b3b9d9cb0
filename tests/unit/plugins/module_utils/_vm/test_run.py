# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of one VM: the order of its steps, and what each refuses. No QEMU is started."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LaunchError,
    MonitorTimeout,
    RestartRequired,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import apply as applying
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm import run as running
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted

OPTIONS = {"memory": "32", "disks": [], "nics": []}


@pytest.fixture(name="vm")
def _vm(tmp_path, monkeypatch):
    """A VM that is to be observed with a status; its run, up to the plan."""
    monkeypatch.setattr(running, "refuse_start", _refuse_start)

    def vm(status, state, allow_container=True, allow_restart=True, **options):
        host = FakeHost(root=tmp_path)
        saved = granted(compose(OPTIONS, host=FakeHost(root=tmp_path)))
        if status != "absent":
            host.folder.make()
            definitions.save(host.folder, saved)
        monkeypatch.setattr(running, "observe", lambda folder: _observed(folder, status))
        run = running.VmRun(host, settings_of({}))
        run.observe()
        run.request_state(state, allow_container)
        run.make_plan(
            lambda before, on: definitions.compose(before, dict(OPTIONS, **options), on),
            allow_restart,
        )
        return run

    return vm


def _refuse_start(allowed):
    if not allowed:
        raise HostError("a container")


def _observed(folder, status):
    observation = Observation(folder)
    if status not in ("absent", "stopped"):
        observation.alive, observation.status = True, status
        observation.running = copy.deepcopy(observation.saved)
        observation.run = {"definition": copy.deepcopy(observation.saved), "pid": 1, "start": 1}
    return observation


@pytest.mark.parametrize(
    "status, state, options, refused",
    [
        ("absent", "started", {}, True),
        ("stopped", "paused", {}, True),
        ("stopped", "present", {}, False),
        ("running", "started", {}, False),
        ("running", "restarted", {}, True),
        ("running", "present", {"vcpus": 2}, True),  # a change that needs a restart
        ("running", "present", {"priority": "low"}, False),
        ("running", "absent", {}, False),
    ],
)
def test_a_start_in_a_container_is_refused_whatever_asks_for_it(
    vm, status, state, options, refused
):
    assert vm(status, state, True, **options).plan.steps is not None
    if refused:
        with pytest.raises(HostError, match="a container"):
            vm(status, state, False, **options)
    else:
        vm(status, state, False, **options)


def test_the_refusal_comes_before_the_definition_is_composed(vm):
    with pytest.raises(HostError, match="a container"):
        vm("absent", "started", False, memory="nonsense")


def test_a_restart_needs_leave_before_a_container_matters(vm):
    with pytest.raises(RestartRequired):
        vm("running", "present", False, allow_restart=False, vcpus=2)


def test_a_removed_vm_has_no_desired_definition_and_no_result(vm):
    run = vm("stopped", "absent")
    assert run.desired is None and run.result(True)["vm"] == {}


@pytest.mark.parametrize(
    "status, state, after",
    [
        ("absent", "started", "running"),
        ("stopped", "paused", "prelaunch"),
        ("running", "stopped", "stopped"),
        ("paused", "present", "paused"),
    ],
)
def test_check_mode_shows_the_status_that_there_would_be(vm, status, state, after):
    run = vm(status, state)
    result = run.result(True)
    assert result["vm"]["status"] == after and result["actions"] == []
    assert run.report(False)["status"] == status


@pytest.fixture(name="steps")
def _steps(monkeypatch):
    """The steps of appliers, taken down in place of being done."""
    taken = []
    monkeypatch.setattr(
        applying,
        "_STEPS",
        {name: lambda _applier, name=name: taken.append(name) for name in applying._STEPS},
    )
    monkeypatch.setattr(applying.Applier, "resume", lambda _applier: taken.append("resumed"))
    return taken


@pytest.mark.parametrize(
    "status, state, first, then",
    [
        ("absent", "started", ["define", "start"], ["resumed"]),
        ("absent", "paused", ["define", "start"], []),
        ("running", "restarted", ["stop", "start"], ["resumed"]),
        # Only the resume of a start is for later.
        ("paused", "started", ["resume"], []),
        ("running", "stopped", ["stop"], []),
    ],
)
def test_a_lab_lets_the_guest_run_later(vm, steps, status, state, first, then):
    run = vm(status, state)
    run.apply(defer_resume=True)
    assert steps == first
    run.resume()
    assert steps == first + then


def test_without_a_lab_all_steps_are_taken_in_their_order(vm, steps):
    vm("absent", "started").apply()
    assert steps == ["define", "start", "resume"]


@pytest.mark.parametrize("status, left", [("absent", False), ("stopped", True)])
def test_a_start_that_fails_leaves_the_definition_as_it_was(vm, monkeypatch, status, left):
    run = vm(status, "started", vcpus=2)
    run.folder.make()

    def fail(_applier):
        raise LaunchError("broken")

    monkeypatch.setitem(applying._STEPS, "start", fail)
    with pytest.raises(LaunchError, match="broken"):
        run.apply()
    saved = definitions.load(run.folder)
    assert (saved is not None) == left and (saved is None or saved["vcpus"] == 1)


@pytest.mark.parametrize("state, fails", [("present", True), ("paused", True), ("stopped", False)])
def test_a_vm_whose_monitor_does_not_answer_can_only_be_stopped(vm, state, fails):
    run = vm("running", state)
    run.observation.monitor_error = MonitorTimeout("no answer")
    if fails:
        with pytest.raises(MonitorTimeout):
            run._applier.check()
    else:
        run._applier.check()


@pytest.mark.parametrize(
    "status, state, check_mode, is_asked",
    [
        ("stopped", "present", False, False),
        ("stopped", "present", True, True),
        ("absent", "present", False, False),
        ("running", "present", True, True),
        ("running", "present", False, False),
    ],
)
def test_the_command_line_of_the_next_start_is_for_check_mode(
    vm, monkeypatch, status, state, check_mode, is_asked
):
    """It opens /dev/kvm and looks for free ports."""
    asked = []
    run = vm(status, state, memory="48")

    def of_next_start(definition, host):
        asked.append(definition["memory"])
        return ["qemu"]

    monkeypatch.setattr(running.command_line, "of_next_start", of_next_start)
    run.result(check_mode)
    assert bool(asked) == is_asked
