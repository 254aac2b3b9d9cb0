# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Collect what a lab gives to its nodes and links, for the record of the lab."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.endpoints import UdpEndpoints
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import KINDS, Allocations
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept_links import pair_of, sides
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    Network,
    Node,
    Segment,
    Topology,
)

_NODE_KEYS = ("loopback", "loopback6", "management", "asn")
_PREFIXES = ("prefix", "prefix6")


def allocations(topology: Topology, endpoints: UdpEndpoints) -> Allocations:
    """Return the allocations of a lab, as Kept reads them, with those that it has reserved."""
    found: Allocations = {kind: {} for kind in KINDS}
    for node in topology.nodes.values():
        found["nodes"][node.name] = _node(topology, node)
        _add_nics(found, node)
    for link in topology.links:
        nodes = [end.node for end in link.ends]
        entry = {"nics": [link.ends[side].nic for side in sides(nodes)], **_prefixes(link)}
        if link.given_name:
            entry["name"] = link.given_name
        found["links"].setdefault(pair_of(nodes), []).append(entry)
    for segment in topology.segments.values():
        _add_segment(found, segment, endpoints)
    for name, port in endpoints.ports.items():
        found["ports"].setdefault(endpoints.exposed[name], {})[name] = port
    _add_reserved(found, topology.reserved.allocations)
    return found


def _node(topology: Topology, node: Node) -> dict[str, Any]:
    values = {key: getattr(node, key) for key in _NODE_KEYS if getattr(node, key) is not None}
    if "asn" in values:
        values["asn_first"] = topology.data["addressing"].get("asn")
    return values


def _add_nics(found: Allocations, node: Node) -> None:
    for nic in node.nics.values():
        end = "%s:%s" % (node.name, nic.name)
        if nic.addresses:
            found["addresses"][end] = list(nic.addresses)
        if node.settings.get("mac_base") and not nic.settings.get("mac"):
            found["macs"][end] = nic.mac


def _prefixes(network: Network) -> dict[str, Any]:
    return {key: getattr(network, key) for key in _PREFIXES if getattr(network, key) is not None}


def _add_segment(found: Allocations, segment: Segment, endpoints: UdpEndpoints) -> None:
    entry = _prefixes(segment)
    if segment.kind != "bridge" and (segment.ends or segment.cables):
        entry["home"] = endpoints.home(segment)
    found["segments"][segment.name] = entry
    for end in segment.ends:
        found["members"].setdefault("%s %s" % (segment.name, end.node), []).append(end.nic)


def _add_reserved(found: Allocations, reserved: Allocations) -> None:
    for kind in KINDS:
        for key, value in reserved[kind].items():
            if kind == "ports":
                found[kind][key] = {**value, **found[kind].get(key, {})}
            else:
                found[kind].setdefault(key, value)
