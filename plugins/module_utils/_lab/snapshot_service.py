# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The module qemu_snapshot, also as requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._lab.snapshots import (
    converge_snapshots,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.module_service import handlers
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    PLACE_SPEC,
    SAVE_TIMEOUT,
    SETTINGS_SPEC,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

SPECIFICATION: dict[str, Any] = {
    "argument_spec": {
        "vm": {"type": "str"},
        "name": {"type": "str"},
        "state": {
            "type": "str",
            "choices": ["present", "absent", "reverted"],
            "default": "present",
        },
        "memory": {"type": "bool", "default": True},
        "description": {"type": "str", "default": ""},
        "keep": {"type": "int"},
        "purge": {"type": "bool", "default": False},
        "allow_definition_changes": {"type": "bool", "default": False},
        "stop_at": {"type": "float"},
        "save_timeout": {"type": "int", "default": SAVE_TIMEOUT},
        **PLACE_SPEC,
        **{key: SETTINGS_SPEC[key] for key in ("start_timeout", "lock_timeout")},
    },
}


def work(params: Params, check_mode: bool) -> Result:
    """Bring the snapshots into their state; return the module's result."""
    return converge_snapshots(params, check_mode)


HANDLERS = handlers(work, SPECIFICATION)
