# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The schemas and checks of the VLANs of ports of switches, and of uplinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import links
from ansible_collections.vlab.qemu.plugins.module_utils._wire import switching
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_NUMBER = {"type": "integer", "minimum": 1, "maximum": switching.LAST_VLAN}

VLANS: dict[str, Any] = {
    "access": dict(
        _NUMBER,
        description="Of a switch: the VLAN of the port, whose frames have no tag. 1 by default, if "
        "any port of the switch has VLANs.",
    ),
    "trunk": {
        "description": "Of a switch: the VLANs whose frames have a tag, as numbers and ranges such "
        "as 20-29, or all.",
        "oneOf": [
            {"type": "string", "enum": [switching.ALL]},
            {"type": "array", "items": {"type": ["integer", "string"]}, "minItems": 1},
        ],
    },
    "native": dict(
        _NUMBER,
        description="Of a trunk: the VLAN of frames without a tag; they are dropped by default.",
    ),
    "tag": {
        "enum": list(switching.TAGS),
        "description": "Of a trunk: the protocol of the tags; 802.1q by default.",
    },
    "qinq": dict(
        _NUMBER,
        description="Of a switch: the VLAN of the port, whose frames keep their own tags.",
    ),
}
# The suboptions of a link that an uplink of each type has.
_UPLINKS: dict[str, tuple[str, ...]] = {
    "user": ("network", "dhcp_start", "dns", "domain", "restrict", "ipv6"),
    "tap": ("interface",),
    "bridge": ("bridge", "helper"),
}
UPLINK: dict[str, Any] = {
    "type": {
        "enum": list(_UPLINKS),
        "description": "user: a network of QEMU with NAT and DHCP, without root; tap: an interface "
        "of the hypervisor; bridge: a bridge of the hypervisor, through QEMU's helper. user by "
        "default.",
    },
    "network": {
        "type": "string",
        "description": "Of type user: the IPv4 network; 10.0.2.0/24 by default.",
    },
    "dhcp_start": {
        "type": "string",
        "description": "Of type user: the first address that DHCP assigns.",
    },
    "dns": {"type": "string", "description": "Of type user: the address of the DNS server."},
    "domain": {"type": "string", "description": "Of type user: the domain that DHCP assigns."},
    "restrict": {
        "type": "boolean",
        "description": "Of type user: whether it leads nowhere, and only DHCP and DNS answer.",
    },
    "ipv6": {"type": "boolean", "description": "Of type user: whether it has IPv6."},
    "interface": {
        "type": "string",
        "description": "Of type tap: the interface. It must exist and belong to the user, unless "
        "that is root. Required for this type.",
    },
    "bridge": {
        "type": "string",
        "description": "Of type bridge: the bridge, which must exist. Required for this type.",
    },
    "helper": {
        "type": "string",
        "description": "Of type bridge: the program that connects to the bridge; QEMU's by "
        "default.",
    },
    **VLANS,
}


def vlans_of(given: Mapping[str, Any], path: str, problems: Problems) -> switching.Vlans:
    """Return the VLANs that a port is given, as the program of the switch takes them."""
    vlans = {name: given[name] for name in VLANS if given.get(name) is not None}
    try:
        if isinstance(vlans.get("trunk"), list):
            vlans["trunk"] = _merged(vlans["trunk"])
        return switching.check(vlans)
    except ValueError as error:
        problems.add(path, "%s", error)
    return {}


def _merged(given: list[Any]) -> str:
    """Return a text of VLANs and ranges in order. Raises ValueError."""
    ranges: list[tuple[int, int]] = []
    for low, high in sorted(switching.vlan_ranges(",".join(map(str, given)))):
        if ranges and low <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(high, ranges[-1][1]))
        else:
            ranges.append((low, high))
    return ",".join("%d-%d" % each if each[0] < each[1] else str(each[0]) for each in ranges)


def uplink(given: Mapping[str, Any], path: str, problems: Problems) -> dict[str, Any] | None:
    """Return an uplink as a link of qemu_vm."""
    kind = given.get("type", "user")
    allowed = {"type", *VLANS, *_UPLINKS[kind]}
    for name in given:
        if name not in allowed:
            problems.add("%s.%s" % (path, name), "an uplink of type %s does not support it", kind)
            return None
    link = {"type": kind, **{name: given[name] for name in _UPLINKS[kind] if name in given}}
    if kind == "tap" and not link.get("interface"):
        problems.add(path + ".interface", "an uplink of type tap requires it")
        return None
    try:
        return links.normalise(path, link)
    except OptionError as error:
        problems.add(error.option, error.reason)
    return None
