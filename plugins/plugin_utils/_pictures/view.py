# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The content of a picture: the topology, and the state of its VMs if it is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import icons
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.geometry import Point
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.nics import Nic, Vm, nics_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.tiers import Tiers, tiers_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import model
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.node_facts import description_of

# How a state is shown. QEMU has states besides these, which are shown as unknown.
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
class Node:
    """A node. state: empty if unknown. tone: how the state is shown. tier: counted from the top.

    console: the command that connects to its first console. label: empty without one.
    position: where the topology places it.
    """

    name: str
    kind: str
    icon: str
    groups: list[str]
    tier: int | None
    asn: int | None
    loopbacks: list[str]
    management: str | None
    nics: list[Nic]
    hypervisor: str = ""
    state: str = ""
    tone: str = ""
    console: str = ""
    label: str = ""
    description: str = ""
    position: Point | None = None

    @property
    def title(self) -> str:
        """What the picture calls it."""
        return "%s (%s)" % (self.label, self.name) if self.label else self.name


@dataclasses.dataclass
class End:
    """An end of a link: the NIC of a node. vm: the node, or the module of it that has the NIC."""

    node: str
    nic: str
    addresses: list[str]
    captured: bool
    vm: str

    def __str__(self) -> str:
        return "%s:%s" % (self.node, self.nic)


@dataclasses.dataclass
class Link:
    """A cable between two NICs, or between a NIC, its only end, and a segment.

    first_segment: if it is between two segments, and has no ends. vlans: those of the port of a
    switch, in words.
    """

    number: int
    name: str
    ends: list[End]
    prefixes: list[str]
    segment: str | None = None
    down: bool = False
    vlans: str = ""
    first_segment: str | None = None

    def __str__(self) -> str:
        return " -- ".join(map(str, self.sides))

    @property
    def sides(self) -> list[End | str]:
        """The two sides: ends, and names of segments."""
        segments = [name for name in (self.first_segment, self.segment) if name]
        return [*self.ends, *segments]


@dataclasses.dataclass
class Segment:
    """A network of any number of NICs.

    outside: it is not part of the lab. uplink: to what it is connected outside the lab, in words.
    """

    name: str
    type: str
    prefixes: list[str]
    tier: int | None = None
    outside: bool = False
    uplink: str = ""
    description: str = ""
    position: Point | None = None


@dataclasses.dataclass
class View:
    """Everything that a picture shows, in an order that does not depend on that of the file."""

    name: str
    nodes: dict[str, Node]
    links: list[Link]
    segments: dict[str, Segment]
    tiered: bool
    has_states: bool
    title: str

    def links_of(self, name: str) -> list[tuple[Link, End, End | None]]:
        """Return the links of a node: (link, its own end, the other end).

        The other end is None if the link leads to a segment.
        """
        found: list[tuple[Link, End, End | None]] = []
        for link in self.links:
            for number, end in enumerate(link.ends):
                if end.node == name:
                    found.append((link, end, None if link.segment else link.ends[1 - number]))
        return sorted(found, key=lambda entry: natural_key(entry[1].nic))

    @property
    def hypervisors(self) -> list[str]:
        """The known hypervisors, each once."""
        return sorted(
            {node.hypervisor for node in self.nodes.values() if node.hypervisor}, key=natural_key
        )

    @property
    def summary(self) -> str:
        """The lab in one line."""
        parts = [
            _count(len(self.nodes), "node"),
            _count(sum(not link.segment for link in self.links), "link"),
        ]
        segments = sum(not segment.outside for segment in self.segments.values())
        if segments:
            parts.append(_count(segments, "segment"))
        states = [node.state for node in self.nodes.values() if node.state]
        parts += [
            "%d %s" % (states.count(state), state)
            for state in sorted(set(states), key=lambda state: (state != "running", state))
        ]
        return ", ".join(parts)


def _count(number: int, word: str) -> str:
    return "%d %s%s" % (number, word, "" if number == 1 else "s")


