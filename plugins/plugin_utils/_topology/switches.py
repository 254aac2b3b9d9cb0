# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Switches of a topology: the cables between them, and the uplinks of segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._wire import switching
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import vlans
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Segment, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems


def connect_segments(topology: Topology, problems: Problems) -> None:
    """Add the cables between switches, and the uplinks, to the segments."""
    for segment in topology.segments.values():
        _check_segment(segment, problems)
        for number, member in enumerate(segment.settings["members"]):
            if isinstance(member, dict):
                _add_member(topology, segment, member, number, problems)
    _check_loops(topology, problems)


def _check_segment(segment: Segment, problems: Problems) -> None:
    if segment.kind != "switch" and "ageing" in segment.settings:
        problems.add(segment.path + ".ageing", "only a segment of type switch learns addresses")
    uplink = segment.settings.get("uplink")
    if uplink is None:
        return
    path = segment.path + ".uplink"
    if segment.kind == "bridge":
        problems.add(
            path,
            "a bridge has none: name a bridge of the hypervisor with bridge, or use a segment of "
            "type hub or switch",
        )
        return
    segment.uplink = vlans.uplink(uplink, path, problems)
    segment.uplink_vlans = port_vlans(segment, uplink, path, problems)


def port_vlans(
    segment: Segment, given: Mapping[str, Any], path: str, problems: Problems
) -> switching.Vlans:
    """Return the VLANs of a port of a segment. Record a problem if it can have none."""
    found = vlans.vlans_of(given, path, problems)
    if found and segment.kind != "switch":
        problems.add(path, "a port of a %s has no VLANs: use type: switch", segment.kind)
        return {}
    return found


def _add_member(
    topology: Topology, segment: Segment, member: dict[str, Any], number: int, problems: Problems
) -> None:
    """Add the cable to another switch that a member is."""
    path = "%s.members[%d]" % (segment.path, number)
    name = member.get("segment")
    if ("node" in member) == (name is not None):
        problems.add(path, "a member has either node or segment")
        return
    if name is None:
        return
    other = topology.segments.get(name)
    if other is None:
        problems.add(path, "there is no segment %s%s", name, suggestion(name, topology.segments))
    elif not segment.kind == other.kind == "switch":
        problems.add(path, "only switches can be connected with each other")
    elif other is segment or name in segment.cables:
        problems.add(path, "%s and %s are already connected", segment.name, name)
    elif set(member) - {"segment", *vlans.VLANS}:
        problems.add(path, "a cable between switches has VLANs only")
    else:
        found = port_vlans(segment, member, path, problems)
        segment.cables[name] = other.cables[segment.name] = found


def _check_loops(topology: Topology, problems: Problems) -> None:
    """Record cables that make a loop, in which broadcasts would never end."""
    group = {name: name for name in topology.segments}
    for segment in topology.segments.values():
        for other in segment.cables:
            if other < segment.name:
                continue  # each cable once
            first, second = group[segment.name], group[other]
            if first == second:
                problems.add(
                    segment.path,
                    "the cable to %s makes a loop of switches, in which broadcasts never end",
                    other,
                )
            group = {name: first if each == second else each for name, each in group.items()}
