# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The wires of a VM: the process that impairs what its NICs send.

One process has all impaired links of a VM. It starts before the guest's first instruction and ends
with QEMU. If it dies, these links are cut, and the next run starts it again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import process_start_time
from ansible_collections.vlab.qemu.plugins.module_utils._vm.detached import Detached
from ansible_collections.vlab.qemu.plugins.module_utils._wire.client import ask

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

# {nic: settings}, see the program.
Wires = Dict[str, Dict[str, Any]]

_END_TIMEOUT = 0.5  # seconds


def _folder(folder: Folder) -> str:
    return folder.file("wires")


def _program(folder: Folder) -> Detached:
    base = _folder(folder)
    return Detached(
        title="the process of the impaired links of the VM %s" % folder.name,
        supervisor="vlab-wires",
        program=os.path.join(base, "wires.pyz"),
        record=os.path.join(base, "run.json"),
        exit_code=os.path.join(base, "exit_code"),
        log=os.path.join(base, "log"),
    )


def socket_path(folder: Folder) -> str:
    """Return the path of the control socket."""
    return folder.socket("wires.sock")


def state(folder: Folder) -> dict[str, Any]:
    """Return what is reported about the process."""
    return _program(folder).state()


def measured(folder: Folder) -> Wires | None:
    """Return {nic: {settings, measured}} of the running process, None if it does not answer."""
    if _program(folder).running_pid() is None:
        return None
    with contextlib.suppress(HostError):
        return _ask(folder, {"command": "status"})
    return None


def _serves(folder: Folder, pid: int) -> bool:
    """Return whether the process answers and belongs to this QEMU, and not to one that ended."""
    if _program(folder).running_pid() is None:
        return False
    with contextlib.suppress(HostError):
        return bool(_answer(folder, {"command": "status"}).get("pid") == pid)
    return False


def update(folder: Folder, pid: int, wires: Wires) -> None:
    """Let the process have these wires: start, change or end it. pid: of QEMU.

    Raises HostError.
    """
    program = _program(folder)
    if not wires:
        end(folder, 0)
        return
    start = process_start_time(pid)
    if start is None:
        raise HostError(
            "the QEMU of the VM %s has ended, so its links stay as they are" % folder.name
        )
    make_private_folder(_folder(folder))
    settings = {
        "record": program.record,
        "control": socket_path(folder),
        "pid": pid,
        "start": start,
        "wires": wires,
    }
    path = os.path.join(_folder(folder), "settings.json")
    if _serves(folder, pid):
        _ask(folder, {"command": "configure", "wires": wires})
        write_json(path, settings)
        return
    from ansible_collections.vlab.qemu.plugins.module_utils._common.program_archive import (
        program_archive,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._wire import control, engine
    from ansible_collections.vlab.qemu.plugins.module_utils._wire import program as wires_program

    program.end(0)
    write_json(path, settings)
    # Neither the packages of the host nor compiled files.
    program.start(program_archive(wires_program, control, engine), [path], "-S -B")


def end(folder: Folder, timeout: float = _END_TIMEOUT) -> None:
    """End the process, also one that has no record, and remove its files.

    timeout: for it to notice that QEMU has ended.
    """
    _program(folder).end(timeout)
    shutil.rmtree(_folder(folder), ignore_errors=True)


def _ask(folder: Folder, request: dict[str, Any]) -> Wires:
    """Return the wires as the process answers. Raises HostError."""
    found: Wires = _answer(folder, request)["wires"]
    return found


def _answer(folder: Folder, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of the process, which has wires. Raises HostError."""
    try:
        answer = ask(socket_path(folder), request)
    except OSError as error:
        raise _failure(folder, error)
    wires = answer.get("wires")
    if not isinstance(wires, dict) or not all(
        isinstance(wire, dict) and isinstance(wire.get("settings"), dict) for wire in wires.values()
    ):
        raise _failure(folder, answer)
    return answer


def _failure(folder: Folder, reason: object) -> HostError:
    return HostError(
        "%s does not take its settings: %s" % (_program(folder).title, reason),
        path=socket_path(folder),
    )
