# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill module runs and QEMU at many points; the next run must converge and leave nothing behind.

Each run of a module is a process that can be killed at any moment. There are two kinds of moments:
timed points, spread evenly over the duration of the run, for a new interpreter as Ansible starts
it; and the Nth call of the functions that change anything (files, processes, commands to QEMU), for
every N, for a fork of this process.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile

RUNNER = """
import json, sys
sys.path.insert(0, sys.argv[1])
import ansible.module_utils.basic as basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.argv[2].encode(), 'legacy'
import runpy
runpy.run_module('ansible_collections.vlab.qemu.plugins.modules.qemu_vm', run_name='__main__')
"""
PLUGINS = "ansible_collections.vlab.qemu.plugins."


class Wrong(Exception):
    """What a killed run broke."""


def expect(truth, text):
    if not truth:
        raise Wrong(text)


def answer_of(output):
    lines = [
        line for line in output.decode("utf-8", "replace").splitlines() if line.startswith("{")
    ]
    return json.loads(lines[-1]) if lines else None


class Caller:
    """Runs the module."""

    def __init__(self, bundle):
        self.bundle = bundle
        sys.path.insert(0, bundle)
        self.basic = importlib.import_module("ansible.module_utils.basic")
        self.module = importlib.import_module(PLUGINS + "modules.qemu_vm")
        for name in ("_qemu.qemu_img", "_common.iso9660", "_vm.parts.storage.bases"):
            importlib.import_module(PLUGINS + "module_utils." + name)
        self.monitor = importlib.import_module(PLUGINS + "module_utils._qemu.monitor").Monitor

    def fresh(self, params, kill_after=None):
        """A new interpreter. Returns (answer or None when it was killed, seconds)."""
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, self.bundle, _arguments(params)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if kill_after is not None:
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.kill()
        out, err = process.communicate()
        answer = answer_of(out)
        if process.returncode != -signal.SIGKILL:
            expect(answer is not None, "no answer: %s" % err.decode()[-2000:])
        return answer, time.monotonic() - started

    def forked(self, params, kill_at=None):
        """Run a fork of this process that is killed at call number kill_at.

        Return (answer or None, number of calls, the last call).
        """
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                os.close(reader)
                self._child(params, kill_at, writer)
            finally:
                os._exit(70)
        os.close(writer)
        with open(reader, "rb") as stream:
            data = stream.read()
        _pid, status = os.waitpid(pid, 0)
        lines = data.decode("utf-8", "replace").splitlines()
        calls = [line for line in lines if line.startswith("call ")]
        reported = [line for line in lines if not line.startswith("call ")]
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            expect(
                any(line.startswith("{") for line in reported),
                "no answer: %s" % "\n".join(reported)[-3000:],
            )
        return answer_of("\n".join(reported).encode()), len(calls), calls[-1] if calls else ""

    def _child(self, params, kill_at, writer):
        count = [0]
        last = [""]
        kill = os.kill

        def watched(owner, name):
            function = getattr(owner, name)

            def call(*args, **kwargs):
                polled, last[0] = (
                    name in ("wait", "connect") and last[0] in ("wait", "connect"),
                    name,
                )
                if polled:  # while QEMU starts, these alternate
                    return function(*args, **kwargs)
                count[0] += 1
                os.write(
                    writer,
                    ("call %d %s %s\n" % (count[0], name, _shown(args))).encode("utf-8", "replace"),
                )
                if count[0] == kill_at:
                    kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            setattr(owner, name, call)

        for owner, names in (
            (
                os,
                (
                    "replace",
                    "rename",
                    "link",
                    "unlink",
                    "mkdir",
                    "rmdir",
                    "chmod",
                    "fchmod",
                    "kill",
                ),
            ),
            (fcntl, ("flock",)),
            (shutil, ("rmtree",)),
            (subprocess.Popen, ("__init__", "wait", "communicate")),
            (self.monitor, ("connect", "execute", "batch")),
        ):
            for name in names:
                watched(owner, name)
        out = io.StringIO()
        self.basic._ANSIBLE_ARGS, self.basic._ANSIBLE_PROFILE = (
            _arguments(params).encode(),
            "legacy",
        )
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            try:
                self.module.main()
            except Exception:
                import traceback

                out.write(traceback.format_exc())
        data = out.getvalue().encode()
        while data:
            data = data[os.write(writer, data) :]
        os._exit(0)


