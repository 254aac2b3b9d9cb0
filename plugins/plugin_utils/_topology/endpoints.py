# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The UDP addresses and ports between which links and hubs exchange frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    End,
    Link,
    Network,
    Segment,
    Topology,
)

# Below Linux's range for outgoing connections; the registry of qemu_vm uses ports from 20000 on.
_FIRST_PORT, _PORT_COUNT = 10000, 10000


class Endpoint(NamedTuple):
    """Where a NIC or a port of a hub receives frames."""

    address: str
    port: int


def local_endpoint(lab: str, node: str, nic: str) -> Endpoint:
    """Return an endpoint for links within a host, derived from the names.

    Each end has its own loopback address, so that ports need no registry.
    """
    digest = hashlib.sha256("\0".join((lab, node, nic)).encode("utf-8")).digest()
    address = "127.%d.%d.%d" % (64 + digest[0] % 128, digest[1], 1 + digest[2] % 254)
    return Endpoint(address, _FIRST_PORT + int.from_bytes(digest[3:5], "big") % _PORT_COUNT)


class UdpEndpoints:
    """The endpoints of all links and hubs.

    placed: {node: host}. addresses: {host: the address at which other hosts reach it}.
    """

    def __init__(
        self, topology: Topology, placed: Mapping[str, str], addresses: Mapping[str, str]
    ) -> None:
        self.topology, self.placed, self.addresses = topology, placed, addresses
        # The ends and hub ports that other hosts send to, and their hosts.
        self.exposed: dict[str, str] = {}
        for link in topology.links:
            if self._is_between_hosts(link.ends):
                for end in link.ends:
                    self.exposed[str(end)] = placed[end.node]
        for segment in topology.segments.values():
            home = self.home(segment)
            for end in segment.ends:
                if placed[end.node] != home:
                    self.exposed[str(end)] = placed[end.node]
                    self.exposed[_hub_port_name(segment, str(end))] = home
            for other in segment.cables:
                if self.home(topology.segments[other]) != home:
                    self.exposed[_hub_port_name(segment, _cable_end(other))] = home
        self.ports = self._kept_ports()
        # The ports in use, and those of links to VMs that the file does not name.
        self._used = {(self.exposed[name], port) for name, port in self.ports.items()}
        self._reserved = {
            (host, port)
            for host in set(self.exposed.values())
            for port in topology.reserved.ports(host).values()
        }
        # In the order of names, which decides who gets a port that two names hash to.
        for name, host in sorted(self.exposed.items()):
            if name not in self.ports:
                self.ports[name] = self._free_port(name, host)

    def ports_between_hosts(self) -> dict[str, dict[int, tuple[str, str]]]:
        """Return the ports of NICs for frames of other hosts: {host: {port: (node, NIC)}}."""
        found: dict[str, dict[int, tuple[str, str]]] = {}
        for name, host in self.exposed.items():
            if not name.startswith("hub "):
                found.setdefault(host, {})[self.ports[name]] = (name.partition(":")[0], name)
        return found

    def _is_between_hosts(self, ends: Iterable[End]) -> bool:
        return len({self.placed[end.node] for end in ends}) > 1

    def _kept_ports(self) -> dict[str, int]:
        """Return the ports that ends have from earlier runs."""
        kept: dict[str, int] = {}
        used: set[tuple[str, int]] = set()
        for host in sorted(set(self.exposed.values())):
            for name, port in sorted(self.topology.kept.ports(host).items()):
                is_possible = 0 <= port - _FIRST_PORT < _PORT_COUNT and (host, port) not in used
                if self.exposed.get(name) == host and is_possible:
                    kept[name] = port
                    used.add((host, port))
        return kept

    def _free_port(self, name: str, host: str) -> int:
        """Return the port that the hash of the name chooses, the next free one if it is used."""
        text = "%s\0%s" % (self.topology.name, name)
        start = int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:4], "big")
        for avoided in (self._reserved, ()):
            for step in range(_PORT_COUNT):
                port = _FIRST_PORT + (start + step) % _PORT_COUNT
                if (host, port) not in self._used and (host, port) not in avoided:
                    self._used.add((host, port))
                    return port
        raise OverflowError("all %d ports of %s are in use" % (_PORT_COUNT, host))

    def home(self, segment: Segment) -> str:
        """Return the host that runs the hub of a segment: where it runs already, if that can be."""
        given: str | None = segment.settings.get("hypervisor")
        hosts = [self.placed[end.node] for end in segment.ends] or self._hosts_around(segment)
        kept: str | None = segment.kept.get("home")
        if given or kept in hosts:
            return given or str(kept)
        return max(sorted(set(hosts)), key=hosts.count)

    def _hosts_around(self, segment: Segment) -> list[str]:
        """Return the hosts of the nodes behind a switch that has no NICs itself."""
        nodes = [end.node for each in _connected(self.topology, segment) for end in each.ends]
        return [self.placed[node] for node in nodes or self.topology.nodes]

    def nic(self, end: End) -> Endpoint:
        """Return where a NIC receives frames."""
        return self._endpoint(str(end), end.node, end.nic)

    def hub_port(self, segment: Segment, end: End) -> Endpoint:
        """Return where the hub of a segment receives the frames of a NIC."""
        return self._hub_endpoint(segment.name, str(end))

    def cable(self, segment: Segment, other: str) -> tuple[Endpoint, Endpoint]:
        """Return where a switch receives the frames of another one, and where that does."""
        return (
            self._hub_endpoint(segment.name, _cable_end(other)),
            self._hub_endpoint(other, _cable_end(segment.name)),
        )

    def uplink(self, segment: Segment) -> tuple[Endpoint, Endpoint]:
        """Return where a switch receives the frames of its uplink, and where that does."""
        lab, name = self.topology.name, "hub %s" % segment.name
        return local_endpoint(lab, name, "uplink"), local_endpoint(lab, name + ".uplink", "switch")

    def _hub_endpoint(self, segment: str, end: str) -> Endpoint:
        return self._endpoint("hub %s %s" % (segment, end), "hub " + segment, end)

    def _endpoint(self, name: str, node: str, nic: str) -> Endpoint:
        if name in self.ports:
            return Endpoint(self.addresses[self.exposed[name]], self.ports[name])
        return local_endpoint(self.topology.name, node, nic)

    def link_of(self, network: Network, end: End) -> dict[str, str]:
        """Return the link of the NIC at an end, as qemu_vm accepts it."""
        local = self.nic(end)
        if isinstance(network, Link):
            remote = self.nic(network.other(end.node, end.nic))
        elif isinstance(network, Segment):
            remote = self.hub_port(network, end)
        return {
            "type": "udp",
            "local_address": local.address,
            "local_port": str(local.port),
            "remote_address": remote.address,
            "remote_port": str(remote.port),
        }


def _hub_port_name(segment: Segment, end: str) -> str:
    return "hub %s %s" % (segment.name, end)


def _cable_end(other: str) -> str:
    """Return the name of the end of a cable to another switch, which is none of a node."""
    return "." + other


def _connected(topology: Topology, segment: Segment) -> list[Segment]:
    """Return a segment and all switches behind its cables."""
    names = [segment.name]
    for name in names:
        names += [other for other in topology.segments[name].cables if other not in names]
    return [topology.segments[name] for name in names]


def hosts_with_addresses(topology: Topology, placed: Mapping[str, str]) -> set[str]:
    """Return the hosts that others must reach, because a link or segment is between them."""
    found: set[str] = set()
    for network in topology.networks:
        parts = _connected(topology, network) if isinstance(network, Segment) else [network]
        hosts = {placed[end.node] for part in parts for end in part.ends}
        hosts.update(filter(None, (part.settings.get("hypervisor") for part in parts)))
        if len(hosts) > 1:
            found |= hosts
    return found
