# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The plan for one VM: a pure function of its observation, desired definition and state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    RESTART,
    Change,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    RestartRequired,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS, PARTS

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

STATES = [
    "started",
    "present",
    "stopped",
    "paused",
    "suspended",
    "restarted",
    "reset",
    "absent",
]

# QEMU's run states (qapi/run-state.json) by what a guest needs to run; a state that is in no group
# is a running guest. cont is enough, a wake-up (ACPI S3), a reset:
_PAUSED = ("paused", "prelaunch", "io-error", "watchdog")
_ASLEEP = ("suspended",)
_BROKEN = ("shutdown", "internal-error", "guest-panicked")
# It waits for the state that another QEMU sends, and then does what that one did.
_WAITING = ("inmigrate",)
# To go on here would run the guest a second time, or from half a state.
_MOVED = {
    "postmigrate": "the memory of the VM %s was sent to another QEMU or to a file, and the guest "
    "continues from there: use state: stopped to end this QEMU",
    "finish-migrate": "QEMU is sending the state of the VM %s: wait for it, or use state: stopped",
    "save-vm": "QEMU is saving the state of the VM %s: wait for it, or use state: stopped",
    "restore-vm": "QEMU is loading a state of the VM %s: wait for it, or use state: stopped",
}
# What a run was doing with the guest that it let run again at its end, if it was killed.
_INTERRUPTED = ("paused", "prelaunch", *_MOVED)
_NOT_RUNNING = _PAUSED + _ASLEEP + _BROKEN + _WAITING + tuple(_MOVED)

# The diff of a new VM leaves out defaults, except these.
_ALWAYS_REPORTED = ("memory", "vcpus", "machine", "arch")

_STATUS_AFTER = {
    "discard": "stopped",
    "suspend": "suspended",
    "stop": "stopped",
    "start": "prelaunch",
    "resume": "running",
    "wake": "running",
    "pause": "paused",
}


class PowerPlan(NamedTuple):
    """The steps that bring a VM into a power state, if nothing else changes."""

    state: str
    steps: list[str]


class Plan(NamedTuple):
    """What to do with a VM.

    changes: every difference, the power state as the option "state".
    steps: what to do, in this order:
      clear   end the QEMU that a killed run left
      define  write the definition; for a VM that does not run, or is to be stopped: its files
      live    make the LIVE changes
      discard (the saved state of a suspended VM), stop, start (leaves the guest paused), resume,
      wake, pause, reset, suspend
      remove  delete the folder
    """

    changes: list[Change]
    steps: list[str]

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.changes or self.steps)

    @property
    def starts(self) -> bool:
        """Whether QEMU is started."""
        return "start" in self.steps

    def status_after(self, status: str) -> str:
        """Return the status of the VM after the plan; status: the one before."""
        return next((c.after for c in self.changes if c.path == ("state",)), status)


def plan_power(observation: Observation, state: str) -> PowerPlan:
    """Plan a power state.

    Raises HostError for a reset of a VM that does not run, and for a VM whose state is being moved.
    """
    alive, status = observation.alive, observation.status
    if state == "absent":
        exists = status != "absent" or observation.debris
        steps = (["stop"] if alive else []) + (["remove"] if exists else [])
    elif state == "reset":
        if not alive:
            raise HostError(
                "state: the VM %s does not run, so it cannot be reset: use started"
                % observation.folder.name
            )
        _check_movable(observation)
        if status in _WAITING:
            raise HostError(
                "state: the VM %s waits for its state from another QEMU, so it cannot be reset"
                % observation.folder.name
            )
        steps = ["reset"] + (["resume"] if status in _PAUSED + _ASLEEP + _BROKEN else [])
    elif alive:
        steps = _steps_alive(observation, state)
    elif status == "suspended":
        steps = _STEPS_SUSPENDED[state]
    elif state == "suspended":
        raise HostError(
            "state: the VM %s does not run, so it cannot be suspended" % observation.folder.name
        )
    elif state == "stopped":
        steps = ["stop"] if observation.resume else []
    elif state == "present":
        # A killed run may have left the VM in the middle of a power cycle.
        steps = _start(observation.resume == "paused") if observation.resume else []
    else:
        steps = _start(state == "paused")
    return PowerPlan(state, steps)


def _check_movable(observation: Observation) -> None:
    if observation.status in _MOVED:
        raise HostError("state: " + _MOVED[observation.status] % observation.folder.name)


_STEPS_SUSPENDED = {
    "started": ["start", "resume"],
    "present": [],
    "stopped": ["discard"],
    "paused": ["start"],
    "suspended": [],
    "restarted": ["discard", "start", "resume"],
}


def _steps_alive(observation: Observation, state: str) -> list[str]:
    status = observation.status
    is_interrupted = observation.resume == "running" and status in _INTERRUPTED
    if state == "suspended":
        if observation.suspended:
            return ["suspend"]  # a killed run has saved the guest and not ended QEMU
        if is_interrupted:
            return ["resume", "suspend"]
        return ["suspend"]
    if is_interrupted and state in ("started", "present"):
        return ["resume"]  # a killed run has stopped or started the guest and not let it run
    if state == "started":
        _check_movable(observation)
    return _power_steps_alive(status, state)


