# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Linux bridges as segments, for NICs that share a network with the host. They need root."""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    read_text,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import run_program

# As transparent as a cable: no spanning tree, no snooping, link-local frames such as LLDP pass. The
# kernel reserves the first three of the sixteen (Linux, Documentation/ABI, group_fwd_mask).
_TRANSPARENT = [
    "stp_state",
    "0",
    "forward_delay",
    "0",
    "mcast_snooping",
    "0",
    "group_fwd_mask",
    "0xfff8",
]
# QEMU calls it with the name of each tap.
_ATTACH_SCRIPT = """#!/bin/sh
exec ip link set dev "$1" up master %s
"""


class BridgeObservation(NamedTuple):
    """The observed state of a bridge.

    created: the bridge that an earlier run created, and so may be removed, or None.
    created_exists, desired_exists: whether these bridges exist in the kernel.
    has_folder: whether the segment has files. script: the content of its attach script, or None.
    """

    created: str | None
    created_exists: bool
    desired_exists: bool
    has_folder: bool
    script: str | None


def plan_bridge(name: str, observation: BridgeObservation, desired: str | None) -> list[Change]:
    """Plan a bridge. desired: the name of the interface, None to remove the segment."""
    path, created = ("segments", name), observation.created or None
    if desired is None:
        return [Change(path, created or True, None, FILE)] if observation.has_folder else []
    if created and created != desired or not observation.desired_exists:
        before = created if observation.created_exists else None
        return [Change(path, before, desired, FILE)]
    if observation.script != _ATTACH_SCRIPT % desired:
        return [Change(path, None, desired, FILE)]
    return []


class Bridge:
    """One bridge. bridge: the name of the Linux interface, None to remove the segment.

    attach_script: the path of the script that adds a tap to it. changes: the plan.
    """

    _observation: BridgeObservation

    def __init__(self, folder: str, name: str, bridge: str | None) -> None:
        self.path, self.name, self.bridge = folder, name, bridge
        self.attach_script = os.path.join(folder, "attach")
        self.changes: list[Change] = []

    def observe(self) -> None:
        """Look for the bridge in the kernel, and for the files of the segment."""
        created = read_text(os.path.join(self.path, "bridge"))
        self._observation = BridgeObservation(
            created,
            bool(created) and self._exists(created or ""),
            self.bridge is not None and self._exists(self.bridge),
            os.path.isdir(self.path),
            read_text(self.attach_script),
        )

    def plan(self) -> None:
        """Plan the changes."""
        self.changes = plan_bridge(self.name, self._observation, self.bridge)

    @property
    def changes_existing(self) -> bool:
        """Whether the plan changes or removes a bridge that existed before this run."""
        return bool(self.changes) and self._observation.has_folder

    def apply(self, _timeout: int) -> None:
        """Make the changes. Raises HostError, ProgramError."""
        if os.geteuid() != 0:
            raise HostError(
                "segments.%s: a bridge needs root on the hypervisor: use become: true, or type: hub"
                % self.name
            )
        created = self._observation.created
        if created and created != self.bridge and self._observation.created_exists:
            _ip("remove the bridge %s" % created, "delete", "dev", created)
        if self.bridge is None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        make_folder(self.path)
        if not self._observation.desired_exists:
            self._create(self.bridge)
        _ip("set the bridge %s up" % self.bridge, "set", "dev", self.bridge, "up")
        write_atomically(self.attach_script, (_ATTACH_SCRIPT % self.bridge).encode("utf-8"), 0o700)

    def _create(self, bridge: str) -> None:
        if os.path.exists("/sys/class/net/" + bridge):
            raise HostError(
                "segments.%s.bridge: %s is an interface of this host, but not a bridge"
                % (self.name, bridge)
            )
        # Recorded first, so that the bridge of a killed run is removed later.
        write_atomically(os.path.join(self.path, "bridge"), bridge.encode("utf-8"))
        _ip("create the bridge %s" % bridge, "add", "name", bridge, "type", "bridge", *_TRANSPARENT)

    @staticmethod
    def _exists(bridge: str) -> bool:
        return os.path.isdir("/sys/class/net/%s/bridge" % bridge)


def _ip(purpose: str, *arguments: str) -> None:
    run_program(["ip", "link", *arguments], purpose=purpose)
