# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure saved states for scripts/bench: snapshots of many VMs, warm starts, whole labs.

Each measurement of the collection is a complete ansible-playbook run. Its limit has the time of a
no-op task in addition to what the same work takes without the collection.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from bench_floor import ROOT, Floor, Playbook, in_parallel

IMAGES = pathlib.Path("/var/lib/vlab/images")
FILLED = 16  # MiB of the memory of each idle VM that are not zero
SAVING_FACTOR = 1.3
WARM_FACTOR, RESTORED_FACTOR = 1 / 3, 1 / 5
CLONE_SECONDS, CLONES_SECONDS = 0.5, 0.35
CLONES = 16


def timed(function: Callable[..., Any], *arguments: Any) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


class Tasks(Playbook):
    """Plays with tasks of the collection, and one that does nothing."""

    name = "saved"

    def __init__(self, where: pathlib.Path, base: pathlib.Path) -> None:
        super().__init__(where, base)
        self.root = os.fspath(self.where / "labs")

    def noop(self, count: int = 0) -> None:
        """Run a task that does nothing."""
        self.play([{"ansible.builtin.ping": {}}])

    def module(self, module: str, **options: Any) -> dict[str, Any]:
        """Return the task that runs a module of the collection."""
        options = {"root": self.root, **options}
        if module == "qemu_lab":
            options["allow_container"] = True
        return {"vlab.qemu." + module: options, "register": "done"}

    def run(self, module: str, **options: Any) -> None:
        """Run a module of the collection, and nothing else."""
        self.play([self.module(module, **options)])

    def result(self, module: str, **options: Any) -> dict[str, Any]:
        """Run a module of the collection; return its result."""
        return self._result(self.module(module, **options))

    def noop_result(self) -> None:
        """Run a task that does nothing, and read its result, as `result` does."""
        self._result({"ansible.builtin.ping": {}, "register": "done"})

    def _result(self, task: dict[str, Any]) -> dict[str, Any]:
        path = self.where / "result.json"
        copy = {"content": "{{ done | to_json }}", "dest": str(path)}
        self.play([task, {"ansible.builtin.copy": copy}])
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def role(self, name: str, action: str, **variables: Any) -> None:
        """Run an action of a role."""
        self.play(
            [
                {
                    "ansible.builtin.include_role": {"name": "vlab.qemu." + name},
                    "vars": {f"{name}_action": action, f"{name}_root": self.root, **variables},
                }
            ]
        )


class Loader(Floor):
    """The minimum that any program must do to continue guests from files with their state."""

    name = "loader"

    def load(self, number: int, argv: list[str], origin: str, state: pathlib.Path) -> None:
        """Start a QEMU with the saved state of a VM.

        argv: how that VM was started. origin: its folder.
        """
        folder = self.where / str(number)
        folder.mkdir()
        (folder / "pid").symlink_to("qemu.pid")
        with open(state, "rb") as stream:
            process = subprocess.Popen(
                [
                    *(word.replace(origin, os.fspath(folder)) for word in argv),
                    *["-incoming", f"fd:{stream.fileno()}"],
                ],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[stream.fileno()],
            )
        with self._first_monitor(number, process) as channel:
            while self._ask(channel, "query-status")["status"] == "inmigrate":
                time.sleep(0.001)
            self._ask(channel, "cont")


def idle_lab(count: int, content: pathlib.Path) -> dict[str, Any]:
    """Return the topology of VMs whose guests do nothing. content: what is in their memory."""
    filled = {"driver": "loader", "file": os.fspath(content), "addr": "0x2000000"}
    plain = {"kind": "plain", "memory": "128", "machine": "pc", "accel": "tcg"}
    return {
        "name": "idle",
        "kinds": {"plain": {"nic": {"first": 0}}},
        "defaults": {**plain, "disks": [], "devices": [filled]},
        "nodes": {f"vm{number}": {} for number in range(count)},
    }


