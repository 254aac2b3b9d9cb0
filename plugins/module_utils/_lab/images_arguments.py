# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The argument spec of qemu_lab_images, for its action plugin and for the module."""

from __future__ import annotations

from typing import Any, Dict

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "topology": {"type": "raw", "required": True},
    "lab_name": {"type": "str"},
    "lab": {"type": "str"},
    "images": {"type": "dict", "default": {}},
    "root": {"type": "path"},
    "image_dir": {"type": "path"},
    "hypervisors": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "root": {"type": "path"},
            "image_dir": {"type": "path"},
            "variables": {"type": "dict"},
        },
    },
    "source": {"type": "path"},
    "transfer": {
        "type": "str",
        "choices": ["auto", "direct", "controller"],
        "default": "auto",
    },
}
