# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The segments of a lab on one hypervisor: which there are, and which there are to be."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, NamedTuple, Union

from ansible_collections.vlab.qemu.plugins.module_utils._lab.bridge import Bridge
from ansible_collections.vlab.qemu.plugins.module_utils._lab.hub import Hub
from ansible_collections.vlab.qemu.plugins.module_utils._lab.segment_ports import (
    SEGMENTS,
    existing_segments,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.switch import Switch, is_switch

Segment = Union[Hub, Bridge, Switch]

# The uplink of a switch is a hub of its own: the name of the switch and this.
UPLINK_SUFFIX = ".uplink"


class Segments(NamedTuple):
    """Segments to observe and to plan.

    replaced: those of another type that others replace, by name.
    """

    segments: List[Segment]
    replaced: Dict[str, Segment]


def find_segments(
    root: str, lab: str, desired: Mapping[str, Mapping[str, Any]], removes_unnamed: bool
) -> Segments:
    """Return the segments of a lab.

    desired: {name: the segment as in the share of a lab}. removes_unnamed: whether others go.
    """
    existing = existing_segments(root, lab)
    names = set(desired)
    names.update(name for name in existing if removes_unnamed or _switch_of(name) in desired)
    found = Segments([], {})
    for name in sorted(names):
        entry = desired.get(name)
        there = _kind_there(os.path.join(root, lab, SEGMENTS, name)) if name in existing else None
        kind = _kind_of(entry) if entry else there or "hub"
        found.segments.append(_segment(root, lab, name, kind, entry))
        if there not in (None, kind):
            found.replaced[name] = _segment(root, lab, name, there or "hub", None)
    return found


def _switch_of(name: str) -> str | None:
    """Return the switch that a hub is the uplink of: the hub goes with that setting."""
    return name[: -len(UPLINK_SUFFIX)] if name.endswith(UPLINK_SUFFIX) else None


def _kind_there(folder: str) -> str:
    if is_switch(folder):
        return "switch"
    return "bridge" if os.path.exists(os.path.join(folder, "attach")) else "hub"


def _kind_of(entry: Mapping[str, Any]) -> str:
    if "bridge" in entry:
        return "bridge"
    return "switch" if "ageing" in entry else "hub"


def _segment(root: str, lab: str, name: str, kind: str, entry: Mapping[str, Any] | None) -> Segment:
    """Return a segment. entry: None to remove it."""
    if kind == "bridge":
        folder = os.path.join(root, lab, SEGMENTS, name)
        return Bridge(folder, name, entry["bridge"] if entry else None)
    settings = None
    if entry is not None:
        settings = {key: entry[key] for key in ("ports", "ageing", "uplink") if key in entry}
    return (Switch if kind == "switch" else Hub)(root, lab, name, settings)


def is_removed(segment: Segment) -> bool:
    """Return whether the plan removes a segment."""
    return any(len(change.path) == 2 and change.after is None for change in segment.changes)
