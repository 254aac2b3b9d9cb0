# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change one lab for a long time, and watch what it and this process hold.

churn.py FOLDER --seconds N [--seed N]

Nodes are stopped, started, suspended, killed and rewired, captures come and go, and checkpoints are
taken, restored and removed, in random order, by one process. After each ten changes, the lab is
brought to its first state, and measured: memory, descriptors and threads of this process, memory
and descriptors of the QEMUs, processes, files, bytes and ports. None of them may grow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._lab.converge import converge_lab
from ansible_collections.vlab.qemu.plugins.module_utils._lab.snapshots import converge_snapshots
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import SETTINGS_SPEC
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, host_shares
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import endpoints as udp_endpoints

NODES = ("a", "b", "c", "d")
# Node d is never restarted: what its QEMU holds is that of the whole time.
RESTARTED = NODES[:3]
LINKS = (
    ["a:eth1 -- b:eth1", "c:eth1 -- d:eth1"],
    ["a:eth1 -- d:eth1", "c:eth1 -- b:eth1"],
    ["b:eth1 -- d:eth1"],
)
SEGMENTS = ({"lan": ["a:eth2", "b:eth2", "d:eth2"]}, {"lan": ["c:eth2", "d:eth2"]}, {})
CHECKPOINTS = ("one", "two")
# How much more than after the first rounds is allowed: QEMU and Python keep some of what they free.
ALLOWED = {
    "descriptors": 0,
    "threads": 1,
    "memory_kib": 12 << 10,
    "qemu_descriptors": 2,
    "qemu_memory_kib": 24 << 10,
    "processes": 0,
    "files": 0,
    "disk_kib": 256,
    "ports": 0,
}
WARM_UP = 3  # measurements that are not compared


class Churn:
    """The lab, and what was done to it."""

    def __init__(self, folder: str, seed: int) -> None:
        self.root = os.path.join(folder, "lab")
        self.chance = random.Random(seed)
        self.links, self.segments, self.captured = LINKS[0], SEGMENTS[0], set()
        self.saved: set[str] = set()
        self.counts: dict[str, int] = {}
        self.opened: list[str] = []
        self.defaults = {name: spec.get("default") for name, spec in SETTINGS_SPEC.items()}
        self.defaults.update(
            root=self.root, keep_disks=False, shutdown={"acpi": False}, allow_restart=True
        )

    # What is done.

    def converge(self, **states: str):
        """Bring the lab into the state that its topology and the given states describe."""
        topology = builder.build(
            {
                "name": "churn",
                "kinds": {"blank": {"vm": {"memory": 32, "accel": "tcg"}}},
                "defaults": {"kind": "blank", "disks": [{"name": "disk0", "size": "4M"}]},
                "nodes": {name: {} for name in NODES},
                "links": [
                    {"endpoints": link.split(" -- "), "capture": link in self.captured}
                    for link in self.links
                ],
                "segments": {name: {"members": ends} for name, ends in self.segments.items()},
            }
        )
        placed = {name: "hv" for name in NODES}
        every = {name: states.get(name, "started") for name in NODES}
        share = host_shares.share_for(
            topology,
            placed,
            "hv",
            udp_endpoints.UdpEndpoints(topology, placed, {"hv": "127.0.0.1"}),
            every,
            {name: state in ("started", "paused") for name, state in every.items()},
            lambda node, content: content,
        )
        params = dict(self.defaults, state="started", purge=True, wait_ready=False)
        return converge_lab(dict(params, allow_container=True, **share), False)

    def snapshot(self, state: str, name: str | None, vm: str | None = None, purge: bool = False):
        params = dict(self.defaults, lab="churn", vm=vm, name=name, state=state, purge=purge)
        params.update(memory=True, description="", keep=None, stop_at=None, save_timeout=60)
        return converge_snapshots(dict(params, allow_definition_changes=True), False)

    def stop(self):
        self.converge(**{self.chance.choice(RESTARTED): "stopped"})

    def suspend(self):
        """Suspend a node that runs; it takes no other definition then, so it continues at once."""
        self.converge()
        self.converge(**{self.chance.choice(RESTARTED): "suspended"})
        self.converge()

    def pause(self):
        self.converge(**{self.chance.choice(NODES): "paused"})

    def rewire(self):
        self.links, self.segments = self.chance.choice(LINKS), self.chance.choice(SEGMENTS)
        self.converge()

    def capture(self):
        self.captured = {self.chance.choice(self.links)} if not self.captured else set()
        self.converge()

    def kill(self):
        name = self.chance.choice(RESTARTED)
        self.converge()
        record = json.loads(pathlib.Path(self.root, "churn", name, "run.json").read_text())
        os.kill(record["pid"], signal.SIGKILL)
        self.converge()

    def take(self):
        name = self.chance.choice(CHECKPOINTS)
        self.converge()
        if name not in self.saved:
            self.snapshot("present", name)
            self.saved.add(name)

    def restore(self):
        if self.saved:
            name = self.chance.choice(sorted(self.saved))
            self.snapshot("reverted", name, vm=self.chance.choice(RESTARTED))
            self.converge()

    def forget(self):
        if self.saved:
            name = self.chance.choice(sorted(self.saved))
            self.snapshot("absent", name)
            self.saved.remove(name)

    OPERATIONS = (stop, suspend, pause, rewire, capture, kill, take, restore, forget)

    def step(self):
        operation = self.chance.choice(self.OPERATIONS)
        operation(self)
        self.counts[operation.__name__] = self.counts.get(operation.__name__, 0) + 1

    def rest(self):
        """Bring the lab to its first state."""
        self.links, self.segments, self.captured = LINKS[0], SEGMENTS[0], set()
        self.converge()
        if self.saved:
            self.snapshot("absent", None, purge=True)
            self.saved.clear()
        result = self.converge()
        if result["changed"]:
            raise SystemExit("FAILED a second run changes %s" % result["changes"])
        # Each capture is kept, as a user expects.
        for captures in pathlib.Path(self.root).glob("churn/*/captures"):
            shutil.rmtree(captures)

    # What is measured.

    def processes(self) -> dict[int, list[str]]:
        """Return the argv of all processes that use the files of the lab, by pid."""
        found = {}
        for entry in os.listdir("/proc"):
            try:
                words = (
                    pathlib.Path("/proc", entry, "cmdline").read_bytes() if entry.isdigit() else b""
                )
            except OSError:
                continue
            argv = words.decode(errors="replace").split("\0")
            if int(entry if entry.isdigit() else 0) != os.getpid() and any(
                word.startswith(self.root) for word in argv
            ):
                found[int(entry)] = argv
        return found

    def measured(self) -> dict[str, int]:
        pid = json.loads(pathlib.Path(self.root, "churn", "d", "run.json").read_text())["pid"]
        self.opened = sorted(targets_of(pid))
        files = [path for path in pathlib.Path(self.root).rglob("*") if path.is_file()]
        ports = pathlib.Path(self.root, ".host", "ports.json")
        return {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "memory_kib": resident("self"),
            "qemu_descriptors": len(self.opened),
            "qemu_memory_kib": resident(pid),
            "processes": len(self.processes()),
            "files": len(files),
            "disk_kib": sum(path.stat().st_blocks for path in files) // 2,
            "ports": len(json.loads(ports.read_text())) if ports.exists() else 0,
        }


