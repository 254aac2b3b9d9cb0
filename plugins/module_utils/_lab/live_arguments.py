# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The argument spec of qemu_live, for its action plugin and for the module."""

from __future__ import annotations

from typing import Any, Dict

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "topology": {"type": "raw", "required": True},
    "lab_name": {"type": "str"},
    "lab": {"type": "str"},
    "root": {"type": "path"},
    "hypervisors": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "root": {"type": "path"},
            "variables": {"type": "dict"},
        },
    },
    "write": {"type": "bool", "default": False},
    "port": {"type": "int", "default": 0},
    "interval": {"type": "float", "default": 2},
}
