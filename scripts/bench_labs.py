# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure whole labs for scripts/bench.

Each phase is a complete ansible-playbook run. It is compared with the floor and with the time that
Ansible itself needs. The lab is a ring with as many links as VMs, and with a spare NIC: to change
one link, one end of the first link moves to it.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from bench_floor import Floor, Playbook

PHASES = ("up", "no change", "one link", "down")
REPEAT = 3  # measurements of the short phases
SPARE = 1  # the VM with the spare NIC
# The limits, in addition to a no-op task: seconds without a start, times the floor with one.
EXTRA_SECONDS, FLOOR_FACTOR = 0.15, 1.2
Steps = Iterator[tuple[Sequence[str], Callable[[], Any]]]
Seconds = dict[str, dict[str, list[float]]]
Medians = dict[str, dict[str, float]]


class LabFloor(Floor):
    """A ring whose UDP addresses are derived from the numbers of VM and NIC."""

    def __init__(self, where: pathlib.Path, base: pathlib.Path, at_once: int) -> None:
        self.at_once, self.name = at_once, f"floor {at_once} at a time"
        super().__init__(where, base)
        self.count, self.moved = 0, False

    def up(self, count: int) -> None:
        self.count, self.moved = count, False
        super().up(count)

    def nics(self, number: int) -> list[str]:
        words = []
        for nic in range(3 if number == SPARE else 2):
            words += [
                "-netdev",
                f"hubport,id=h{nic},hubid={nic}",
                "-device",
                f"virtio-net-pci,netdev=h{nic},romfile=",
            ]
        for nic, (other, its) in enumerate(
            (((number - 1) % self.count, 1), ((number + 1) % self.count, 0))
        ):
            for backend in self._link(number, nic, other, its):
                words += [
                    "-netdev",
                    ",".join(
                        [backend.pop("type"), *(f"{key}={value}" for key, value in backend.items())]
                    ),
                ]
        return words

    @staticmethod
    def _link(number: int, nic: int, other: int, its: int) -> list[dict[str, Any]]:
        """Return the backends that connect a NIC with NIC `its` of the VM `other`."""
        return [
            {
                "type": "socket",
                "id": f"l{nic}",
                "udp": f"127.200.{other}.{its + 1}:10000",
                "localaddr": f"127.200.{number}.{nic + 1}:10000",
            },
            {"type": "hubport", "id": f"p{nic}", "hubid": nic, "netdev": f"l{nic}"},
        ]

    def link(self) -> None:
        """Move the second end of the first link."""
        old, new = (2, 0) if self.moved else (0, 2)
        self.moved = not self.moved
        for number, pulled, plugged in ((0, 1, (1, SPARE, new)), (SPARE, old, (new, 0, 1))):
            with self._monitor(number) as stream:
                for name in (f"p{pulled}", f"l{pulled}"):
                    self._ask(stream, "netdev_del", id=name)
                for backend in self._link(number, *plugged):
                    self._ask(stream, "netdev_add", **backend)

    def steps(self, count: int) -> Steps:
        """Yield the phases to measure with the functions that run them, in order."""
        yield ["up"], lambda: self.up(count)
        for _time in range(REPEAT):
            yield ["no change"], lambda: self.noop(count)
            yield ["one link"], self.link
        yield ["down"], lambda: self.down(count)


class Lab(Playbook):
    """The lab as one qemu_lab task."""

    name = "qemu_lab"

    def __init__(self, where: pathlib.Path, base: pathlib.Path) -> None:
        super().__init__(where, base)
        self.moved = False

    def run(self, count: int, **options: Any) -> None:
        """Run qemu_lab with these options."""
        ends = [f"vm{number}:eth1 -- vm{(number + 1) % count}:eth0" for number in range(count)]
        if self.moved:
            ends[0] = f"vm0:eth1 -- vm{SPARE}:eth2"
        nodes: dict[str, Any] = {f"vm{number}": {} for number in range(count)}
        nodes[f"vm{SPARE}"] = {"nics": {"eth0": {}, "eth2": {}}}
        topology = {
            "name": "bench",
            "kinds": {"plain": {"nic": {"first": 0}}},
            "nodes": nodes,
            "links": ends,
            "defaults": {
                "kind": "plain",
                "memory": "128",
                "machine": "pc",
                "accel": "tcg",
                "disks": [{"name": "disk0", "backing_file": os.fspath(self.base)}],
            },
        }
        path = self.where / "topology.yml"
        path.write_text(json.dumps(topology), encoding="utf-8")
        options = {"topology": os.fspath(path), "root": os.fspath(self.where), **options}
        self.play([{"vlab.qemu.qemu_lab": options}])

    def link(self, count: int) -> None:
        """Move the second end of the first link."""
        self.moved = not self.moved
        self.run(count)

    def steps(self, count: int) -> Steps:
        """Yield the phases to measure with the functions that run them, in order."""
        self.moved = False
        yield ["up"], lambda: self.run(count)
        for _time in range(REPEAT):
            yield ["no change"], lambda: self.run(count)
            yield ["one link"], lambda: self.link(count)
        yield ["down"], lambda: self.run(count, state="absent")


