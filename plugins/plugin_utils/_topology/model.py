# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The lab in memory: nodes, links, segments, with everything that can be known without a host."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from typing import Any, Dict, List, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import macs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.network import (
    NIC_SPEC,
    normalise_nic,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import kinds, schema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import NicNaming
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

# A topology also accepts true and false for a capture; qemu_vm checks it.
_NIC_CHECKED_LATER = ("capture",)
_SHORT = re.compile(r"\s*(\S+?)\s*(?:--|<->)\s*(\S+)\s*")


@dataclasses.dataclass
class Nic:
    """A NIC of a node. wire: the Link or Segment that it is on, or None. addresses: with their prefix lengths.

    position: its place among the cards, for a system that counts them.
    """

    name: str
    mac: str
    settings: Dict[str, Any]
    wire: Any = None
    position: Optional[int] = None
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
    def cards(self):
        """How its NICs are called."""
        return NicNaming(self.shape["nic"])

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
        return (
            self.ends[1] if (self.ends[0].node, self.ends[0].nic) == (node, nic) else self.ends[0]
        )


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
    from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.addressing import (
        assign_addresses,
    )

    problems = Problems()
    if not isinstance(data, dict):
        problems.add("the topology", "it must be a mapping with name and nodes")
        problems.check()
    if not _is_tree(data):
        problems.add(
            "the topology",
            "it contains itself, is nested too deep, or has characters that no file can hold",
        )
        problems.check()
    # What the schema finds is told together with what can still be understood.
    sound = _sound(schema.check(data, problems))
    nodes = _nodes(sound, problems)
    topology = Topology(str(sound.get("name", "")), nodes, [], {}, sound)
    _Wiring(topology, problems).lay()
    _check_order(topology, problems)
    assign_addresses(topology, problems)
    problems.check()
    return topology


