# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""One run on the snapshots of one VM: observe, plan and apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, no_such_vm
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation, observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine import (
    choose_accelerator,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.plan import (
    check_loadable,
    definition_changes,
    plan_snapshots,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import (
    Record,
    SavedState,
    snapshots,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.remove import (
    check_unused,
    collect,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.revert import Reverter
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.save import (
    Saver,
    check_savable,
    is_suspended,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
        Settings,
    )


class SnapshotRun:
    """Observe, plan and apply; the caller holds the VM's lock.

    saver, reverter: exist after make_plan, if the plan takes or reverts to a snapshot.
    """

    observation: Observation

    def __init__(self, folder: Folder, params: Params, settings: Settings) -> None:
        self.folder, self.params, self.settings = folder, params, settings
        self.name, self.host = folder.name, Host(folder)
        self.saver: Saver | None = None
        self.reverter: Reverter | None = None
        self.records: dict[str, Record] = {}

    def observe(self) -> None:
        """Observe the VM and its snapshots. Raises OptionError and HostError."""
        self.observation = observe(self.folder)
        self.observation.check_damage()
        if self.observation.saved is None:
            raise OptionError("vm", no_such_vm(self.folder))
        self.observation.check_monitor()
        self.incomplete = []
        for state in snapshots(self.folder):
            if state.exists():
                self.records[state.name or ""] = state.load()
            else:
                self.incomplete.append(state.name or "")
        self.host.find(self._definition["arch"], self._definition["qemu_binary"] or None)

    @property
    def _definition(self) -> Definition:
        return self.observation.running or self.observation.saved or {}

    @property
    def saves_memory(self) -> bool:
        """Whether the snapshot has the memory of the guest."""
        has_memory = self.observation.alive or is_suspended(self.observation)
        return bool(self.params["memory"]) and has_memory

    def make_plan(self) -> None:
        """Plan, and check that nothing known prevents the plan. Raises a VlabError."""
        self.plan = plan_snapshots(self.name, self.params, self.records, self.incomplete)
        self.changes: list[Change] = list(self.plan.changes)
        for name in self.plan.remove:
            check_unused(SavedState(self.folder, name), self.records[name])
        if self.plan.take:
            check_savable(self.observation, self._definition, self.saves_memory)
            state = SavedState(self.folder, self.params["name"])
            self.saver = Saver(self.host, self.observation, state, self.saves_memory)
        if self.plan.revert:
            self._plan_revert()

    def _plan_revert(self) -> None:
        record = self.records[self.params["name"]]
        changes = definition_changes(self._definition, record["definition"])
        if changes and not self.params["allow_definition_changes"]:
            raise HostError(
                "the definition of the VM %s has changed since the snapshot %s: %s. Set"
                " allow_definition_changes: true to return to the definition of the snapshot"
                % (self.name, self.params["name"], ", ".join(change.option for change in changes)),
                options=[change.option for change in changes],
            )
        self.changes += changes
        choose_accelerator(record["definition"], self.host)
        machine = self.host.capabilities.machine_name(record["machine_type"] or "")
        version = list(self.host.capabilities.version)
        check_loadable(record, version, machine, self.host.accel)
        state = SavedState(self.folder, self.params["name"])
        self.reverter = Reverter(state, record, self._definition, self.settings)

    def discard_incomplete(self) -> None:
        """Remove what killed runs left."""
        self._collect(self.plan.discard)
        if self.reverter:
            self.reverter.current = self._definition  # a killed run's overlays are used by now

    def remove(self) -> None:
        """Remove the snapshots that the plan removes, and layers that are not used any more."""
        if self.reverter:
            return self.reverter.collect(self.host.qemu_img, self.params["save_timeout"])
        if self.plan.remove:
            self._collect(self.plan.remove)

    def discard_own(self) -> None:
        """After a failure, remove the snapshot that is incomplete."""
        state = SavedState(self.folder, self.params["name"])
        if self.plan.take and state.is_incomplete():
            self._collect([self.params["name"]])

    def _collect(self, names: list[str]) -> None:
        if names:
            collect(self.observation, names, self.host.qemu_img, self.params["save_timeout"])

    @property
    def warnings(self) -> list[str]:
        """The warnings for the user."""
        run = self.reverter.run if self.reverter else None
        return self.host.warnings + (run.warnings if run else [])

    def close(self) -> None:
        """Close the monitors."""
        if self.reverter:
            self.reverter.close()
        if hasattr(self, "observation"):
            self.observation.close()

    def report(self) -> list[Result]:
        """Return the facts of the snapshots, oldest first."""
        return snapshot_facts(self.folder)


def snapshot_facts(folder: Folder) -> list[dict[str, Any]]:
    """Return the facts of the snapshots of a VM, oldest first. Raises HostError."""
    facts = []
    for state in snapshots(folder):
        if not state.exists():
            continue
        record = state.load()
        facts.append(
            {
                "name": state.name,
                "vm": folder.name,
                "lab": folder.lab,
                "description": record["description"],
                "created": record["created"],
                "status": record["status"],
                "memory": record["memory"],
                "disks": sorted(record["disks"]),
                "qemu_version": ".".join(map(str, record["qemu_version"])),
                "machine": record["machine_type"],
                "bytes": state.size(),
                "folder": state.path,
            }
        )
    return sorted(facts, key=lambda entry: (entry["created"], entry["name"]))