class OneTask(Playbook):
    """A play with one task that does nothing, for comparison."""

    name = "a no-op task"
    tasks: list[dict[str, Any]] = [{"ansible.builtin.ping": {}}]

    def steps(self, count: int) -> Steps:
        """Yield one function that is measured for all phases."""
        for _time in range(REPEAT):
            yield PHASES, lambda: self.play(self.tasks)


class NoTask(OneTask):
    """An empty play, for comparison."""

    name = "an empty play"
    tasks = []


def measured(contenders: Sequence[Any], count: int, repetitions: int) -> Seconds:
    """Return the seconds of each contender and phase. The contenders take turns."""
    seconds: Seconds = {contender.name: {phase: [] for phase in PHASES} for contender in contenders}
    for repetition in range(repetitions):
        for contender in contenders:
            if sys.stderr.isatty():
                print(
                    f"\r\033[K{count} VMs, {repetition + 1} of {repetitions}: {contender.name}",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            rest = contender.steps(count)
            try:
                for phases, step in rest:
                    started = time.perf_counter()
                    step()
                    for phase in phases:
                        seconds[contender.name][phase].append(time.perf_counter() - started)
            finally:
                for phases, step in rest:
                    if phases == ["down"]:
                        step()
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return seconds


def measure(
    where: pathlib.Path, base: pathlib.Path, counts: list[int], repetitions: int
) -> dict[int, Medians]:
    """Return the median seconds for each number of VMs; "floor" is the fastest of the floors."""
    cores = len(os.sched_getaffinity(0))
    floors = [LabFloor(where, base, at_once) for at_once in (cores, 2 * cores, 4 * cores)]
    contenders = [*floors, Lab(where, base), OneTask(where, base), NoTask(where, base)]
    for contender in contenders[len(floors) :]:
        measured([contender], 3, 1)  # fills the caches
    results = {}
    for count in counts:
        medians = {
            name: {phase: statistics.median(values) for phase, values in phases.items()}
            for name, phases in measured(contenders, count, repetitions).items()
        }
        medians["floor"] = {
            phase: min(medians[floor.name][phase] for floor in floors) for phase in PHASES
        }
        results[count] = medians
    return results


def limit(medians: Medians, phase: str) -> float:
    """Return the time limit of a phase, from the measured floor and no-op task."""
    extra = EXTRA_SECONDS
    if phase in ("up", "down"):
        extra = FLOOR_FACTOR * medians["floor"][phase]
    return medians[OneTask.name][phase] + extra


def rows(results: dict[int, Medians]) -> Iterator[list[str]]:
    """Yield the rows of the table."""
    yield ["whole labs, seconds", *PHASES]
    for count, medians in results.items():
        yield [f"{count} VMs, {count} links", *[""] * len(PHASES)]
        for name in ("floor", NoTask.name, OneTask.name, Lab.name):
            yield ["  " + name, *(f"{medians[name][phase]:.3f}" for phase in PHASES)]
        limits = [limit(medians, phase) for phase in PHASES]
        labs = [medians[Lab.name][phase] for phase in PHASES]
        yield ["  limit", *(f"{seconds:.3f}" for seconds in limits)]
        yield [
            "  qemu_lab / limit",
            *(
                f"{took / most:.2f} {'ok' if took <= most else 'EXCEEDED'}"
                for took, most in zip(labs, limits)
            ),
        ]
    counts = list(results)
    for few, many in zip(counts, counts[1:]):
        more = [
            (results[many][Lab.name][phase] - results[few][Lab.name][phase]) / (many - few)
            for phase in PHASES
        ]
        yield [
            f"each VM and link from {few} to {many}",
            *(f"{1000 * seconds:.1f} ms" for seconds in more),
        ]
