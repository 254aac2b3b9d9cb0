# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Whether the frames of a NIC fit into the packets to another hypervisor.

The kernel sends a larger packet as fragments, so such a link works, but slower, and a lost fragment
is a lost frame.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import Any

_DEFAULT_MTU = 1500  # of a guest, and of an Ethernet
_ETHERNET, _UDP = 14, 8
_IP = {4: 20, 6: 40}
# Of linux/in.h and linux/in6.h; Python has no names for them.
_IP_MTU, _IPV6_MTU = 14, 24


def path_mtu(address: str) -> int | None:
    """Return the largest packet to an address, as far as this host knows; None without a route."""
    family, level, option = socket.AF_INET, socket.IPPROTO_IP, _IP_MTU
    if ":" in address:
        family, level, option = socket.AF_INET6, socket.IPPROTO_IPV6, _IPV6_MTU
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        return probe.getsockopt(level, option)
    return None


def shortage(nic: dict[str, Any]) -> str:
    """Return a warning if frames of a NIC become fragments; empty if none do.

    A guest with the default MTU on an Ethernet without jumbo frames is no reason for a warning:
    that is usual, and the documentation describes it.
    """
    address = nic["link"].get("remote_address")
    if nic["link"]["type"] != "udp" or not address or ipaddress.ip_address(address).is_loopback:
        return ""
    mtu, path = nic["mtu"] or _DEFAULT_MTU, path_mtu(address)
    headers = _ETHERNET + _UDP + _IP[ipaddress.ip_address(address).version]
    if path is None or mtu + headers <= path or (mtu <= _DEFAULT_MTU <= path):
        return ""
    fits = path - headers
    return (
        "nics[%s].mtu: frames of %d bytes and %d bytes of headers do not fit into the packets of %d"
        " bytes on the way to %s, so they are sent as fragments, and one that is lost loses the"
        " frame: set mtu: %d, or raise the MTU between the hypervisors"
        % (nic["name"], mtu, headers, path, address, fits)
    )
