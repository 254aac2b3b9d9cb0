# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a picture of a lab shows: the topology, and what is known of its VMs."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import icons
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.tiers import tiers_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key

# What a state is to somebody who looks at the lab; QEMU has more words than these.
_TONES = {
    "running": "up",
    "paused": "held",
    "prelaunch": "held",
    "suspended": "held",
    "inmigrate": "held",
    "postmigrate": "held",
    "finish-migrate": "held",
    "save-vm": "held",
    "restore-vm": "held",
    "debug": "held",
    "colo": "held",
    "stopped": "off",
    "shutdown": "off",
    "absent": "absent",
    "crashed": "bad",
    "unresponsive": "bad",
    "guest-panicked": "bad",
    "io-error": "bad",
    "internal-error": "bad",
    "watchdog": "bad",
}


@dataclasses.dataclass
class Nic:
    """A NIC that leads to something, or has an address. reach: where the hypervisor says that the guest can be reached by it."""

    name: str
    mac: str
    addresses: List[str]
    reach: List[str]


@dataclasses.dataclass
class Node:
    """A node. state: the word for it, empty when it is not known; tone: what it is to the reader. tier: its height, from the top, or None."""

    name: str
    kind: str
    icon: str
    groups: List[str]
    tier: Optional[int]
    asn: Optional[int]
    loopbacks: List[str]
    management: Optional[str]
    nics: List[Nic]
    hypervisor: str = ""
    state: str = ""
    tone: str = ""
    console: str = ""


@dataclasses.dataclass
class End:
    """An end of a link: the NIC of a node."""

    node: str
    nic: str
    addresses: List[str]

    def __str__(self):
        return "%s:%s" % (self.node, self.nic)


@dataclasses.dataclass
class Link:
    """A cable: between two NICs, or, with the second end missing, from a NIC to a segment."""

    number: int
    name: str
    ends: List[End]
    prefixes: List[str]
    segment: Optional[str] = None
    down: bool = False

    def __str__(self):
        return "%s -- %s" % (self.ends[0], self.segment or self.ends[1])


@dataclasses.dataclass
class Segment:
    """A network of any number of NICs."""

    name: str
    type: str
    prefixes: List[str]
    tier: Optional[int] = None


@dataclasses.dataclass
class View:
    """Everything that a picture shows, in an order that does not depend on the file's."""

    name: str
    nodes: Dict[str, Node]
    links: List[Link]
    segments: Dict[str, Segment]
    tiered: bool
    has_states: bool

    def links_of(self, name):
        """The links of a node, each with this node's end and the other end, which is None for a segment."""
        found = []
        for link in self.links:
            for number, end in enumerate(link.ends):
                if end.node == name:
                    found.append((link, end, None if link.segment else link.ends[1 - number]))
        return sorted(found, key=lambda entry: natural_key(entry[1].nic))

    @property
    def hypervisors(self):
        """Those that are known, each once."""
        return sorted(
            {node.hypervisor for node in self.nodes.values() if node.hypervisor}, key=natural_key
        )

    @property
    def summary(self):
        """The lab in a line."""
        parts = [
            _count(len(self.nodes), "node"),
            _count(sum(not link.segment for link in self.links), "link"),
        ]
        if self.segments:
            parts.append(_count(len(self.segments), "segment"))
        states = [node.state for node in self.nodes.values() if node.state]
        parts += [
            "%d %s" % (states.count(state), state)
            for state in sorted(set(states), key=lambda state: (state != "running", state))
        ]
        return ", ".join(parts)


def view_of(topology, vms=None, placement=None):
    """The View of a Topology. vms: as qemu_vm_info returns them, each may have a hypervisor, or None when nobody looked.

    placement: {node: hypervisor}, for what the VMs do not tell.
    """
    here = {vm.get("name"): vm for vm in vms or () if vm.get("lab", topology.name) == topology.name}
    tiers = tiers_of(topology)
    names = sorted(
        topology.nodes, key=lambda name: (tiers.get(("node", name), 0), natural_key(name))
    )
    nodes = {
        name: _node(
            topology.nodes[name], topology, here.get(name), vms is not None, placement or {}, tiers
        )
        for name in names
    }
    links = []
    for link in sorted(topology.links, key=lambda link: natural_key(link.name)):
        ends = sorted(
            (_end(topology, end) for end in link.ends), key=lambda end: natural_key(str(end))
        )
        links.append(
            Link(
                len(links),
                link.name,
                ends,
                _prefixes(link),
                None,
                _is_down(link, ends, topology, here, nodes),
            )
        )
    segments = {}
    for name in sorted(topology.segments, key=natural_key):
        segment = topology.segments[name]
        segments[name] = Segment(
            name, segment.kind, _prefixes(segment), tiers.get(("segment", name))
        )
        for end in sorted(
            (_end(topology, end) for end in segment.ends), key=lambda end: natural_key(str(end))
        ):
            links.append(
                Link(
                    len(links),
                    "%s -- %s" % (end, name),
                    [end],
                    _prefixes(segment),
                    name,
                    _is_down(segment, [end], topology, here, nodes),
                )
            )
    return View(topology.name, nodes, links, segments, bool(tiers), vms is not None)


def _node(node, topology, vm, looked, placement, tiers):
    vm = vm or {}
    state = str(vm.get("status") or "unknown") if vm else "absent" if looked else ""
    consoles = vm.get("consoles") or [{}]
    return Node(
        node.name,
        node.kind,
        icons.icon_of(node, topology.data["kinds"]),
        list(node.groups),
        tiers.get(("node", node.name)),
        node.asn,
        [address for address in (node.loopback, node.loopback6) if address],
        node.management,
        _nics(node, vm),
        str(
            vm.get("hypervisor")
            or placement.get(node.name)
            or node.settings.get("hypervisor")
            or ""
        ),
        state,
        _TONES.get(state, "unknown") if state else "",
        str(consoles[0].get("command") or ""),
    )


def _nics(node, vm):
    known = {nic.get("name"): nic for nic in vm.get("nics") or ()}
    nics = []
    for nic in node.nics.values():
        reach = []
        for entry in known.get(nic.name, {}).get("addresses") or ():
            port = " port %s" % entry["port"] if entry.get("port") else ""
            reach.append(
                "%s%s%s"
                % (
                    entry.get("address"),
                    port,
                    " for port %s" % entry["guest_port"] if entry.get("guest_port") else "",
                )
            )
        if nic.network is not None or nic.addresses or nic.settings.get("link") or reach:
            nics.append(Nic(nic.name, nic.mac, list(nic.addresses), reach))
    return nics


def _end(topology, end):
    return End(end.node, end.nic, list(topology.nodes[end.node].nics[end.nic].addresses))


def _prefixes(wire):
    return [prefix for prefix in (wire.prefix, wire.prefix6) if prefix]


def _is_down(wire, ends, topology, here, nodes):
    """Whether nothing can pass: taken away by the topology or by hand, or one end has nobody who is there."""
    if wire.settings.get("down"):
        return True
    for end in ends:
        if topology.nodes[end.node].nics[end.nic].settings.get("link_down") or nodes[
            end.node
        ].tone in ("off", "absent", "bad"):
            return True
        nic = next(
            (nic for nic in here.get(end.node, {}).get("nics") or () if nic.get("name") == end.nic),
            {},
        )
        if nic.get("link_down") or (nodes[end.node].tone == "up" and nic.get("carrier") is False):
            return True
    return False


def _count(number, word):
    return "%d %s%s" % (number, word, "" if number == 1 else "s")
