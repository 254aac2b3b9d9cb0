# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For scripts/bench: the least that any program has to do for some VMs, and what Ansible itself takes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv/bin"
QEMU = "/usr/bin/qemu-system-x86_64"
AT_ONCE = 4  # starts under way


def in_parallel(function, count, at_once=AT_ONCE):
    """function of each number below count; the results in their order."""
    with concurrent.futures.ThreadPoolExecutor(min(at_once, count)) as pool:
        return list(pool.map(function, range(count)))


def ansible(program, *words):
    done = subprocess.run(
        [VENV / program, *words],
        cwd=ROOT,
        env=dict(os.environ, ANSIBLE_CONFIG=os.fspath(ROOT / "ansible.cfg")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{program} failed:\n{done.stdout}{done.stderr}")


class Contender:
    """Something that brings VMs up; where: its folder."""

    name = ""
    most = 1000  # more VMs than this are not asked of it

    def __init__(self, where, base):
        self.where, self.base = where / self.name.replace(" ", "-"), base
        self.where.mkdir()

    def up(self, count):
        raise NotImplementedError

    def noop(self, count):
        self.up(count)


class Floor(Contender):
    """All QEMUs are started stopped, and their guests run when no start is left: they would compete with it."""

    name = "floor"
    at_once = AT_ONCE

    def up(self, count):
        for stream in in_parallel(self._start, count, self.at_once):
            self._ask(stream, "cont")
            self._ask(stream, "query-status")
            stream.close()

    def _start(self, number):
        """Start one VM; the stream to its monitor."""
        folder = self.where / str(number)
        folder.mkdir()
        disk, qmp = folder / "disk0.qcow2", folder / "qmp.sock"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", self.base, "-F", "qcow2", disk],
            check=True,
        )
        process = subprocess.Popen(
            [
                QEMU,
                "-S",
                "-nodefaults",
                "-no-user-config",
                "-machine",
                "pc",
                "-accel",
                "tcg",
                "-m",
                "128",
                "-display",
                "none",
                "-drive",
                f"file={disk},if=none,id=d",
                "-device",
                "virtio-blk-pci,drive=d",
                *self.nics(number),
                "-chardev",
                f"socket,id=s,path={folder}/serial.sock,server=on,wait=off",
                "-serial",
                "chardev:s",
                "-qmp",
                f"unix:{qmp},server=on,wait=off",
                "-pidfile",
                folder / "pid",
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while True:
            try:
                return self._monitor(number)
            except (FileNotFoundError, ConnectionRefusedError):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    sys.exit(f"QEMU ended with {process.wait(0.002)}: {process.args}")

    def nics(self, number):
        return ["-netdev", "hubport,id=h0,hubid=0", "-device", "virtio-net-pci,netdev=h0,romfile="]

    def _monitor(self, number):
        channel = socket.socket(socket.AF_UNIX)
        with contextlib.closing(channel):
            channel.connect(os.fspath(self.where / str(number) / "qmp.sock"))
            stream = channel.makefile("rwb")  # keeps the connection
        stream.readline()
        self._ask(stream, "qmp_capabilities")
        return stream

    @staticmethod
    def _ask(stream, command, **arguments):
        stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        stream.flush()
        answer: dict = {}
        while "return" not in answer:
            answer = json.loads(stream.readline())
            assert "error" not in answer, answer
        return answer["return"]

    def noop(self, count):
        for number in range(count):
            with self._monitor(number) as stream:
                assert self._ask(stream, "query-status")["running"]

    def down(self, count):
        in_parallel(self._end, count, self.at_once)

    def _end(self, number):
        pid = int((self.where / str(number) / "pid").read_text())
        with self._monitor(number) as stream, contextlib.suppress(ValueError, OSError):
            self._ask(stream, "quit")
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        shutil.rmtree(self.where / str(number))


class Playbook(Contender):
    """One play; its tasks come from task()."""

    def up(self, count):
        self.play([self.task(count)])

    def play(self, tasks):
        path = self.where / "play.yml"
        path.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]),
            encoding="utf-8",
        )
        ansible("ansible-playbook", os.fspath(path))