def targets_of(pid: int) -> Iterator[str]:
    """Yield what the descriptors of a process are, without the numbers of sockets and pipes."""
    for entry in os.scandir("/proc/%d/fd" % pid):
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(entry.path).partition("[")[0]


def resident(pid: object) -> int:
    """Return the resident memory of a process in KiB."""
    text = pathlib.Path("/proc/%s/status" % pid).read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


def grown(first: dict[str, int], last: dict[str, int]) -> list[str]:
    return [
        "%s: %d, then %d" % (key, first[key], last[key])
        for key in ALLOWED
        if last[key] > first[key] + ALLOWED[key]
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.makedirs(given.folder, exist_ok=True)
    churn = Churn(given.folder, given.seed)
    rows, began = [], time.monotonic()
    try:
        churn.rest()
        while len(rows) <= WARM_UP or time.monotonic() < began + given.seconds:
            for _number in range(10):
                churn.step()
            churn.rest()
            rows.append(churn.measured())
            print(json.dumps({"seconds": round(time.monotonic() - began), **rows[-1]}), flush=True)
        problems = grown(rows[WARM_UP - 1], rows[-1])
    finally:
        converge_lab(
            dict(
                churn.defaults,
                lab="churn",
                vms=[],
                segments=[],
                state="absent",
                purge=True,
                wait_ready=False,
                allow_container=True,
            ),
            False,
        )
    left = [*churn.processes().values(), *map(str, pathlib.Path(churn.root).rglob("*"))]
    if problems or left:
        sys.exit("FAILED grown: %s; QEMU has %s; left: %s" % (problems, churn.opened, left))
    print("%d changes, nothing has grown: %s" % (sum(churn.counts.values()), churn.counts))


if __name__ == "__main__":
    main()
