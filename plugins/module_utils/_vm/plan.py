# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The plan: a pure function of definition, observation and what was asked for. Check mode ends here."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    LIVE,
    RESTART,
    Change,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    RestartRequired,
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


def plan(observation, desired, state, allow_restart=False, pending=()):
    """What to do with a VM. seen: Observation. wanted: a definition, None for absent. pending: changes to files.

    Raises RestartNeeded naming the options that need a power cycle of the running VM; HostError for a reset of what does not run.
    """
    if state == "absent":
        exists = observation.status != "absent" or observation.debris
        changes = [Change(("state",), observation.status, "absent", FILE)] if exists else []
        return Plan(
            changes, (["stop"] if observation.alive else []) + (["remove"] if exists else [])
        )
    steps = _power_steps(observation, state)
    changes = _changes(observation, desired, pending)
    restart = [change for change in changes if change.how == RESTART and "stop" not in steps]
    if restart and not allow_restart:
        raise RestartRequired(
            "the running VM %s needs a power cycle for %s: set allow_restart: true, or stop it first%s"
            % (desired["name"], ", ".join(change.option for change in restart), _reasons(restart)),
            options=[change.option for change in restart],
        )
    if restart:
        steps = ["stop", "start"] + (
            ["hold"]
            if state == "paused" or state == "present" and observation.status in _HELD
            else []
        )
    if "stop" not in steps and any(change.how == LIVE for change in changes):
        steps = ["live"] + steps
    if changes:
        steps = ["define"] + steps
    if observation.orphan and "start" not in steps:
        steps = ["clear"] + steps
        changes = changes + [Change(("process",), observation.orphan, None, FILE)]
    after = _status_after(observation, steps)
    if after != observation.status or set(steps) - {"clear", "define", "live"}:
        changes = changes + [Change(("state",), observation.status, after, FILE)]
    return Plan(changes, steps)


def starts(observation, state):
    """Whether that state has QEMU started, whatever else is to be changed."""
    return state not in ("absent", "reset") and "start" in _power_steps(observation, state)


def _changes(observation, desired, pending):
    if not observation.alive:
        before = observation.saved or _nothing(desired)
        changes = [
            change._replace(how=FILE, reason="")
            for change in _compare(before, desired)
            if observation.saved or _is_told(change)
        ]
        named = {change.path for change in changes}
        return changes + [
            change
            for change in pending
            if change.path not in named and change.path[:-1] not in named
        ]
    changes = _compare(observation.running, desired)
    named = {change.path for change in changes}
    # A run that was killed between the definition and the VM left the two apart: what is live is done again.
    for before in (observation.run["definition"], observation.saved):
        if before == observation.running:
            continue
        more = [
            change if change.how == LIVE and change.verb != "add" else change._replace(how=FILE)
            for change in _compare(before, desired)
            if change.path not in named
        ]
        changes, named = changes + more, named | {change.path for change in more}
    return changes


def _compare(before, desired):
    return (
        []
        if before == desired
        else [change for part in PARTS for change in part.compare(before, desired)]
    )


def _nothing(desired):
    return {
        **{name: plain_copy(option.default) for name, option in OPTIONS.items()},
        **dict.fromkeys(_ALWAYS_TOLD),
        "disks": [],
        "nics": [],
        "cdroms": [],
        "floppies": [],
        "slots": {},
        "ports": {},
        "family": desired["family"],
    }


def _is_told(change):
    return change.path != ("uuid",)


def _reasons(changes):
    reasons = sorted(
        {"%s: %s" % (change.option, change.reason) for change in changes if change.reason}
    )
    return " (%s)" % "; ".join(reasons) if reasons else ""


def _power_steps(observation, state):
    alive, status = observation.alive, observation.status
    if state == "reset":
        if not alive:
            raise HostError(
                "state: the VM %s does not run, so it cannot be reset: use started"
                % observation.folder.name
            )
        return ["reset"] + (["resume"] if status in _HELD + _BROKEN else [])
    if state == "restarted":
        return ["stop", "start"] if alive else ["start"]
    if state == "stopped":
        return ["stop"] if alive or observation.resume else []
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
        if alive or not observation.resume
        else ["start", "hold"]
        if observation.resume == "paused"
        else ["start"]
    )


def _status_after(observation, steps):
    status = "stopped" if not observation.alive else observation.status
    for step in steps:
        status = {
            "stop": "stopped",
            "start": "running",
            "hold": "prelaunch",
            "resume": "running",
            "pause": "paused",
        }.get(step, status)
    # A VM that crashed stays so until it runs again.
    return "crashed" if observation.status == "crashed" and status == "stopped" else status
