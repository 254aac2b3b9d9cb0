# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""The plan: a pure function of definition, observation and what was asked for. Check mode ends here."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.copies import copied
from ansible_collections.vlab.qemu.plugins.module_utils._common.differences import (
    FILE,
    LIVE,
    RESTART,
    Change,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    RestartNeeded,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS, PARTS

STATES = ["started", "present", "stopped", "paused", "restarted", "reset", "absent"]

# What each state makes of a QEMU that has one of these statuses; a status that is not named counts as running.
_HELD = (
    "paused",
    "prelaunch",
    "io-error",
    "watchdog",
    "suspended",
    "postmigrate",
    "restore-vm",
    "save-vm",
)
_BROKEN = ("shutdown", "internal-error", "guest-panicked")

# A new VM's diff leaves out what nobody asked for, but these.
_ALWAYS_TOLD = ("memory", "vcpus", "machine", "arch")


class Plan(NamedTuple):
    """changes: every difference, the power state as the option "state". steps: what to do, in order, of

    clear (end the QEMU that a killed run left), define, live, stop, start, hold (leave it paused after a start), resume, pause, reset,
    remove.
    """

    changes: list
    steps: list

    @property
    def changed(self):
        """Whether there is anything to do."""
        return bool(self.changes or self.steps)


def plan(seen, wanted, state, allow_restart=False, pending=()):
    """What to do with a VM. seen: Observation. wanted: a definition, None for absent. pending: changes to files.

    Raises RestartNeeded naming the options that need a power cycle of the running VM; HostError for a reset of what does not run.
    """
    if state == "absent":
        exists = seen.status != "absent" or seen.debris
        changes = [Change(("state",), seen.status, "absent", FILE)] if exists else []
        return Plan(changes, (["stop"] if seen.alive else []) + (["remove"] if exists else []))
    steps = _power_steps(seen, state)
    changes = _changes(seen, wanted, pending)
    restart = [change for change in changes if change.how == RESTART and "stop" not in steps]
    if restart and not allow_restart:
        raise RestartNeeded(
            "the running VM %s needs a power cycle for %s: set allow_restart: true, or stop it first%s"
            % (wanted["name"], ", ".join(change.option for change in restart), _reasons(restart)),
            options=[change.option for change in restart],
        )
    if restart:
        steps = ["stop", "start"] + (
            ["hold"] if state == "paused" or state == "present" and seen.status in _HELD else []
        )
    if "stop" not in steps and any(change.how == LIVE for change in changes):
        steps = ["live"] + steps
    if changes:
        steps = ["define"] + steps
    if seen.orphan and "start" not in steps:
        steps = ["clear"] + steps
        changes = changes + [Change(("process",), seen.orphan, None, FILE)]
    after = _status_after(seen, steps)
    if after != seen.status or set(steps) - {"clear", "define", "live"}:
        changes = changes + [Change(("state",), seen.status, after, FILE)]
    return Plan(changes, steps)


def starts(seen, state):
    """Whether that state has QEMU started, whatever else is to be changed."""
    return state not in ("absent", "reset") and "start" in _power_steps(seen, state)


def _changes(seen, wanted, pending):
    if not seen.alive:
        before = seen.saved or _nothing(wanted)
        changes = [
            change._replace(how=FILE, reason="")
            for change in _compare(before, wanted)
            if seen.saved or _is_told(change)
        ]
        named = {change.path for change in changes}
        return changes + [
            change
            for change in pending
            if change.path not in named and change.path[:-1] not in named
        ]
    changes = _compare(seen.running, wanted)
    named = {change.path for change in changes}
    # A run that was killed between the definition and the VM left the two apart: what is live is done again.
    for before in (seen.run["definition"], seen.saved):
        if before == seen.running:
            continue
        more = [
            change if change.how == LIVE and change.verb != "add" else change._replace(how=FILE)
            for change in _compare(before, wanted)
            if change.path not in named
        ]
        changes, named = changes + more, named | {change.path for change in more}
    return changes


def _compare(before, wanted):
    return (
        []
        if before == wanted
        else [change for part in PARTS for change in part.compare(before, wanted)]
    )


def _nothing(wanted):
    return {
        **{name: copied(option.default) for name, option in OPTIONS.items()},
        **dict.fromkeys(_ALWAYS_TOLD),
        "disks": [],
        "nics": [],
        "cdroms": [],
        "floppies": [],
        "places": {},
        "ports": {},
        "family": wanted["family"],
    }


def _is_told(change):
    return change.path != ("uuid",)


def _reasons(changes):
    reasons = sorted(
        {"%s: %s" % (change.option, change.reason) for change in changes if change.reason}
    )
    return " (%s)" % "; ".join(reasons) if reasons else ""


def _power_steps(seen, state):
    alive, status = seen.alive, seen.status
    if state == "reset":
        if not alive:
            raise HostError(
                "state: the VM %s does not run, so it cannot be reset: use started"
                % seen.folder.name
            )
        return ["reset"] + (["resume"] if status in _HELD + _BROKEN else [])
    if state == "restarted":
        return ["stop", "start"] if alive else ["start"]
    if state == "stopped":
        return ["stop"] if alive or seen.resume else []
    if state == "started":
        if not alive:
            return ["start"]
        return ["resume"] if status in _HELD else ["reset", "resume"] if status in _BROKEN else []
    if state == "paused":
        if not alive:
            return ["start", "hold"]
        return [] if status in _HELD + _BROKEN else ["pause"]
    # present, in the middle of a power cycle whose run was killed.
    return (
        []
        if alive or not seen.resume
        else ["start", "hold"]
        if seen.resume == "paused"
        else ["start"]
    )


def _status_after(seen, steps):
    status = "stopped" if not seen.alive else seen.status
    for step in steps:
        status = {
            "stop": "stopped",
            "start": "running",
            "hold": "prelaunch",
            "resume": "running",
            "pause": "paused",
        }.get(step, status)
    # A VM that crashed stays so until it runs again.
    return "crashed" if seen.status == "crashed" and status == "stopped" else status
