# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The argument spec of qemu_live, for its action plugin and for the module."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._lab.places import LAB, hypervisors

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    **LAB,
    "hypervisors": hypervisors(),
    "write": {"type": "bool", "default": False},
    "port": {"type": "int", "default": 0},
    "interval": {"type": "float", "default": 2},
}
