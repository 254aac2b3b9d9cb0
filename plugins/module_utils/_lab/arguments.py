# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The argument spec of qemu_lab, for its action plugin and for the module."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    IMAGE_DIR_SPEC,
    SETTINGS_SPEC,
)

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "topology": {"type": "raw"},
    "lab_name": {"type": "str"},
    "lab": {"type": "str"},
    "owner": {"type": "str"},
    "allow_takeover": {"type": "bool", "default": False},
    "allow_migration": {"type": "bool", "default": False},
    "from": {
        "type": "dict",
        "options": {"lab": {"type": "str"}, "checkpoint": {"type": "str", "required": True}},
    },
    "state": {
        "type": "str",
        "choices": ["started", "stopped", "paused", "suspended", "present", "absent"],
        "default": "started",
    },
    "nodes": {"type": "list", "elements": "str"},
    "images": {"type": "dict", "default": {}},
    "root": {"type": "path"},
    **IMAGE_DIR_SPEC,
    "allow_container": {"type": "bool", "default": False},
    "autostart": {"type": "bool"},
    "purge": {"type": "bool", "default": False},
    "wait_ready": {"type": "bool", "default": True},
    "keep_disks": {"type": "bool", "default": False},
    **SETTINGS_SPEC,
    "start_timeout": {"type": "int", "default": 60},
    "share": {"type": "dict"},
}