def _shown(args):
    return " ".join(
        str(arg)[:160].replace("\n", " ") for arg in args if isinstance(arg, (str, list))
    )


def _arguments(params):
    return json.dumps({"ANSIBLE_MODULE_ARGS": params})


def command_lines():
    """{pid: argv} of all live processes."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                argv = pathlib.Path("/proc", entry, "cmdline").read_bytes().split(b"\0")[:-1]
                state = (
                    pathlib.Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
                )
                if state not in "ZX":
                    found[int(entry)] = [os.fsdecode(word) for word in argv]
    return found


def eventually(function, seconds=5):
    """What function returns, once it raises Wrong no more."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return function()
        except Wrong:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Qmp:
    """As little of QMP as the checks need; nothing of the collection's own."""

    def __init__(self, path):
        self.channel = socket.socket(socket.AF_UNIX)
        self.channel.settimeout(10)
        self.channel.connect(path)
        self.stream = self.channel.makefile("rwb")
        self.stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "event" not in answer:
                expect("return" in answer, "%s: %s" % (command, answer))
                return answer["return"]

    def close(self):
        self.stream.close()
        self.channel.close()


class Lab:
    """The VM that is killed, called a, and its neighbours b and c, which are only defined."""

    def __init__(self, work, caller):
        self.caller, self.work, self.root = caller, work, work / "lab"
        self.folder = self.root / "default" / "a"
        self.base = work / "base.qcow2"
        if not self.base.exists():
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", str(self.base), "16M"], check=True
            )
        self.started = {
            "name": "a",
            "root": str(self.root),
            "state": "started",
            "memory": "32",
            "disks": [{"name": "disk0", "backing_file": str(self.base)}],
            "nics": [
                {"name": "eth0", "link": {"peer": "b:eth0"}, "capture": {}},
                {"name": "eth1", "link": {"peer": "b:eth1"}},
                {"name": "eth2", "link": {"type": "user", "forwards": [{"guest_port": 22}]}},
            ],
            "config_drive": {"files": {"hostname": "a\n"}},
            "allow_restart": False,
        }
        self.rewired = dict(
            self.started,
            disks=[
                {"name": "disk0", "backing_file": str(self.base), "size": "32M"},
                {"name": "disk1", "size": "8M"},
            ],
            nics=[
                {"name": "eth0", "link": {"peer": "c:eth0"}, "capture": {}},
                {"name": "eth1", "link": {"peer": "b:eth1"}, "capture": {}},
                {"name": "eth2", "link": {"type": "user", "forwards": [{"guest_port": 22}]}},
                {"name": "eth3", "link": {"peer": "c:eth1"}, "link_down": True},
            ],
        )
        # A link becomes impaired, and one that moves at the same time.
        self.impaired = dict(
            self.started,
            nics=[
                {
                    "name": "eth0",
                    "link": {"peer": "b:eth0", "impair": {"delay": "5ms"}},
                    "capture": {},
                },
                {"name": "eth1", "link": {"peer": "c:eth1", "impair": {"loss": "1%"}}},
                self.started["nics"][2],
            ],
        )
        self.restarted = dict(self.started, vcpus=2, memory="48", allow_restart=True)
        self.present = dict(self.restarted, state="present")
        self.stopped = {"name": "a", "root": str(self.root), "state": "stopped"}
        self.absent = {"name": "a", "root": str(self.root), "state": "absent"}

    def ports(self):
        path = self.root / ".host" / "ports.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def qemus(self):
        return {
            pid: argv
            for pid, argv in command_lines().items()
            if str(self.folder / "qemu.pid") in argv and not argv[0].endswith("/sh")
        }

    def strays(self):
        """Return processes that use the test's files, without its QEMU and the supervisor."""
        mine = self.qemus()
        return {
            pid: argv
            for pid, argv in command_lines().items()
            if any(str(self.root) in word for word in argv)
            and pid not in mine
            and pid != os.getpid()
            and not (argv[0].endswith("/sh") and mine)
            and not (self.wires_program() in argv and mine)
        }

    def wires_program(self):
        return str(self.folder / "wires" / "wires.pyz")

    def check_wires(self, desired):
        """The process of the wires does what is desired, and runs only if it is needed."""
        impaired = {
            nic["name"]: nic["link"]["impair"] for nic in desired["nics"] if "impair" in nic["link"]
        }
        found = [argv for argv in command_lines().values() if self.wires_program() in argv]
        expect(len(found) == (2 if impaired else 0), "processes of the wires: %s" % found)
        if not impaired:
            expect(not (self.folder / "wires").exists(), "the folder of the wires is still there")
            return
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(10)
            channel.connect(str(self.folder / "wires.sock"))
            channel.sendall(b'{"command": "status"}\n')
            answer = json.loads(channel.makefile("rb").readline())
        wires = {name: wire["settings"]["parameters"] for name, wire in answer["wires"].items()}
        numbers = {
            name: {key: int(value.rstrip("ms%")) for key, value in impair.items()}
            for name, impair in impaired.items()
        }
        expect(wires == numbers, "the wires are %s" % wires)

    def check_one_qemu(self):
        found = self.qemus()
        expect(len(found) == 1, "%d QEMUs: %s" % (len(found), sorted(found)))
        supervisors = [
            pid
            for pid, argv in command_lines().items()
            if argv[:2] == ["/bin/sh", "-c"] and str(self.folder / "qemu.pid") in argv
        ]
        expect(len(supervisors) == 1, "%d supervisors" % len(supervisors))
        expect(not self.strays(), "stray processes: %s" % self.strays())
        return next(iter(found))

    def check_files(self):
        left = [
            str(path)
            for path in self.root.rglob("*")
            if path.name.endswith((".new", ".converted"))
            or path.name.startswith(".")
            and path != self.root / ".host"
        ]
        expect(not left, "files left behind: %s" % left)
        for image in self.folder.glob("*.qcow2"):
            done = subprocess.run(
                ["qemu-img", "check", "-U", str(image)], capture_output=True, text=True, check=False
            )
            expect(
                done.returncode == 0, "qemu-img check %s: %s" % (image, done.stdout + done.stderr)
            )
        for path in self.root.rglob("*.json"):
            json.loads(path.read_text())

    def check_ports(self):
        held = self.ports()
        for name in ("a", "b", "c"):
            path = self.root / "default" / name / "vm.json"
            if path.exists():
                for key, port in json.loads(path.read_text())["ports"].items():
                    entries = [
                        entry for place, entry in held.items() if place.endswith("/%d" % port)
                    ]
                    # Another address may have a port of the same number.
                    expect(
                        [entry["key"] for entry in entries].count(key) == 1,
                        "port %d for %s of %s: %s" % (port, key, name, entries),
                    )
        # Cables of a: both VMs of a cable know each end; no port is reserved without need.
        defined = set()
        for path in self.root.glob("default/*/vm.json"):
            defined |= set(json.loads(path.read_text())["ports"].values())
        lost = {
            place: entry
            for place, entry in held.items()
            if int(place.split("/")[-1]) not in defined
        }
        expect(not lost, "ports held for nothing: %s" % lost)

    def check(self, desired, status="running"):
        """The VM is what desired asks for, as QEMU itself reports, and nothing else is there."""
        pid = eventually(self.check_one_qemu)
        self.check_files()
        self.check_ports()
        eventually(lambda: self.check_wires(desired))
        monitor = Qmp(str(self.folder / "qmp.sock"))
        try:
            expect(
                monitor.ask("query-status")["status"] == status,
                "status is %s" % monitor.ask("query-status"),
            )
            devices = {
                entry["name"] for entry in monitor.ask("qom-list", path="/machine/peripheral")
            }
            objects = {entry["name"] for entry in monitor.ask("qom-list", path="/objects")}
            expect(
                {"nic%d" % n for n in range(len(desired["nics"]))}
                == {d for d in devices if d.startswith("nic")},
                "devices: %s" % devices,
            )
            captured = {
                "capture%d" % n for n, nic in enumerate(desired["nics"]) if "capture" in nic
            }
            expect(
                captured == {name for name in objects if name.startswith("capture")},
                "captures: %s" % objects,
            )
            nodes = {node["node-name"]: node for node in monitor.ask("query-named-block-nodes")}
            files = {
                os.path.basename(node["file"]): node
                for node in nodes.values()
                if node["drv"] == "qcow2"
            }
            for disk in desired["disks"]:
                node = files.get(disk["name"] + ".qcow2")
                expect(node is not None, "no node for %s: %s" % (disk["name"], sorted(nodes)))
                size = int(disk.get("size", "16M")[:-1]) << 20
                expect(
                    node["image"]["virtual-size"] == size,
                    "%s has %d bytes" % (disk["name"], node["image"]["virtual-size"]),
                )
            attached = [block for block in monitor.ask("query-block") if block.get("inserted")]
            expect(len(attached) == len(desired["disks"]) + 1, "%d drives" % len(attached))
            expect(len(files) == len(desired["disks"]) + 1, "qcow2 nodes: %s" % sorted(files))
            memory = monitor.ask("query-memory-size-summary")["base-memory"]
            expect(memory == int(desired["memory"]) << 20, "memory is %d" % memory)
            expect(len(monitor.ask("query-cpus-fast")) == desired.get("vcpus", 1), "vcpus")
            self.check_network(
                monitor.ask("human-monitor-command", **{"command-line": "info network"}), desired
            )
        finally:
            monitor.close()
        run = json.loads((self.folder / "run.json").read_text())
        expect(run["pid"] == pid, "run.json has process %s, QEMU is %d" % (run["pid"], pid))
        return pid

    def check_network(self, text, desired):
        definition = json.loads((self.folder / "vm.json").read_text())
        ports = definition["ports"]
        hubs = {}
        for part in text.split("hub ")[1:]:
            lines = part.splitlines()
            # "hub 1" may come twice: once as a hub, and in the lines of NICs.
            if lines and lines[0].strip().isdigit():
                hubs[int(lines[0])] = part
        for number, nic in enumerate(desired["nics"]):
            hub = hubs.get(number, "")
            if "peer" in nic["link"]:
                other = ports["/default/" + nic["link"]["peer"].replace(":", "/")]
                if "impair" in nic["link"]:
                    other = ports["nics/%s/wire" % nic["name"]]
                # The loopback address depends on the root.
                expect(
                    re.search(r"udp=127\.[0-9.]+:%d\b" % other, hub),
                    "%s: port %d is not in its hub: %s" % (nic["name"], other, text),
                )
            else:
                forward = next(
                    port for key, port in ports.items() if key.startswith("nics/%s/" % nic["name"])
                )
                expect("link%d" % number in hub, "%s has no link: %s" % (nic["name"], text))
                expect(forward, "no forward")
        expect(text.count("plug") >= len(desired["nics"]), "plugs: %s" % text)
        links = sum("link%d" % n in text for n in range(20))
        expect(links == len(desired["nics"]), "%d links: %s" % (links, text))

    def check_gone(self):
        """Nothing of the VM is left; its neighbours are."""

        def no_process():
            expect(
                not self.qemus() and not self.strays(),
                "processes: %s %s" % (self.qemus(), self.strays()),
            )

        eventually(no_process)
        expect(
            not self.folder.exists(),
            "the folder is still there: %s"
            % (list(self.folder.iterdir()) if self.folder.exists() else ""),
        )
        self.check_files()
        mine = {
            place: entry for place, entry in self.ports().items() if "default/a" in entry["vms"]
        }
        expect(not mine, "ports: %s" % mine)

    def check_stopped(self):
        def no_process():
            expect(
                not self.qemus() and not self.strays(),
                "processes: %s %s" % (self.qemus(), self.strays()),
            )

        eventually(no_process)
        expect((self.folder / "vm.json").exists(), "the definition does not exist")
        left = [
            path.name
            for path in self.folder.iterdir()
            if path.name.endswith(".sock") or path.name == "qemu.pid"
        ]
        expect(not left, "left behind: %s" % left)
        self.check_files()

    def do(self, params, text):
        answer = self.caller.forked(params)[0]
        expect(not answer.get("failed"), "%s: %s" % (text, answer.get("msg")))
        return answer

    def come_to(self, params):
        """Bring the VM into the state that a scenario begins with."""
        if params is self.absent:
            self.do(self.absent, "preparing")
        else:
            self.do(self.absent, "preparing")
            self.do(params, "preparing")

    def after(self, params, status):
        """After a killed run, the same run converges; the run after that changes nothing."""
        self.do(params, "the run after")
        again = self.do(params, "the second run after")
        expect(
            not again["changed"],
            "the second run after says changed: %s" % json.dumps(again.get("changes")),
        )
        if params["state"] == "absent":
            self.check_gone()
        elif params["state"] == "stopped":
            self.check_stopped()
        else:
            self.check(params, status)

    def remove_all(self):
        for name in ("a", "b", "c"):
            self.do(dict(self.absent, name=name), "removing " + name)
        self.check_gone()
        expect(not self.ports(), "ports: %s" % self.ports())
        left = [
            str(path)
            for path in self.root.rglob("*")
            if path.name not in (".host", "ports.json", "ports.lock", "default")
        ]
        expect(not left, "files: %s" % left)


