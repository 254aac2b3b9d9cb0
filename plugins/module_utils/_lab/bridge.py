# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Linux bridges as segments: for NICs that shall meet the host's own interfaces. They need root; a hub does not."""

from __future__ import annotations

import os
import shutil

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_text,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import run_program

# As transparent as a cable where the kernel allows it: no spanning tree, no snooping, link-local frames such as LLDP pass
# (the kernel keeps the first three of the sixteen for itself: Linux, Documentation/ABI, group_fwd_mask).
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
_ATTACH = """#!/bin/sh
exec ip link set dev "$1" up master %s
"""


class Bridge:
    """A bridge on its way to what is wanted. bridge: name of the Linux interface; None: what we made of it shall go."""

    def __init__(self, folder, name, bridge):
        self.path, self.name, self.bridge = folder, name, bridge
        self.attach = os.path.join(folder, "attach")
        # The bridge that we made, and so may remove.
        self.made = read_text(os.path.join(folder, "bridge"))

    @staticmethod
    def _is_there(bridge):
        return os.path.isdir("/sys/class/net/%s/bridge" % bridge)

    def changes(self):
        """What is to be done."""
        path = ("segments", self.name)
        if self.bridge is None:
            return [Change(path, self.made or True, None, FILE)] if os.path.isdir(self.path) else []
        before = self.made or None
        if before and before != self.bridge or not self._is_there(self.bridge):
            return [
                Change(
                    path, before if before and self._is_there(before) else None, self.bridge, FILE
                )
            ]
        if read_text(self.attach) != _ATTACH % self.bridge:
            return [Change(path, None, self.bridge, FILE)]
        return []

    def apply(self, _timeout):
        """Bring it there. Raises HostError, CommandError."""
        if os.geteuid() != 0:
            raise HostError(
                "segments.%s: a bridge needs root on the hypervisor: use become: true, or type: hub"
                % self.name
            )
        if self.made and self.made != self.bridge and self._is_there(self.made):
            run_program(
                ["ip", "link", "delete", "dev", self.made],
                purpose="remove the bridge %s" % self.made,
            )
        if self.bridge is None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        if not self._is_there(self.bridge):
            if os.path.exists("/sys/class/net/" + self.bridge):
                raise HostError(
                    "segments.%s.bridge: %s is an interface of this host, and no bridge"
                    % (self.name, self.bridge)
                )
            # Ours from before it is there: a run that is killed in between leaves nothing that nobody would remove.
            write_atomically(os.path.join(self.path, "bridge"), self.bridge.encode("utf-8"))
            run_program(
                ["ip", "link", "add", "name", self.bridge, "type", "bridge", *_TRANSPARENT],
                purpose="make the bridge %s" % self.bridge,
            )
        run_program(
            ["ip", "link", "set", "dev", self.bridge, "up"],
            purpose="set the bridge %s up" % self.bridge,
        )
        write_atomically(self.attach, (_ATTACH % self.bridge).encode("utf-8"), 0o700)
