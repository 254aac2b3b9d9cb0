# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Copies of plain data."""

from __future__ import annotations

from typing import Any


def plain_copy(data: Any) -> Any:
    """Return a copy of data such as JSON has. copy.deepcopy takes three times as long."""
    if isinstance(data, dict):
        return {key: plain_copy(value) for key, value in data.items()}
    if isinstance(data, list):
        return [plain_copy(value) for value in data]
    return data
