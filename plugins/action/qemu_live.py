# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from importlib import import_module
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import bytecode_cache

bytecode_cache.activate()
_action: Any = import_module("ansible_collections.vlab.qemu.plugins.plugin_utils._live.live_action")


class ActionModule(_action.LiveAction):
    """Serves the live picture of a lab."""
