# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Assign addresses from pools.

What a node, link or segment gets depends on its name, not on its position in the file, so that
a new link does not change the addresses of others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.libraries import netaddr
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    End,
    Link,
    Network,
    Nic,
    Node,
    Topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import (
    natural_key,
    trailing_number,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_LINK_LENGTH, _LAN_LENGTH = 30, 24
_POOLS = ("loopback", "loopback6", "links", "links6", "lans", "lans6", "management")
# The subnets of the lab's own IPv6 network: {pool: (index of its first /64, prefix length)}.
_OWN_IPV6_POOLS = {"loopback6": (0, 64), "links6": (0x8000, 49), "lans6": (0x4000, 50)}
# A larger pool is not searched to its end for something free.
_MAX_ADDRESS_STEPS, _MAX_SUBNET_STEPS = 1 << 20, 1 << 16

# netaddr has no type hints.
_Subnet = Any
_Address = Any
_Pools = dict[str, _Subnet]
_Key = tuple[int, int, int]


def assign_addresses(topology: Topology, problems: Problems) -> None:
    """Assign loopbacks, management addresses, AS numbers, and the subnets of networks."""
    pools = _pools(topology, problems)
    for key in ("loopback", "loopback6", "management"):
        _assign_node_addresses(topology, key, pools.get(key), problems)
    _assign_as_numbers(topology)
    _assign_subnets(topology, pools, problems)
    for network in _complete_networks(topology):
        _assign_nic_addresses(topology, network, problems)
    _keep_addresses_of_unconnected_nics(topology, problems)


class _Allocation:
    """The subnets in use, each with the option path that asked for it."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.subnets: dict[_Key, tuple[_Subnet, str]] = {}
        self.supernets: dict[_Key, tuple[_Subnet, str]] = {}

    def take(self, subnet: _Subnet, path: str) -> None:
        """Record a subnet as used. Record a problem if it overlaps another."""
        overlap = self._overlap(subnet)
        if overlap:
            self.problems.add(path, "%s overlaps with %s of %s", subnet, *overlap)
            return
        self.subnets[_key(subnet)] = subnet, path
        for key in _supernet_keys(subnet):
            self.supernets.setdefault(key, (subnet, path))

    def is_free(self, subnet: _Subnet) -> bool:
        """Return whether the subnet overlaps no allocated one."""
        return self._overlap(subnet) is None

    def _overlap(self, subnet: _Subnet) -> tuple[_Subnet, str] | None:
        """Return a subnet in use that overlaps, with its path, in at most 128 lookups."""
        for key in _supernet_keys(subnet):
            if key in self.subnets:
                return self.subnets[key]
        return self.supernets.get(_key(subnet))


def _key(subnet: _Subnet) -> _Key:
    return subnet.version, subnet.prefixlen, subnet.first


def _supernet_keys(subnet: _Subnet) -> Iterator[_Key]:
    """Yield the keys of a subnet and of all that contain it; netaddr's supernet() is slow."""
    version, first = subnet.version, subnet.first
    bits = 32 if version == 4 else 128
    for length in range(subnet.prefixlen, -1, -1):
        yield version, length, first >> (bits - length) << (bits - length)


def _pools(topology: Topology, problems: Problems) -> _Pools:
    given = topology.data["addressing"]
    pools = {}
    for key in _POOLS:
        if isinstance(given.get(key), str):
            version = 6 if key.endswith("6") else 4
            pools[key] = _parse_subnet(given[key], "addressing.%s" % key, problems, version)
    if given.get("ipv6"):
        digest = hashlib.sha256(topology.name.encode("utf-8")).hexdigest()
        # RFC 4193: fd and a global ID of 40 bits.
        base = netaddr.IPNetwork("fd%s:%s:%s::/48" % (digest[:2], digest[2:6], digest[6:10]))
        for key, (index, length) in _OWN_IPV6_POOLS.items():
            if key == "loopback6" or key.replace("6", "") in pools:
                first = netaddr.IPAddress(base.first + (index << 64), 6)
                pools.setdefault(key, netaddr.IPNetwork("%s/%d" % (first, length)))
    return {key: pool for key, pool in pools.items() if pool is not None}


def _parse_subnet(text: str, path: str, problems: Problems, version: int) -> _Subnet | None:
    try:
        subnet = netaddr.IPNetwork(text).cidr
    except (netaddr.AddrFormatError, ValueError):
        example = "fd00::/48" if version == 6 else "10.0.0.0/16"
        problems.add(path, "%r is not a network, such as %s", text, example)
        return None
    if subnet.version != version:
        problems.add(path, "%s is not an IPv%d network", text, version)
        return None
    return subnet


def _hash(name: str) -> int:
    """Return a number that depends on the name alone, to choose from a pool."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big")


def _nodes_in_order(topology: Topology) -> list[Node]:
    return sorted(topology.nodes.values(), key=lambda node: natural_key(node.name))


def _assign_node_addresses(
    topology: Topology, key: str, pool: _Subnet | None, problems: Problems
) -> None:
    """Assign each node its loopback, loopback6 or management address."""
    used: dict[_Address, Node] = {}
    for node in topology.nodes.values():
        given = node.settings.get(key)
        if isinstance(given, str):
            path = "nodes.%s.%s" % (node.name, key)
            interface = _parse_interface(given)
            if interface is None:
                problems.add(path, "%r is not an IP address", given)
            elif interface.ip in used:
                other = used[interface.ip].name
                problems.add(path, "%s is also the address of %s", interface.ip, other)
            else:
                used[interface.ip] = node
    if pool is not None:
        # By name, so that the address of r1 ends in 1, as people expect.
        for node in _nodes_in_order(topology):
            if node.settings.get(key) in (None, True):
                address = _pick_address(pool, node.name, used)
                if address is None:
                    problems.add(
                        "addressing.%s" % key,
                        "%s is too small for %d nodes",
                        pool,
                        len(topology.nodes),
                    )
                    break
                used[address] = node
    for address, node in used.items():
        setattr(node, key, str(address))


def _parse_interface(text: str) -> _Subnet | None:
    """Return an address with its prefix length, None if text is not an address."""
    try:
        return netaddr.IPNetwork(text)
    except (netaddr.AddrFormatError, ValueError):
        return None


def _pick_address(pool: _Subnet, name: str, used: Mapping[_Address, Node]) -> _Address | None:
    """Return a free address: the number at the end of the name, else its hash, chooses it.

    If that one is used, the next free one follows.
    """
    # Neither the address of a network nor an IPv4 broadcast address, if it is large enough.
    hosts = pool.size if pool.version == 6 or pool.size <= 2 else pool.size - 2
    offset = 0 if pool.size <= 2 else 1
    number = trailing_number(name)
    start = number - 1 if number and number <= hosts else _hash(name) % min(hosts, 1 << 62)
    for step in range(min(hosts, _MAX_ADDRESS_STEPS)):
        index = offset + (start + step) % hosts
        if index < pool.size:
            address = netaddr.IPAddress(pool.first + index, pool.version)
            if address not in used:
                return address
    return None


def _assign_as_numbers(topology: Topology) -> None:
    """Assign AS numbers: those that nodes ask for, then free ones in the order of names."""
    first = topology.data["addressing"].get("asn")
    used = {
        node.settings["asn"]
        for node in topology.nodes.values()
        if isinstance(node.settings.get("asn"), int)
    }
    for node in _nodes_in_order(topology):
        node.asn = node.settings.get("asn")
        if node.asn is None and isinstance(first, int):
            candidates = range(first, first + len(topology.nodes) + len(used) + 1)
            node.asn = next(number for number in candidates if number not in used)
            used.add(node.asn)


class _Family(NamedTuple):
    """The names of a network's attribute and pools for an IP version."""

    version: int
    key: str
    suffix: str


_FAMILIES = (_Family(4, "prefix", ""), _Family(6, "prefix6", "6"))


def _complete_networks(topology: Topology) -> list[Network]:
    """Return segments and the links of which both ends are valid."""
    return [
        network
        for network in topology.networks
        if not isinstance(network, Link) or len(network.ends) == 2
    ]


def _assign_subnets(topology: Topology, pools: _Pools, problems: Problems) -> None:
    """Assign each network its subnets: those it asks for first, then free ones of the pools."""
    allocation = _Allocation(problems)
    networks = _complete_networks(topology)
    for family in _FAMILIES:
        for network in networks:
            text = network.settings.get(family.key)
            if isinstance(text, str):
                path = "%s.%s" % (network.path, family.key)
                subnet = _parse_subnet(text, path, problems, family.version)
                if subnet is not None:
                    allocation.take(subnet, path)
                    setattr(network, family.key, str(subnet))
        _assign_from_pools(topology, networks, family, pools, allocation)


def _assign_from_pools(
    topology: Topology,
    networks: list[Network],
    family: _Family,
    pools: _Pools,
    allocation: _Allocation,
) -> None:
    given = topology.data["addressing"]
    lengths = {
        "links": given.get("link_length", _LINK_LENGTH),
        "lans": given.get("lan_length", _LAN_LENGTH),
        "links6": 64,
        "lans6": 64,
    }
    for network in sorted(networks, key=lambda network: network.name):
        pool_name = ("links" if isinstance(network, Link) else "lans") + family.suffix
        pool, length = pools.get(pool_name), lengths[pool_name]
        if getattr(network, family.key) is None and pool is not None:
            subnet = _pick_subnet(pool, length, network.name, allocation)
            if subnet is None:
                allocation.problems.add(
                    "addressing.%s" % pool_name,
                    "%s is too small for %d networks with prefix length %d",
                    pool,
                    len(networks),
                    length,
                )
                break
            allocation.take(subnet, network.path)
            setattr(network, family.key, str(subnet))


def _pick_subnet(pool: _Subnet, length: int, name: str, allocation: _Allocation) -> _Subnet | None:
    """Return the subnet that the hash of the name chooses, the next free one if it is used."""
    if length < pool.prefixlen:
        return None
    count = 1 << (length - pool.prefixlen)
    start, size = _hash(name) % count, 1 << ((32 if pool.version == 4 else 128) - length)
    for step in range(min(count, _MAX_SUBNET_STEPS)):
        first = netaddr.IPAddress(pool.first + (start + step) % count * size, pool.version)
        subnet = netaddr.IPNetwork("%s/%d" % (first, length))
        if allocation.is_free(subnet):
            return subnet
    return None


def _assign_nic_addresses(topology: Topology, network: Network, problems: Problems) -> None:
    """Assign the NICs of a network the addresses they ask for, then the lowest free ones."""
    subnets = [netaddr.IPNetwork(text) for text in (network.prefix, network.prefix6) if text]
    nics = {end: topology.nodes[end.node].nics[end.nic] for end in network.ends}
    used: dict[_Address, End] = {}
    for end, nic in nics.items():
        for text in _given_addresses(nic):
            _keep_given_address(network, end, nic, text, subnets, used, problems)
    for subnet in subnets:
        hosts = subnet.iter_hosts()
        for end in sorted(nics, key=lambda end: natural_key(str(end))):
            nic = nics[end]
            if any(_version(address) == subnet.version for address in nic.addresses):
                continue
            address = next((address for address in hosts if address not in used), None)
            if address is None:
                problems.add(network.path, "%s is too small for %d NICs", subnet, len(nics))
                break
            used[address] = end
            nic.addresses.append("%s/%d" % (address, subnet.prefixlen))


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _given_addresses(nic: Nic) -> list[str]:
    given = nic.settings.get("address") or []
    return [given] if isinstance(given, str) else given


def _keep_given_address(
    network: Network,
    end: End,
    nic: Nic,
    text: str,
    subnets: list[_Subnet],
    used: dict[_Address, End],
    problems: Problems,
) -> None:
    """Add an address that a connected NIC asks for; the subnet completes its prefix length."""
    address = _parse_interface(text)
    if address is None:
        problems.add(network.path, "%r, the address of %s, is not an IP address", text, end)
        return
    subnet = next((subnet for subnet in subnets if address.ip in subnet), None)
    if subnet is None and any(subnet.version == address.version for subnet in subnets):
        problems.add(
            network.path,
            "%s, the address of %s, is not in %s",
            text,
            end,
            " or ".join(map(str, subnets)),
        )
    elif address.ip in used:
        problems.add(
            network.path, "%s is the address of both %s and %s", address.ip, used[address.ip], end
        )
    else:
        used[address.ip] = end
        source = address if subnet is None or "/" in text else subnet
        nic.addresses.append("%s/%d" % (address.ip, source.prefixlen))


def _keep_addresses_of_unconnected_nics(topology: Topology, problems: Problems) -> None:
    for node in topology.nodes.values():
        for nic in node.nics.values():
            for text in _given_addresses(nic) if nic.network is None else ():
                address = _parse_interface(text)
                if address is None:
                    path = "nodes.%s.nics.%s.address" % (node.name, nic.name)
                    problems.add(path, "%r is not an IP address", text)
                else:
                    nic.addresses.append("%s/%d" % (address.ip, address.prefixlen))
