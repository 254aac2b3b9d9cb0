# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure a lab of 1000 nodes and 2000 links on 50 hypervisors, for scripts/bench.

The hypervisors are hosts of an inventory with connection local, each with an address and a folder
of its own on this host, in a network namespace; scripts/bench_qemu.py stands in for QEMU. So the
times contain the work of all hypervisors, which 50 machines would do at the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench_floor import ROOT, VENV

NODES_PER_HOST, LINKS_PER_NODE = 20, 2
SIZES = (100, 300, 1000)  # nodes
# Seconds for the largest lab. A phase without a limit only prepares the others.
LIMITS = {"plan": 5.0, "no change": 10.0, "one link": 10.0}
LINEAR = 1.5  # times as long for each node of the largest lab as for one of the smallest
_INSIDE = "VLAB_BENCH_NAMESPACE"  # the environment variable with the PID of the program inside
_SAMPLE = 0.5  # seconds between two looks at the memory
_TIMEOUT = 900  # seconds for a phase


class Figures(NamedTuple):
    """Of a phase: seconds, processor seconds on the controller and on the hypervisors, and MiB."""

    seconds: float
    controller: float
    hypervisors: float
    memory: float

    @property
    def quiet_seconds(self) -> float:
        """The seconds, also if other programs use this machine: all its processors work."""
        cores = len(os.sched_getaffinity(0))
        busy = os.getloadavg()[0] > 2 * cores
        return (self.controller + self.hypervisors) / cores if busy else self.seconds


def topology(nodes: int, binary: pathlib.Path, moved: bool) -> dict[str, Any]:
    """Return a lab. moved: the last link ends at the spare NIC of n0."""
    links = [
        f"n{number}:eth{2 * ring + 1} -- n{(number + 1 + 7 * ring) % nodes}:eth{2 * ring + 2}"
        for ring in range(LINKS_PER_NODE)
        for number in range(nodes)
    ]
    if moved:
        links[-1] = links[-1].partition(" -- ")[0] + " -- n0:eth5"
    return {
        "name": "thousand",
        "kinds": {"blank": {"vm": {"memory": 32, "qemu_binary": os.fspath(binary)}}},
        "defaults": {"kind": "blank", "disks": [], "accel": "tcg", "machine": "pc"},
        "nodes": {"n0": {"nics": {"eth5": {}}}, **{f"n{number}": {} for number in range(1, nodes)}},
        "links": links,
        "addressing": {"loopback": "10.255.0.0/16", "links": "10.0.0.0/12"},
    }