NAMES = (
    "create",
    "live",
    "restart",
    "present",
    "impair",
    "impair no more",
    "start impaired",
    "stop",
    "absent",
)


def scenarios(lab):
    """name: (state before, the run that is killed)."""
    return {
        "create": (lab.absent, lab.started),
        "live": (lab.started, lab.rewired),
        "restart": (lab.started, lab.restarted),
        "present": (lab.started, lab.present),
        "impair": (lab.started, lab.impaired),
        "impair no more": (lab.impaired, lab.started),
        "start impaired": (lab.absent, lab.impaired),
        "stop": (lab.started, lab.stopped),
        "absent": (lab.started, lab.absent),
    }


def attempt(lab, label, failures, function):
    try:
        function()
    except Wrong as wrong:
        failures.append("%s: %s" % (label, wrong))
        print("FAILED %s: %s" % (label, wrong), flush=True)
        lab.clear()


def clear(lab):
    """After a failure: begin again."""
    for pid, argv in command_lines().items():
        if any(str(lab.root) in word for word in argv) and pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(lab.root, ignore_errors=True)
    neighbours(lab)


def neighbours(lab):
    for name in ("b", "c"):
        lab.do(
            {
                "name": name,
                "root": str(lab.root),
                "state": "present",
                "disks": [],
                "nics": [
                    {"name": "eth%d" % n, "link": {"peer": "a:%s" % end}}
                    for n, end in enumerate(("eth0", "eth1") if name == "b" else ("eth0", "eth3"))
                ],
            },
            "defining " + name,
        )


