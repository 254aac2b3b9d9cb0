# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a lab has given before: the allocations in its record, as the derivation asks for them.

A record comes from a hypervisor: a value of another type counts as missing, and the caller checks
whether a value can still be used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# {kind of value: {what has it: value}}:
#   nodes: {node: {loopback, loopback6, management, asn, asn_first}}
#   links: {"NODE NODE": [{name, nics, prefix, prefix6}]}, the links between two nodes in the order
#     of the file, which distinguishes links that are written alike; nics in the order of the nodes
#   segments: {segment: {prefix, prefix6, home}}; home: the host of its hub
#   members: {"SEGMENT NODE": the NICs of a node in a segment}
#   addresses: {"NODE:NIC": its addresses}
#   macs: {"NODE:NIC": its MAC}, where mac_base counts them
#   ports: {host: {end: UDP port}}
Allocations = dict[str, dict[str, Any]]

KINDS = ("nodes", "links", "segments", "members", "addresses", "macs", "ports")


class Kept:
    """The allocations of a lab; none for a lab without a record."""

    def __init__(self, allocations: Mapping[str, Any] | None = None) -> None:
        given = allocations or {}
        self.allocations: Allocations = {
            kind: given[kind] if isinstance(given.get(kind), dict) else {} for kind in KINDS
        }

    def __bool__(self) -> bool:
        return any(self.allocations.values())

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return list(self.allocations["nodes"])

    def node(self, name: str, key: str) -> Any:
        """Return a value of a node: a text or a number, None if it is missing."""
        value = _dict(self.allocations["nodes"].get(name)).get(key)
        return value if isinstance(value, str) or _is_number(value) else None

    def node_values(self, key: str) -> list[Any]:
        """Return a value of all nodes that have one."""
        values = [self.node(name, key) for name in self.allocations["nodes"]]
        return [value for value in values if value is not None]

    def links(self, nodes: str) -> list[dict[str, Any]]:
        """Return the links between two nodes."""
        entries = self.allocations["links"].get(nodes)
        return [
            entry
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, dict) and len(_texts(entry.get("nics"))) == 2
        ]

    def segment(self, name: str) -> dict[str, Any]:
        """Return the values of a segment."""
        return _dict(self.allocations["segments"].get(name))

    def member_nics(self, segment: str, node: str) -> list[str]:
        """Return the NICs of a node in a segment."""
        return _texts(self.allocations["members"].get("%s %s" % (segment, node)))

    def addresses(self, end: str) -> list[str]:
        """Return the addresses of a NIC, with their prefix lengths."""
        return _texts(self.allocations["addresses"].get(end))

    def all_addresses(self) -> set[str]:
        """Return the addresses of all NICs, without their prefix lengths."""
        ends = self.allocations["addresses"]
        return {text.partition("/")[0] for end in ends for text in self.addresses(end)}

    def macs(self, node: str) -> dict[str, str]:
        """Return the MACs that mac_base gave to the NICs of a node: {NIC: MAC}."""
        return {
            end.partition(":")[2]: mac
            for end, mac in self.allocations["macs"].items()
            if node_of(end) == node and isinstance(mac, str)
        }

    def ports(self, host: str) -> dict[str, int]:
        """Return the UDP ports of a host: {end: port}."""
        found = _dict(self.allocations["ports"].get(host))
        return {end: port for end, port in found.items() if _is_number(port)}

    def prefixes(self, key: str) -> list[str]:
        """Return the prefix or prefix6 of all links that have one."""
        entries = [entry for nodes in self.allocations["links"] for entry in self.links(nodes)]
        return [entry[key] for entry in entries if isinstance(entry.get(key), str)]

    def nics_of_links(self, node: str) -> set[str]:
        """Return the NICs of a node that links use."""
        return {
            nic
            for nodes in self.allocations["links"]
            for entry in self.links(nodes)
            for name, nic in zip(nodes.split(" "), entry["nics"])
            if name == node
        }

    def of_nodes(self, names: Collection[str]) -> Kept:
        """Return what belongs to some nodes, and to their links."""
        links = {
            nodes: entries
            for nodes, entries in self.allocations["links"].items()
            if not set(nodes.split(" ")).isdisjoint(names)
        }
        ends = {
            "%s:%s" % end
            for nodes in links
            for entry in self.links(nodes)
            for end in zip(nodes.split(" "), entry["nics"])
        }
        found: Allocations = {
            "nodes": _chosen(self.allocations["nodes"], names, str),
            "links": links,
            "members": _chosen(self.allocations["members"], names, node_of),
        }
        ports = {
            host: _chosen(self.ports(host), names, node_of) for host in self.allocations["ports"]
        }
        found["ports"] = {host: ends for host, ends in ports.items() if ends}
        for kind in ("addresses", "macs"):
            found[kind] = {
                end: value
                for end, value in self.allocations[kind].items()
                if end in ends or node_of(end) in names
            }
        return Kept(found)


def node_of(key: str) -> str:
    """Return the node that a key ends with: NODE:NIC, or "SEGMENT NODE", or both."""
    return key.rpartition(" ")[2].partition(":")[0]


def _chosen(values: Mapping[str, Any], names: Collection[str], name_of: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if name_of(key) in names}


def _is_number(value: Any) -> bool:
    """Return whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
