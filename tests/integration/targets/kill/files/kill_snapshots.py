# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill runs that take, return to, clone and remove snapshots of one VM, and that suspend it.

    python3 kill_snapshots.py BUNDLE FOLDER --seed N --count N

A run is killed at a random moment and repeated. Then the VM runs, its disk has what was written
last (or when the snapshot was taken), no image is damaged, and no file is left that no snapshot and
no disk needs. A clone has what its snapshot has, and its origin and another clone, with which it
shares memory, see nothing of it. QEMU itself writes to the disk, as a guest would.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time

PATTERN_SIZE = "64k"
MAX_DELAY = 0.25  # seconds: an undisturbed run takes 0.1 to 0.3
NAMES = ("s0", "s1", "s2")


class World:
    """One VM, what is on its disk, and what was there when each snapshot was taken."""

    def __init__(self, folder: str, seed: int) -> None:
        self.root = os.path.join(folder, "snapshots")
        self.folder = os.path.join(self.root, "default", "v")
        self.chance = random.Random(seed)
        self.saved: dict[str, int] = {}
        self.kills = self.shared = 0

    def vm(self, state, **more):
        spec = {name: option.get("default") for name, option in settings.SETTINGS_SPEC.items()}
        params = {**spec, "root": self.root, "lab": "default", "name": "v", **more}
        params["allow_container"] = True
        return converge.converge_vm(dict(params, state=state), False)

    def snapshot(self, state, name, purge=False):
        params = {"root": self.root, "lab": "default", "vm": "v", "name": name, "state": state}
        params.update(memory=True, description="", keep=None, purge=purge, stop_at=None)
        params.update(allow_definition_changes=False, save_timeout=60, lock_timeout=60)
        return snapshots.converge_snapshots(dict(params, start_timeout=30), False)

    def io(self, command, name="v"):
        """Let the QEMU of a VM access its disk, through the node that its device has."""
        socket = os.path.join(os.path.dirname(self.folder), name, "qmp.sock")
        with monitor.Monitor(socket) as qmp:
            devices = qmp.execute("query-block")
            node = next(
                entry["inserted"]["node-name"] for entry in devices if entry.get("inserted")
            )
            answer = qmp.human('qemu-io %s "%s"' % (node, command))
        assert "fail" not in answer.lower() and "error" not in answer.lower(), (command, answer)

    def write(self):
        self.pattern = self.chance.randrange(1, 255)
        self.io("write -P %d 0 %s" % (self.pattern, PATTERN_SIZE))

    def killed(self, function, *arguments, max_delay=MAX_DELAY):
        """Run a function in a process, and kill it at a random moment."""
        deadline = time.monotonic() + self.chance.uniform(0, max_delay)
        pid = os.fork()
        if pid == 0:
            try:
                function(*arguments)
            finally:
                os._exit(0)
        while time.monotonic() < deadline:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.kills += 1

    def killed_at(self, owner, function, given):
        """Kill a run that starts a VM when it calls a function."""
        pid = os.fork()
        if pid == 0:
            setattr(owner, function, lambda *_arguments: os._exit(0))
            try:
                self.vm("started", **given)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0

    def clone(self, snapshot):
        """Make two clones of a snapshot, write to one, and remove it; each run is killed once."""
        origin = {"from": {"lab": "default", "vm": "v", "snapshot": snapshot}}
        source = {"name": "c", **origin}
        self.vm("started", **{**origin, "name": "b"})
        # As the first clones of the snapshot: it has its files, but no definition yet; its QEMU
        # writes to the file of the shared memory; that QEMU has ended.
        shutil.rmtree(os.path.join(self.folder, "snapshots", snapshot, "shared"), True)
        memory = shared_memory.SharedMemory
        points = [(definition, "save"), (memory, "save"), (memory, "complete")]
        self.killed_at(*self.chance.choice(points), source)
        self.vm("started", **source)
        self.io("read -P %d 0 %s" % (self.saved[snapshot], PATTERN_SIZE), "c")
        self.vm("absent", name="c")
        for state, given in (("started", source), ("absent", {"name": "c"})):
            # It starts QEMU twice.
            delay = 2 * MAX_DELAY
            self.killed(lambda state=state, given=given: self.vm(state, **given), max_delay=delay)
            self.vm(state, **given)
            if state == "started":
                self.io("read -P %d 0 %s" % (self.saved[snapshot], PATTERN_SIZE), "c")
                self.io("write -P 255 0 %s" % PATTERN_SIZE, "c")
                self.check()
                self.check_shared(snapshot)
        self.io("read -P %d 0 %s" % (self.saved[snapshot], PATTERN_SIZE), "b")
        self.vm("absent", name="b")
        left = os.listdir(os.path.dirname(self.folder))
        assert left == ["v"], left

    def check_shared(self, snapshot):
        """Check that no QEMU can write to the memory that clones share."""
        path = os.path.join(self.folder, "snapshots", snapshot, "shared")
        is_complete = os.path.exists(os.path.join(path, "shared.json"))
        self.shared += is_complete
        pid = facts.vm_facts(self.root, "default", "c")[0][0]["pid"]
        with open("/proc/%d/maps" % pid, encoding="utf-8") as stream:
            mapped = [line.split()[1] for line in stream if path in line and "deleted" not in line]
        assert not is_complete or all(mode.endswith("p") for mode in mapped), mapped

    def step(self):
        operation = self.chance.choice(["present", "reverted", "absent", "suspended", "clone"])
        name = self.chance.choice(NAMES)
        if operation == "suspended":
            self.killed(self.vm, "suspended")
            self.vm("started")
        elif operation == "clone" and name in self.saved:
            self.clone(name)
        elif operation == "present" and name not in self.saved:
            self.killed(self.snapshot, "present", name)
            self.vm("present")
            self.check()
            self.snapshot("present", name)
            self.saved[name] = self.pattern
        elif operation in ("reverted", "absent") and name in self.saved:
            self.killed(self.snapshot, operation, name)
            self.snapshot(operation, name)
            if operation == "absent":
                del self.saved[name]
            else:
                self.pattern = self.saved[name]
        self.check()
        self.write()

    def check(self):
        """Check the VM, its disk and its files."""
        status = facts.vm_facts(self.root, "default", "v")[0][0]["status"]
        assert status == "running", status
        self.io("read -P %d 0 %s" % (self.pattern, PATTERN_SIZE))
        images = [name for name in os.listdir(self.folder) if name.endswith(".qcow2")]
        for name in images:
            path = os.path.join(self.folder, name)
            checked = subprocess.run(
                ["qemu-img", "check", "-U", "-q", path], capture_output=True, text=True, check=False
            )
            assert checked.returncode in (0, 3), (name, checked)  # 3: leaked clusters, of a kill

    def check_files(self):
        """Check that nothing is left of what was removed."""
        images = [name for name in os.listdir(self.folder) if name.endswith(".qcow2")]
        assert len(images) <= len(self.saved) + 1, (images, self.saved)
        folder = os.path.join(self.folder, "snapshots")
        found = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        assert found == set(self.saved), (found, self.saved)

    def run(self, count):
        self.vm("started", memory="32", accel="tcg", nics=[], disks=[{"name": "d", "size": "4M"}])
        self.write()
        while self.kills < count:
            self.step()
            self.check_files()
        for name in list(self.saved):
            self.snapshot("reverted", name)
            self.pattern = self.saved[name]
            self.check()
        self.snapshot("absent", None, purge=True)
        self.vm("absent")
        assert not os.listdir(self.root), os.listdir(self.root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    given = parser.parse_args()
    sys.path.insert(0, given.bundle)
    from ansible_collections.vlab.qemu.plugins.module_utils._lab import snapshots
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu import monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm import (
        converge,
        definition,
        facts,
        settings,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import shared_memory

    world = World(given.folder, given.seed)
    world.run(given.count)
    print("%d runs on snapshots killed, 0 wrong, %d share" % (world.kills, world.shared))