def rows_of_snapshots(tasks: Tasks, count: int) -> Iterator[list[str]]:
    """Yield the rows about saving and restoring many idle VMs."""
    content = tasks.where / "content"
    content.write_bytes(os.urandom(FILLED << 20))
    topology = idle_lab(count, content)
    tasks.result("qemu_lab", topology=topology)
    noop = statistics.median(timed(tasks.noop) for _time in range(3))
    noop_result = statistics.median(timed(tasks.noop_result) for _time in range(3))
    try:
        result: dict[str, Any] = {}
        saving = timed(
            lambda: result.update(tasks.result("qemu_snapshot", lab="idle", name="s", memory=True))
        )
        dd = timed(write, tasks.where / "copy", result["bytes"])
        limit = noop_result + SAVING_FACTOR * dd
        yield [f"{count} idle VMs", f"skew of the stop {result['skew'] * 1000:.1f} ms", "limit 50"]
        yield ["  saving", seconds(saving), f"limit {limit:.2f}", verdict(saving, limit)]
        yield ["  pause of the guests", seconds(result["pause"]), f"dd {dd:.2f}"]
        folders = sorted(pathlib.Path(tasks.root, "idle").glob("vm*"))
        commands = [command_of(folder) for folder in folders]
        restoring = timed(
            lambda: tasks.run("qemu_snapshot", lab="idle", name="s", state="reverted")
        )
        loader = Loader(tasks.where, tasks.base)

        def load(number: int) -> None:
            origin = folders[number]
            state = origin / "snapshots/s/memory"
            loader.load(number, commands[number], os.fspath(origin), state)

        try:
            floor = timed(in_parallel, load, count)
        finally:
            loader.down(count)
        limit = noop + SAVING_FACTOR * floor
        yield ["  restoring", seconds(restoring), f"limit {limit:.2f}", verdict(restoring, limit)]
    finally:
        tasks.result("qemu_lab", topology=topology, state="absent")


def command_of(folder: pathlib.Path) -> list[str]:
    """Return the command line of the VM in a folder."""
    pid = (folder / "qemu.pid").read_text(encoding="ascii").strip()
    words = pathlib.Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[:-1]
    return [os.fsdecode(word) for word in words]


def write(path: pathlib.Path, size: int) -> None:
    """Write a file with dd, and remove it."""
    mib = -(-size >> 20)
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={mib}"],
        check=True,
        capture_output=True,
    )
    path.unlink()


def rows_of_fabric(tasks: Tasks) -> Iterator[list[str]]:
    """Yield the rows about a leaf-spine fabric, from nothing to verified."""
    took = {}
    for name, variables in (
        ("cold", {"leaf_spine_overrides": {"defaults": {"warm": False}}}),
        ("first warm", {"leaf_spine_overrides": {"defaults": {"warm": True}}}),
        ("warm", {"leaf_spine_overrides": {"defaults": {"warm": True}}}),
        ("first with a key", {"lab_checkpoint_key": "bench"}),
        ("restored", {"lab_checkpoint_key": "bench"}),
    ):
        more = {"leaf_spine_validate": True, "leaf_spine_allow_container": True, **variables}
        took[name] = timed(lambda more=more: tasks.role("leaf_spine", "up", **more))
        tasks.role("leaf_spine", "stop" if name == "first with a key" else "down")
    yield ["leaf_spine 2 x 4 to verified", *(f"{key} {seconds(took[key])}" for key in took)]
    for name, factor in (("warm", WARM_FACTOR), ("restored", RESTORED_FACTOR)):
        limit = factor * took["cold"]
        yield [f"  {name}", seconds(took[name]), f"limit {limit:.2f}", verdict(took[name], limit)]


def guest_image() -> dict[str, Any]:
    """Return the newest image of the routers; the tests have built it."""
    newest = max(IMAGES.glob("frr-*.json"), key=lambda path: path.stat().st_mtime)
    manifest = json.loads(newest.read_text(encoding="utf-8"))
    variables = yaml.safe_load(
        (ROOT / "roles/guest_image/vars/main.yml").read_text(encoding="utf-8")
    )
    key = manifest["key"]
    return {
        "kernel": f"{IMAGES}/vmlinuz-frr-{key}",
        "initrd": f"{IMAGES}/frr-{key}.initrd",
        "cmdline": variables["guest_image_cmdline"],
        "memory": manifest["memory"],
    }