def _start(paused: bool) -> list[str]:
    return ["start"] if paused else ["start", "resume"]


def _power_steps_alive(status: str, state: str) -> list[str]:
    if state == "restarted":
        return ["stop"] + _start(paused=False)
    if state == "stopped":
        return ["stop"]
    if state == "started":
        if status in _PAUSED:
            return ["resume"]
        if status in _ASLEEP:
            return ["wake"]
        return ["reset", "resume"] if status in _BROKEN else []
    if state == "paused":
        return [] if status in _NOT_RUNNING else ["pause"]
    return []  # present


def plan(
    observation: Observation,
    desired: Definition | None,
    power: PowerPlan,
    allow_restart: bool = False,
    pending: Sequence[Change] = (),
) -> Plan:
    """Plan a VM. desired: None for absent. pending: changes to files that no definition shows.

    Raises RestartRequired, which names the options that need a power cycle of the running VM.
    """
    steps = list(power.steps)
    if desired is None:
        changes = [Change(("state",), observation.status, "absent", FILE)] if steps else []
        return Plan(changes, steps)
    changes = _changes(observation, desired, pending)
    if changes and observation.status == "suspended" and not observation.alive:
        _check_discarded(observation, steps, changes)
    if observation.lost_definition:
        changes = [Change(("definition",), None, "vm.json", FILE)] + changes
    restart = [change for change in changes if change.how == RESTART and "stop" not in steps]
    if restart and (not allow_restart or power.state == "suspended"):
        raise _restart_required(desired["name"], restart)
    if restart:
        stays_paused = power.state == "paused" or (
            power.state == "present" and observation.status in _PAUSED + _ASLEEP + tuple(_MOVED)
        )
        steps = ["stop"] + _start(stays_paused)
    if "stop" not in steps and any(change.is_live for change in changes):
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


def _check_discarded(observation: Observation, steps: list[str], changes: list[Change]) -> None:
    """Raise HostError for a change of a suspended VM: its guest would find another machine."""
    if "discard" not in steps:
        raise HostError(
            "the VM %s is suspended, so its definition cannot change (%s): use state: started"
            " first, or state: stopped, which discards the saved state"
            % (observation.folder.name, ", ".join(change.option for change in changes))
        )


def _restart_required(name: str, changes: list[Change]) -> RestartRequired:
    options = [change.option for change in changes]
    reasons = sorted({"%s: %s" % (c.option, c.reason) for c in changes if c.reason})
    return RestartRequired(
        "the running VM %s needs a power cycle for %s: set allow_restart: true, or stop it first%s"
        % (name, ", ".join(options), " (%s)" % "; ".join(reasons) if reasons else ""),
        options=options,
    )


def _changes(
    observation: Observation, desired: Definition, pending: Sequence[Change]
) -> list[Change]:
    if not observation.alive:
        return _changes_of_files(observation.saved, desired, pending)
    changes = _compare(observation.running, desired)
    paths = {change.path for change in changes}
    # A killed run may have changed the definition but not the VM, or the reverse: make the live
    # changes again.
    for before in (observation.run["definition"], observation.saved):
        if before is None or before == observation.running:
            continue
        more = [
            change if change.is_live and change.verb != "add" else change._replace(how=FILE)
            for change in _compare(before, desired)
            if change.path not in paths
        ]
        # These first: if another change fails, the record of the run still has them.
        changes, paths = more + changes, paths | {change.path for change in more}
    return changes


def _changes_of_files(
    saved: Definition | None, desired: Definition, pending: Sequence[Change]
) -> list[Change]:
    """Return the changes of a VM that does not run."""
    changes = [
        change._replace(how=FILE, reason="")
        for change in _compare(saved or _defaults(desired), desired)
        if saved or change.path != ("uuid",)
    ]
    paths = {change.path for change in changes}
    return changes + [change for change in pending if not {change.path, change.path[:-1]} & paths]


def _compare(before: Definition, desired: Definition) -> list[Change]:
    if before == desired or addresses.without_slots_at_start(before) == desired:
        return []
    return [change for part in PARTS for change in part.compare(before, desired)]


def _defaults(desired: Definition) -> dict[str, Any]:
    """Return what the diff of a new VM starts from."""
    return {
        **{name: plain_copy(option.default) for name, option in OPTIONS.items()},
        **dict.fromkeys(_ALWAYS_REPORTED),
        "disks": [],
        "nics": [],
        "cdroms": [],
        "floppies": [],
        "slots": {},
        "ports": {},
        "family": desired["family"],
    }


def _status_after(observation: Observation, steps: list[str]) -> str:
    has_status = observation.alive or observation.status == "suspended"
    status = observation.status if has_status else "stopped"
    for step in steps:
        status = _STATUS_AFTER.get(step, status)
    # A crashed VM stays crashed until it runs again.
    return "crashed" if observation.status == "crashed" and status == "stopped" else status
