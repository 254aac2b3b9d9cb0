# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send frames at a rate through the program of a wire or another one, and sum up its delays."""

from __future__ import annotations

import os
import pathlib
import struct
import time
from collections.abc import Callable, Sequence

SIZE = 1400  # bytes of a frame
_BURST = 20  # frames between two pauses of the sender


def send(write: Callable[[bytes], object], frames: int, gap: float) -> float:
    """Send frames that begin with the time; return how many a second were sent.

    gap: seconds between two frames.
    """
    padding, start = bytes(SIZE - 8), time.monotonic()
    for number in range(frames):
        if number % _BURST == 0 or gap >= 0.0005:
            time.sleep(max(0.0, start + number * gap - time.monotonic()))
        write(struct.pack("d", time.monotonic()) + padding)
    return frames / (time.monotonic() - start)


def percentiles(delays: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile of sorted delays, 0 without any."""
    if not delays:
        return 0, 0
    return delays[len(delays) // 2], delays[len(delays) * 99 // 100]


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    stat = pathlib.Path("/proc/%d/stat" % pid).read_text(encoding="ascii").split()
    return (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK")
