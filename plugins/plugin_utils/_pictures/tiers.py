# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""Tiers: the height of nodes, by the groups of the topology, where these are tiers."""

from __future__ import annotations

# Groups that everybody draws in this order, whichever comes first in the file.
_KNOWN = ("internet", "wan", "isp", "provider", "core", "superspine", "super_spine", "super-spine", "border", "spine", "aggregation",
          "distribution", "leaf", "tor", "access", "edge", "host", "server", "client")


def tiers_of(topology):
    """{node: number of its tier, 0 at the top}; empty when the groups are none: when most links do not go from one to another."""
    groups = list(topology.data["groups"])
    if all(_known(group) is not None for group in groups):
        groups.sort(key=_known)
    tier_of = {}
    for node in topology.nodes.values():
        own = [groups.index(group) for group in node.groups if group in groups]
        if not own:
            return {}
        tier_of[node.name] = min(own)
    within = sum(tier_of[link.ends[0].node] == tier_of[link.ends[1].node] for link in topology.links)
    if len(set(tier_of.values())) < 2 or within * 3 > len(topology.links):
        return {}
    used = sorted(set(tier_of.values()))
    return {name: used.index(tier) for name, tier in tier_of.items()}


def _known(group):
    word = group.lower()
    for form in (word, word[:-1] if word.endswith("s") else word, "leaf" if word == "leaves" else word):
        if form in _KNOWN:
            return _KNOWN.index(form)
    return None
