# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Take a snapshot of one VM, in steps that a run of many VMs takes side by side."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import free_space
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import record_run
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import log_size
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import layers, memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import (
    Record,
    SavedState,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

# A VM in another run state cannot be saved.
SAVED_STATUSES = ("running", "paused")
# What a record says of the run of QEMU that saved the memory.
_OF_MEMORY = ("status", "qemu_version", "machine_type", "accel", "console_from")
_RESERVE = (
    64 * memory.MIB
)  # what the device states and the new overlays take at most, by experience


def check_savable(
    observation: Observation, definition: Definition, saves_memory: bool, saves_disks: bool = True
) -> None:
    """Raise HostError with everything that keeps the VM from being saved, before it is stopped."""
    folder = observation.folder
    if observation.alive and observation.status not in SAVED_STATUSES:
        raise HostError(
            "the VM %s is %s, and only a running, a paused or a stopped one can be saved"
            % (folder.name, observation.status)
        )
    reasons = layers.blockers(folder, definition, saves_memory) if saves_disks else []
    if saves_memory:
        reasons += memory_reasons(observation, definition)
    if reasons:
        raise HostError("the VM %s cannot be saved: %s" % (folder.name, "; ".join(reasons)))


def memory_reasons(observation: Observation, definition: Definition) -> list[str]:
    """Return what keeps QEMU from saving the memory of a VM."""
    reasons = [reason for part in PARTS for reason in part.memory_blockers(definition)]
    if observation.monitor:
        answer = observation.monitor.execute("query-migrate")
        reasons += [str(reason) for reason in answer.get("blocked-reasons") or ()]
    return reasons


def is_suspended(observation: Observation) -> bool:
    """Whether the guest is in a saved state, and not in QEMU."""
    return observation.suspended and not observation.alive


def check_space(folder: str, pids: list[int]) -> None:
    """Raise HostError if the memory of these processes does not fit on a folder's file system."""
    if not pids:
        return
    need = sum(map(memory.resident, pids)) + _RESERVE
    try:
        free = free_space(folder)
    except OSError:
        return
    if free < need:
        raise HostError(
            "the memory of the guests takes up to %d MiB, and %s has %d MiB free: free some space,"
            " remove other snapshots, or set memory: false"
            % (-(-need // memory.MIB), folder, free // memory.MIB),
            path=folder,
        )


class Saver:
    """Takes one snapshot; the methods are called in the order in which they stand.

    observation: of the VM. state: the snapshot, incomplete. saves_memory, saves_disks: what of the
    VM is saved.
    """

    def __init__(
        self,
        host: Host,
        observation: Observation,
        state: SavedState,
        saves_memory: bool,
        saves_disks: bool = True,
    ) -> None:
        self.host, self.observation, self.state = host, observation, state
        # They are set by prepare: what a killed run left is completed before, which changes them.
        self.definition: Definition = {}
        self.layers: list[layers.Layer] = []
        self.saves_disks = saves_disks
        # The saved state of a suspended VM, whose memory the snapshot shares.
        self.suspended = SavedState(state.vm, None) if is_suspended(observation) else None
        self.saves_memory = saves_memory and (observation.alive or self.suspended is not None)
        self.is_paused = False
        self.was_running = observation.status == "running"

    @property
    def _monitor(self) -> Monitor:
        return self.observation.open_monitor

    def prepare(self) -> None:
        """Create what can be created while the guest runs."""
        self.definition = self.observation.running or self.observation.saved or {}
        if self.saves_disks:
            self.layers = layers.frozen_layers(self.state.vm, self.definition)
        self.state.make()
        if self.layers:
            layers.make_overlays(self.layers, self.host.qemu_img)
        if self.observation.alive and self.was_running:
            # If this run is killed while the guest is stopped, the next one lets it run.
            record_run(self.observation, resume="running")

    def pause(self) -> None:
        """Stop the guest."""
        if self.observation.alive and self.was_running:
            self.is_paused = True
            self._monitor.execute("stop")

    def save(self, description: str, timeout: float) -> None:
        """Freeze the disks and write the state of the stopped guest.

        timeout: seconds for the memory.
        """
        if self.layers:
            self._switch()
        if self.saves_memory and self.suspended:
            self.state.share_memory(self.suspended)
        elif self.saves_memory:
            mapped = self.host.memory_file
            memory_file = mapped.path if mapped and mapped.is_shared else None
            memory.save_memory(self._monitor, self.state.memory, timeout, memory_file)
        names = [name for part in PARTS for name in part.state_files(self.definition, self.host)]
        self._complete(description, self.state.copy_files(names))

    def _switch(self) -> None:
        """Let the VM continue on the overlays, which are recorded first.

        If this run is killed in between, the next start finds empty overlays on what it wrote.
        """
        observation, folder = self.observation, self.state.vm
        if observation.saved:
            observation.saved = layers.with_overlays(observation.saved, self.layers)
            definitions.save(folder, observation.saved)
        if observation.alive:
            running = layers.with_overlays(observation.running, self.layers)
            observation.running = running
            record_run(observation, definition=running)
            layers.switch(self._monitor, self.layers)

    def _complete(self, description: str, files: list[str]) -> None:
        run = self.observation.run
        record: Record = {
            "name": self.state.name or "",
            "description": description,
            "status": self.observation.status if self.observation.alive else "stopped",
            "memory": self.saves_memory,
            "qemu_version": list(self.host.capabilities.version),
            "machine_type": run.get("machine_type")
            or self.host.capabilities.machine_name(self.definition["machine"]),
            "accel": run.get("accel"),
            "console_from": run.get("console_from", 0),
            "console_to": log_size(self.state.vm, self.definition),
            "definition": self.definition,
            "disks": {layer.disk: os.path.basename(layer.frozen) for layer in self.layers},
            "files": files,
        }
        if self.suspended and self.saves_memory:
            suspended = self.suspended.load()
            record.update({key: suspended[key] for key in _OF_MEMORY})
        self.state.save(record)

    def resume(self) -> None:
        """Let the guest run again, if it ran before."""
        if self.is_paused:
            self._monitor.execute("cont")
            self.is_paused = False
        if self.observation.alive and self.was_running:
            record_run(self.observation, resume=None)

    def abandon(self) -> None:
        """After a failure, let the guest run again."""
        with contextlib.suppress(VlabError):
            self.resume()
