# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Remove a VM from one host of a migration: the origin after it, the target after a failure."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._vm import autostart, ports, process
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import remove_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.revert import as_saved

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Settings
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder


def remove_vm(folder: Folder, settings: Settings) -> None:
    """End QEMU at once and remove the VM, except its captures. Raises a VlabError."""
    shutdown = dict(settings["shutdown"], acpi=False)
    run = VmRun(Host(folder), dict(settings, shutdown=shutdown))
    try:
        run.observe()
        if run.observation.saved:
            run.request_state("stopped", allow_container=True)
            run.make_plan(as_saved, allow_restart=False)
            run.apply()
    finally:
        run.close()
    process.end_orphans(folder)
    ports.release(folder)
    autostart.disable(folder.path)
    kept = captures(folder)
    remove_folder(folder, {kept} if kept else set())


def captures(folder: Folder) -> str | None:
    """Return the folder of the captures, if it has any."""
    with contextlib.suppress(OSError):
        return folder.captures if os.listdir(folder.captures) else None
    return None
