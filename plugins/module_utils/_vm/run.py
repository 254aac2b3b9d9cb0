# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""One run of one VM, for a module, an item of a VM and a node of a lab alike.

The methods of VmRun are called in the order in which they stand.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Callable, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import module_diff
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import command_line
from ansible_collections.vlab.qemu.plugins.module_utils._vm.apply import Applier
from ansible_collections.vlab.qemu.plugins.module_utils._vm.container import refuse_start
from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation, observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.plan import Plan, plan, plan_power
from ansible_collections.vlab.qemu.plugins.module_utils._vm.report import report
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import suspend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Result, Settings
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Part
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import Clone

# Composes the desired definition from the saved one, or None.
Compose = Callable[[Optional[Definition], Host], Definition]


class VmRun:
    """Observe, plan and apply; the caller holds the VM's lock.

    settings: of settings_of. observation, desired and plan exist after the step that makes them;
    desired stays None for a VM that is removed.
    """

    observation: Observation
    plan: Plan

    def __init__(self, host: Host, settings: Settings) -> None:
        self.host, self.folder, self.settings = host, host.folder, settings
        self.desired: Definition | None = None

    def observe(self) -> None:
        """Observe the VM. Its monitor stays open until close.

        Raises HostError for a VM that another run makes meanwhile.
        """
        with report_os_errors("cannot observe the VM %s" % self.folder.name):
            self.observation = observe(self.folder)
        exists = self.observation.status != "absent" or os.path.exists(self.folder.lock)
        if self.folder.lacks_lock and exists:
            raise HostError(
                "another run makes the VM %s at this moment: run this again" % self.folder.name,
                path=self.folder.path,
            )

    def request_state(self, state: str, allow_container: bool) -> None:
        """Decide how the VM gets into a state.

        Raises HostError for a damaged VM, and for a start in a container,
        before QEMU is looked for: containers seldom
        have it.
        """
        if state != "absent":
            self.observation.check_damage()
        if state not in ("absent", "stopped") and not self.host.reverts:
            self.observation.check_complete()
        self._allow_container = allow_container
        self._power = plan_power(self.observation, state)
        if "start" in self._power.steps:
            refuse_start(allow_container)

    def make_plan(self, compose: Compose, allow_restart: bool) -> None:
        """Plan all changes, and check that nothing known prevents them. Raises a VlabError."""
        with report_os_errors("cannot plan the VM %s" % self.folder.name):
            self._make_plan(compose, allow_restart)

    def _make_plan(self, compose: Compose, allow_restart: bool) -> None:
        observation, pending = self.observation, []
        if self._power.state != "absent":
            self.desired = compose(observation.saved, self.host)
            if observation.saved and not observation.alive:
                pending = [
                    change for part in PARTS for change in part.pending(self.desired, self.host)
                ]
        self.plan = plan(observation, self.desired, self._power, allow_restart, pending)
        if self.plan.starts and "start" not in self._power.steps:
            refuse_start(self._allow_container)  # a change needs a restart
        record = None
        if self.plan.starts and self.observation.suspended and "discard" not in self.plan.steps:
            record = suspend.plan_load(self.host)
        clone = self.host.clone if self.plan.starts else None
        if clone:
            clone.plan_load(self.host)
        self._applier = Applier(self.host, observation, self.desired, self.plan, self.settings)
        self._applier.check()
        if record:
            suspend.check_load(self.host, record)
        if clone:
            clone.check_load(self.host)

    def make_clone(self, clone: Clone) -> None:
        """Make a new VM as a clone; check that one that exists is that clone.

        Raises OptionError.
        """
        if self.observation.saved:
            clone.check_same_origin(self.observation.saved)
            return
        clone.load()
        clone.check_state(self._power.state)
        self.host.clone = clone

    def stop_guest(self) -> None:
        """Stop the guest, if the plan suspends it, so that several can stop at the same time."""
        if "suspend" in self.plan.steps:
            suspend.stop_guest(self.observation)

    def apply(self, defer_resume: bool = False) -> None:
        """Take the steps of the plan.

        defer_resume: leave a VM that is started before its guest's first instruction, for resume.
        """
        with report_os_errors("cannot change the VM %s" % self.folder.name):
            self._applier.apply(defer_resume)

    def resume(self) -> None:
        """Let the guest run, after apply with defer_resume, if the plan says so."""
        if self.plan.starts and "resume" in self.plan.steps:
            with report_os_errors("cannot start the VM %s" % self.folder.name):
                self._applier.resume()

    def refresh(self) -> None:
        """Set what every run sets in a VM that runs."""
        with report_os_errors("cannot change the VM %s" % self.folder.name):
            self._applier.refresh()

    def report(self, check_mode: bool, parts: Sequence[Part] = PARTS) -> Result:
        """Return the VM as the modules do; in check mode with the status that it would have."""
        vm = report(self.observation, self.desired, parts)
        if check_mode and vm:
            vm["status"] = self.plan.status_after(vm["status"])
        return vm

    @property
    def actions(self) -> list[str]:
        """What was done, as text for the user."""
        return self._applier.actions

    @property
    def warnings(self) -> list[str]:
        """The warnings for the user."""
        return self.host.warnings

    def result(self, check_mode: bool) -> Result:
        """Return the result of a module that works on one VM."""
        vm = self.report(check_mode)
        if check_mode and self.desired and (vm["command_line"] is None or self.plan.starts):
            # Only here: it looks for the accelerator, and for free ports.
            vm["command_line"] = command_line.of_next_start(self.desired, self.host)
        result = {
            "changed": self.plan.changed,
            "changes": [change.result() for change in self.plan.changes],
            "actions": self.actions,
            "diff": module_diff(self.plan.changes),
            "vm": vm,
        }
        if self._applier.stopped_by:
            result["stopped_by"] = self._applier.stopped_by
        if self.warnings:
            result["warnings"] = self.warnings
        return result

    def close(self) -> None:
        """Close the monitor."""
        if hasattr(self, "observation"):
            self.observation.close()
