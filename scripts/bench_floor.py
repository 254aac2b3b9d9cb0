# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Provide the contenders of scripts/bench that do not use the collection.

The floor is the minimum that any program must do to start VMs.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
from typing import Any, Callable, TypeVar

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv/bin"
QEMU = "/usr/bin/qemu-system-x86_64"
AT_ONCE = 4  # VMs that are started at the same time

T = TypeVar("T")


def in_parallel(function: Callable[[int], T], count: int, at_once: int = AT_ONCE) -> list[T]:
    """Call a function with each number below `count` in threads; return the results in order."""
    with concurrent.futures.ThreadPoolExecutor(min(at_once, count)) as pool:
        return list(pool.map(function, range(count)))


def ansible(program: str, *words: str) -> None:
    """Run a program of Ansible; exit if it fails."""
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
    """A way to start VMs. Its files are in the folder `where`."""

    name = ""
    most = 1000  # the maximum number of VMs

    def __init__(self, where: pathlib.Path, base: pathlib.Path) -> None:
        """Create a folder in `where`; `base` is the base image of all VMs."""
        self.where, self.base = where / self.name.replace(" ", "-"), base
        self.where.mkdir()

    def up(self, count: int) -> None:
        """Create and start VMs."""
        raise NotImplementedError

    def noop(self, count: int) -> None:
        """Check that the VMs run, without a change."""
        self.up(count)

    def down(self, count: int) -> None:
        """Remove the VMs."""
        raise NotImplementedError


class Floor(Contender):
    """Start all QEMUs stopped, then continue all guests, which would slow down later starts."""

    name = "floor"
    at_once = AT_ONCE

    def up(self, count: int) -> None:
        for stream in in_parallel(self._start, count, self.at_once):
            self._ask(stream, "cont")
            self._ask(stream, "query-status")
            stream.close()

    def _start(self, number: int) -> io.BufferedRWPair:
        """Start the QEMU of a VM, stopped, and connect to its monitor."""
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
        return self._first_monitor(number, process)

    def _first_monitor(self, number: int, process: subprocess.Popen[bytes]) -> io.BufferedRWPair:
        """Connect to the monitor of a VM whose QEMU is starting."""
        while True:
            try:
                return self._monitor(number)
            except (FileNotFoundError, ConnectionRefusedError):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    sys.exit(f"QEMU ended with {process.wait(0.002)}: {process.args!r}")

    def nics(self, number: int) -> list[str]:
        """Return the QEMU arguments for the NICs of a VM."""
        return ["-netdev", "hubport,id=h0,hubid=0", "-device", "virtio-net-pci,netdev=h0,romfile="]

    def _monitor(self, number: int) -> io.BufferedRWPair:
        """Connect to the monitor of a VM."""
        channel = socket.socket(socket.AF_UNIX)
        with contextlib.closing(channel):
            channel.connect(os.fspath(self.where / str(number) / "qmp.sock"))
            stream = channel.makefile("rwb")  # keeps the connection open
        stream.readline()
        self._ask(stream, "qmp_capabilities")
        return stream

    @staticmethod
    def _ask(stream: io.BufferedRWPair, command: str, **arguments: Any) -> Any:
        """Run a QMP command and return its result."""
        stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        stream.flush()
        answer: dict[str, Any] = {}
        while "return" not in answer:
            answer = json.loads(stream.readline())
            assert "error" not in answer, answer
        return answer["return"]

    def noop(self, count: int) -> None:
        for number in range(count):
            with self._monitor(number) as stream:
                assert self._ask(stream, "query-status")["running"]

    def down(self, count: int) -> None:
        in_parallel(self._end, count, self.at_once)

    def _end(self, number: int) -> None:
        """End a VM and delete its files."""
        pid = int((self.where / str(number) / "pid").read_text())
        with self._monitor(number) as stream, contextlib.suppress(ValueError, OSError):
            self._ask(stream, "quit")
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        shutil.rmtree(self.where / str(number))


class Playbook(Contender):
    """One play with one task."""

    def up(self, count: int) -> None:
        self.play([self.task(count)])

    def task(self, count: int) -> dict[str, Any]:
        """Return the task for a number of VMs."""
        raise NotImplementedError

    def play(self, tasks: list[dict[str, Any]]) -> None:
        """Run a play with these tasks."""
        path = self.where / "play.yml"
        path.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]),
            encoding="utf-8",
        )
        ansible("ansible-playbook", os.fspath(path))
