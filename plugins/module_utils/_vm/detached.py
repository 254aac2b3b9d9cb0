# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Python programs of a VM that run beside its QEMU, outlive the run, and end with QEMU.

Each writes a record of itself and one line, "ready" or an error. It is recognised by pid, start
time and boot id.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import Any, NamedTuple, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_json,
    read_text,
    remove_file,
    tail,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    find_processes,
    process_start_time,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import process
from ansible_collections.vlab.qemu.plugins.module_utils._vm.supervisor import start_supervised

_START_TIMEOUT = 60  # seconds: the host may be busy
_MAX_ANSWER = 4096  # bytes


class Detached(NamedTuple):
    """A program. title: for errors. supervisor: the name of its shell. The others are paths."""

    title: str
    supervisor: str
    program: str
    record: str
    exit_code: str
    log: str

    def running_pid(self) -> int | None:
        """Return the pid of the program, None if it does not run."""
        try:
            record = read_json(self.record)
        except HostError:
            record = None  # it is damaged: the next run starts the program again
        if not isinstance(record, dict) or record.get("boot_id") != boot_id():
            return None
        pid, start = record.get("pid"), record.get("start")
        if not isinstance(pid, int) or not isinstance(start, int):
            return None
        return pid if process_start_time(pid) == start else None

    def state(self) -> dict[str, Any]:
        """Return what is reported about the program of a running VM."""
        pid = self.running_pid()
        code = (read_text(self.exit_code) or "").strip()
        return {
            "status": "ended" if pid is None else "running",
            "pid": pid,
            "exit_code": int(code) if pid is None and code.isdigit() else None,
            "log": self.log,
        }

    def start(self, content: bytes | str, arguments: Sequence[str], options: str = "") -> None:
        """Start the program; an earlier one has ended. Raises HostError.

        content: of the program. options: of Python beside -I.
        """
        write_atomically(self.program, content)
        argv = [sys.executable or "python3", *options.split(), "-I", self.program, *arguments]
        reader, writer = os.pipe()
        try:
            try:
                start_supervised(self.supervisor, argv, self.exit_code, self.log, stdout=writer)
            except OSError as error:
                raise HostError("cannot run %s: %s" % (argv[0], error.strerror), cmd=argv)
            finally:
                os.close(writer)
            answer = _read_answer(reader)
        finally:
            os.close(reader)
        if answer != "ready":
            self.end(0)
            raise HostError(
                "%s does not start: %s"
                % (self.title, answer or tail(self.log) or "it printed nothing"),
                cmd=argv,
            )

    def end(self, timeout: float) -> None:
        """End the program, also one without a record, and remove its files but the log.

        timeout: for it to end by itself, as it does after QEMU.
        """
        if not os.path.lexists(self.program):
            return
        pid = self.running_pid()
        for each in [pid] if pid else find_processes("-I", self.program):
            started = process_start_time(each)
            if not wait_for_exit(each, started, timeout):
                process.kill(each, started)
        for path in (self.record, self.exit_code, self.program):
            remove_file(path)


def _read_answer(reader: int) -> str:
    """Return the first line that the program writes, as far as it comes in time."""
    deadline, text = time.monotonic() + _START_TIMEOUT, b""
    while b"\n" not in text and len(text) < _MAX_ANSWER:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            break
        data = os.read(reader, _MAX_ANSWER)
        if not data:
            break
        text += data
    return text.partition(b"\n")[0].decode("utf-8", "replace").strip()
