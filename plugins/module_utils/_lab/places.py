# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The options that name a lab and its hypervisors, of modules that run on the controller."""

from __future__ import annotations

from typing import Any, Dict

LAB: Dict[str, Dict[str, Any]] = {
    "topology": {"type": "raw", "required": True},
    "lab_name": {"type": "str"},
    "lab": {"type": "str"},
    "root": {"type": "path"},
}


def hypervisors(**more: Dict[str, Any]) -> Dict[str, Any]:
    """Return the option hypervisors. more: further suboptions."""
    return {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "root": {"type": "path"},
            "variables": {"type": "dict"},
            **more,
        },
    }