def rows_of_clones(tasks: Tasks) -> Iterator[list[str]]:
    """Yield the rows about routers that continue from a template."""
    noop = statistics.median(timed(tasks.noop) for _time in range(3))
    private, images = {}, {"frr": guest_image()}
    for warm in (False, True):
        lab = routers(1, warm)
        tasks.result("qemu_lab", topology=lab, images=images)  # makes the template
        private[warm] = private_memory(os.path.join(tasks.root, "routers", "r0"))
        tasks.result("qemu_lab", topology=lab, state="absent")
    for count, limit in ((1, CLONE_SECONDS), (CLONES, CLONES * CLONES_SECONDS)):
        lab = routers(count, True)
        took = timed(lambda lab=lab: tasks.run("qemu_lab", topology=lab, images=images)) - noop
        tasks.result("qemu_lab", topology=lab, state="absent")
        yield [
            f"{count} warm routers, ready",
            seconds(took),
            f"limit {limit}",
            verdict(took, limit),
        ]
    limit = private[False] / 2
    yield [
        "  private memory, MiB",
        f"cold {private[False]:.0f}, warm {private[True]:.0f}",
        f"limit {limit:.0f}",
        verdict(private[True], limit),
    ]


def rows_of_checkpoint_clones(tasks: Tasks) -> Iterator[list[str]]:
    """Yield the rows about clones of one checkpoint of a router, made one after the other.

    Times are in addition to that of a run that changes nothing.
    """
    lab, images = routers(1, True), {"frr": guest_image()}
    names = ["clone0", "clone1", "clone2"]
    try:
        tasks.result("qemu_lab", topology=lab, images=images)
        tasks.result("qemu_snapshot", lab="routers", name="s")
        source: dict[str, Any] = {"topology": lab, "images": images, "from": {"checkpoint": "s"}}
        make = functools.partial(tasks.run, "qemu_lab", **source)
        took = [timed(lambda n=n: make(lab_name=n)) for n in names]
        unchanged = timed(lambda: make(lab_name=names[0]))
        private = [private_memory(os.path.join(tasks.root, name, "r0")) for name in names]
    finally:
        for name in [*names, "routers"]:
            tasks.result("qemu_lab", topology=lab, lab_name=name, state="absent")
    yield [
        "clones of a router: the first, the second, the third",
        *(seconds(value - unchanged) for value in took),
    ]
    yield [
        "  private memory, MiB",
        *(f"{value:.0f}" for value in private),
        verdict(private[2], private[0] / 2),
    ]


def routers(count: int, warm: bool) -> dict[str, Any]:
    """Return a topology of routers without links."""
    nodes = {f"r{number}": {} for number in range(count)}
    return {"name": "routers", "defaults": {"kind": "frr", "warm": warm}, "nodes": nodes}


def private_memory(folder: str) -> float:
    """Return the private memory of the QEMU of the VM in a folder, in MiB."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"{folder}/qemu.pid".encode() in (process / "cmdline").read_bytes():
                text = (process / "smaps_rollup").read_text(encoding="ascii")
                if b"qemu-system" in (process / "cmdline").read_bytes().split(b"\0")[0]:
                    return sum(map(int, re.findall(r"^Private_\w+:\s+(\d+)", text, re.M))) / 1024
        except OSError:
            continue
    raise LookupError("the router does not run")


def seconds(value: float) -> str:
    """Return seconds as text."""
    return f"{value:.2f} s"


def verdict(value: float, limit: float) -> str:
    """Return whether a limit is kept, as text."""
    return "ok" if value <= limit else "EXCEEDED"


def rows(where: pathlib.Path, base: pathlib.Path, count: int) -> Iterator[list[str]]:
    """Yield all rows. count: of idle VMs."""
    tasks = Tasks(where, base)
    for found in (
        rows_of_snapshots(tasks, count),
        rows_of_clones(tasks),
        rows_of_checkpoint_clones(tasks),
        rows_of_fabric(tasks),
    ):
        for row in found:
            yield row + [""] * (6 - len(row))