def steps(lab, names, every, offset, failures):
    """Die at call number N, for each N."""
    done = 0
    for name in names:
        before, run = scenarios(lab)[name]
        lab.come_to(before)
        answer, total, _last = lab.caller.forked(run)
        expect(not answer.get("failed"), "%s: %s" % (name, answer.get("msg")))
        started = time.monotonic()
        for number in range(1 + offset % every, total + 1, every):

            def once(number=number):
                lab.come_to(before)
                _answer, _calls, last = lab.caller.forked(run, kill_at=number)
                once.last = last
                lab.after(run, "running")

            once.last = ""
            count = len(failures)
            attempt(lab, "%s, call %d of %d" % (name, number, total), failures, once)
            if len(failures) > count:
                failures[-1] += " [%s]" % once.last
                print("       ", once.last, flush=True)
            done += 1
        print(
            "%s: %d calls, every %d killed, %.1f s"
            % (name, total, every, time.monotonic() - started),
            flush=True,
        )
    return done


def timed(lab, names, points, failures):
    """Die after a time; the times are spread evenly over what the run takes."""
    done = 0
    for name in names:
        before, run = scenarios(lab)[name]
        lengths = []
        for _repetition in range(3):
            lab.come_to(before)
            answer, seconds = lab.caller.fresh(run)
            expect(not answer.get("failed"), "%s: %s" % (name, answer.get("msg")))
            lengths.append(seconds)
        # Where the work begins: an interpreter that is still importing has done nothing.
        imports = min(
            lab.caller.fresh({"name": "nobody", "root": str(lab.root), "state": "absent"})[1]
            for _repetition in range(3)
        )
        begin, end = imports * 0.8, sorted(lengths)[1]
        for number in range(points):
            moment = begin + (end - begin) * (number + lab.random.random()) / points

            def once(moment=moment):
                lab.come_to(before)
                lab.caller.fresh(run, kill_after=moment)
                lab.after(run, "running")

            attempt(lab, "%s, killed after %.3f of %.3f s" % (name, moment, end), failures, once)
            done += 1
        print("%s: %d points from %.3f to %.3f s" % (name, points, begin, end), flush=True)
    return done


