# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Start a VM from its folder, without Ansible: what the systemd unit of autostart runs."""

from __future__ import annotations

import os
import sys

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.revert import as_saved
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of


def start(path: str) -> None:
    """Start the VM whose folder is at path. Raises SystemExit with the reason if it cannot."""
    lab_folder, name = os.path.split(os.path.abspath(path))
    root, lab = os.path.split(lab_folder)
    try:
        for text in start_vm(root, lab, name):
            sys.stdout.write(text + "\n")
    except VlabError as error:
        raise SystemExit(error.message)


def start_vm(root: str, lab: str, name: str) -> list[str]:
    """Start a VM as it is defined; return what was done. Raises VlabError."""
    folder = existing(root, lab, name)
    run = VmRun(Host(folder), settings_of({}))
    with folder.locked(False, run.settings["lock_timeout"]):
        run.observe()
        try:
            run.request_state("started", allow_container=True)
            run.make_plan(as_saved, allow_restart=False)
            run.apply()
            run.refresh()
            return run.actions + ["warning: " + text for text in run.warnings]
        finally:
            run.close()
