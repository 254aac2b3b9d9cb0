# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Restrictions of the QEMU process: sandbox, priority, processor time."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common import rights
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import sandbox
from ansible_collections.vlab.qemu.plugins.module_utils._vm import cpu_limit
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part, checked

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

# Set in the definition of a running VM whose QEMU may start programs.
MAY_SPAWN = "may_spawn"

# nice(2) values; -20 to 19.
PRIORITIES = {"realtime": -20, "very high": -15, "high": -5, "normal": 0, "low": 5, "very low": 19}


def set_priority(pid: int, priority: str) -> None:
    """Set the priority of each thread of a process, as Linux requires (setpriority(2))."""
    value = PRIORITIES[priority]
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with contextlib.suppress(ProcessLookupError):
                if os.getpriority(os.PRIO_PROCESS, int(task)) != value:
                    os.setpriority(os.PRIO_PROCESS, int(task), value)
    except PermissionError:
        raise _no_right(priority)


def _check_priority(priority: str, present: int) -> None:
    """Raise HostError if we may not set a priority. present: the nice(2) value before."""
    if not rights.may_set_priority(PRIORITIES[priority], present):
        raise _no_right(priority)


def _no_right(priority: str) -> HostError:
    return HostError(
        "priority: %r needs privileges that we do not have: become root, or choose a lower one"
        % priority
    )


class Confinement(Part):
    """The part that owns the restrictions of the process."""

    name = "confinement"
    options = {
        "sandbox": Option({"type": "bool"}, True),
        "priority": Option({"type": "str", "choices": list(PRIORITIES)}, "normal", how=LIVE),
        "cpu_limit": Option(
            {"type": "int"},
            0,
            how=LIVE,
            normalise=checked(
                lambda percent: (
                    None
                    if percent >= 0
                    else "%d is not a limit: percent of one core, 0 for none" % percent
                )
            ),
        ),
    }

    def reconcile_observed(self, observation: Observation) -> None:
        """Take from the command line whether QEMU may start programs: links change while it runs.

        The key is missing where it may not, which is usual.
        """
        argv = observation.run.get("argv", ["-sandbox", "on,spawn=deny"])
        if sandbox.SPAWN not in sandbox.sandbox_of(argv).denied:
            observation.running[MAY_SPAWN] = True

    def check_start(self, desired: Definition, host: Host) -> None:
        if desired["priority"] != "normal":
            _check_priority(desired["priority"], os.getpriority(os.PRIO_PROCESS, 0))
        if desired["cpu_limit"]:
            cpu_limit.find_means()

    def check_live(self, changes: list[Change], desired: Definition, pid: int) -> None:
        options = {change.option for change in changes}
        if "priority" in options:
            _check_priority(desired["priority"], os.getpriority(os.PRIO_PROCESS, pid))
        if "cpu_limit" in options:
            cpu_limit.find_means()

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        if not desired["sandbox"] or not host.capabilities.has_option("sandbox"):
            return []
        # The bridge helper is set-user-id. Scripts of a tap and a migration by exec: also need it.
        spawns = host.spawns_programs or (host.incoming or "").startswith("exec:")
        allowed = "allow" if spawns else "deny"
        return [
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=%s,spawn=%s,resourcecontrol=deny"
            % (allowed, allowed),
        ]

    def before_continue(self, desired: Definition, live: Live) -> None:
        if desired["priority"] != "normal":
            set_priority(live.pid, desired["priority"])
        if desired["cpu_limit"]:
            cpu_limit.limit(live.pid, desired["uuid"], desired["cpu_limit"])

    def apply(self, change: Change, desired: Definition, live: Live) -> None:
        if change.option == "priority":
            set_priority(live.pid, desired["priority"])
        else:
            cpu_limit.limit(live.pid, desired["uuid"], desired["cpu_limit"])

    def release(self, definition: Definition, host: Host) -> None:
        # Also of a limit that was removed while the VM ran.
        if definition.get("uuid"):
            cpu_limit.release(definition["uuid"])
