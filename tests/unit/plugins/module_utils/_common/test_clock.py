# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The clock of the host jumps, by years and in both directions: waits take the time they should."""

from __future__ import annotations

import fcntl
import itertools
import os
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common import locks, processes
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    LockTimeout,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import snapshots
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp

YEARS = 10 * 365 * 86400


@pytest.fixture(autouse=True)
def fixture_jumping_clock(monkeypatch):
    now, jumps = time.time(), itertools.cycle([0, YEARS, -YEARS])
    monkeypatch.setattr(time, "time", lambda: now + next(jumps))


@pytest.fixture(name="took")
def fixture_took():
    began = time.monotonic()
    return lambda: time.monotonic() - began


def test_an_event_is_waited_for(tmp_path, took):
    with FakeQmp(tmp_path / "qmp.sock") as qemu, Monitor(qemu.path, timeout=5) as monitor:
        with pytest.raises(MonitorTimeout):
            monitor.wait_event(["SHUTDOWN"], timeout=0.3)
    assert 0.3 <= took() < 5


def test_a_lock_is_waited_for(tmp_path, took):
    with open(tmp_path / "lock", "w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LockTimeout), locks.file_lock(str(tmp_path / "lock"), timeout=0.3):
            pass
    assert 0.3 <= took() < 5


def test_a_process_is_waited_for_and_known(took):
    start = processes.process_start_time(os.getpid())
    assert not processes.wait_for_exit(os.getpid(), start, 0.3)
    assert 0.3 <= took() < 5
    assert processes.process_start_time(os.getpid()) == start


def test_a_moment_that_the_clock_has_left_is_not_waited_for_without_end(monkeypatch):
    """stop_at is the only time of the wall clock that a run waits for, and has a maximum."""
    waits = []
    monkeypatch.setattr(
        snapshots.threading,
        "Event",
        type("Event", (), {"wait": lambda _self, seconds: waits.append(seconds)}),
    )
    run = object.__new__(snapshots.LabSnapshots)
    run.params = {"stop_at": time.time()}
    for _jump in range(3):
        run._wait()
    assert waits and max(waits) <= 60 and min(waits) >= 0