def view_of(
    topology: model.Topology,
    vms: Sequence[Vm] | None = None,
    placement: Mapping[str, str] | None = None,
    consoles: Mapping[str, str] | None = None,
) -> View:
    """Return the View of a topology.

    vms: None if the states are unknown. placement: {node: hypervisor}, for nodes whose VM does
    not have its hypervisor. consoles: {node: command for its console}, else those of vms.
    """
    return _Builder(topology, vms, placement, consoles).view()


class _Builder:
    """Builds the View of a topology."""

    def __init__(
        self,
        topology: model.Topology,
        vms: Sequence[Vm] | None,
        placement: Mapping[str, str] | None,
        consoles: Mapping[str, str] | None,
    ) -> None:
        self.topology, self.placement, self.consoles = topology, placement or {}, consoles or {}
        self.has_states = vms is not None
        self.vm_of: dict[Any, Vm] = {
            vm.get("name"): vm for vm in vms or () if vm.get("lab", topology.name) == topology.name
        }
        self.tiers: Tiers = tiers_of(topology)
        self.nodes: dict[str, Node] = {}
        self.links: list[Link] = []

    def view(self) -> View:
        """Return the View."""
        for node in sorted(
            self.topology.systems,
            key=lambda node: (self.tiers.get(("node", node.name), 0), natural_key(node.name)),
        ):
            self.nodes[node.name] = self._node(node)
        for link in sorted(self.topology.links, key=lambda link: natural_key(link.name)):
            if not link.internal:
                ends = self._ends(link)
                self._add_link(link, link.given_name or "--".join(sorted(map(str, ends))), ends)
        segments = {}
        for name in sorted(self.topology.segments, key=natural_key):
            segment = self.topology.segments[name]
            if segment.internal:
                continue
            tier = self.tiers.get(("segment", name))
            segments[name] = Segment(
                name,
                segment.kind,
                _prefixes(segment),
                tier,
                uplink=_uplink_text(segment.uplink),
                description=str(segment.settings.get("description") or ""),
                position=_position(segment.settings),
            )
            for end in self._ends(segment):
                self._add_link(segment, "%s -- %s" % (end, name), [end], name)
                if segment.kind == "switch":
                    given = segment.vlans.get(model.End(end.vm, end.nic), {})
                    self.links[-1].vlans = _vlans_text(segment.port_vlans(given))
            self._add_cables(segment)
        segments.update(self._outside())
        return View(
            self.topology.name,
            self.nodes,
            self.links,
            segments,
            tiered=bool(self.tiers),
            has_states=self.has_states,
            title=str(self.topology.data.get("title") or self.topology.name),
        )

    def _outside(self) -> dict[str, Segment]:
        """Add the links to what is outside the lab and has a name. Return that as segments."""
        several = len({node.hypervisor for node in self.nodes.values() if node.hypervisor}) > 1
        found: dict[str, Segment] = {}
        for node in self.nodes.values():
            for nic in node.nics:
                if not nic.is_shared:
                    continue
                # Names of segments have no spaces, so it is none of them.
                name = nic.outside
                if several and node.hypervisor:
                    name += " (%s)" % node.hypervisor
                tier = _tier_above(node.tier, found.get(name))
                found[name] = Segment(name, nic.outside.partition(" ")[0], [], tier, outside=True)
                vm, _name = self.topology.nodes[node.name].nic_of_system(nic.name)
                captured = bool(nic.capture)
                end = End(node.name, nic.name, list(nic.addresses), captured, vm.name)
                down = self._is_down(end)
                self.links.append(
                    Link(len(self.links), "%s -- %s" % (end, name), [end], [], name, down)
                )
        return {name: found[name] for name in sorted(found, key=natural_key)}

    def _node(self, node: model.Node) -> Node:
        vm = self.vm_of.get(node.name) or {}
        states = [self._state(each) for each in node.vms]
        # Of a system of several VMs, the first that does not run has to be seen.
        state = next((each for each in states if each != "running"), states[0])
        console = self.consoles.get(node.name)
        if console is None:
            console = (vm.get("consoles") or [{}])[0].get("command")
        hypervisor = (
            vm.get("hypervisor")
            or self.placement.get(node.name)
            or node.settings.get("hypervisor")
            or ""
        )
        return Node(
            node.name,
            node.kind,
            icons.icon_of(node, self.topology.data["kinds"]),
            list(node.groups),
            self.tiers.get(("node", node.name)),
            node.asn,
            [address for address in (node.loopback, node.loopback6) if address],
            node.management,
            [nic for each in node.vms for nic in nics_of(each, self.vm_of.get(each.name) or {})],
            str(hypervisor),
            state,
            _tone(state),
            str(console or ""),
            str(node.settings.get("label") or ""),
            description_of(self.topology, node),
            _position(node.settings),
        )

    def _state(self, node: model.Node) -> str:
        vm = self.vm_of.get(node.name)
        if vm:
            return str(vm.get("status") or "unknown")
        return "absent" if self.has_states else ""

    def _ends(self, network: model.Network) -> list[End]:
        ends = []
        for end in network.ends:
            node = self.topology.system_of(end)
            nics = self.nodes[node].nics
            captured = any(nic.capture for nic in nics if nic.name == end.nic)
            addresses = list(self.topology.nodes[end.node].nics[end.nic].addresses)
            ends.append(End(node, end.nic, addresses, captured, end.node))
        return sorted(ends, key=lambda end: natural_key(str(end)))

    def _nic(self, end: End) -> model.Nic:
        return self.topology.nodes[end.vm].nics[end.nic]

    def _add_link(
        self, network: model.Network, name: str, ends: list[End], segment: str | None = None
    ) -> None:
        is_down = bool(network.settings.get("down")) or any(map(self._is_down, ends))
        self.links.append(Link(len(self.links), name, ends, _prefixes(network), segment, is_down))

    def _add_cables(self, segment: model.Segment) -> None:
        """Add the cables of a switch to others, each at the first of the two."""
        for other, vlans in segment.cables.items():
            if natural_key(other) > natural_key(segment.name):
                text = _vlans_text(segment.port_vlans(vlans, is_cable=True))
                name = "%s -- %s" % (segment.name, other)
                cable = Link(len(self.links), name, [], [], other, False, text, segment.name)
                self.links.append(cable)

    def _is_down(self, end: End) -> bool:
        """Return whether the carrier of an end is off, or its VM does not run."""
        tone = _tone(self._state(self.topology.nodes[end.vm]))
        if self._nic(end).settings.get("link_down") or tone in ("off", "absent", "bad"):
            return True
        nics = self.vm_of.get(end.vm, {}).get("nics") or ()
        nic: Mapping[str, Any] = next(
            (nic for nic in nics if nic.get("name") == self._nic(end).vm_name), {}
        )
        return bool(nic.get("link_down") or (tone == "up" and nic.get("carrier") is False))


