# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Run a part of a scenario on the VMs of a lab on this hypervisor."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_number,
    check_texts,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.parallel import (
    failure_facts,
    failure_lines,
    failures,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.scenario_nodes import ScenarioNodes
from ansible_collections.vlab.qemu.plugins.module_utils._lab.scenario_plan import (
    Event,
    Part,
    plan_parts,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import (
    change_nic,
    converge_vm,
    vm_argument_spec,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vm_facts

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

_MAX_WORKERS = 16  # threads: they wait for QEMU
_MAX_AHEAD = 600  # seconds between now and start_at

# Makes an event's change; returns whether anything changed.
Change = Callable[[Event], bool]


class Clock:
    """The clock of the hypervisor."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def wait_until(self, moment: float) -> None:
        """Wait until a moment of monotonic."""
        threading.Event().wait(max(0.0, moment - time.monotonic()))


class _TargetRun:
    """All events of one VM at one moment."""

    def __init__(self, name: str, events: list[Event]) -> None:
        self.name, self.events = name, events


class PartRun:
    """One run of a part.

    entries: what was done. late: seconds by which the start was missed.
    """

    def __init__(self, clock: Clock, change: Change, start_at: float | None) -> None:
        self.clock, self.change = clock, change
        self.entries: list[dict[str, Any]] = []
        self.failed: dict[str, VlabError] = {}
        self.late = 0.0
        now = clock.time()
        ahead = 0.0 if start_at is None else start_at - now
        if abs(ahead) > _MAX_AHEAD:
            raise OptionError(
                "start_at",
                "it is %d s from the clock of this hypervisor: at most %d s are possible. The "
                "clocks of all hypervisors must agree" % (abs(ahead), _MAX_AHEAD),
            )
        # The zero may be over: then all events are late, which is reported.
        self.zero = clock.monotonic() + ahead
        self.started = now + ahead

    def run(self, part: Part) -> None:
        """Make the changes of all events, each at its moment, until the end or a failure."""
        self.clock.wait_until(self.zero)
        self.late = self.clock.monotonic() - self.zero
        for offset, group in itertools.groupby(part.events, key=lambda event: event.offset):
            self.clock.wait_until(self.zero + offset - part.start)
            self._change_all(list(group), part)
            if self.failed:
                return
        self.clock.wait_until(self.zero + part.end - part.start)

    def _change_all(self, events: list[Event], part: Part) -> None:
        """Change several VMs at the same time, and each of them in the order of its events."""
        by_vm: dict[str, list[Event]] = {}
        for event in events:
            by_vm.setdefault(event.target.partition(":")[0], []).append(event)
        entries: dict[str, list[dict[str, Any]]] = {name: [] for name in by_vm}

        def change(target: _TargetRun) -> None:
            for event in target.events:
                begun = self._offset(part)
                changed = self.change(event)
                entry = dict(event_entry(event), began=begun, done=self._offset(part))
                entries[target.name].append(dict(entry, changed=changed))

        runs = [_TargetRun(name, found) for name, found in by_vm.items()]
        self.failed = failures(runs, change, min(len(runs), _MAX_WORKERS))
        self.entries += [entry for name in by_vm for entry in entries[name]]

    def _offset(self, part: Part) -> float:
        """Return the milliseconds from the start of the scenario."""
        return round((self.clock.monotonic() - self.zero + part.start) * 1000, 1)


def event_entry(event: Event) -> dict[str, Any]:
    """Return an event as the module reports it."""
    entry: dict[str, Any] = {
        "step": event.step,
        "action": event.action,
        "target": event.target,
        "asked": round(event.offset * 1000, 1),
    }
    if event.impair is not None:
        entry["impair"] = event.impair
    return entry


def undo_steps(parts: list[Part], nodes: ScenarioNodes) -> list[dict[str, Any]]:
    """Return the steps that bring back what the scenario changes on this hypervisor."""
    cut: list[str] = []
    heal: list[str] = []
    power: dict[str, list[str]] = {}
    impair: dict[str, dict[str, Any]] = {}
    for event in (event for part in parts for event in part.events):
        if not nodes.is_local(event.target):
            continue
        if event.action in ("pause", "resume"):
            was = "pause" if nodes.local[event.target]["status"] == "paused" else "resume"
            power.setdefault(was, []).append(event.target)
            continue
        nic = nodes.nic(event.target)
        if event.action == "impair":
            impair[event.target] = nic["link"].get("impair") or {}
        else:
            (cut if nic.get("link_down") else heal).append(event.target)
    steps: list[dict[str, Any]] = [{"impair": impair}] if impair else []
    for action, targets in dict(power, cut=cut, heal=heal).items():
        if targets:
            steps.append({action: list(dict.fromkeys(targets))})
    return steps


def run_scenario(params: Params, check_mode: bool, clock: Clock | None = None) -> Result:
    """Plan a scenario and run one part of it; return the module's result. Raises VlabError."""
    check_texts("", params)
    vms, warnings = vm_facts(params["root"], params["lab"])
    nodes = ScenarioNodes({vm["name"]: vm for vm in vms}, params["nodes"] or {})
    parts = plan_parts(params["steps"], nodes)
    number = check_number("part", params["part"], 0, len(parts) - 1, "a part of the scenario")
    own = [
        part._replace(events=[event for event in part.events if nodes.is_local(event.target)])
        for part in parts
    ]
    result: Result = {
        "parts": [
            {"start": part.start, "end": part.end, "validate": part.validate} for part in parts
        ],
        "undo": undo_steps(parts, nodes),
        "warnings": warnings,
    }
    if check_mode:
        planned = [event_entry(event) for part in own for event in part.events]
        return dict(result, changed=bool(own[number].events), events=planned)
    _check_changes(params, own[number])
    run = PartRun(clock or Clock(), lambda event: _change(params, event), params["start_at"])
    run.run(own[number])
    return dict(result, impairments=_impairments(params), **_outcome(run, number))


def _impairments(params: Params) -> dict[str, Any]:
    """Return what was asked of the impaired links and measured, by the endpoint that sends."""
    vms, _warnings = vm_facts(params["root"], params["lab"])
    return {
        "%s:%s" % (vm["name"], nic["name"]): nic["impairment"]
        for vm in vms
        for nic in vm.get("nics") or ()
        if nic.get("impairment")
    }


def _outcome(run: PartRun, number: int) -> Result:
    outcome: Result = {
        "changed": any(entry["changed"] for entry in run.entries),
        "events": [dict(entry, part=number) for entry in run.entries],
        "started": round(run.started, 3),
        "start_late": round(run.late * 1000, 1),
    }
    if run.failed:
        outcome["failed"] = True
        outcome["msg"] = "the scenario stopped:\n" + failure_lines(run.failed)
        outcome["errors"] = failure_facts(run.failed)
    return outcome


def _check_changes(params: Params, part: Part) -> None:
    """Plan each kind of change of each target, before the clock starts.

    What cannot be changed fails here, and the first change takes no longer than those after it.
    """
    for event in {(event.action, event.target): event for event in part.events}.values():
        _change(params, event, check_mode=True)


def _change(params: Params, event: Event, check_mode: bool = False) -> bool:
    """Make the change of an event, as qemu_nic and qemu_vm do; return whether it was one."""
    place = {"root": params["root"], "lab": params["lab"], "lock_timeout": params["lock_timeout"]}
    name, _colon, nic = event.target.partition(":")
    if event.action in ("pause", "resume"):
        state = "paused" if event.action == "pause" else "started"
        given = dict.fromkeys(vm_argument_spec())
        result = converge_vm(
            dict(given, **place, name=name, state=state, allow_container=True), check_mode
        )
        return bool(result["changed"])
    if event.action == "impair":
        values: dict[str, Any] = {"link": {"impair": event.impair}}
    else:
        values = {"link_down": event.action == "cut"}
    return change_nic(place, name, nic, values, check_mode)
