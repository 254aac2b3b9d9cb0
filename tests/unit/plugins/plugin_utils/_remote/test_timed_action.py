# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hypervisors whose clocks differ act at the same time."""

from __future__ import annotations

import types

import pytest

from ansible_collections.vlab.qemu.plugins.action import qemu_scenario, qemu_snapshot
from ansible_collections.vlab.qemu.plugins.module_utils._common import clock_service
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import timed_action
from ansible_collections.vlab.qemu.plugins.plugin_utils._vm import module_action


class Clock:
    """The clock of the controller. lags: how long each request takes, both ways together."""

    def __init__(self, lags):
        self.now, self.lags = 1000.0, list(lags)

    def time(self):
        return self.now


@pytest.fixture
def run(monkeypatch):
    """Run an action; return the options of its module and its result."""

    def run(args, offset=0.0, lags=(0.1, 0.1, 0.1), answers=True, check_mode=False, how=None):
        how = how or qemu_snapshot
        clock = Clock(lags)
        given = {}

        def send_request(self, task_vars, service, name, parameters):
            assert (service, name) == ("_common.clock_service", "read")
            lag = clock.lags.pop(0)
            clock.now += lag / 2
            monkeypatch.setattr(clock_service.time, "time", lambda: clock.now + offset)
            reply = clock_service.HANDLERS[name](parameters, b"")[0] if answers else None
            monkeypatch.setattr(timed_action.time, "time", clock.time)
            clock.now += lag / 2
            return reply

        def module(self, tmp=None, task_vars=None):
            given.update(self._task.args)
            return {"changed": True}

        monkeypatch.setattr(timed_action.HostAction, "send_request", send_request)
        monkeypatch.setattr(timed_action.NormalAction, "run", module)
        monkeypatch.setattr(module_action.ModuleAction, "run", module)
        monkeypatch.setattr(timed_action.time, "time", clock.time)
        action = how.ActionModule.__new__(how.ActionModule)
        action._task = types.SimpleNamespace(args=args, check_mode=check_mode)
        return given, action.run(None, {})

    return run


@pytest.mark.parametrize(
    ("offset", "converted", "warns"),
    [(0.0, 0.0, False), (0.04, 0.0, False), (0.06, 0.06, False), (5.0, 5.0, True), (-5, -5, True)],
)
def test_the_time_is_converted_to_the_clock_of_the_hypervisor(run, offset, converted, warns):
    given, result = run({"name": "s", "stop_at": 1010.0}, offset)
    assert given == {"name": "s", "stop_at": pytest.approx(1010.0 + converted)}
    assert result["clock_offset"] == pytest.approx(offset)
    assert result["clock_uncertainty"] == pytest.approx(0.05)
    assert bool(result.get("warnings")) == warns
    if warns:
        word = "ahead of" if offset > 0 else "behind"
        assert "5.0 s %s that of the controller; stop_at was" % word in result["warnings"][0]


def test_the_quickest_measurement_counts(run):
    given, result = run({"start_at": "1010"}, 0.02, lags=(4, 0.02, 3), how=qemu_scenario)
    assert result["clock_uncertainty"] == pytest.approx(0.01)
    assert given == {"start_at": pytest.approx(1010.02)}


@pytest.mark.parametrize(
    ("args", "how"),
    [
        ({"name": "s"}, {}),
        ({"name": "s", "stop_at": None}, {}),
        ({"name": "s", "stop_at": "soon"}, {}),
        ({"name": "s", "stop_at": 1010.0}, {"check_mode": True}),
        ({"name": "s", "stop_at": 1010.0}, {"answers": False}),
    ],
)
def test_otherwise_the_module_runs_as_it_was_called(run, args, how):
    given, result = run(args, 5.0, **how)
    assert given == args and result == {"changed": True}
