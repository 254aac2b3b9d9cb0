# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The rotated captures of a VM: the process that copies them to rings of files.

QEMU writes each one to a spool, and one process per VM copies all of them. It starts before the
guest's first instruction and ends after QEMU. If it dies, the spools grow, and the next run starts
it again. It is started again for each change as well: see pcap_ring.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any, Callable, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    read_json,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import process_start_time
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.pcap_ring import Ring
from ansible_collections.vlab.qemu.plugins.module_utils._vm.detached import Detached
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.captures import (
    rotations_folder,
    spool_path,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

# {nic: settings of a Ring}
Rotations = Dict[str, Dict[str, Any]]

_END_TIMEOUT = 2  # seconds for the process to copy what is left after the end of QEMU


def _settings_path(folder: Folder) -> str:
    return os.path.join(rotations_folder(folder), "settings.json")


def _program(folder: Folder) -> Detached:
    base = rotations_folder(folder)
    return Detached(
        title="the process of the rotated captures of the VM %s" % folder.name,
        supervisor="vlab-captures",
        program=os.path.join(base, "rotation.pyz"),
        record=os.path.join(base, "run.json"),
        exit_code=os.path.join(base, "exit_code"),
        log=os.path.join(base, "log"),
    )


def state(folder: Folder) -> dict[str, Any]:
    """Return what is reported about the process."""
    return _program(folder).state()


def is_running(folder: Folder) -> bool:
    """Return whether the process runs."""
    return _program(folder).running_pid() is not None


def configured(folder: Folder) -> Rotations:
    """Return the captures that the process has; none if its settings are missing or damaged."""
    try:
        settings = read_json(_settings_path(folder))
        found = {str(name): dict(one) for name, one in settings["captures"].items()}
        for one in found.values():
            Ring(one)
    except (HostError, AttributeError, KeyError, TypeError, ValueError):
        return {}
    return found


def prepare(folder: Folder, nic: str) -> None:
    """Let QEMU begin a spool. Raises HostError."""
    make_private_folder(rotations_folder(folder))
    _call(nic, {"spool": spool_path(folder, nic), "path": "", "size": 0, "count": 1}, Ring.remove)


def update(folder: Folder, pid: int, rotations: Rotations) -> None:
    """Begin captures for which QEMU has a spool, or change their files, beside the others.

    pid: of QEMU. Raises HostError.
    """
    before = configured(folder)
    after = {**before, **rotations}
    if _serves(folder, pid, after):
        return
    _program(folder).end(0)  # so that one process at a time copies a spool
    try:
        for nic, settings in rotations.items():
            _call(nic, settings, Ring.trim)
            with contextlib.suppress(ValueError):  # the process writes to its log what is damaged
                _call(nic, settings, Ring.copy)
    except HostError:
        if before:
            _run(folder, pid, before)
        raise
    _run(folder, pid, after)


def stop(folder: Folder, pid: int, nic: str) -> str:
    """Copy the rest of a spool to which QEMU does not write any more, and remove it.

    Return a warning, if a part of it cannot be used. Raises HostError.
    """
    others = configured(folder)
    settings = others.pop(nic, None)
    if settings is None:
        return ""
    _program(folder).end(0)
    warning = _finish(nic, settings)
    if others:
        _run(folder, pid, others)
    else:
        shutil.rmtree(rotations_folder(folder), ignore_errors=True)
    return warning


def end(folder: Folder) -> list[str]:
    """End the process after QEMU, copy what is left, and remove its files; return warnings.

    Raises HostError; then what is left is kept.
    """
    _program(folder).end(_END_TIMEOUT)
    warnings = [_finish(nic, settings) for nic, settings in configured(folder).items()]
    shutil.rmtree(rotations_folder(folder), ignore_errors=True)
    return [warning for warning in warnings if warning]


def _settings(folder: Folder, pid: int, rotations: Rotations) -> dict[str, Any]:
    return {
        "record": _program(folder).record,
        "pid": pid,
        "start": process_start_time(pid),
        "captures": rotations,
    }


def _serves(folder: Folder, pid: int, rotations: Rotations) -> bool:
    """Return whether the process has these captures, of this QEMU and not of one that ended."""
    with contextlib.suppress(HostError):
        return is_running(folder) and bool(
            read_json(_settings_path(folder)) == _settings(folder, pid, rotations)
        )
    return False


def _run(folder: Folder, pid: int, rotations: Rotations) -> None:
    """Let the process have these captures. Raises HostError."""
    settings = _settings(folder, pid, rotations)
    if settings["start"] is None:
        raise HostError("the QEMU of the VM %s has ended, so it captures nothing" % folder.name)
    from ansible_collections.vlab.qemu.plugins.module_utils._common.program_archive import (
        program_archive,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._common import release_space
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu import (
        pcap_ring,
        rotation_program,
    )

    program, path = _program(folder), _settings_path(folder)
    program.end(0)
    make_private_folder(rotations_folder(folder))
    write_json(path, settings)
    # Neither the packages of the host nor compiled files.
    content = program_archive(rotation_program, pcap_ring, release_space)
    program.start(content, [path], "-S -B")


def _finish(nic: str, settings: dict[str, Any]) -> str:
    """Copy the rest of a capture; return a warning. Raises HostError."""
    try:
        _call(nic, settings, Ring.finish)
    except ValueError as error:
        _call(nic, settings, Ring.remove)
        return "nics[%s].capture: the latest frames are not in %s: %s" % (
            nic,
            settings["path"],
            error,
        )
    return ""


def _call(nic: str, settings: dict[str, Any], action: Callable[[Ring], object]) -> None:
    """Do something with the files of a capture. Raises HostError."""
    try:
        action(Ring(settings))
    except OSError as error:
        path = error.filename or settings["path"]
        raise HostError(
            "nics[%s].capture: cannot write %s: %s" % (nic, path, error.strerror), path=path
        )