class Lab:
    """A lab of a number of nodes. where: a short path, because sockets have short paths."""

    def __init__(self, nodes: int, where: pathlib.Path) -> None:
        self.nodes, self.where = nodes, where
        self.hosts = [f"h{number}" for number in range(nodes // NODES_PER_HOST)]
        self.binary = where / "qemu-system-x86_64"
        self.binary.write_text(
            f"#!{os.path.realpath(sys.executable)} -IS\n"
            + (ROOT / "scripts/bench_qemu.py").read_text(encoding="utf-8"),
            encoding="utf-8",
        )
        self.binary.chmod(0o700)
        hosts = {
            host: {"ansible_connection": "local", "vlab_address": f"198.18.0.{number}"}
            for number, host in enumerate(self.hosts, 1)
        }
        # It adds up the processor seconds of the hypervisors.
        self.times = where / "times"
        python = where / "python3"
        python.write_text(
            f'#!/bin/bash\n{os.path.realpath(sys.executable)} "$@"\nended=$?\n'
            f"times >>{self.times}\nexit $ended\n",
            encoding="utf-8",
        )
        python.chmod(0o700)
        variables = {"ansible_python_interpreter": os.fspath(python)}
        self._write("inventory.json", {"all": {"hosts": hosts, "vars": variables}})

    def _write(self, name: str, content: Any) -> str:
        path = self.where / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return os.fspath(path)

    def play(
        self, changes: bool | None, check: bool = False, moved: bool = False, **more: Any
    ) -> Figures:
        """Run qemu_lab on all hypervisors; exit if it fails.

        changes: whether it is to change something, None for both.
        """
        lab = self._write("lab.json", topology(self.nodes, self.binary, moved))
        options = {
            "topology": lab,
            "root": os.fspath(self.where / "{{ inventory_hostname }}"),
            "image_dir": os.fspath(self.where / "images"),
            "allow_container": True,
            **more,
        }
        play = {"hosts": "all", "gather_facts": False, "tasks": [{"vlab.qemu.qemu_lab": options}]}
        words = ["-i", self.where / "inventory.json", self._write("play.json", [play])]
        words += ["--forks", str(len(self.hosts)), *(["--check"] if check else [])]
        self.times.write_text("", encoding="ascii")
        figures, output = _run([VENV / "ansible-playbook", *words])
        used = sum(map(_seconds, self.times.read_text(encoding="ascii").split()))
        recap = [line for line in output.splitlines() if "unreachable=" in line]
        changed = sum("changed=0" not in line for line in recap)
        if len(recap) != len(self.hosts) or changes not in (None, bool(changed)):
            sys.exit(f"{changed} of {len(self.hosts)} hosts have changed:\n{output[-5000:]}")
        return figures._replace(controller=figures.controller - used, hypervisors=used)

    def plan(self) -> Figures:
        """Derive the lab and the shares of all hosts once, as the controller does."""
        code = f"import sys; sys.path[:0] = {sys.path!r}\nimport bench_thousand\n"
        code += f"bench_thousand.derive({self.nodes}, {os.fspath(self.binary)!r})"
        return _run([VENV / "python", "-c", code])[0]

    def phases(self) -> Iterator[tuple[str, Figures]]:
        """Yield the phases and their figures."""
        yield "plan", self.plan()
        yield "check mode", self.play(True, check=True)
        try:
            yield "up", self.play(True)
            self.play(False)  # the second run fills the caches of the first
            yield "no change", self.play(False)
            yield "one link", self.play(True, moved=True)
        finally:
            down = self.play(None, state="absent")
        yield "down", down


def derive(nodes: int, binary: str) -> None:
    """Derive a lab and the shares of all hypervisors in this process."""
    from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
        builder,
        endpoints,
        host_shares,
        placement,
    )

    hosts = {f"h{n}": f"198.18.0.{n + 1}" for n in range(nodes // NODES_PER_HOST)}
    lab = builder.build(topology(nodes, pathlib.Path(binary), False))
    placed = placement.place(lab, hosts)
    udp = endpoints.UdpEndpoints(lab, placed, hosts)
    states = dict.fromkeys(lab.nodes, "started")
    runs = dict.fromkeys(lab.nodes, True)
    for host in hosts:
        host_shares.share_for(lab, placed, host, udp, states, runs, lambda _node, text: text)


def _run(argv: list[Any]) -> tuple[Figures, str]:
    """Run a program of the controller; return its figures and output. Exit if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started, memory = time.perf_counter(), 0.0
    environment = dict(os.environ, ANSIBLE_CONFIG=os.fspath(ROOT / "ansible.cfg"))
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        output = None
        while output is None:
            memory = max(memory, _memory(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                output = process.communicate(timeout=_SAMPLE)[0]
            if time.perf_counter() - started > _TIMEOUT:
                process.kill()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        sys.exit(f"{argv[0]} failed:\n{output[:5000]}")
    return Figures(seconds, sum(after[:2]) - sum(before[:2]), 0, memory), output


def _seconds(text: str) -> float:
    """Return the seconds of bash's times, such as 0m1.234s."""
    minutes, _m, seconds = text.rstrip("s").partition("m")
    return 60 * int(minutes) + float(seconds)


def _memory(pid: int) -> float:
    """Return the MiB of a process and its forks, with shared pages counted once."""
    total = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if int(path.name) != pid:
                is_fork = b"ansible-playbook" in (path / "cmdline").read_bytes()
                if not is_fork or os.getpgid(int(path.name)) != os.getpgid(pid):
                    continue
            for line in (path / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def enter_namespace() -> None:
    """Run this program again in a network namespace, where the hypervisors have addresses."""
    if os.environ.get(_INSIDE) != str(os.getpid()):
        as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
        os.environ[_INSIDE] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--net", *as_root, sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # All addresses of a network of the loopback device are local.
    subprocess.run(["ip", "address", "add", "198.18.0.0/24", "dev", "lo"], check=True)


def check(where: pathlib.Path) -> Iterator[str]:
    """Print the figures of all labs; yield the violations of the limits."""
    found: dict[int, dict[str, Figures]] = {}
    for nodes in SIZES:
        folder = where / str(nodes)
        folder.mkdir()
        print(f"{nodes} nodes, {nodes * LINKS_PER_NODE} links, {nodes // NODES_PER_HOST} hosts")
        found[nodes] = {}
        for phase, figures in Lab(nodes, folder).phases():
            found[nodes][phase] = figures
            print(
                f"  {phase:<10} {figures.seconds:6.2f} s, {figures.memory:3.0f} MiB, processor "
                f"seconds: {figures.controller:5.2f} controller, "
                f"{figures.hypervisors:5.2f} hypervisors",
                flush=True,
            )
    least, most = found[SIZES[0]], found[SIZES[-1]]
    for phase, limit in LIMITS.items():
        seconds = most[phase].quiet_seconds
        if seconds > limit:
            yield f"{phase}: {seconds:.1f} s; the limit is {limit:.0f} s"
        growth = seconds / least[phase].quiet_seconds * SIZES[0] / SIZES[-1]
        if growth > LINEAR:
            yield f"{phase}: {growth:.1f} times as long for each node; the limit is {LINEAR}"
