# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots for guests that continue from templates: their number, their order, and their end."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._lab import resume_slots
from ansible_collections.vlab.qemu.plugins.module_utils._lab.resume_slots import ResumeSlots


class Guests:
    """Threads that each hold a slot until leave() is called. running: in their order."""

    def __init__(self, slots):
        self.slots, self.running, self.threads = slots, [], {}
        self.changed = threading.Condition()
        self.leaves = {}

    def add(self, name, size):
        """Start a thread; return when it has a slot or waits for one."""
        self.leaves[name] = threading.Event()
        waiting = len(self.slots._waiting)
        thread = threading.Thread(target=self._hold, args=(name, size), daemon=True)
        thread.start()
        self.threads[name] = thread
        with self.changed:
            for _try in range(1000):
                if name in self.running or len(self.slots._waiting) > waiting:
                    return
                self.changed.wait(0.01)

    def _hold(self, name, size):
        with self.slots.slot(size):
            with self.changed:
                self.running.append(name)
                self.changed.notify_all()
            self.leaves[name].wait(10)

    def leave(self, name):
        self.leaves[name].set()
        self.threads[name].join(10)

    def wait(self, *names):
        with self.changed:
            assert self.changed.wait_for(lambda: self.running == list(names), timeout=5)


@pytest.fixture
def guests(monkeypatch):
    made = []

    def make(count, seconds=60.0):
        monkeypatch.setattr(resume_slots, "_MAX_SECONDS", seconds)
        made.append(Guests(ResumeSlots(count)))
        return made[-1]

    yield make
    for one in made:
        for name in one.threads:
            one.leave(name)


def test_as_many_as_there_are_slots_run_and_the_largest_of_the_others_is_next(guests):
    world = guests(2)
    for name, size in (("a", 1), ("b", 1), ("small", 1), ("large", 4), ("other", 1)):
        world.add(name, size)
    world.wait("a", "b")
    world.leave("b")
    world.wait("a", "b", "large")
    world.leave("a")
    world.wait("a", "b", "large", "small")
    world.leave("large")
    world.wait("a", "b", "large", "small", "other")


def test_a_guest_that_waits_for_another_one_keeps_its_slot_only_for_a_time(guests):
    world = guests(1, seconds=0.2)
    for name in ("a", "b", "c"):
        world.add(name, 1)
    world.wait("a", "b", "c")
    assert world.slots._ends


def test_a_slot_is_free_again_after_an_error(guests):
    slots = guests(1).slots
    with pytest.raises(ValueError), slots.slot(1):
        raise ValueError
    with slots.slot(1):
        assert len(slots._ends) == 1
    assert not slots._ends
