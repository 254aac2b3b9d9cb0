# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure impaired links on this host: delays, rates, frames per second, memory.

The program of the wires runs as it does for a VM, between two sockets.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import bench_wirefilter
from bench_frames import percentiles, processor_seconds, send
from ansible_collections.vlab.qemu.plugins.module_utils._common.detached_program import start_time
from ansible_collections.vlab.qemu.plugins.module_utils._common.program_archive import (
    program_archive,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire import control, engine, program


class Case(NamedTuple):
    """One measurement. gap: seconds between two frames."""

    name: str
    parameters: dict[str, Any]
    frames: int
    gap: float


CASES = [
    Case("loss 0.001 %", {"loss": 0.001}, 3000, 0.001),
    Case("delay 1 ms", {"delay": 1}, 3000, 0.001),
    Case("delay 10 ms", {"delay": 10}, 3000, 0.001),
    Case("delay 50 ms", {"delay": 50}, 3000, 0.001),
    Case("rate 10 Mbit/s", {"rate": 10000, "limit": 100}, 4000, 0.0005),
    Case("no delay, 50000 frames/s", {"loss": 0.001}, 100000, 0.00002),
    Case("delay 10 ms, 50000 frames/s", {"delay": 10}, 100000, 0.00002),
]


def _socket() -> socket.socket:
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    channel.bind(("127.0.0.1", 0))
    channel.settimeout(1)
    return channel


def _receive(receiver: socket.socket, found: Connection) -> None:
    """Receive until nothing comes any more; send the sorted delays in ms.

    In a process of its own: the sender would wait for it, and both would be slower than the wire.
    """
    delays: list[float] = []
    frame, clock, unpack = bytearray(65536), time.monotonic, struct.Struct("d").unpack_from
    with contextlib.suppress(socket.timeout):
        while True:
            receiver.recv_into(frame)
            delays.append((clock() - unpack(frame)[0]) * 1000)
    delays.sort()
    found.send(delays)


def _status(path: str) -> dict[str, Any]:
    answer = b""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b'{"command": "status"}\n')
        while not answer.endswith(b"\n"):
            answer += client.recv(65536)
    measured: dict[str, Any] = json.loads(answer)["wires"]["eth0"]["measured"]
    return measured


def measure(case: Case, folder: pathlib.Path) -> str:
    """Return a line of the table."""
    with _socket() as probe:
        port = probe.getsockname()[1]
    with _socket() as sender, _socket() as receiver:
        settings = {
            "record": str(folder / "run.json"),
            "control": str(folder / "wires.sock"),
            "pid": os.getpid(),
            "start": start_time(os.getpid()),
            "wires": {
                "eth0": {
                    "listen": ["127.0.0.1", port],
                    "local": list(sender.getsockname()),
                    "remote": list(receiver.getsockname()),
                    "parameters": case.parameters,
                }
            },
        }
        (folder / "wires.pyz").write_bytes(program_archive(program, control, engine))
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        argv = [sys.executable, "-S", "-B", "-I", "wires.pyz", "settings.json"]
        with subprocess.Popen(
            argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                if not process.stdout or process.stdout.readline() != b"ready\n":
                    return "%s: the program does not start" % case.name
                return _row(case, sender, receiver, port, process.pid, settings["control"])
            finally:
                process.kill()


def _row(
    case: Case, sender: socket.socket, receiver: socket.socket, port: int, pid: int, control: str
) -> str:
    found, results = multiprocessing.Pipe(duplex=False)
    reader = multiprocessing.get_context("fork").Process(target=_receive, args=(receiver, results))
    reader.start()
    target = ("127.0.0.1", port)
    offered = send(lambda frame: sender.sendto(frame, target), case.frames, case.gap)
    delays: list[float] = found.recv()
    reader.join()
    measured = _status(control)
    seconds = processor_seconds(pid)
    smaps = pathlib.Path("/proc/%d/smaps_rollup" % pid).read_text(encoding="ascii")
    private = sum(int(line.split()[1]) for line in smaps.splitlines() if "Private" in line)
    return "%-28s %8.3f %8.3f %9s %9.0f %9d %11.0f %7.1f" % (
        case.name,
        *percentiles(delays),
        measured["peak_rate"],
        offered,
        case.frames - measured["frames_in"],
        measured["frames_in"] / max(seconds, 0.01),
        private / 1024,
    )


def main() -> None:
    """Print the table: delays of the whole way from socket to socket."""
    print(
        "%-28s %8s %8s %9s %9s %9s %11s %7s"
        % ("", "p50 ms", "p99 ms", "kbit/s", "frames/s", "not taken", "frames/cpu s", "MiB")
    )
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            print(measure(case, pathlib.Path(folder)), flush=True)
    if not bench_wirefilter.is_installed():
        print("wirefilter is not installed: see the Debian package vde-wirefilter")
        return
    for other in bench_wirefilter.CASES:
        print(bench_wirefilter.measure(other), flush=True)
