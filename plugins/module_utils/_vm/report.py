# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What the modules return of a VM: the same keys from qemu_vm and qemu_vm_info."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS


def report(observation, definition, parts=PARTS):
    """The result dict of a VM; empty when it is absent. seen: Observation. definition: what it is to be. parts: whose words are wanted."""
    if definition is None:
        return {}
    folder, run = observation.folder, observation.run or {}
    told = {
        "name": folder.name,
        "lab": folder.lab,
        "folder": folder.path,
        "status": observation.status,
        "pid": run.get("pid") if observation.alive else None,
        "qmp": folder.socket("monitor.sock"),
        "qemu_version": run.get("qemu_version"),
        "command_line": run.get("argv") if observation.alive else None,
        "exit_code": observation.exit_code,
        "log": observation.log or None,
    }
    for part in parts:
        part.report(definition, observation, told)
    return told
