# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""The options of qemu_lab, which its action plugin checks before anything else, and the module again."""

from __future__ import annotations

ARGUMENTS = {
    "topology": {"type": "raw", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped", "paused", "present", "absent"], "default": "started"},
    "nodes": {"type": "list", "elements": "str"},
    "images": {"type": "dict", "default": {}},
    "root": {"type": "path"},
    "allow_restart": {"type": "bool", "default": False},
    "allow_container": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
    "wait_ready": {"type": "bool", "default": True},
    "keep_disks": {"type": "bool", "default": False},
    "shutdown": {"type": "dict", "options": {
        "acpi": {"type": "bool", "default": True}, "timeout": {"type": "int", "default": 30},
        "quit_timeout": {"type": "int", "default": 10}, "term_timeout": {"type": "int", "default": 10},
        "force": {"type": "bool", "default": True}}},
    "start_timeout": {"type": "int", "default": 60},
    "unplug_timeout": {"type": "int", "default": 15},
    "lock_timeout": {"type": "int", "default": 300},
    "share": {"type": "dict"},
}