def qemu_itself(lab, failures):
    """Kill QEMU in each state, then run the same again, and each state after a crash."""
    cases = {
        "running": (lab.started, lab.started, "running"),
        "rewired": (lab.rewired, lab.rewired, "running"),
        "paused": (
            dict(lab.started, state="paused"),
            dict(lab.started, state="paused"),
            "prelaunch",
        ),
        "running, then stopped": (lab.started, lab.stopped, None),
        "running, then absent": (lab.started, lab.absent, None),
        "running, then another definition": (lab.started, lab.restarted, "running"),
        "running, then restarted": (lab.started, dict(lab.started, state="restarted"), "running"),
    }
    for name, (before, run, status) in cases.items():

        def once(before=before, run=run, status=status):
            lab.come_to(before)
            for pid in lab.qemus():
                os.kill(pid, signal.SIGKILL)

            def ended():
                expect(not lab.qemus(), "QEMU is still there")

            eventually(ended)
            if run["state"] == "restarted":
                lab.do(run, "the run after")
                lab.check(run, status)
            else:
                lab.do(run, "the run after")
                again = lab.do(run, "the second run after")
                expect(
                    not again["changed"],
                    "the second run after says changed: %s" % json.dumps(again["changes"]),
                )
                if status:
                    lab.check(run, status)
                elif run["state"] == "absent":
                    lab.check_gone()

        attempt(lab, "QEMU killed: " + name, failures, once)
    return len(cases)


