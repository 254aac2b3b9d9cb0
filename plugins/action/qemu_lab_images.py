# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from importlib import import_module
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import bytecode_cache


class ActionModule(ActionBase):
    """Calls ImagesAction, which is imported after the bytecode cache is active."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task; return its result."""
        bytecode_cache.activate()
        module = import_module(
            "ansible_collections.vlab.qemu.plugins.plugin_utils._lab.images_action"
        )
        action = module.ImagesAction(
            self._task,
            self._connection,
            self._play_context,
            self._loader,
            self._templar,
            self._shared_loader_obj,
        )
        result: dict[str, Any] = action.run(tmp, task_vars)
        return result