def _tone(state: str) -> str:
    return _TONES.get(state, "unknown") if state else ""


def _tier_above(tier: int | None, segment: Segment | None) -> int | None:
    """Return the tier of what is above a node of this tier, and above those that it has already."""
    if tier is None or segment is None or segment.tier is None:
        return None if tier is None else tier - 1
    return min(tier - 1, segment.tier)


def _prefixes(network: model.Network) -> list[str]:
    return [prefix for prefix in (network.prefix, network.prefix6) if prefix]


def _position(settings: Mapping[str, Any]) -> Point | None:
    given = settings.get("position")
    return (float(given["x"]), float(given["y"])) if given else None


def _vlans_text(vlans: model.Vlans) -> str:
    """Return the VLANs of a port in words."""
    texts = []
    if "trunk" in vlans:
        texts.append("trunk " + vlans["trunk"].replace(",", ", "))
    texts += [
        text % vlans[name]
        for name, text in (("access", "VLAN %d"), ("qinq", "QinQ %d"), ("native", "native %d"))
        if name in vlans
    ]
    return ", ".join(texts)


def _uplink_text(uplink: Mapping[str, Any] | None) -> str:
    if not uplink:
        return ""
    place = uplink.get("interface") or uplink.get("bridge") or uplink.get("network") or ""
    return ("uplink: %s %s" % (uplink["type"], place)).rstrip()
