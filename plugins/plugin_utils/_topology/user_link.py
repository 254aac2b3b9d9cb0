# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Links of type user: the addresses of QEMU's user mode network, and its forwarded ports."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple

SSH_PORT = 22

_DEFAULT_NETWORK = "10.0.2.0/24"
# The hosts of the network, as far as its length allows (net/slirp.c of QEMU).
_GATEWAY, _GUEST, _DNS = 0x0202, 0x020F, 0x0203
# The length of a network that is given without one, by the addresses that begin like this.
_LENGTHS = (
    ("0.0.0.0/1", 8),
    ("172.16.0.0/12", 12),
    ("192.168.0.0/16", 16),
    ("198.18.0.0/15", 15),
    ("128.0.0.0/2", 16),
    ("224.0.0.0/3", 24),
    ("0.0.0.0/0", 28),
)


class UserNetwork(NamedTuple):
    """What a guest needs on a user link. address: with its length."""

    address: str
    gateway: str
    dns: str
    domains: list[str]


def user_link(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the link of a NIC if its type is user. settings: of the NIC."""
    link = settings.get("link")
    return link if isinstance(link, dict) and link.get("type") == "user" else None


def user_network(settings: Mapping[str, Any]) -> UserNetwork | None:
    """Return the addresses on the user link of a NIC; None if it has no such link."""
    link = user_link(settings)
    if link is None:
        return None
    network = _network(str(link.get("network") or _DEFAULT_NETWORK))
    return UserNetwork(
        "%s/%d" % (link.get("dhcp_start") or _host(network, _GUEST), network.prefixlen),
        str(link.get("host_address") or _host(network, _GATEWAY)),
        str(link.get("dns") or _host(network, _DNS)),
        [str(domain) for domain in link.get("dns_search") or ()],
    )


def _network(text: str) -> ipaddress.IPv4Network:
    """Return a network, without a length the one that QEMU takes."""
    if "/" in text:
        return ipaddress.IPv4Network(text, strict=False)
    address = ipaddress.IPv4Address(text)
    length = next(bits for pool, bits in _LENGTHS if address in ipaddress.IPv4Network(pool))
    return ipaddress.IPv4Network((address, length), strict=False)


def _host(network: ipaddress.IPv4Network, number: int) -> ipaddress.IPv4Address:
    return network.network_address + (number & int(network.hostmask))


def forwards_ssh(nics: Mapping[str, Any]) -> bool:
    """Whether a link forwards the port of SSH. nics: {NIC: settings}."""
    return any(
        forward.get("guest_port") == SSH_PORT and (forward.get("protocol") or "tcp") == "tcp"
        for settings in nics.values()
        if isinstance(settings, dict) and isinstance(settings.get("link"), dict)
        for forward in _forwards(settings["link"])
    )


def _forwards(link: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given = link.get("forwards")
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
