# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure loops over running VMs against loops of Ansible's ping, for scripts/bench."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from bench_floor import Playbook

ITEMS = 8
LIMIT = 1.5  # times as long as pings
_EMPTY = "an empty play"
_PING = "ping"

Task = dict[str, Any]


def _options(where: pathlib.Path, base: pathlib.Path, number: int) -> dict[str, Any]:
    return {
        "name": f"vm{number}",
        "root": os.fspath(where),
        "memory": "128",
        "machine": "pc",
        "accel": "tcg",
        "disks": [{"name": "disk0", "backing_file": os.fspath(base)}],
        "nics": [{"name": "eth0"}],
        "allow_container": True,
    }


def _loop(module: str, items: list[dict[str, Any]], changes: bool = False) -> list[Task]:
    """Return a task that fails if it changes something, or does not."""
    wrong = "looped is not changed" if changes else "looped is changed"
    task = {
        f"vlab.qemu.{module}": "{{ item }}",
        "loop": items,
        "loop_control": {"label": "{{ item.name }}"},
        "register": "looped",
        "failed_when": f"looped is failed or {wrong}",
    }
    return [task]


def _plays(where: pathlib.Path, base: pathlib.Path) -> dict[str, list[Task]]:
    """Return the plays that change nothing: {name: tasks}."""
    place = [{"vm": f"vm{number}", "root": os.fspath(where)} for number in range(ITEMS)]
    disk = {"name": "disk0", "backing_file": os.fspath(base)}
    return {
        _EMPTY: [{"ansible.builtin.meta": "noop"}],
        _PING: [{"ansible.builtin.ping": {}, "loop": list(range(ITEMS))}],
        "qemu_vm": _loop("qemu_vm", [_options(where, base, number) for number in range(ITEMS)]),
        "qemu_nic": _loop("qemu_nic", [dict(vm, name="eth0", link={}) for vm in place]),
        "qemu_disk": _loop("qemu_disk", [{**vm, **disk} for vm in place]),
    }


class _Loops(Playbook):
    """Plays with a loop over VMs, which are in a folder of their own."""

    name = "loops"

    def __init__(self, where: pathlib.Path, base: pathlib.Path) -> None:
        super().__init__(where, base)
        self.vms = self.where / "vms"

    def up(self, count: int) -> None:
        items = [_options(self.vms, self.base, number) for number in range(count)]
        self.play(_loop("qemu_vm", items, changes=True))

    def down(self, count: int) -> None:
        ended = {"root": os.fspath(self.vms), "state": "absent"}
        items = [dict(ended, name=f"vm{number}") for number in range(count)]
        self.play(_loop("qemu_vm", items, changes=True))


def measure(where: pathlib.Path, base: pathlib.Path, repetitions: int) -> dict[str, float]:
    """Return the shortest time of each play in seconds. They take turns."""
    loops = _Loops(where, base)
    seconds: dict[str, float] = {}
    try:
        loops.up(ITEMS)
        # The first round fills the caches.
        for repetition in range(repetitions + 1):
            for name, tasks in _plays(loops.vms, base).items():
                started = time.perf_counter()
                loops.play(tasks)
                taken = time.perf_counter() - started
                if repetition:
                    seconds[name] = min(taken, seconds.get(name, taken))
    finally:
        loops.down(ITEMS)
    return seconds


def check(where: pathlib.Path, base: pathlib.Path, repetitions: int = 3) -> Iterator[str]:
    """Print the times of the loops; yield the violations of the limit."""
    seconds = measure(where, base, repetitions)
    start = seconds.pop(_EMPTY)
    ping = seconds.pop(_PING) - start
    print(f"a loop of {ITEMS} pings: {ping:.2f} s, beside the {start:.2f} s of {_EMPTY}")
    for name, taken in seconds.items():
        ratio = (taken - start) / ping
        print(
            f"a loop of {name} over {ITEMS} running VMs: {taken - start:.2f} s, ratio {ratio:.2f}"
        )
        if ratio > LIMIT:
            yield f"a loop of {name} takes {ratio:.2f} times as long as pings; the limit is {LIMIT}"
