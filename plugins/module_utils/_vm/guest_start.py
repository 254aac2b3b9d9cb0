# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Start one VM: its guest continues from a template or a snapshot if the host has one, or boots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.launch import Launch, kill

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Settings,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import shared_memory
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState


def start(
    host: Host, observation: Observation, desired: Definition, settings: Settings, resumes: bool
) -> None:
    """Launch the QEMU of a VM, and leave it paused with its monitor open.

    resumes: whether the same run of the module lets the guest run. Raises VlabError.
    """
    launch = Launch(host, observation, desired, settings, resumes)
    if host.clone and host.clone.has_memory:
        _launch_clone(launch, host.clone.state)
    elif host.is_template:
        _launch_or_boot(launch)
    else:
        launch.run()


def _launch_or_boot(launch: Launch) -> None:
    """Launch QEMU; if the guest cannot continue from its template, let it boot."""
    host = launch.host
    try:
        launch.run()
    except VlabError as error:
        host.warn("%s boots without a template: %s" % (host.folder.name, error.message))
        host.boot()
        launch.run()


def _launch_clone(launch: Launch, state: SavedState) -> None:
    """Launch QEMU; if the clone cannot share the memory of its snapshot, let it load it."""
    # Imported here: few VMs are clones.
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.shared_memory import (
        SharedMemory,
    )

    shared = SharedMemory(state, launch.host)
    is_there = shared.exists()
    if not is_there and not shared.is_useful(launch.desired):
        launch.run()
        return
    try:
        if not is_there:
            _make_shared_memory(launch, shared)
        shared.use()
        launch.run()
    except VlabError as error:
        kill(launch.host, launch.observation)
        shared.leave()
        launch.run()  # raises what is not the fault of the shared memory
        shared.remove()
        launch.host.warn(
            "%s has its own copy of the memory of its snapshot: %s"
            % (launch.host.folder.name, error.message)
        )


def _make_shared_memory(launch: Launch, shared: shared_memory.SharedMemory) -> None:
    """Let a QEMU load the snapshot and write the files that its clones share."""
    shared.prepare()
    launch.run()
    shared.save(launch.observation.open_monitor, launch.settings["save_timeout"])
    kill(launch.host, launch.observation)
    shared.complete()
