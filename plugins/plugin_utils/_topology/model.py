# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The topology in memory: nodes, links and segments, with everything that needs no host."""

from __future__ import annotations

import dataclasses
import functools
import uuid
from typing import Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._wire.switching import ALL
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import Kept
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kinds import KindSpec
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import (
    NicNaming,
    SystemNaming,
    naming_of,
)

# The VLANs of a port, as the program of a switch takes them: see switching.
Vlans = dict[str, Any]


class End(NamedTuple):
    """One end of a link or segment: a NIC of a node."""

    node: str
    nic: str

    def __str__(self) -> str:
        return "%s:%s" % (self.node, self.nic)


@dataclasses.dataclass
class Network:
    """What connects NICs: a link or a segment.

    path: its option path in the topology. given_name: the name that the topology gives it.
    prefix, prefix6: its IPv4 and IPv6 networks. kept: its values in the record of the lab.
    internal: it connects the VMs of one node.
    """

    path: str
    given_name: str | None
    settings: dict[str, Any]
    ends: list[End] = dataclasses.field(default_factory=list)
    prefix: str | None = None
    prefix6: str | None = None
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)
    internal: bool = False

    @property
    def name(self) -> str:
        """The given name, else one made of the ends in a fixed order."""
        return self.given_name or "--".join(sorted(map(str, self.ends)))


class Link(Network):
    """A cable between two NICs."""

    def other(self, node: str, nic: str) -> End:
        """Return the end opposite to this NIC."""
        first, second = self.ends
        return second if (first.node, first.nic) == (node, nic) else first


@dataclasses.dataclass
class Segment(Network):
    """A network of any number of NICs.

    vlans: those that ports of a switch are given. received: {end: the impairment of what it
    receives from a switch}. cables: {another switch: the VLANs of the cable
    to it}. uplink: to the network of the host, as a link of qemu_vm; uplink_vlans: its VLANs.
    """

    vlans: dict[End, Vlans] = dataclasses.field(default_factory=dict)
    received: dict[End, dict[str, Any]] = dataclasses.field(default_factory=dict)
    cables: dict[str, Vlans] = dataclasses.field(default_factory=dict)
    uplink: dict[str, Any] | None = None
    uplink_vlans: Vlans = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """hub, bridge or switch."""
        kind: str = self.settings.get("type", "hub")
        return kind

    @property
    def has_vlans(self) -> bool:
        """Whether any port of the switch is given VLANs."""
        return any([*self.vlans.values(), *self.cables.values(), self.uplink_vlans])

    def port_vlans(self, given: Vlans, is_cable: bool = False) -> Vlans:
        """Return the VLANs of a port. given: to the port, empty for none."""
        if given or not self.has_vlans:
            return given
        return {"trunk": ALL, "native": 1} if is_cable else {"access": 1}


@dataclasses.dataclass
class Nic:
    """A NIC of a node.

    network: the link or segment that it is connected to. position: its index among the NICs
    of a system that names them by their slots. addresses: with their prefix lengths.
    """

    name: str
    mac: str
    settings: dict[str, Any]
    network: Network | None = None
    position: int | None = None
    addresses: list[str] = dataclasses.field(default_factory=list)

    @property
    def vm_name(self) -> str:
        """The name of the NIC of the VM: it can be part of a file name."""
        return self.name.replace("/", "_")


@dataclasses.dataclass
class Node:
    """A VM of the lab.

    settings: the options of qemu_vm and of nodes, merged from defaults, kind, groups and the
    node itself. after: {node that must come first: started or ready}. kept_macs: the MACs that
    mac_base gave to its NICs, by their names. modules: the other VMs of the same system, by the
    names of its kind for them. part_of: the node that this is a module of, None for a node.
    """

    name: str
    kind: str
    kind_spec: KindSpec
    settings: dict[str, Any]
    groups: list[str]
    nics: dict[str, Nic] = dataclasses.field(default_factory=dict)
    after: dict[str, str] = dataclasses.field(default_factory=dict)
    loopback: str | None = None
    loopback6: str | None = None
    management: str | None = None
    asn: int | None = None
    kept_macs: dict[str, str] = dataclasses.field(default_factory=dict)
    modules: dict[str, Node] = dataclasses.field(default_factory=dict)
    part_of: str | None = None

    @property
    def system(self) -> str:
        """The name of the node that it is, or is a module of."""
        return self.part_of or self.name

    @property
    def vms(self) -> list[Node]:
        """It and its modules."""
        return [self, *self.modules.values()]

    @property
    def system_nics(self) -> list[tuple[Node, Nic]]:
        """The NICs of the system, each with its VM: its own, and the data NICs of its modules."""
        return [(self, nic) for nic in self.nics.values()] + [
            (module, nic)
            for module in self.modules.values()
            for nic in module.nics.values()
            if module.nic_naming.index(nic.name) is not None
        ]

    @functools.cached_property
    def nic_naming(self) -> NicNaming:
        """The naming of its own NICs."""
        return NicNaming(self.kind_spec["nic"])

    @functools.cached_property
    def system_naming(self) -> NicNaming:
        """The naming of the NICs of the system."""
        return naming_of(self.kind_spec) if self.kind_spec["modules"] else self.nic_naming

    def nic_of_system(self, name: str | None) -> tuple[Node, str | None]:
        """Return the VM that has a NIC of the system, and the full name of the NIC.

        name: None for any data NIC.
        """
        naming = self.system_naming
        full = naming.full_name(name) if name else None
        if not isinstance(naming, SystemNaming):
            return self, full
        return self.vms[naming.part_with(full) if full else naming.data_part], full

    @property
    def nic_settings(self) -> dict[str, Any]:
        """The settings of its NICs, by name."""
        return self.settings.get("nics") or {}

    @property
    def uuid(self) -> str | None:
        """The UUID that it is given, None for a derived or random one."""
        try:
            return str(uuid.UUID(self.settings.get("uuid") or ""))
        except ValueError:
            return None  # one that is none is reported elsewhere

    @property
    def vcpus(self) -> int:
        """The number of its virtual CPUs."""
        return int(self.settings.get("vcpus") or self.settings.get("cpus") or 1)


@dataclasses.dataclass
class Topology:
    """A whole lab. data: the valid part of the file, with empty values for absent keys.

    kept: what the lab has given before. reserved: the part of it that belongs to VMs which the file
    does not name.
    """

    name: str
    nodes: dict[str, Node]
    links: list[Link]
    segments: dict[str, Segment]
    data: dict[str, Any]
    kept: Kept = dataclasses.field(default_factory=Kept)
    reserved: Kept = dataclasses.field(default_factory=Kept)

    @property
    def systems(self) -> list[Node]:
        """The nodes without their modules."""
        return [node for node in self.nodes.values() if not node.part_of]

    def system_of(self, end: End) -> str:
        """Return the node that an end is of, also if a module of it has the NIC."""
        return self.nodes[end.node].system

    @property
    def networks(self) -> list[Network]:
        """All links and segments."""
        return [*self.links, *self.segments.values()]