def nothing_to_do(lab, failures):
    """A run without a change makes one connection to QEMU, starts no process, writes no file."""
    seen = []

    def hook(event, arguments):
        if event in (
            "socket.connect",
            "subprocess.Popen",
            "os.fork",
            "os.forkpty",
            "os.posix_spawn",
            "os.exec",
            "os.system",
            "os.rename",
        ):
            seen.append((event, str(arguments[-1])))
        elif (
            event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            # The command line of a VM that does not run depends on whether KVM works.
            if not str(arguments[0]).endswith(("/lock", "/dev/kvm")):
                seen.append((event, str(arguments[0])))

    def once(params, connections):
        lab.come_to(lab.started)
        lab.do(params, "preparing")
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            sys.addaudithook(hook)
            lab.caller.basic._ANSIBLE_ARGS, lab.caller.basic._ANSIBLE_PROFILE = (
                _arguments(params).encode(),
                "legacy",
            )
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                lab.caller.module.main()
            os.write(
                writer, json.dumps([seen, answer_of(out.getvalue().encode())["changed"]]).encode()
            )
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as stream:
            done, changed = json.loads(stream.read())
        os.waitpid(pid, 0)
        expect(not changed, "it says changed")
        expect(
            [event for event, _what in done] == ["socket.connect"] * connections, "it did %s" % done
        )

    for params, connections in (
        (lab.started, 1),
        (dict(lab.started, state="present"), 1),
        (lab.stopped, 0),
    ):
        attempt(
            lab,
            "nothing to do, %s" % params["state"],
            failures,
            lambda params=params, connections=connections: once(params, connections),
        )
    return 3


def unpacked(bundle):
    """Unpack a bundle; each new interpreter need not compile its files then."""
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(bundle + ".unpacked")
    return bundle + ".unpacked"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--only", default="nothing,qemu,timed,steps")
    parser.add_argument("--scenarios", default=",".join(NAMES))
    parser.add_argument(
        "--every", type=int, default=1, help="of the calls, kill each which is a multiple of this"
    )
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--points", type=int, default=10, help="timed points for each scenario")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    caller = Caller(unpacked(args.bundle))
    lab = Lab(args.work, caller)
    lab.random = random.Random(args.seed)
    lab.clear = lambda: clear(lab)
    names, failures, done = args.scenarios.split(","), [], 0
    try:
        neighbours(lab)
        if "nothing" in args.only:
            done += nothing_to_do(lab, failures)
        if "steps" in args.only:
            done += steps(lab, names, args.every, args.offset, failures)
        if "timed" in args.only:
            done += timed(lab, names, args.points, failures)
        if "qemu" in args.only:
            done += qemu_itself(lab, failures)
        lab.remove_all()
    finally:
        for pid, argv in command_lines().items():
            if (
                any(str(lab.root) in word for word in argv)
                and pid != os.getpid()
                and "kill.py" not in " ".join(argv)
            ):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    print("%d points, %d failures" % (done, len(failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
