# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The links of containerlab, in their short and long forms."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import clab_kinds, nic_names
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.clab_settings import Variables
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    IMPORTED,
    USER,
    End,
    Lab,
    Peer,
    Vm,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import excerpt

# What an end can be besides a node, and what it becomes.
_PSEUDO_NODES = {
    "mgmt-net": (USER, ""),
    "host": ("", "it is an interface of the host"),
    "macvlan": ("", "it is an interface of the host"),
    "dummy": ("drop", ""),
    "vxlan": ("", "it is a tunnel of the host"),
    "vxlan-stitch": ("", "it is a tunnel of the host"),
    "veth-stitch": ("", "it is an interface of the host"),
}
_ONE_ENDED = ("host", "mgmt-net", "macvlan", "dummy", "vxlan", "vxlan-stitch")


class Links:
    """Adds the links of a file. peers: what its nodes became."""

    def __init__(self, lab: Lab, peers: dict[str, Peer], texts: Variables) -> None:
        self.lab, self.peers, self.texts = lab, peers, texts

    def add(self, topology: Fields) -> None:
        """Add all links."""
        for link in topology.mappings("links"):
            kind = link.text("type", "the form of the link") or "brief"
            ends = self._one_end(link, kind) if kind in _ONE_ENDED else self._two_ends(link, kind)
            settings: dict[str, Any] = {}
            given = link.fields("vars") if "vars" in link else None
            kept = given.close() if given else {}
            rest = link.close()
            if rest:
                kept = dict(kept, **{IMPORTED: rest})
            if kept:
                settings["vars"] = kept
            self.lab.connect(link.path, ends, settings)

    def _one_end(self, link: Fields, kind: str) -> list[End]:
        """Return the end of a link to the host, and the host."""
        key = "endpoint" if "endpoint" in link else "endpoints"
        given = link.data.get(key)
        if isinstance(given, list) and len(given) == 1:
            first = self._end(link, "endpoints[0]", given[0])
        elif isinstance(given, dict):
            first = self._end(link, "endpoint", given)
        else:
            link.fail(key, "a link of type %s has one endpoint" % kind)
        link.opened(key)
        return [first, End(self._pseudo_node(kind, link.path))]

    def _two_ends(self, link: Fields, kind: str) -> list[End]:
        if kind not in ("brief", "veth"):
            link.fail("type", "there is no import of links of type %s" % excerpt(kind))
        given = link.items("endpoints")
        if len(given) != 2:
            link.fail("endpoints", "a link has two endpoints, not %d" % len(given))
        ends = [self._end(link, "endpoints[%d]" % n, end) for n, end in enumerate(given)]
        for key in ("ipv4", "ipv6"):
            addresses = link.data.get(key)
            if isinstance(addresses, list):
                if len(addresses) > 2 or not all(_is_text(item) for item in addresses):
                    link.fail(key, "it is not a list of two addresses")
                link.mapped(key, "the addresses of the endpoints")
                for end, address in zip(ends, addresses):
                    end.address += [address] if address else []
        return ends

    def _end(self, link: Fields, key: str, given: Any) -> End:
        place = link.place(key)
        if isinstance(given, str):
            node, _colon, interface = given.partition(":")
            self.lab.report.mapped(place, "an endpoint")
            return self._found(link, key, node, interface, {})
        end = Fields(link.report, place, given)
        node, interface = end.text("node", "an endpoint"), end.text("interface", "an endpoint")
        settings = {"mac": end.text("mac", "nics[].mac")}
        found = self._found(link, key, node, interface, settings)
        for name in ("ipv4", "ipv6"):
            address = end.text(name, "the address of the endpoint")
            found.address += [address] if address else []
        for name, value in end.close().items():
            if isinstance(found.peer, Vm):
                found.peer.imported.setdefault("nics", {}).setdefault(found.nic, {})[name] = value
        return found

    def _found(
        self, link: Fields, key: str, node: str, interface: str, settings: dict[str, str]
    ) -> End:
        node = self.texts.replaced(node, link.place(key))
        interface = self.texts.replaced(interface, link.place(key))
        if node not in self.peers:
            if node in _PSEUDO_NODES:
                return End(self._pseudo_node(node, link.place(key)))
            link.fail(key, "there is no node %s" % excerpt(node))
        peer = self.peers[node]
        if not isinstance(peer, Vm):
            return End(peer)
        # If kinds_map has replaced the kind, the file has the names of another system.
        name = clab_kinds.container_port(str(peer.imported.get("kind", "")), interface)
        nic = nic_names.by_container_name(peer.naming, interface)
        nic = nic or nic_names.by_container_name(peer.naming, name)
        if nic is None:
            link.fail(
                key,
                "node %s of kind %s has no NIC %s; its NICs are %s"
                % (peer.name, peer.kind, excerpt(interface), peer.naming),
            )
        if settings.get("mac"):
            peer.nic(str(nic))["mac"] = settings["mac"]
        return End(peer, str(nic))

    def _pseudo_node(self, kind: str, place: str) -> Peer:
        default, reason = _PSEUDO_NODES[kind]
        return self.lab.add_peer(kind, place, kind, default, reason)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)
