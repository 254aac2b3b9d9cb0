# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Suspend a VM to disk and continue it, and what else a run of a VM needs of saved states.

The modules that save a state are imported only when they are needed: most runs save nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import record_run

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation


def _state(folder: Folder) -> Any:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState

    return SavedState(folder, None)


def check(observation: Observation) -> None:
    """Raise HostError if a running VM cannot be suspended."""
    if observation.suspended or observation.resume:
        return  # a killed run has checked it
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import save as saving

    saving.check_savable(observation, observation.running, saves_memory=True, saves_disks=False)
    saving.check_space(os.path.dirname(observation.folder.path), [observation.pid or 0])


def save(host: Host, observation: Observation, timeout: float) -> None:
    """Stop the guest and save its state; QEMU does not end. timeout: seconds for the memory."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.save import Saver

    state = _state(observation.folder)
    state.remove()  # what a killed run left
    saver = Saver(host, observation, state, saves_memory=True, saves_disks=False)
    try:
        saver.prepare()
        saver.pause()
        saver.save("", timeout)
    except VlabError:
        saver.abandon()
        state.remove()
        raise


def stop_guest(observation: Observation) -> None:
    """Stop the guest of a VM that is to be suspended together with others."""
    if observation.monitor and observation.status == "running" and not observation.suspended:
        record_run(observation, resume="running")
        observation.monitor.execute("stop")


def cancel(observation: Observation) -> None:
    """Prepare a guest that a killed run was saving for its continuation."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import memory

    if observation.monitor:
        memory.cancel(observation.monitor)
    discard(observation.folder)
    observation.suspended = False


def discard(folder: Folder) -> None:
    """Delete the saved state."""
    _state(folder).remove()


def merge_disks(observation: Observation, host: Host) -> None:
    """Remove the snapshots of a VM that does not run, so that each disk is one image again."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.remove import merge_disks

    merge_disks(observation, host.qemu_img)


def check_no_clones(folder: Folder) -> None:
    """Raise HostError for a VM whose layers its clones need: kept images get other names."""
    if os.path.isdir(folder.file("snapshots")):
        from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.remove import (
            check_removal,
        )

        check_removal(folder)


def plan_load(host: Host) -> dict[str, Any]:
    """Let the next start continue the guest; return the record of its saved state."""
    state = _state(host.folder)
    record: dict[str, Any] = state.load()
    host.load(state.memory, record)
    return record


def check_load(host: Host, record: dict[str, Any]) -> None:
    """Raise HostError if this QEMU cannot load the saved state; host.accel is chosen."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.plan import check_loadable

    machine = host.capabilities.machine_name(record["machine_type"] or "")
    try:
        check_loadable(record, list(host.capabilities.version), machine, host.accel)
    except VlabError as error:
        error.message += ". The state stopped discards it"
        raise


def load(monitor: Monitor, host: Host, timeout: float) -> None:
    """Load the saved state of host into a QEMU that waits for it."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.memory import load_memory

    mapped = host.memory_file
    is_mapped = mapped is not None and not mapped.is_shared
    load_memory(monitor, host.saved_memory or "", timeout, is_mapped)
