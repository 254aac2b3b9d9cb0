# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The processes of the links with DHCP options: one for each such NIC.

They start before the guest's first instruction and end with QEMU. If one dies, the guest receives
nothing on this link, and the next run starts it again.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    read_json,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import process_start_time
from ansible_collections.vlab.qemu.plugins.module_utils._vm.detached import Detached

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

# {code: value in hexadecimal digits}
Options = Dict[str, str]

_END_TIMEOUT = 0.5  # seconds


def _folder(folder: Folder, nic: str) -> str:
    return os.path.join(folder.file("dhcp"), nic)


def _settings_path(folder: Folder, nic: str) -> str:
    return os.path.join(_folder(folder, nic), "settings.json")


def _program(folder: Folder, nic: str) -> Detached:
    base = _folder(folder, nic)
    return Detached(
        title="the process of nics[%s].link.dhcp_options of the VM %s" % (nic, folder.name),
        supervisor="vlab-dhcp",
        program=os.path.join(base, "dhcp.pyz"),
        record=os.path.join(base, "run.json"),
        exit_code=os.path.join(base, "exit_code"),
        log=os.path.join(base, "log"),
    )


def exists(folder: Folder, nic: str) -> bool:
    """Return whether a NIC has a process, or had one that was not ended."""
    return os.path.lexists(_folder(folder, nic))


def options(folder: Folder, nic: str) -> Options | None:
    """Return what the running process adds, None if it does not run."""
    if _program(folder, nic).running_pid() is None:
        return None
    try:
        found: Any = read_json(_settings_path(folder, nic))["options"]
    except (HostError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def prepare(folder: Folder, nic: str) -> None:
    """Make the folder of a process. Raises HostError."""
    make_private_folder(folder.file("dhcp"))
    make_private_folder(_folder(folder, nic))


def start(folder: Folder, pid: int, nic: str, settings: dict[str, Any]) -> None:
    """Start the process of a NIC, which has none. pid: of QEMU. Raises HostError.

    settings: source, target and options for the program, see there.
    """
    from ansible_collections.vlab.qemu.plugins.module_utils._common.program_archive import (
        program_archive,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._wire import dhcp_program

    program, path = _program(folder, nic), _settings_path(folder, nic)
    identity = {"record": program.record, "pid": pid, "start": process_start_time(pid)}
    write_json(path, {**settings, **identity})
    # Neither the packages of the host nor compiled files.
    program.start(program_archive(dhcp_program), [path], "-S -B")


def end(folder: Folder, nic: str, timeout: float = 0) -> None:
    """End the process of a NIC, also one that has no record, and remove its files.

    timeout: for it to notice that QEMU has ended.
    """
    _program(folder, nic).end(timeout)
    shutil.rmtree(_folder(folder, nic), ignore_errors=True)


def end_all(folder: Folder) -> None:
    """End the processes of all NICs, after QEMU."""
    base = folder.file("dhcp")
    if os.path.isdir(base):
        for nic in os.listdir(base):
            end(folder, nic, _END_TIMEOUT)
        shutil.rmtree(base, ignore_errors=True)