def _is_tree(data):
    try:
        json.dumps(data, default=str, skipkeys=True, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    return True


def _sound(data):
    """data, of which the schema left what is right, with everything there that may be missing."""
    sound = {
        key: {}
        for key in (
            "defaults",
            "kinds",
            "groups",
            "nodes",
            "segments",
            "addressing",
            "placement",
            "limits",
            "vars",
        )
    }
    sound.update({"name": "", "links": []}, **data)
    sound["nodes"] = {name: node or {} for name, node in sound["nodes"].items()}
    return sound


def _listed(values):
    """The entries of a list without those that the schema took away, each with its number in the file."""
    return [
        (number, value) for number, value in enumerate(values or ()) if value is not schema.NOTHING
    ]


def _nodes(data, problems):
    groups_of = {name: list(node.get("groups") or ()) for name, node in data["nodes"].items()}
    for group, settings in data["groups"].items():
        for number, member in _listed(settings.get("members")):
            if member not in data["nodes"]:
                problems.add(
                    "groups.%s.members[%d]" % (group, number), "there is no node %s", member
                )
            elif group not in groups_of[member]:
                groups_of[member].append(group)
    for name in data["kinds"]:
        _kind(name, kinds.resolve(name, data["kinds"], problems, "kinds.%s" % name), problems)
    nodes = {}
    for name, own in data["nodes"].items():
        place = "nodes.%s" % name
        layers = [data["defaults"]]
        for group in groups_of[name]:
            if group not in data["groups"]:
                problems.add(place + ".groups", "there is no group %s", group)
            else:
                layers.append(
                    {key: value for key, value in data["groups"][group].items() if key != "members"}
                )
        layers.append(own)
        settings: Dict[str, Any] = {}
        for layer in layers:
            settings = kinds.merge(settings, layer)
        kind_place = (
            "defaults.kind"
            if data["defaults"].get("kind") and "kind" not in own
            else place + ".kind"
        )
        if not settings.get("kind"):
            problems.add(kind_place, "the node has no kind: give it one, or defaults.kind")
            continue
        shape = kinds.resolve(settings["kind"], data["kinds"], problems, kind_place)
        if shape is not None:
            nodes[name] = _node(name, settings, shape, groups_of[name], place, problems)
    return nodes


def _kind(name, shape, problems):
    if shape is not None:
        check_options("kinds.%s.vm" % name, shape["vm"], problems)


def check_options(place, settings, problems):
    """Note what the hypervisor would refuse of options of qemu_vm. Texts of kinds that stand for what a node has are left alone."""
    for option in settings:
        normalise = OPTIONS[option].normalise if option in OPTIONS else None
        if normalise and settings[option] not in (None, ""):
            try:
                normalise(option, copy.deepcopy(settings[option]))
            except OptionError as error:
                problems.add(place, "%s", error.message)


def _node(name, settings, shape, groups, place, problems):
    # Options of qemu_vm: those of defaults, groups and the node laid over the kind's.
    merged = kinds.merge(shape["vm"], settings)
    check_options(place, settings, problems)
    merged["files"] = kinds.merge(shape["files"], settings.get("files") or {})
    if settings.get("config") is not None:
        if shape["config"].get("file"):
            merged["files"][shape["config"]["file"]] = settings["config"]
        else:
            problems.add(
                place + ".config",
                "a node of the kind %s takes no configuration from a drive",
                settings["kind"],
            )
    merged["ready"] = kinds.merge(shape["ready"], settings.get("ready") or {})
    for key in ("console", "failed"):
        try:
            re.compile(merged["ready"].get(key) or "")
        except re.error as error:
            problems.add(
                "%s.ready.%s" % (place, key),
                "%r is not a regular expression: %s",
                merged["ready"][key],
                error,
            )
    merged["vars"] = kinds.merge(shape["vars"], settings.get("vars") or {})
    after = settings.get("after") or {}
    if isinstance(after, list):
        after = {other: "started" for other in after}
    return Node(name, settings["kind"], shape, merged, groups, after=dict(after))


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
        for number, given in _listed(self.topology.data["links"]):
            place = "links[%d]" % number
            if isinstance(given, str):
                match = _SHORT.fullmatch(given)
                if not match:
                    self.problems.add(place, "%r is not a link: write NODE:NIC -- NODE:NIC", given)
                    continue
                given = {"endpoints": list(match.groups())}
            elif "endpoints" not in given:
                continue
            ends = self._ends(given["endpoints"], place + ".endpoints")
            if len(ends) != 2:
                continue
            if ends[0][1] == ends[1][1] and ends[0][2] == ends[1][2] and ends[0][2]:
                self.problems.add(place, "both ends are %s:%s", ends[0][1], ends[0][2])
                continue
            if given.get("name") in seen:
                self.problems.add(
                    place + ".name",
                    "%r is also the name of links[%d]",
                    given["name"],
                    seen[given["name"]],
                )
            if given.get("name"):
                seen[given["name"]] = number
            link = Link([None, None], place, given)
            self.topology.links.append(link)
            wires.append((link, ends))
        return wires

    def _segments(self):
        wires = []
        for name, given in self.topology.data["segments"].items():
            if "members" not in given:
                continue
            ends = self._ends(given["members"], "segments.%s.members" % name)
            segment = Segment(name, [None] * len(ends), given)
            self.topology.segments[name] = segment
            wires.append((segment, ends))
        return wires

    def _ends(self, endpoints, place):
        ends = []
        for number, end in _listed(endpoints):
            here = "%s[%d]" % (place, number)
            if isinstance(end, str):
                node, _colon, nic = end.partition(":")
                address = None
                if nic and not schema.is_nic_name(nic):
                    self.problems.add(here, "%r cannot be the name of a NIC", nic)
                    continue
            elif "node" in end:
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
            if not node.cards.has(nic_name):
                self.problems.add(
                    place,
                    "%s, a %s, has no NIC %s; it has %s",
                    node_name,
                    node.kind,
                    nic_name,
                    node.cards,
                )
                return
            nic = node.nics[nic_name] = self._nic(node, nic_name)
        if nic.wire is not None:
            self.problems.add(
                place,
                "%s:%s is plugged in already, by %s",
                node_name,
                nic_name,
                nic.wire.place if isinstance(nic.wire, Link) else "segments.%s" % nic.wire.name,
            )
            return
        if nic.settings.get("link"):
            self.problems.add(
                place,
                "%s:%s has a link of its own in nodes.%s.nics",
                node_name,
                nic_name,
                node_name,
            )
            return
        nic.wire = wire
        if address:
            nic.settings = dict(nic.settings, address=address)
        wire.ends[number] = End(node_name, nic_name)

    def _nic(self, node, name):
        settings = dict((node.settings.get("nics") or {}).get(name) or {})
        mac = None
        try:
            given = {
                key: settings[key]
                for key in NIC_SPEC
                if settings.get(key) and key not in _NIC_CHECKED_LATER
            }
            mac = normalise_nic("nodes.%s.nics.%s" % (node.name, name), given).get("mac")
        except OptionError as error:
            self.problems.add(error.option, error.reason)
        return Nic(
            name,
            mac or macs.derived(self.topology.name, node.name, name),
            settings,
            position=node.cards.position(name),
        )

    def _next_free(self, node_name, place):
        node = self.topology.nodes[node_name]
        for name in node.cards.names():
            if name not in node.nics and not (node.settings.get("nics") or {}).get(name, {}).get(
                "link"
            ):
                return name
        self.problems.add(
            place, "%s has no NIC left: a %s takes %d", node_name, node.kind, node.cards.maximum
        )
        return None

    def _loose_nics(self):
        """NICs that are on no wire: those that nodes name, and those that the kind always has."""
        for node in self.topology.nodes.values():
            for name in node.settings.get("nics") or {}:
                if name in node.nics:
                    continue
                if node.cards.has(name):
                    node.nics[name] = self._nic(node, name)
                else:
                    self.problems.add(
                        "nodes.%s.nics.%s" % (node.name, name),
                        "a %s has no such NIC; it has %s",
                        node.kind,
                        node.cards,
                    )
            for name in node.cards.missing(node.nics):
                node.nics[name] = self._nic(node, name)
            node.nics = {name: node.nics[name] for name in sorted(node.nics, key=node.cards.order)}
            seen = {}
            for nic in node.nics.values():
                if nic.mac in seen:
                    self.problems.add(
                        "nodes.%s.nics.%s.mac" % (node.name, nic.name),
                        "%s is also the MAC of %s",
                        nic.mac,
                        seen[nic.mac],
                    )
                seen[nic.mac] = nic.name


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
            problems.add(
                "nodes.%s.after" % name,
                "the nodes wait for each other: %s",
                " -> ".join(path[path.index(name) :] + [name]),
            )
            return
        path.append(name)
        for other in sorted(topology.nodes[name].after):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(topology.nodes):
        visit(name)
