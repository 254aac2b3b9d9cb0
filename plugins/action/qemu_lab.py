# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from importlib import import_module

from ansible.plugins.action import ActionBase

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import bytecode_cache


class ActionModule(ActionBase):
    """Calls the module that does the work.

    It is imported after the bytecode cache is active: Ansible would compile all of it in each process.
    """

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        bytecode_cache.activate()
        module = import_module("ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lab_action")
        return module.LabAction(
            self._task,
            self._connection,
            self._play_context,
            self._loader,
            self._templar,
            self._shared_loader_obj,
        ).run(tmp, task_vars)
