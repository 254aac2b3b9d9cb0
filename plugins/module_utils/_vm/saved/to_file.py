# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The options of qemu_migrate, and what it does on one host: move a running VM into a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    Change,
    module_diff,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    VlabError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import remove_file
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import record_run
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import links
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.revert import as_saved
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.save import (
    check_savable,
    check_space,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    PLACE_SPEC,
    SETTINGS_SPEC,
    settings_of,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

_LINK: dict[str, Any] = {"type": "dict", "options": links.SPEC}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "vm": {"type": "str", "required": True},
    "to": {"type": "str"},
    "to_root": {"type": "path"},
    "to_file": {"type": "path"},
    "address": {"type": "str"},
    "port": {"type": "int"},
    "encrypt": {"type": "bool", "default": True},
    "nics": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "link": _LINK,
            "link_down": {"type": "bool"},
        },
    },
    "neighbours": {
        "type": "list",
        "elements": "dict",
        "options": {
            "hypervisor": {"type": "str"},
            "root": {"type": "path"},
            "lab": {"type": "str"},
            "vm": {"type": "str", "required": True},
            "nic": {"type": "str", "required": True},
            "link": dict(_LINK, required=True),
        },
    },
    "downtime": {"type": "int", "default": 300},
    "bandwidth": {"type": "int"},
    "timeout": {"type": "int", "default": 600},
    "allow_container": {"type": "bool", "default": False},
    **PLACE_SPEC,
    "start_timeout": SETTINGS_SPEC["start_timeout"],
    "lock_timeout": SETTINGS_SPEC["lock_timeout"],
}


def move_to_file(params: Params, check_mode: bool) -> Result:
    """Write the state of a running VM to a file and end its QEMU. Raises VlabError."""
    if not params["to_file"]:
        raise OptionError("to_file", "give to, to_root or to_file")
    path = absolute_path("to_file", params["to_file"])
    folder = existing(params["root"], params["lab"], params["vm"])
    settings = settings_of(params)
    run = VmRun(Host(folder), dict(settings, shutdown=dict(settings["shutdown"], acpi=False)))
    with folder.locked(False, params["lock_timeout"], check_mode):
        try:
            run.observe()
            changes = _move(run, path, params["timeout"], check_mode)
            vm = run.report(check_mode)
        finally:
            run.close()
    return {
        "changed": bool(changes),
        "changes": [change.result() for change in changes],
        "diff": module_diff(changes),
        "vm": vm,
        "warnings": run.warnings,
    }


def _move(run: VmRun, path: str, timeout: float, check_mode: bool) -> list[Change]:
    observation, name, exists = run.observation, run.folder.name, os.path.lexists(path)
    run.request_state("stopped", allow_container=True)
    run.make_plan(as_saved, allow_restart=False)
    if not observation.alive and exists:
        return []
    if not observation.alive:
        raise HostError("the VM %s does not run, so there is no state to write to a file" % name)
    if exists:
        raise OptionError("to_file", "%s exists: remove it, or give another path" % path)
    check_savable(observation, observation.running, saves_memory=True, saves_disks=False)
    check_space(os.path.dirname(path), [observation.pid or 0])
    change = Change(("state",), observation.status, "stopped", FILE)
    if not check_mode:
        _write(run, path, timeout)
        run.apply()
    return [change]


def _write(run: VmRun, path: str, timeout: float) -> None:
    """Write the state of the guest, which is stopped then. The file gets its name at the end."""
    observation = run.observation
    observation.check_monitor()
    monitor, temporary = observation.open_monitor, path + ".partial"
    remove_file(temporary)  # of a killed run
    was_running = observation.status == "running"
    if was_running:
        # If this run is killed while the guest is stopped, the next one lets it run.
        record_run(observation, resume="running")
        monitor.execute("stop")
    try:
        memory.save_memory(monitor, temporary, timeout)
        with report_os_errors("cannot rename %s" % temporary):
            os.replace(temporary, path)
    except VlabError:
        remove_file(temporary)
        if was_running:
            monitor.execute("cont")
            record_run(observation, resume=None)
        raise
