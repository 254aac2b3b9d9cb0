# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How a run does things: what it may do to a running VM, and how long it waits; and where the VM is. Options of several modules."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number

SHUTDOWN = {"acpi": True, "timeout": 30, "quit_timeout": 10, "term_timeout": 10, "force": True}
_SECONDS, _LONGEST = "a time in seconds", 1000000
PLACE_SPEC = {
    "lab": {"type": "str", "default": "default"},
    "root": {"type": "path"},
}
SETTINGS_SPEC = {
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


def settings_of(params):
    """What a run is told about how to do things, with times in seconds."""
    policy = dict(
        SHUTDOWN,
        **{
            key: value for key, value in (params.get("shutdown") or {}).items() if value is not None
        },
    )
    for key in ("timeout", "quit_timeout", "term_timeout"):
        check_number("shutdown." + key, policy[key], 0, _LONGEST, _SECONDS)
    if (
        params.get("state") == "absent"
        and not params.get("shutdown")
        and not params.get("keep_disks")
    ):
        policy["acpi"] = False  # nothing of it will be left: there is no use in asking the guest
    settings = {"shutdown": policy, "keep_disks": bool(params.get("keep_disks"))}
    for key in ("start_timeout", "unplug_timeout", "lock_timeout"):
        settings[key] = SETTINGS_SPEC[key]["default"] if params.get(key) is None else params[key]
        check_number(key, settings[key], 1, _LONGEST, _SECONDS)
    return settings
