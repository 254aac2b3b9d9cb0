# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The argument spec of qemu_lab_images, for its action plugin and for the module."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._lab.places import LAB, hypervisors

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    **LAB,
    "images": {"type": "dict", "default": {}},
    "image_dir": {"type": "path"},
    "hypervisors": hypervisors(image_dir={"type": "path"}),
    "source": {"type": "path"},
    "transfer": {
        "type": "str",
        "choices": ["auto", "direct", "controller"],
        "default": "auto",
    },
}
