# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Tiers: the height of nodes and segments, by the groups of the topology, or by how far they are from its middle."""

from __future__ import annotations

import collections

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key

# Groups that everybody draws in this order, whichever comes first in the file.
_KNOWN = (
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


def tiers_of(topology):
    """{(node or segment, name): number of its tier, 0 at the top}; empty where a lab has no top and bottom, such as a ring or a mesh."""
    return _by_groups(topology) or _by_distance(topology)


def _by_groups(topology):
    """By groups, unless they are no tiers: most links must go from one to another."""
    groups = list(topology.data["groups"])
    if all(_known(group) is not None for group in groups):
        groups.sort(key=_known)
    tier_of = {}
    for node in topology.nodes.values():
        own = [groups.index(group) for group in node.groups if group in groups]
        if not own:
            return {}
        tier_of["node", node.name] = min(own)
    within = sum(
        tier_of["node", link.ends[0].node] == tier_of["node", link.ends[1].node]
        for link in topology.links
    )
    if len(set(tier_of.values())) < 2 or within * 3 > len(topology.links):
        return {}
    used = sorted(set(tier_of.values()))
    return {key: used.index(tier) for key, tier in tier_of.items()}


def _known(group):
    word = group.lower()
    for form in (
        word,
        word[:-1] if word.endswith("s") else word,
        "leaf" if word == "leaves" else word,
    ):
        if form in _KNOWN:
            return _KNOWN.index(form)
    return None


def _by_distance(topology):
    """By the number of links to what has most of them, where the lab is nearly a tree."""
    neighbours = {("node", name): [] for name in topology.nodes}
    neighbours.update({("segment", name): [] for name in topology.segments})
    pairs = [(("node", link.ends[0].node), ("node", link.ends[1].node)) for link in topology.links]
    pairs += [
        (("node", end.node), ("segment", segment.name))
        for segment in topology.segments.values()
        for end in segment.ends
    ]
    for first, second in pairs:
        neighbours[first].append(second)
        neighbours[second].append(first)
    # As many links as could be cut before a part is on its own.
    circles = len(pairs) - len(neighbours) + 1
    if (
        not pairs
        or circles > max(2, len(neighbours) // 4)
        or all(len(others) == 2 for others in neighbours.values())
    ):
        return {}
    tier_of = {}
    for start in sorted(neighbours, key=lambda key: (-len(neighbours[key]), natural_key(key[1]))):
        if start in tier_of:
            continue
        tier_of[start] = 0
        reached = collections.deque([start])
        while reached:
            key = reached.popleft()
            for other in neighbours[key]:
                if other not in tier_of:
                    tier_of[other] = tier_of[key] + 1
                    reached.append(other)
    return tier_of
