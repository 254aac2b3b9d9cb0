# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What QEMU may do and how much of the host it may use: sandbox, priority, share of the processor."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import cpu_limit
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part, checked

# nice(2) values; -20 to 19.
PRIORITIES = {"realtime": -20, "very high": -15, "high": -5, "normal": 0, "low": 5, "very low": 19}


def set_priority(pid, priority):
    """Set the priority of all threads of a process: on Linux each thread has its own (setpriority(2))."""
    value = PRIORITIES[priority]
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with contextlib.suppress(ProcessLookupError):
                if os.getpriority(os.PRIO_PROCESS, int(task)) != value:
                    os.setpriority(os.PRIO_PROCESS, int(task), value)
    except PermissionError:
        raise HostError(
            "priority: %r needs privileges that we do not have: become root, or choose normal or lower"
            % priority
        )


class Confinement(Part):
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

    def check_start(self, desired, host):
        if desired["cpu_limit"]:
            cpu_limit.find_means()

    def arguments(self, desired, host):
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

    def before_continue(self, desired, live):
        if desired["priority"] != "normal":
            set_priority(live.pid, desired["priority"])
        if desired["cpu_limit"]:
            cpu_limit.limit(live.pid, desired["uuid"], desired["cpu_limit"])

    def apply(self, change, desired, live):
        if change.option == "priority":
            set_priority(live.pid, desired["priority"])
        else:
            cpu_limit.limit(live.pid, desired["uuid"], desired["cpu_limit"])

    def release(self, definition, host):
        if definition.get("cpu_limit"):
            cpu_limit.release(definition["uuid"])
