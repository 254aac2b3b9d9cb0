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
_SEVERAL = "it is a system of several VMs"
_SEGMENTS = ("bridge", "ovs-bridge")
_REFUSED = {
    "juniper_vmx": _SEVERAL,
    "vmx": _SEVERAL,
    "juniper_vqfx": _SEVERAL,
    "vqfx": _SEVERAL,
    "host": "it is the host itself",
}
_CONTAINERS = re.compile(
    r"linux|(nokia_)?srlinux|srl|nokia_srsim|(arista_)?ceos|(juniper_)?(crpd|cjunosevolved)"
    r"|(cisco_)?(xrd|iol|c8000|sdwan)|sonic-vs|(cumulus_)?cvx|k8s-kind|ext-container|border0|rare"
    r"|keysight_ixia-c-one|ostinato|fdio_vpp|vyosnetworks_vyos|6wind_vsr|rbridge|openbng"
)


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
