# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""The names that GNS3 gives to the ports of a QEMU node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_FIELD = re.compile(r"\{(0|1|adapter|port\d|segment\d)\}")


def port_names(
    adapters: int, first: str, pattern: str, segment_size: int, custom: Mapping[int, Any]
) -> list[str] | None:
    """Return the names in the order of the adapters; None if the pattern has unknown fields.

    custom: {adapter: its own name}.
    """
    pattern = pattern or "Ethernet{0}"
    if "{" in _FIELD.sub("", pattern) or "}" in _FIELD.sub("", pattern):
        return None
    names = []
    interface = segment = 0
    for adapter in range(adapters):
        if adapter == 0 and first:
            names.append(custom.get(adapter) or first)
            continue
        values = {"0": interface, "1": segment, "adapter": adapter}
        name = _FIELD.sub(lambda match: str(_value(match.group(1), values)), pattern)
        names.append(custom.get(adapter) or name)
        interface += 1
        if not segment_size:
            segment = interface
        elif interface % segment_size == 0:
            segment, interface = segment + 1, 0
    return names


def _value(field: str, values: Mapping[str, int]) -> int:
    if field.startswith("port"):
        return values["0"] + int(field[-1])
    if field.startswith("segment"):
        return values["1"] + int(field[-1])
    return values[field]
