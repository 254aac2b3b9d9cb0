# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Addresses: taken from pools by name, so that the order in the file means nothing and a new link moves no other."""

from __future__ import annotations

import hashlib
import re

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.libraries import netaddr

_LINK_LENGTH, _LAN_LENGTH = 30, 24


def assign_addresses(topology, problems):
    """Give loopbacks, management addresses, AS numbers, and networks and addresses of links and segments."""
    pools = _pools(topology, problems)
    taken = _Taken(problems)
    _nodes(topology, pools, taken, problems)
    _wires(topology, pools, taken, problems)
    _loose_nics(topology, problems)


class _Taken:
    """Networks that are in use, with the place that took them."""

    def __init__(self, problems):
        self.problems, self.networks, self.above = problems, {}, {}

    def take(self, network, place):
        """Note a network that was asked for; an overlap is a mistake."""
        other, its_place = self._overlap(network)
        if other:
            self.problems.add(place, "%s overlaps with %s of %s", network, other, its_place)
            return
        self.networks[_key(network)] = network, place
        for key in _supernets(network):
            self.above.setdefault(key, (network, place))

    def is_free(self, network):
        """Whether nobody has a part of a network."""
        return self._overlap(network) == (None, None)

    def _overlap(self, network):
        """The network in use that a network has something in common with, and its place. Looks at as many as a prefix is long."""
        for key in _supernets(network):
            if key in self.networks:
                return self.networks[key]
        return self.above.get(_key(network), (None, None))


def _key(network):
    return network.version, network.prefixlen, network.first


def _supernets(network):
    """The network itself and all that it is in, as keys."""
    version, bits, first = network.version, 32 if network.version == 4 else 128, network.first
    for length in range(network.prefixlen, -1, -1):
        yield version, length, first >> (bits - length) << (bits - length)


def _pools(topology, problems):
    given = topology.data["addressing"]
    pools = {}
    for key in ("loopback", "loopback6", "links", "links6", "lans", "lans6", "management"):
        if isinstance(given.get(key), str):
            pools[key] = _network(
                given[key], "addressing.%s" % key, problems, 6 if key.endswith("6") else 4
            )
    if given.get("ipv6"):
        digest = hashlib.sha256(topology.name.encode("utf-8")).hexdigest()
        # RFC 4193: fd and a global id of 40 bits.
        base = netaddr.IPNetwork("fd%s:%s:%s::/48" % (digest[:2], digest[2:6], digest[6:10]))
        thirds = {"loopback6": (0, 64), "links6": (0x8000, 49), "lans6": (0x4000, 50)}
        for key, (offset, length) in thirds.items():
            if key == "loopback6" or key.replace("6", "") in pools:
                pools.setdefault(
                    key,
                    netaddr.IPNetwork(
                        "%s/%d" % (netaddr.IPAddress(base.first + (offset << 64), 6), length)
                    ),
                )
    return {key: pool for key, pool in pools.items() if pool is not None}


def _network(text, place, problems, version=None):
    try:
        network = netaddr.IPNetwork(text).cidr
    except (netaddr.AddrFormatError, ValueError):
        problems.add(
            place,
            "%r is not a network, such as %s",
            text,
            "fd00::/48" if version == 6 else "10.0.0.0/16",
        )
        return None
    if version and network.version != version:
        problems.add(place, "%s is not an IPv%d network", text, version)
        return None
    return network


def _order(name):
    """A place in a pool that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big")


def _nodes(topology, pools, taken, problems):
    for key in ("loopback", "loopback6", "management"):
        used = {}
        for node in topology.nodes.values():
            wanted = node.settings.get(key)
            if isinstance(wanted, str):
                address = _address(wanted, "nodes.%s.%s" % (node.name, key), problems)
                if address is not None:
                    _use(used, address, node, "nodes.%s.%s" % (node.name, key), problems)
        pool = pools.get(key)
        if pool is not None:
            # In the order of names, numbers as numbers: r2 before r10, and r1's address ends in 1 as a person expects.
            for node in sorted(topology.nodes.values(), key=lambda n: natural(n.name)):
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
                    _use(used, address, node, "addressing.%s" % key, problems)
        for address, node in used.items():
            setattr(node, key, str(address))
    base = topology.data["addressing"].get("asn")
    numbers = {
        node.settings["asn"]: node.name
        for node in topology.nodes.values()
        if isinstance(node.settings.get("asn"), int)
    }
    for node in sorted(topology.nodes.values(), key=lambda n: natural(n.name)):
        node.asn = node.settings.get("asn")
        if node.asn is None and isinstance(base, int):
            node.asn = next(
                base + n
                for n in range(len(topology.nodes) + len(numbers) + 1)
                if base + n not in numbers
            )
            numbers[node.asn] = node.name


def natural(name):
    """A key that sorts r2 before r10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


def _address(text, place, problems):
    try:
        return netaddr.IPNetwork(text).ip
    except (netaddr.AddrFormatError, ValueError):
        problems.add(place, "%r is not an address", text)
        return None


def _use(used, address, node, place, problems):
    if address in used:
        problems.add(place, "%s is also the address of %s", address, used[address].name)
    else:
        used[address] = node


