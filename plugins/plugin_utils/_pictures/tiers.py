# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The tiers of nodes and segments: by groups, or by the distance from the middle of the lab."""

from __future__ import annotations

import collections

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key

# Groups that are always drawn in this order.
_USUAL_ORDER = (
    "internet",
    "wan",
    "isp",
    "provider",
    "core",
    "superspine",
    "super_spine",
    "super-spine",
    "border",
    "spine",
    "aggregation",
    "distribution",
    "leaf",
    "tor",
    "access",
    "edge",
    "host",
    "server",
    "client",
)

# ("node" or "segment", name)
Key = tuple[str, str]
Tiers = dict[Key, int]


def tiers_of(topology: Topology) -> Tiers:
    """Return the tier of nodes and segments, 0 at the top.

    It is empty if the lab has no top and bottom, as a ring or a mesh.
    """
    return _by_groups(topology) or _by_distance(topology)


def _by_groups(topology: Topology) -> Tiers:
    """Return tiers by groups if most links connect different groups."""
    groups = list(topology.data["groups"])
    if all(_usual_index(group) >= 0 for group in groups):
        groups.sort(key=_usual_index)
    tier_of: Tiers = {}
    links = [link for link in topology.links if not link.internal]
    for node in topology.systems:
        own = [groups.index(group) for group in node.groups if group in groups]
        if not own:
            return {}
        tier_of["node", node.name] = min(own)
    within = sum(
        len({tier_of["node", topology.system_of(end)] for end in link.ends}) == 1 for link in links
    )
    if len(set(tier_of.values())) < 2 or within * 3 > len(links):
        return {}
    used = sorted(set(tier_of.values()))
    return {key: used.index(tier) for key, tier in tier_of.items()}


def _usual_index(group: str) -> int:
    """Return the index of a group, also in the plural, in the usual order; -1 if it has none."""
    word = group.lower()
    for form in (word, word.removesuffix("s"), "leaf" if word == "leaves" else word):
        if form in _USUAL_ORDER:
            return _USUAL_ORDER.index(form)
    return -1


def _by_distance(topology: Topology) -> Tiers:
    """Return tiers by the distance from what has most links, if the lab is nearly a tree."""
    segments = [segment for segment in topology.segments.values() if not segment.internal]
    neighbours: dict[Key, list[Key]] = {("node", node.name): [] for node in topology.systems}
    neighbours.update({("segment", segment.name): [] for segment in segments})
    sides = [
        list(map(topology.system_of, link.ends)) for link in topology.links if not link.internal
    ]
    pairs = [(("node", first), ("node", second)) for first, second in sides]
    pairs += [
        (("node", topology.system_of(end)), ("segment", segment.name))
        for segment in segments
        for end in segment.ends
    ]
    pairs += [
        (("segment", segment.name), ("segment", other))
        for segment in segments
        for other in segment.cables
        if other > segment.name
    ]
    for first, second in pairs:
        neighbours[first].append(second)
        neighbours[second].append(first)
    # The number of links that could be removed before the lab falls apart.
    cycles = len(pairs) - len(neighbours) + 1
    if (
        not pairs
        or cycles > max(2, len(neighbours) // 4)
        or all(len(others) == 2 for others in neighbours.values())
    ):
        return {}
    tier_of: Tiers = {}
    for start in sorted(neighbours, key=lambda key: (-len(neighbours[key]), natural_key(key[1]))):
        if start in tier_of:
            continue
        tier_of[start] = 0
        queue = collections.deque([start])
        while queue:
            key = queue.popleft()
            for other in neighbours[key]:
                if other not in tier_of:
                    tier_of[other] = tier_of[key] + 1
                    queue.append(other)
    return tier_of
