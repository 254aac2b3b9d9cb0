# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Assign addresses from pools.

What a lab has given before is kept. What is new gets a free address that depends on its name, not
on its position in the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.libraries import netaddr
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    End,
    Link,
    Network,
    Nic,
    Node,
    Segment,
    Topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import (
    natural_key,
    trailing_number,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_MAX_AS_NUMBER = (1 << 32) - 1  # RFC 6793
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
    networks = _ip_networks(topology, problems)
    _assign_subnets(topology, networks, pools, problems)
    for network in networks:
        _assign_nic_addresses(topology, network, problems)
    _copy_shared_subnets(topology, networks)
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
            hint = ": give both the same network if they are one" if overlap[0] == subnet else ""
            self.problems.add(path, "%s overlaps with %s of %s%s", subnet, *overlap, hint)
            return
        self.subnets[_key(subnet)] = subnet, path
        for key in _supernet_keys(subnet):
            self.supernets.setdefault(key, (subnet, path))

    def take_if_free(self, subnet: _Subnet, path: str) -> bool:
        """Record a subnet as used; return False if it overlaps another."""
        if not self.is_free(subnet):
            return False
        self.take(subnet, path)
        return True

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
    return sorted(topology.systems, key=lambda node: natural_key(node.name))


def _assign_node_addresses(
    topology: Topology, key: str, pool: _Subnet | None, problems: Problems
) -> None:
    """Assign each node its loopback, loopback6 or management address."""
    used: dict[_Address, Node] = {}
    for node in topology.systems:
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
        _assign_from_pool(topology, key, pool, used, problems)
    for address, node in used.items():
        setattr(node, key, str(address))


def _assign_from_pool(
    topology: Topology,
    key: str,
    pool: _Subnet,
    used: dict[_Address, Node],
    problems: Problems,
) -> None:
    """Add the addresses of nodes without an explicit one to used: the kept ones, then new ones."""
    # By name, so that the address of r1 ends in 1, as people expect.
    nodes = [node for node in _nodes_in_order(topology) if node.settings.get(key) in (None, True)]
    new = []
    for node in nodes:
        kept = _parse_interface(topology.kept.node(node.name, key))
        if kept is not None and kept.ip in pool and kept.ip not in used:
            used[kept.ip] = node
        else:
            new.append(node)
    if len(new) < len(nodes):
        new.sort(key=lambda node: trailing_number(node.name) is None)
    reserved = {str(text) for text in topology.reserved.node_values(key)}
    for node in new:
        address = _pick_address(pool, node.name, used, reserved)
        if address is None:
            problems.add(
                "addressing.%s" % key, "%s is too small for %d nodes", pool, len(topology.nodes)
            )
            break
        used[address] = node


def _parse_interface(text: Any) -> _Subnet | None:
    """Return an address with its prefix length, None if text is not an address."""
    if not isinstance(text, str):
        return None
    try:
        return netaddr.IPNetwork(text)
    except (netaddr.AddrFormatError, ValueError):
        return None


def _pick_address(
    pool: _Subnet, name: str, used: Collection[_Address], reserved: Collection[str] = ()
) -> _Address | None:
    """Return a free address: the number at the end of the name, else its hash, chooses it.

    If that one is used, the next free one follows. A reserved one is taken if no other is free.
    """
    # Neither the address of a network nor an IPv4 broadcast address, if it is large enough.
    hosts = pool.size if pool.version == 6 or pool.size <= 2 else pool.size - 2
    offset = 0 if pool.size <= 2 else 1
    number = trailing_number(name)
    start = number - 1 if number and number <= hosts else _hash(name) % min(hosts, 1 << 62)
    spare = None
    for step in range(min(hosts, _MAX_ADDRESS_STEPS)):
        index = offset + (start + step) % hosts
        if index < pool.size:
            address = netaddr.IPAddress(pool.first + index, pool.version)
            if address in used:
                continue
            if not reserved or str(address) not in reserved:
                return address
            spare = spare or address
    return spare


def _assign_as_numbers(topology: Topology) -> None:
    """Assign AS numbers: those that nodes ask for, then the kept ones, then free ones by name."""
    first = topology.data["addressing"].get("asn")
    used = {
        node.settings["asn"]
        for node in topology.nodes.values()
        if isinstance(node.settings.get("asn"), int)
    }
    nodes = _nodes_in_order(topology)
    for node in nodes:
        node.asn = node.settings.get("asn")
        kept = _kept_as_number(topology, node, first)
        if node.asn is None and kept is not None and kept not in used:
            node.asn = kept
            used.add(kept)
    used.update(topology.reserved.node_values("asn"))
    for node in nodes:
        if node.asn is None and isinstance(first, int):
            candidates = range(first, first + len(topology.nodes) + len(used) + 1)
            node.asn = next(number for number in candidates if number not in used)
            used.add(node.asn)


def _kept_as_number(topology: Topology, node: Node, first: Any) -> int | None:
    """Return the AS number that the lab has given to a node, counted from the same first one."""
    kept = topology.kept.node(node.name, "asn")
    is_valid = isinstance(kept, int) and 0 < kept <= _MAX_AS_NUMBER and isinstance(first, int)
    return kept if is_valid and topology.kept.node(node.name, "asn_first") == first else None


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


def _ip_networks(topology: Topology, problems: Problems) -> list[Network]:
    """Return the complete networks. One network stands for those that share a name."""
    networks: list[Network] = []
    shared: dict[str, list[Network]] = {}
    for network in _complete_networks(topology):
        name = network.settings.get("network")
        if name:
            shared.setdefault(name, []).append(network)
        else:
            networks.append(network)
    return networks + [_shared(name, parts, problems) for name, parts in shared.items()]


def _shared(name: str, parts: list[Network], problems: Problems) -> Network:
    """Return the network that the parts share. Record prefixes that contradict each other."""
    settings: dict[str, Any] = {}
    owners: dict[str, Network] = {}
    for part in parts:
        for family in _FAMILIES:
            given = part.settings.get(family.key)
            if given is None or given is True:
                continue
            owner = owners.setdefault(family.key, part)
            if settings.setdefault(family.key, given) != given:
                problems.add(
                    "%s.%s" % (part.path, family.key),
                    "%s is not the prefix of the network %s, which is %s of %s",
                    given,
                    name,
                    settings[family.key],
                    owner.path,
                )
    owner = next(iter(owners.values()), parts[0])
    kept = next((part.kept for part in parts if part.kept), {})
    ends = [end for part in parts for end in part.ends]
    return Segment(owner.path, name, dict(settings, network=name), ends, kept=kept)


def _copy_shared_subnets(topology: Topology, networks: list[Network]) -> None:
    shared = {network.name: network for network in networks if network.settings.get("network")}
    for part in topology.networks:
        network = shared.get(part.settings.get("network", ""))
        if network is not None:
            part.prefix, part.prefix6 = network.prefix, network.prefix6


def _assign_subnets(
    topology: Topology, networks: list[Network], pools: _Pools, problems: Problems
) -> None:
    """Assign each network its subnets: those it asks for, then the kept ones, then free ones."""
    allocation = _Allocation(problems)
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
    new = []
    for network in sorted(networks, key=lambda network: network.name):
        pool_name = ("links" if isinstance(network, Link) else "lans") + family.suffix
        pool, length = pools.get(pool_name), lengths[pool_name]
        has_prefix = _can_have_prefix(network, family)
        if has_prefix and getattr(network, family.key) is None and pool is not None:
            kept = _kept_subnet(network, family, pool, length)
            if kept is not None and allocation.take_if_free(kept, network.path):
                setattr(network, family.key, str(kept))
            else:
                new.append((network, pool_name, pool, length))
    reserved = _Allocation(allocation.problems)
    for text in topology.reserved.prefixes(family.key):
        subnet = _parse_interface(text)
        if subnet is not None:
            reserved.take_if_free(subnet.cidr, "")
    for network, pool_name, pool, length in new:
        subnet = _pick_subnet(pool, length, network.name, allocation, reserved)
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


def _can_have_prefix(network: Network, family: _Family) -> bool:
    """Return whether a network can get a prefix from a pool."""
    if network.settings.get(family.key) is False:
        return False
    # The VLANs of a switch are several IP networks.
    return not (isinstance(network, Segment) and network.has_vlans)


def _kept_subnet(network: Network, family: _Family, pool: _Subnet, length: int) -> _Subnet | None:
    """Return the subnet that the lab has given to a network, if it is still one of the pool."""
    kept = _parse_interface(network.kept.get(family.key))
    if kept is None or kept.version != pool.version or kept.prefixlen != length:
        return None
    return kept.cidr if kept.cidr in pool else None


def _pick_subnet(
    pool: _Subnet, length: int, name: str, allocation: _Allocation, reserved: _Allocation
) -> _Subnet | None:
    """Return the subnet that the hash of the name chooses, the next free one if it is used.

    A reserved one is taken if no other is free.
    """
    if length < pool.prefixlen:
        return None
    count = 1 << (length - pool.prefixlen)
    start, size = _hash(name) % count, 1 << ((32 if pool.version == 4 else 128) - length)
    spare = None
    for step in range(min(count, _MAX_SUBNET_STEPS)):
        first = netaddr.IPAddress(pool.first + (start + step) % count * size, pool.version)
        subnet = netaddr.IPNetwork("%s/%d" % (first, length))
        if allocation.is_free(subnet):
            if not reserved.subnets or reserved.is_free(subnet):
                return subnet
            spare = spare or subnet
    return spare


def _assign_nic_addresses(topology: Topology, network: Network, problems: Problems) -> None:
    """Assign the NICs of a network the addresses they ask for, then the kept ones.

    The others get the lowest free ones.
    """
    subnets = [netaddr.IPNetwork(text) for text in (network.prefix, network.prefix6) if text]
    nics = {end: topology.nodes[end.node].nics[end.nic] for end in network.ends}
    used: dict[_Address, End] = {}
    for end, nic in nics.items():
        for text in _given_addresses(nic):
            _keep_given_address(network, end, nic, text, subnets, used, problems)
    for subnet in subnets:
        new = []
        for end in sorted(nics, key=lambda end: natural_key(str(end))):
            if not any(_version(address) == subnet.version for address in nics[end].addresses):
                kept = _kept_address(topology, end, subnet)
                if kept is None or kept in used:
                    new.append(end)
                else:
                    used[kept] = end
                    nics[end].addresses.append("%s/%d" % (kept, subnet.prefixlen))
        for end, address in zip(new, _free_addresses(topology, subnet, used)):
            if address is None:
                problems.add(network.path, "%s is too small for %d NICs", subnet, len(nics))
                break
            used[address] = end
            nics[end].addresses.append("%s/%d" % (address, subnet.prefixlen))


def _kept_address(topology: Topology, end: End, subnet: _Subnet) -> _Address | None:
    """Return the address in a subnet that the lab has given to a NIC."""
    for text in topology.kept.addresses(str(end)):
        kept = _parse_interface(text)
        if kept is not None and kept.cidr == subnet:
            return kept.ip
    return None


def _free_addresses(
    topology: Topology, subnet: _Subnet, used: Collection[_Address]
) -> Iterator[_Address | None]:
    """Yield the free addresses of a subnet, those that are reserved last, and then None."""
    reserved = topology.reserved.all_addresses()
    for are_reserved in (False, True) if reserved else (False,):
        for address in subnet.iter_hosts():
            if address not in used and (str(address) in reserved) == are_reserved:
                yield address
    yield None


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
