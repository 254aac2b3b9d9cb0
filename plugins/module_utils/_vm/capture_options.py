# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The options of qemu_capture, which its module and its action plugin share."""

from __future__ import annotations

from typing import Any

DEFAULT_READER = "wireshark -k -i -"

CAPTURE_SPEC: dict[str, Any] = {
    "vm": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "lab": {"type": "str", "default": "default"},
    "root": {"type": "path"},
    "reader": {"type": "str", "default": DEFAULT_READER},
    "snaplen": {"type": "int"},
    "duration": {"type": "int"},
}
