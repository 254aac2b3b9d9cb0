# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What the modules return of a VM: the same keys from qemu_vm and qemu_vm_info."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Part


def report(
    observation: Observation, definition: Definition | None, parts: Sequence[Part] = PARTS
) -> Result:
    """Return the result of a VM, empty if it is absent.

    definition: the desired or saved one, None for an absent VM. parts: those that contribute.
    """
    if definition is None:
        return {}
    folder, run = observation.folder, observation.run or {}
    has_run = observation.alive or observation.status == "crashed"
    result: Result = {
        "name": folder.name,
        "lab": folder.lab,
        "folder": folder.path,
        "status": observation.status,
        "pid": run.get("pid") if observation.alive else None,
        "qmp": folder.socket("monitor.sock"),
        "qemu_version": run.get("qemu_version"),
        "command_line": run.get("argv") if has_run else None,
        "exit_code": observation.exit_code,
        "log": observation.log or None,
    }
    for part in parts:
        part.report(definition, observation, result)
    return result
