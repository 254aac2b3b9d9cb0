# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure wirefilter, the program of VDE that does what a wire does, for comparison.

It is in the Debian package vde-wirefilter. It passes frames from its standard input to its standard
output. Each frame has its length before it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

from bench_frames import SIZE, percentiles, processor_seconds, send

_LENGTH = struct.pack(">H", SIZE)


class Case(NamedTuple):
    """One measurement. gap: seconds between two frames."""

    name: str
    arguments: list[str]
    frames: int
    gap: float


CASES = [
    Case("wirefilter, no delay", [], 3000, 0.001),
    Case("wirefilter, 10 ms", ["-d", "10"], 3000, 0.001),
    Case("wirefilter, 50000 frames/s", [], 100000, 0.00002),
]


def is_installed() -> bool:
    """Return whether this host has wirefilter."""
    return shutil.which("wirefilter") is not None


def _receive(pipe: int, frames: int, found: Connection) -> None:
    """Receive all frames, which a pipe does not lose; send the sorted delays in ms."""
    delays = []
    with open(pipe, "rb", buffering=1 << 16, closefd=False) as stream:
        while len(delays) < frames:
            length = stream.read(2)
            if len(length) < 2:
                break
            frame = stream.read(struct.unpack(">H", length)[0])
            delays.append((time.monotonic() - struct.unpack_from("d", frame)[0]) * 1000)
    found.send(sorted(delays))


@contextlib.contextmanager
def _wirefilter(arguments: list[str]) -> Iterator[tuple[int, int, int]]:
    """Run wirefilter. Yield its PID, the pipe to it, and the one from it."""
    with subprocess.Popen(
        ["wirefilter", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin and process.stdout
        try:
            yield process.pid, process.stdin.fileno(), process.stdout.fileno()
        finally:
            process.kill()


def measure(case: Case) -> str:
    """Return a line of the table."""
    with _wirefilter(case.arguments) as (pid, sender, receiver):
        found, results = multiprocessing.Pipe(duplex=False)
        reader = multiprocessing.get_context("fork").Process(
            target=_receive, args=(receiver, case.frames, results)
        )
        reader.start()
        offered = send(lambda frame: os.write(sender, _LENGTH + frame), case.frames, case.gap)
        delays: list[float] = found.recv() if found.poll(30) else []
        reader.kill()
        reader.join()
        seconds = processor_seconds(pid)
    return "%-28s %8.3f %8.3f %9s %9.0f %9d %11.0f" % (
        case.name,
        *percentiles(delays),
        "",
        offered,
        case.frames - len(delays),
        len(delays) / max(seconds, 0.01),
    )
