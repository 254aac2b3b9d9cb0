# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Nodes that have a VM on this hypervisor, though the topology places them on another one.

To create the VM again on the other one would lose its memory, its disks and its snapshots.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import (
    Observation,
    observe,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import snapshots

_AT_REST = ("absent", "stopped", "crashed")


def has_state(folder: Folder, status: str, disks: Sequence[Any] | None) -> bool:
    """Return whether a VM has more than its definition: memory, disks or snapshots."""
    return status not in _AT_REST or bool(disks) or any(snapshots(folder))


def check_placement(
    folders: Iterable[Folder], placed: Mapping[str, str], observed: Mapping[str, Observation]
) -> None:
    """Raise HostError for VMs with a state whose nodes are placed on other hypervisors.

    folders: of the VMs that are not in the share of this hypervisor. placed: {node: hypervisor} of
    the whole topology. observed: {node: observation}, whose monitors take no second connection.
    """
    found = []
    for folder in folders:
        if folder.name in placed:
            with contextlib.ExitStack() as stack:
                observation = observed.get(folder.name)
                if observation is None:
                    observation = observe(folder)
                    stack.callback(observation.close)
                disks = (observation.saved or {}).get("disks")
                if has_state(folder, observation.status, disks):
                    found.append(
                        "nodes.%s.hypervisor: the topology places it on %s, but its VM is here and"
                        " is %s" % (folder.name, placed[folder.name], observation.status)
                    )
    if found:
        raise HostError(
            "%s. Run qemu_lab_info on all hypervisors first and register its result as lab_info:"
            " then a node without hypervisor stays where it is, and allow_migration moves one with"
            " another hypervisor" % "; ".join(found)
        )
