# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.plugin_utils._vm.module_action import (
    ModuleAction,
    load_service,
)


class ActionModule(ModuleAction):
    """Runs qemu_guest_exec."""

    service = load_service("guest_exec_service")
