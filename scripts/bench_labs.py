# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For scripts/bench: whole labs, each step of their life a whole ansible-playbook run, against the floor and Ansible's own share.

The lab is a ring: as many links as VMs, and one spare NIC, to which one end of the first link moves when one link is changed.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

from bench_floor import Floor, Playbook

PHASES = ("up", "no change", "one link", "down")
AGAIN = 3  # the short phases are measured more often
SPARE = 1  # the VM that has the spare NIC
MORE, FACTOR = (
    0.15,
    1.2,
)  # what the promises allow above Ansible's own share: seconds, times the floor


class LabFloor(Floor):
    """A ring, whose UDP ports are counted from the numbers of VM and NIC."""

    def __init__(self, where, base, at_once):
        self.at_once, self.name = at_once, f"floor {at_once} at a time"
        super().__init__(where, base)
        self.count, self.moved = 0, False

    def up(self, count):
        self.count, self.moved = count, False
        super().up(count)

    def nics(self, number):
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
    def _link(number, nic, other, its):
        return [
            {
                "type": "socket",
                "id": f"l{nic}",
                "udp": f"127.200.{other}.{its + 1}:10000",
                "localaddr": f"127.200.{number}.{nic + 1}:10000",
            },
            {"type": "hubport", "id": f"p{nic}", "hubid": nic, "netdev": f"l{nic}"},
        ]

    def link(self):
        """Move the first link's second end."""
        old, new = (2, 0) if self.moved else (0, 2)
        self.moved = not self.moved
        for number, pulled, plugged in ((0, 1, (1, SPARE, new)), (SPARE, old, (new, 0, 1))):
            with self._monitor(number) as stream:
                for name in (f"p{pulled}", f"l{pulled}"):
                    self._ask(stream, "netdev_del", id=name)
                for backend in self._link(number, *plugged):
                    self._ask(stream, "netdev_add", **backend)

    def steps(self, count):
        """What to do in turn, and which phases that measures."""
        yield ["up"], lambda: self.up(count)
        for _time in range(AGAIN):
            yield ["no change"], lambda: self.noop(count)
            yield ["one link"], self.link
        yield ["down"], lambda: self.down(count)


class Lab(Playbook):
    name = "qemu_lab"

    def __init__(self, where, base):
        super().__init__(where, base)
        self.moved = False

    def run(self, count, **options):
        ends = [f"vm{number}:eth1 -- vm{(number + 1) % count}:eth0" for number in range(count)]
        if self.moved:
            ends[0] = f"vm0:eth1 -- vm{SPARE}:eth2"
        nodes: dict = {f"vm{number}": {} for number in range(count)}
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
        self.play(
            [
                {
                    "vlab.qemu.qemu_lab": {
                        "topology": os.fspath(path),
                        "root": os.fspath(self.where),
                        **options,
                    }
                }
            ]
        )

    def link(self, count):
        self.moved = not self.moved
        self.run(count)

    def steps(self, count):
        self.moved = False
        yield ["up"], lambda: self.run(count)
        for _time in range(AGAIN):
            yield ["no change"], lambda: self.run(count)
            yield ["one link"], lambda: self.link(count)
        yield ["down"], lambda: self.run(count, state="absent")


class OneTask(Playbook):
    """For comparison: one task of the same kind that does nothing."""

    name = "a no-op task"
    tasks = [{"ansible.builtin.ping": {}}]

    def steps(self, count):
        for _time in range(AGAIN):
            yield PHASES, lambda: self.play(self.tasks)


class NoTask(OneTask):
    name = "an empty play"
    tasks: list = []


def taken(contenders, count, repetitions):
    """{contender's name: {phase: [seconds, ...]}}, the contenders taking turns."""
    seconds: dict = {contender.name: {phase: [] for phase in PHASES} for contender in contenders}
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


def measure(where, base, counts, repetitions):
    """{number of VMs: {contender's name: {phase: median of seconds}}}; "floor" is the best of the floors."""
    cores = len(os.sched_getaffinity(0))
    floors = [LabFloor(where, base, at_once) for at_once in (cores, 2 * cores, 4 * cores)]
    contenders = [*floors, Lab(where, base), OneTask(where, base), NoTask(where, base)]
    for contender in contenders[len(floors) :]:
        taken([contender], 3, 1)  # what a hypervisor keeps of the collection is there from here on
    results = {}
    for count in counts:
        told = {
            name: {phase: statistics.median(values) for phase, values in phases.items()}
            for name, phases in taken(contenders, count, repetitions).items()
        }
        told["floor"] = {phase: min(told[each.name][phase] for each in floors) for phase in PHASES}
        results[count] = told
    return results


def limit(told, phase):
    """The seconds that were promised for a phase, from what the same run took for the floor and a no-op task."""
    own = told[OneTask.name][phase]
    return own + (FACTOR * told["floor"][phase] if phase in ("up", "down") else MORE)


def rows(results):
    """The table, as lists of cells."""
    yield ["whole labs, seconds", *PHASES]
    for count, told in results.items():
        yield [f"{count} VMs, {count} links", *[""] * len(PHASES)]
        for name in ("floor", NoTask.name, OneTask.name, Lab.name):
            yield ["  " + name, *(f"{told[name][phase]:.3f}" for phase in PHASES)]
        limits, ours = (
            [limit(told, phase) for phase in PHASES],
            [told[Lab.name][phase] for phase in PHASES],
        )
        yield ["  limit", *(f"{seconds:.3f}" for seconds in limits)]
        yield [
            "  qemu_lab / limit",
            *(
                f"{took / most:.2f} {'holds' if took <= most else 'BROKEN'}"
                for took, most in zip(ours, limits)
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