def _pick_address(pool, name, used):
    """The address with the number at the end of the name where it is free, else one by the name's hash, else the next free."""
    hosts = pool.size if pool.version == 6 or pool.prefixlen >= 31 else pool.size - 2
    offset = 0 if pool.prefixlen >= 31 and pool.version == 4 else 1
    digits = natural(name)[-1][1] if natural(name)[-1][0] == 0 else None
    start = digits - 1 if digits and digits <= hosts else _order(name) % min(hosts, 1 << 62)
    for step in range(min(hosts, 1 << 20)):
        address = netaddr.IPAddress(pool.first + offset + (start + step) % hosts, pool.version)
        if address not in used:
            return address
    return None


def _wires(topology, pools, taken, problems):
    wires = [(link, link.place, "links") for link in topology.links if len(link.ends) == 2]
    wires += [
        (segment, "segments.%s" % name, "lans") for name, segment in topology.segments.items()
    ]
    length = {
        "links": topology.data["addressing"].get("link_length", _LINK_LENGTH),
        "lans": topology.data["addressing"].get("lan_length", _LAN_LENGTH),
    }
    for suffix, key in (("", "prefix"), ("6", "prefix6")):
        asked = []
        for wire, place, pool in wires:
            text = wire.settings.get(key)
            if isinstance(text, str):
                network = _network(text, "%s.%s" % (place, key), problems, 6 if suffix else 4)
                if network is not None:
                    taken.take(network, "%s.%s" % (place, key))
                    asked.append((wire, network))
        for wire, network in asked:
            setattr(wire, key, str(network))
        for wire, place, pool in sorted(wires, key=lambda entry: entry[0].name):
            room = pools.get(pool + suffix)
            if getattr(wire, key) is None and room is not None:
                network = _pick_network(room, 64 if suffix else length[pool], wire.name, taken)
                if network is None:
                    problems.add(
                        "addressing.%s%s" % (pool, suffix),
                        "%s is too small for %d networks of length %d",
                        room,
                        len(wires),
                        64 if suffix else length[pool],
                    )
                    break
                taken.take(network, place)
                setattr(wire, key, str(network))
    for wire, place, _pool in wires:
        _number_ends(topology, wire, place, problems)


def _pick_network(pool, length, name, taken):
    """A network of the pool by the name's hash, the next free one where that is taken."""
    if length < pool.prefixlen:
        return None
    count = 1 << (length - pool.prefixlen)
    start, size = _order(name) % count, 1 << ((32 if pool.version == 4 else 128) - length)
    for step in range(min(count, 1 << 16)):
        network = netaddr.IPNetwork(
            "%s/%d"
            % (netaddr.IPAddress(pool.first + (start + step) % count * size, pool.version), length)
        )
        if taken.is_free(network):
            return network
    return None


def _number_ends(topology, wire, place, problems):
    """Addresses of the NICs on a wire: those asked for, then the lowest free ones in the order of the nodes' names."""
    networks = [netaddr.IPNetwork(prefix) for prefix in (wire.prefix, wire.prefix6) if prefix]
    nics = {str(end): topology.nodes[end.node].nics[end.nic] for end in wire.ends}
    used = {}
    for end, nic in nics.items():
        wanted = nic.settings.get("address") or []
        for text in [wanted] if isinstance(wanted, str) else wanted:
            try:
                address = netaddr.IPNetwork(text)
            except (netaddr.AddrFormatError, ValueError):
                problems.add(place, "%r, the address of %s, is not an address", text, end)
                continue
            network = next((net for net in networks if address.ip in net), None)
            if (
                networks
                and network is None
                and any(net.version == address.version for net in networks)
            ):
                problems.add(
                    place,
                    "%s, the address of %s, is not in %s",
                    text,
                    end,
                    " or ".join(map(str, networks)),
                )
                continue
            if address.ip in used:
                problems.add(
                    place, "%s is the address of %s and of %s", address.ip, used[address.ip], end
                )
                continue
            used[address.ip] = end
            nic.addresses.append(
                "%s/%d"
                % (
                    address.ip,
                    network.prefixlen
                    if network is not None and "/" not in text
                    else address.prefixlen,
                )
            )
    for network in networks:
        short = (
            network.version == 4
            and network.prefixlen >= 31
            or network.version == 6
            and network.prefixlen >= 127
        )
        numbers = iter(
            range(
                0 if short else 1,
                network.size if short or network.version == 6 else network.size - 1,
            )
        )
        for end in sorted(nics, key=natural):
            if any(
                netaddr.IPNetwork(address).version == network.version
                for address in nics[end].addresses
            ):
                continue
            for number in numbers:
                address = netaddr.IPAddress(network.first + number, network.version)
                if address not in used:
                    used[address] = end
                    nics[end].addresses.append("%s/%d" % (address, network.prefixlen))
                    break
            else:
                problems.add(place, "%s is too small for %d NICs", network, len(nics))
                break


def _loose_nics(topology, problems):
    """Addresses asked for by NICs that are on no wire of the lab."""
    for node in topology.nodes.values():
        for nic in node.nics.values():
            wanted = nic.settings.get("address") or [] if nic.wire is None else []
            for text in [wanted] if isinstance(wanted, str) else wanted:
                try:
                    address = netaddr.IPNetwork(text)
                except (netaddr.AddrFormatError, ValueError):
                    problems.add(
                        "nodes.%s.nics.%s.address" % (node.name, nic.name),
                        "%r is not an address",
                        text,
                    )
                else:
                    nic.addresses.append("%s/%d" % (address.ip, address.prefixlen))
