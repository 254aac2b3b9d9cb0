# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils import _local_files
from ansible_collections.vlab.qemu.plugins.plugin_utils._vm.module_action import (
    ModuleAction,
    load_service,
)


class ActionModule(ModuleAction):
    """Runs qemu_vm with the files of the controller that its options name."""

    service = load_service("vm_service")

    def with_files(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the options with the content of each file in place of its path."""
        return _local_files.with_files(args, self._find_needle)
