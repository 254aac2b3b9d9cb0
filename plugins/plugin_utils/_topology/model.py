# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""The lab in memory: nodes, links, segments, with everything that can be known without a host."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Dict, List, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._vm import macs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import kinds, schema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_SHORT = re.compile(r"\s*(\S+?)\s*(?:--|<->)\s*(\S+)\s*")


@dataclasses.dataclass
class Nic:
    """A NIC of a node. wire: the Link or Segment that it is on, or None. addresses: with their prefix lengths."""

    name: str
    mac: str
    settings: Dict[str, Any]
    wire: Any = None
    addresses: List[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Node:
    """A VM of the lab. settings: options of qemu_vm and of nodes, from defaults, kind, groups and the node itself."""

    name: str
    kind: str
    shape: Dict[str, Any]
    settings: Dict[str, Any]
    groups: List[str]
    nics: Dict[str, Nic] = dataclasses.field(default_factory=dict)
    after: Dict[str, str] = dataclasses.field(default_factory=dict)
    loopback: Optional[str] = None
    loopback6: Optional[str] = None
    management: Optional[str] = None
    asn: Optional[int] = None

    @property
    def vcpus(self):
        """How many virtual CPUs it has."""
        return int(self.settings.get("vcpus") or self.settings.get("cpus") or 1)


@dataclasses.dataclass
class End:
    """One end of a link or segment."""

    node: str
    nic: str

    def __str__(self):
        return "%s:%s" % (self.node, self.nic)


@dataclasses.dataclass
class Link:
    """A cable between two NICs."""

    ends: List[End]
    place: str
    settings: Dict[str, Any]
    prefix: Optional[str] = None
    prefix6: Optional[str] = None

    @property
    def name(self):
        """The name given to it, or that of its ends, the same whichever comes first."""
        return self.settings.get("name") or "--".join(sorted(map(str, self.ends)))

    def other(self, node, nic):
        """The end that is not this one."""
        return self.ends[1] if (self.ends[0].node, self.ends[0].nic) == (node, nic) else self.ends[0]


@dataclasses.dataclass
class Segment:
    """A network of any number of NICs."""

    name: str
    ends: List[End]
    settings: Dict[str, Any]
    prefix: Optional[str] = None
    prefix6: Optional[str] = None

    @property
    def kind(self):
        """hub or bridge."""
        return self.settings.get("type", "hub")


@dataclasses.dataclass
class Topology:
    """A whole lab."""

    name: str
    nodes: Dict[str, Node]
    links: List[Link]
    segments: Dict[str, Segment]
    data: Dict[str, Any]


def build(data):
    """The Topology that data, as read from a file, describes. Raises TopologyError with every mistake in it."""
    from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.addressing import assign_addresses
    problems = Problems()
    if not isinstance(data, dict):
        problems.add("the topology", "it must be a mapping with name and nodes")
        problems.check()
    schema.check(data, problems)
    # What the schema found is told together with what can still be understood.
    sound = _sound(data)
    nodes = _nodes(sound, problems)
    topology = Topology(str(sound.get("name", "")), nodes, [], {}, sound)
    _Wiring(topology, problems).lay()
    _check_order(topology, problems)
    assign_addresses(topology, problems)
    problems.check()
    return topology


def _sound(data):
    """data without what is of the wrong shape: the schema has told of it."""
    expected = {"defaults": dict, "kinds": dict, "groups": dict, "nodes": dict, "links": list, "segments": dict, "addressing": dict,
                "placement": dict, "limits": dict, "vars": dict}
    sound = {key: data[key] if isinstance(data.get(key), kind) else kind() for key, kind in expected.items()}
    sound["name"] = data.get("name", "")
    for key in ("kinds", "groups", "segments"):
        sound[key] = {name: value for name, value in sound[key].items() if isinstance(value, dict)}
    sound["nodes"] = {str(name): value or {} for name, value in sound["nodes"].items() if value is None or isinstance(value, dict)}
    return sound


def _nodes(data, problems):
    groups_of = {name: list(node.get("groups") or []) for name, node in data["nodes"].items()}
    for group, settings in data["groups"].items():
        for number, member in enumerate(settings.get("members") or ()):
            if member not in data["nodes"]:
                problems.add("groups.%s.members[%d]" % (group, number), "there is no node %s", member)
            elif group not in groups_of[member]:
                groups_of[member].append(group)
    nodes = {}
    for name, own in data["nodes"].items():
        place = "nodes.%s" % name
        layers = [data["defaults"]]
        for group in groups_of[name]:
            if group not in data["groups"]:
                problems.add(place + ".groups", "there is no group %s", group)
            else:
                layers.append({key: value for key, value in data["groups"][group].items() if key != "members"})
        layers.append(own)
        settings: Dict[str, Any] = {}
        for layer in layers:
            settings = kinds.merge(settings, layer)
        kind_place = place + ".kind" if own.get("kind") else "defaults.kind" if data["defaults"].get("kind") else place + ".kind"
        if not settings.get("kind"):
            problems.add(kind_place, "the node has no kind: give it one, or defaults.kind")
            continue
        shape = kinds.resolve(settings["kind"], data["kinds"], problems, kind_place)
        if shape is None:
            continue
        nodes[name] = _node(name, settings, shape, groups_of[name], place, problems)
    return nodes


def _node(name, settings, shape, groups, place, problems):
    # Options of qemu_vm: those of defaults, groups and the node laid over the kind's.
    merged = kinds.merge({key: value for key, value in shape["vm"].items()}, settings)
    for option in shape["vm"]:
        if option not in OPTIONS:
            problems.add("kinds.%s.vm.%s" % (settings["kind"], option), "qemu_vm has no such option")
    merged["files"] = kinds.merge(shape["files"], settings.get("files") or {})
    merged["ready"] = kinds.merge(shape["ready"], settings.get("ready") or {})
    after = settings.get("after") or {}
    node = Node(name, settings["kind"], shape, merged, groups,
                after={other: "started" for other in after} if isinstance(after, list) else dict(after))
    return node


class _Wiring:
    """Lays links and segments: which NIC each end has."""

    def __init__(self, topology, problems):
        self.topology, self.problems = topology, problems

    def lay(self):
        """Explicit NICs first; then each open end takes its node's next free NIC, in the order of the file."""
        wires = self._links() + self._segments()
        for wire, ends in wires:
            for number, (place, node, nic, address) in enumerate(ends):
                if nic:
                    self._plug(wire, number, place, node, nic, address)
        for wire, ends in wires:
            for number, (place, node, nic, address) in enumerate(ends):
                name = None if nic else self._next_free(node, place)
                if name:
                    self._plug(wire, number, place, node, name, address)
        self._loose_nics()
        for wire, _ends in wires:
            wire.ends = [end for end in wire.ends if end]

    def _links(self):
        wires = []
        seen = {}
        for number, given in enumerate(self.topology.data["links"]):
            place = "links[%d]" % number
            if isinstance(given, str):
                match = _SHORT.fullmatch(given)
                if not match:
                    self.problems.add(place, "%r is not a link: write NODE:NIC -- NODE:NIC", given)
                    continue
                given = {"endpoints": list(match.groups())}
            elif not isinstance(given, dict) or not isinstance(given.get("endpoints"), list):
                continue
            ends = self._ends(given["endpoints"], place + ".endpoints")
            if len(ends) != 2:
                continue
            if ends[0][1] == ends[1][1] and ends[0][2] == ends[1][2] and ends[0][2]:
                self.problems.add(place, "both ends are %s:%s", ends[0][1], ends[0][2])
                continue
            if given.get("name") in seen:
                self.problems.add(place + ".name", "%r is also the name of links[%d]", given["name"], seen[given["name"]])
            if given.get("name"):
                seen[given["name"]] = number
            link = Link([None, None], place, given)
            self.topology.links.append(link)
            wires.append((link, ends))
        return wires

    def _segments(self):
        wires = []
        for name, given in self.topology.data["segments"].items():
            if not isinstance(given.get("members"), list):
                continue
            ends = self._ends(given["members"], "segments.%s.members" % name)
            segment = Segment(name, [None] * len(ends), given)
            self.topology.segments[name] = segment
            wires.append((segment, ends))
        return wires

    def _ends(self, endpoints, place):
        ends = []
        for number, end in enumerate(endpoints):
            here = "%s[%d]" % (place, number)
            if isinstance(end, str):
                node, _colon, nic = end.partition(":")
                address = None
            elif isinstance(end, dict) and isinstance(end.get("node"), str):
                node, nic, address = end["node"], end.get("nic"), end.get("address")
            else:
                continue
            if node not in self.topology.nodes:
                if node not in self.topology.data["nodes"]:
                    self.problems.add(here, "there is no node %s", node)
                continue
            ends.append((here, node, nic or None, address))
        return ends

    def _plug(self, wire, number, place, node_name, nic_name, address):
        node = self.topology.nodes[node_name]
        nic = node.nics.get(nic_name)
        if nic is None:
            nic = node.nics[nic_name] = self._nic(node, nic_name)
        if nic.wire is not None:
            self.problems.add(place, "%s:%s is plugged in already, by %s", node_name, nic_name,
                              nic.wire.place if isinstance(nic.wire, Link) else "segments.%s" % nic.wire.name)
            return
        if nic.settings.get("link"):
            self.problems.add(place, "%s:%s has a link of its own in nodes.%s.nics", node_name, nic_name, node_name)
            return
        nic.wire = wire
        if address:
            nic.settings = dict(nic.settings, address=address)
        wire.ends[number] = End(node_name, nic_name)

    def _nic(self, node, name):
        settings = dict((node.settings.get("nics") or {}).get(name) or {})
        return Nic(name, settings.get("mac") or macs.derived(self.topology.name, node.name, name), settings)

    def _next_free(self, node_name, place):
        node = self.topology.nodes[node_name]
        shape = node.shape["nic"]
        pattern, first = shape.get("name", "eth{n}"), shape.get("first", 1)
        most = shape.get("most", 254)
        for number in range(first, first + most):
            name = pattern.replace("{n}", str(number))
            if name not in node.nics and not (node.settings.get("nics") or {}).get(name, {}).get("link"):
                return name
        self.problems.add(place, "%s has no NIC left: a %s takes %d", node_name, node.kind, most)
        return None

    def _loose_nics(self):
        """NICs that are on no wire: those that nodes name, and a kind's management NIC."""
        for node in self.topology.nodes.values():
            names = list(node.settings.get("nics") or {})
            management = node.shape["nic"].get("management")
            for name in ([management] if management else []) + names:
                if name not in node.nics:
                    node.nics[name] = self._nic(node, name)
            for name in _spare_names(node):
                node.nics[name] = self._nic(node, name)
            seen = {}
            for nic in node.nics.values():
                if nic.mac in seen:
                    self.problems.add("nodes.%s.nics.%s.mac" % (node.name, nic.name), "%s is also the MAC of %s", nic.mac, seen[nic.mac])
                seen[nic.mac] = nic.name


def _spare_names(node):
    """NICs without a cable: in the holes of a system that counts its cards, and up to a whole block, so that a link can be added
    to a running node without a new card."""
    shape = node.shape["nic"]
    pattern, first, block = shape.get("name", "eth{n}"), shape.get("first", 1), shape.get("block", 1)
    head, _n, tail = pattern.partition("{n}")
    numbers = {int(name[len(head):len(name) - len(tail)]) for name in node.nics if name.startswith(head) and name.endswith(tail)
               and name[len(head):len(name) - len(tail)].isdigit()}
    if not shape.get("fill") and block == 1:
        return []
    last = max(numbers, default=first - 1)
    last = min(first + -(-(last - first + 1) // block) * block, first + shape.get("most", 254)) - 1
    return [pattern.replace("{n}", str(number)) for number in range(first, last + 1) if number not in numbers]


def _check_order(topology, problems):
    """after names nodes, and leads nowhere in a circle."""
    for node in topology.nodes.values():
        for other in node.after:
            if other not in topology.nodes and other not in topology.data["nodes"]:
                problems.add("nodes.%s.after" % node.name, "there is no node %s", other)
    done, path = set(), []

    def visit(name):
        if name in done or name not in topology.nodes:
            return
        if name in path:
            problems.add("nodes.%s.after" % name, "the nodes wait for each other: %s", " -> ".join(path[path.index(name):] + [name]))
            return
        path.append(name)
        for other in sorted(topology.nodes[name].after):
            visit(other)
        path.pop()
        done.add(name)
    for name in sorted(topology.nodes):
        visit(name)
