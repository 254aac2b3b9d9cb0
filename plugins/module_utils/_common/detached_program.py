# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What the programs have in common that run beside the QEMU of a VM: see _vm/detached.

They run from an archive, see program_archive, and import only the standard library.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time

# Not imported from typing, which costs such a program memory.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, TypeVar

    Program = TypeVar("Program")

PROCESS_INTERVAL = 1  # seconds between two checks of a process whose end the kernel does not report


def begin() -> None:
    """Prepare this process: it ends by SIGTERM, and its files are for its owner only."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.umask(0o177)


def start(make: Callable[[dict[str, Any]], Program]) -> Program | None:
    """Record this process, and make the program from the settings in the file of argument 1.

    After an error, report it and return None.
    """
    begin()
    try:
        with open(sys.argv[1], encoding="utf-8") as stream:
            settings = json.load(stream)
        write_record(settings["record"])
        return make(settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        report("error: %s" % error)
        return None


def _end(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def be_punctual() -> None:
    """Wake up as exactly as the kernel can, and never for the sake of collecting garbage."""
    with contextlib.suppress(OSError), open("/proc/self/timerslack_ns", "w") as stream:
        stream.write("1")
    gc.disable()


def start_time(pid: int) -> int | None:
    """Return when a process started, None if it has ended: proc(5)."""
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" and int(fields[17]) < 2 else int(fields[19])


def write_record(path: str) -> None:
    """Write what identifies this process, as proc(5) shows it."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        boot_id = stream.read().strip()
    record = {"pid": os.getpid(), "start": start_time(os.getpid()), "boot_id": boot_id}
    write_json(path, record)


def write_json(path: str, data: object) -> None:
    """Write a file of JSON for its owner, whole or not at all."""
    with open(path + ".new", "w", encoding="ascii", opener=_private) as stream:
        json.dump(data, stream)
    os.replace(path + ".new", path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def log(text: str) -> None:
    """Write a line to the log, which is the standard error output."""
    with contextlib.suppress(OSError):
        os.write(2, ("%s %s\n" % (time.strftime("%F %T"), text)).encode("utf-8", "replace"))


def report(text: str) -> None:
    """Answer the run that started this process, if that still exists."""
    with contextlib.suppress(OSError):
        os.write(1, text.encode("utf-8", "replace") + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


class Process:
    """A process that this program ends with. handles: they become readable at its end."""

    def __init__(self, pid: int, start: int) -> None:
        if not isinstance(pid, int) or not isinstance(start, int):
            raise ValueError("there is no process to end with")
        self.pid, self.start = pid, start
        self.handles: list[int] = []
        with contextlib.suppress(AttributeError, OSError):
            self.handles.append(os.pidfd_open(pid))
        self._checked_at = 0.0

    def runs(self) -> bool:
        """Return whether the process runs, as far as was seen in the last second."""
        now = time.monotonic()
        if now < self._checked_at and not (
            self.handles and select.select(self.handles, [], [], 0)[0]
        ):
            return True
        self._checked_at = now + PROCESS_INTERVAL
        return start_time(self.pid) == self.start
