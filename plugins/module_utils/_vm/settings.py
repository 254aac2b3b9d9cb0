# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Options that several modules share: the place of a VM, and how to change and stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Settings

SHUTDOWN = {"acpi": True, "timeout": 30, "quit_timeout": 10, "term_timeout": 10, "force": True}
SAVE_TIMEOUT = 600  # seconds to write or load the memory of a guest
_UNIT, _MAX_SECONDS = "a time in seconds", 1000000
PLACE_SPEC: dict[str, dict[str, Any]] = {
    "lab": {"type": "str", "default": "default"},
    "root": {"type": "path"},
}
IMAGE_DIR_SPEC: dict[str, dict[str, Any]] = {"image_dir": {"type": "path"}}
SETTINGS_SPEC: dict[str, dict[str, Any]] = {
    "allow_restart": {"type": "bool", "default": False},
    "shutdown": {
        "type": "dict",
        "options": {
            "acpi": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 30},
            "quit_timeout": {"type": "int", "default": 10},
            "term_timeout": {"type": "int", "default": 10},
            "force": {"type": "bool", "default": True},
        },
    },
    "start_timeout": {"type": "int", "default": 30},
    "unplug_timeout": {"type": "int", "default": 15},
    "lock_timeout": {"type": "int", "default": 300},
}


def settings_of(params: Params) -> Settings:
    """Return the settings of a run, with defaults. Raises OptionError."""
    given = params.get("shutdown") or {}
    policy = {**SHUTDOWN, **{key: value for key, value in given.items() if value is not None}}
    for key in ("timeout", "quit_timeout", "term_timeout"):
        check_number("shutdown." + key, policy[key], 0, _MAX_SECONDS, _UNIT)
    keep_disks = bool(params.get("keep_disks"))
    if params.get("state") == "absent" and not given and not keep_disks:
        policy["acpi"] = False  # no data is kept, so the guest need not shut down
    settings: Settings = {"shutdown": policy, "keep_disks": keep_disks}
    settings["save_timeout"] = params.get("save_timeout") or SAVE_TIMEOUT
    for key in ("start_timeout", "unplug_timeout", "lock_timeout"):
        settings[key] = SETTINGS_SPEC[key]["default"] if params.get(key) is None else params[key]
        check_number(key, settings[key], 1, _MAX_SECONDS, _UNIT)
    return settings
