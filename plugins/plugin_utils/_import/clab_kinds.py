# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The kinds of containerlab, and what their nodes become."""

from __future__ import annotations

import re

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import SEGMENT
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import kinds

_CONTAINER = "it is a container, and only VMs can be nodes"
_SEGMENTS = ("bridge", "ovs-bridge")
_REFUSED = {"host": "it is the host itself"}
_CONTAINERS = re.compile(
    r"linux|(nokia_)?srlinux|srl|nokia_srsim|(arista_)?ceos|(juniper_)?(crpd|cjunosevolved)"
    r"|(cisco_)?(xrd|iol|c8000|sdwan)|sonic-vs|(cumulus_)?cvx|k8s-kind|ext-container|border0|rare"
    r"|keysight_ixia-c-one|ostinato|fdio_vpp|vyosnetworks_vyos|6wind_vsr|rbridge|openbng"
)


# Ports of systems that are no VMs: (kind, name, ports of a card, number of the first port).
_PORTS = (
    (r"(nokia_)?srlinux|srl", r"(?:e|ethernet-)1[-/](?P<port>\d+)", 0, 0),
    (r"nokia_srsim", r"1/1/c?(?P<port>\d+)(?:/1)?|e1-1-c?(?P<other>\d+)(?:-1)?", 0, 0),
    (r"(arista_)?ceos", r"(?:et|[Ee]thernet)(?P<port>\d+)(?:[_/]1)?", 0, 0),
    (r"(cisco_)?xrd", r"Gi(?:gabitEthernet)?0[-/]0[-/]0[-/](?P<port>\d+)", 0, 1),
    (r"(cisco_)?iol", r"[Ee](?:t|thernet)?(?P<card>\d+)/(?P<port>\d+)", 4, 0),
    (r"(cumulus_)?cvx", r"swp(?P<port>\d+)", 0, 0),
)


def container_port(kind: str, name: str) -> str:
    """Return the port of a system that is no VM as ethN; other names are returned unchanged."""
    for kinds_pattern, pattern, card_size, first in _PORTS:
        match = re.fullmatch(pattern, name) if re.fullmatch(kinds_pattern, kind) else None
        if match:
            found = {key: int(number[:4]) for key, number in match.groupdict().items() if number}
            port = found.get("port", found.get("other", 0))
            return "eth%d" % (found.get("card", 0) * card_size + port + first)
    return name


def decision(kind: str) -> tuple[str, str]:
    """Return what nodes of a kind become, and why nothing if it is empty."""
    if kind in _SEGMENTS:
        return SEGMENT, ""
    name = kinds.canonical(kind, {})
    if name in kinds.shipped() and name != "linux":
        return name, ""
    if _CONTAINERS.fullmatch(name):
        return "", _CONTAINER
    return "", _REFUSED.get(kind.removeprefix("vr-"), "there is no kind for it")


def is_container(kind: str) -> bool:
    """Return whether nodes of a kind are containers themselves, and not VMs in containers."""
    return _CONTAINERS.fullmatch(kinds.canonical(kind, {})) is not None
