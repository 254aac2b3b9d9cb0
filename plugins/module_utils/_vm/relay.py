# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The relay of a VM: the process that serves the clients of its consoles with clients: many.

It starts before the guest's first instruction and ends with QEMU. If it dies, the console's log
goes on, and the next run starts another one.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_NAME = "vlab-relay"
_START_TIMEOUT = 60  # seconds: the host may be busy
_END_TIMEOUT = 1.5  # seconds
_MAX_ANSWER = 4096  # bytes


def _program(folder: Folder) -> str:
    return folder.file("console_relay.py")


def _record(folder: Folder) -> str:
    return folder.file("relay.json")


def _exit_code(folder: Folder) -> str:
    return folder.file("relay_exit_code")


def log_path(folder: Folder) -> str:
    """Return the path of the log."""
    return folder.file("relay.log")


def running_pid(folder: Folder) -> int | None:
    """Return the pid of the relay of a VM, None if it does not run."""
    try:
        record = read_json(_record(folder))
    except HostError:
        record = None  # it is damaged: the next run starts the relay again
    if not isinstance(record, dict) or record.get("boot_id") != boot_id():
        return None
    pid, start = record.get("pid"), record.get("start")
    if not isinstance(pid, int) or not isinstance(start, int):
        return None
    return pid if process_start_time(pid) == start else None


def state(folder: Folder) -> dict[str, Any]:
    """Return what is reported about the relay of a running VM."""
    pid = running_pid(folder)
    code = (read_text(_exit_code(folder)) or "").strip()
    return {
        "status": "ended" if pid is None else "running",
        "pid": pid,
        "exit_code": int(code) if pid is None and code.isdigit() else None,
        "log": log_path(folder),
    }


def start(folder: Folder, consoles: list[dict[str, Any]]) -> None:
    """Start the relay, once QEMU listens; end an earlier one. Raises HostError.

    consoles: the settings for the program, see console_relay.
    """
    end(folder)
    write_atomically(_program(folder), _source())
    settings = {"record": _record(folder), "consoles": consoles}
    argv = [sys.executable or "python3", "-I", _program(folder), json.dumps(settings)]
    reader, writer = os.pipe()
    try:
        try:
            start_supervised(_NAME, argv, _exit_code(folder), log_path(folder), stdout=writer)
        except OSError as error:
            raise HostError("cannot run %s: %s" % (argv[0], error.strerror), cmd=argv)
        finally:
            os.close(writer)
        answer = _read_answer(reader)
    finally:
        os.close(reader)
    if answer != "ready":
        end(folder)
        raise HostError(
            "the relay of the consoles of the VM %s does not start: %s"
            % (folder.name, answer or tail(log_path(folder)) or "it printed nothing"),
            cmd=argv,
        )


def _read_answer(reader: int) -> str:
    """Return the first line that the relay writes, as far as it comes in time."""
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


def end(folder: Folder) -> None:
    """End the relay of a VM, also one that has no record, and remove its files but the log."""
    if not os.path.lexists(_program(folder)):
        return
    pid = running_pid(folder)
    for each in [pid] if pid else find_processes("-I", _program(folder)):
        started = process_start_time(each)
        # It ends by itself after QEMU, as soon as its clients have read the last output.
        if not wait_for_exit(each, started, _END_TIMEOUT):
            process.kill(each, started)
    for path in (_record(folder), _exit_code(folder), _program(folder)):
        remove_file(path)


def _source() -> str:
    """Return the text of the program, which may come from an archive."""
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu import console_relay

    loader: Any = console_relay.__spec__.loader if console_relay.__spec__ else None
    get_source = getattr(loader, "get_source", None)
    source = get_source(console_relay.__name__) if get_source else None
    if not source:
        raise HostError("the text of %s is not available" % console_relay.__name__)
    return str(source)
