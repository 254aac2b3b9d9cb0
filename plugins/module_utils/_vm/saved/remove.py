# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Remove snapshots, and the layers that nothing refers to any more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Iterable

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import record_run
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import bases
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    users_of,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import layers
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import clones_of
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import (
    Record,
    SavedState,
    snapshots,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation


def check_unused(state: SavedState, record: Record) -> None:
    """Raise HostError if a snapshot has clones, or another VM has a layer of it as base image."""
    clones = clones_of(state)
    if clones:
        raise HostError(
            "the snapshot %s of the VM %s cannot be removed: its clones are %s. Remove those first"
            % (state.name, state.vm.name, ", ".join(clones)),
            path=state.path,
            clones=clones,
        )
    for layer in record["disks"].values():
        users = _other_users(state.vm, state.vm.file(layer))
        if users:
            raise HostError(
                "the snapshot %s of the VM %s cannot be removed: %s is the base image of %s"
                % (state.name, state.vm.name, state.vm.file(layer), ", ".join(users)),
                path=state.vm.file(layer),
            )


def check_removal(folder: Folder) -> None:
    """Raise HostError if other VMs have a layer of a VM's snapshots as their base image."""
    for state in snapshots(folder):
        for layer in state.load()["disks"].values() if state.exists() else ():
            users = _other_users(folder, folder.file(layer))
            if users:
                raise HostError(
                    "the VM %s cannot be removed: %s is the base image of %s, which is a clone of"
                    " its snapshot %s. Remove that first"
                    % (folder.name, folder.file(layer), ", ".join(users), state.name),
                    path=folder.file(layer),
                )


def _other_users(folder: Folder, path: str) -> list[str]:
    own = "%s/%s" % (folder.lab, folder.name)
    return sorted({user.vm for user in users_of(folder.root, path)} - {own})


def merge_disks(observation: Observation, qemu_img: QemuImg) -> None:
    """Remove all snapshots of a VM that does not run, and give its images their first names."""
    folder, saved = observation.folder, observation.saved
    if saved is None:
        return
    names = [state.name or "" for state in snapshots(folder)]
    collect(observation, names, qemu_img, timeout=0)
    disks = []
    for disk in saved["disks"]:
        first = {key: value for key, value in disk.items() if key != "image"}
        if disk.get("image"):
            os.replace(bases.disk_path(folder, disk), bases.disk_path(folder, first))
        disks.append(first)
    observation.saved = dict(saved, disks=disks)


def _complete_switch(observation: Observation) -> None:
    """Let QEMU continue on overlays that a killed run has recorded, and record that QEMU does."""
    saved, running, monitor = observation.saved, observation.running, observation.monitor
    if not saved or not running or not monitor:
        return
    pending = layers.pending_switch(observation.folder, saved)
    layers.switch(monitor, pending)
    names = {layer.disk for layer in pending} & {disk["name"] for disk in running["disks"]}
    updated = layers.with_overlays(running, [layer for layer in pending if layer.disk in names])
    if updated != running:
        observation.running = updated
        record_run(observation, definition=updated)


def collect(
    observation: Observation,
    removed: list[str],
    qemu_img: QemuImg,
    timeout: float,
    dropped: Iterable[str] = (),
) -> None:
    """Merge and remove the layers that no snapshot and no disk refers to.

    removed: the names of snapshots to remove first. timeout: seconds for the merge of one layer in
    a running VM. dropped: the paths of images that were of a disk. What the guest sees on its disks
    stays the same.
    """
    folder = observation.folder
    paths = list(dropped)
    for name in removed:
        paths += [folder.file(layer) for layer in SavedState(folder, name).retire()]
    _complete_switch(observation)
    definitions = [one for one in (observation.saved, observation.running) if one]
    kept = {
        bases.disk_path(folder, disk) for definition in definitions for disk in definition["disks"]
    }
    for state in snapshots(folder):
        if state.exists():
            kept |= {folder.file(layer) for layer in state.load()["disks"].values()}
    kept |= {path for path in paths if _other_users(folder, path)}
    layers.Collector(folder, kept, qemu_img, observation.monitor, timeout).collect(paths)
    for name in removed:
        SavedState(folder, name).remove()
