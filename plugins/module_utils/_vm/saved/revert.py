# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Return one VM to a snapshot, in steps that a run of many VMs takes side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    remove_file,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm import ports
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import bases
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import layers
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.remove import collect

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Settings,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import (
        Record,
        SavedState,
    )


def as_saved(saved: Definition | None, host: Host) -> Definition:
    """Return the saved definition as the desired one: a Compose of VmRun that changes nothing."""
    definition: Definition = plain_copy(saved or {})
    host.find(definition["arch"], definition["qemu_binary"] or None)
    return definition


class Reverter:
    """Returns one VM to a snapshot; the methods are called in the order in which they stand.

    current: the definition before. The caller holds the VM's lock.
    """

    def __init__(
        self, state: SavedState, record: Record, current: Definition, settings: Settings
    ) -> None:
        self.state, self.record, self.current = state, record, current
        # The guest's work since the snapshot is discarded, so it need not shut down.
        shutdown = dict(settings["shutdown"], acpi=False)
        self.settings: Settings = dict(settings, shutdown=shutdown)
        self.run: VmRun | None = None

    @property
    def starts(self) -> bool:
        """Whether the VM runs afterwards: a snapshot without memory leaves it stopped."""
        return bool(self.record["memory"])

    def stop(self) -> None:
        """End QEMU at once."""
        run = self._new_run()
        try:
            run.observe()
            run.request_state("stopped", allow_container=True)
            run.make_plan(as_saved, allow_restart=False)
            run.apply()
        finally:
            run.close()

    def _new_run(self) -> VmRun:
        host = Host(self.state.vm)
        host.reverts = True
        return VmRun(host, self.settings)

    def replace_files(self, qemu_img: QemuImg) -> None:
        """Put the disks, the files and the definition of the snapshot in place."""
        folder, definition = self.state.vm, plain_copy(self.record["definition"])
        # If this run is killed now, no other run starts a VM that is half of each.
        write_atomically(folder.reverting, (self.state.name or "") + "\n")
        restored = [
            layers.Layer(disk, folder.file(layer), layers.new_overlay(folder, disk))
            for disk, layer in self.record["disks"].items()
        ]
        layers.make_overlays(restored, qemu_img)
        definition = layers.with_overlays(definition, restored)
        self.state.restore_files(self.record["files"])
        held = self.current["ports"]
        needed = [request.key for request in definitions.port_requests(definition)]
        definition["ports"] = {key: held[key] for key in needed if key in held}
        if definitions.lacks_ports(definition):
            definition["ports"] = ports.claim(folder, definitions.port_requests(definition))
        definitions.save(folder, definition)
        if not self.starts:
            remove_file(folder.reverting)

    def start(self) -> None:
        """Start QEMU with the saved memory; the guest stays paused."""
        if not self.starts:
            return
        self.run = run = self._new_run()
        run.host.load(self.state.memory, self.record)
        run.observe()
        state = "started" if self.record["status"] == "running" else "paused"
        run.request_state(state, allow_container=True)
        run.make_plan(as_saved, allow_restart=False)
        run.apply(defer_resume=True)
        remove_file(self.state.vm.reverting)

    def resume(self) -> None:
        """Let the guest run, if it ran when it was saved."""
        if self.run:
            self.run.resume()
            self.run.refresh()

    def collect(self, qemu_img: QemuImg, timeout: float) -> None:
        """Remove the images that the VM wrote since the snapshot. timeout: for one merge."""
        observation = self.run.observation if self.run else observe(self.state.vm)
        try:
            dropped = [
                bases.disk_path(self.state.vm, disk)
                for disk in self.current["disks"]
                if bases.is_owned(self.state.vm, disk)
            ]
            collect(observation, [], qemu_img, timeout, dropped)
        finally:
            observation.close()

    def close(self) -> None:
        """Close the monitor."""
        if self.run:
            self.run.close()
