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
# Names that differ from those of this collection, without the prefix vr-.
_NAMES = {
    "aoscx": "aruba_aoscx",
    "asav": "cisco_asav",
    "c8000v": "cisco_c8000v",
    "cat9kv": "cisco_cat9kv",
    "csr": "cisco_csr1000v",
    "cisco_csr": "cisco_csr1000v",
    "exos": "extreme_exos",
    "f5_bigip-ve": "f5_bigip_ve",
    "fortigate": "fortinet_fortigate",
    "ftdv": "cisco_ftdv",
    "ftosv": "dell_ftosv",
    "generic_vm": "cloud",
    "n9kv": "cisco_n9kv",
    "nxos": "cisco_nxos",
    "ocnos": "ipinfusion_ocnos",
    "openwrt": "openwrt",
    "pan": "paloalto_panos",
    "ros": "mikrotik_ros",
    "sonic": "sonic",
    "sonic-vm": "sonic",
    "sros": "nokia_sros",
    "veos": "arista_veos",
    "vios": "cisco_vios",
    "viosl2": "cisco_viosl2",
    "vjunosevolved": "juniper_vjunosevolved",
    "vjunosrouter": "juniper_vjunosrouter",
    "vjunosswitch": "juniper_vjunosswitch",
    "vsrx": "juniper_vsrx",
    "xrv": "cisco_xrv",
    "xrv9k": "cisco_xrv9k",
    "bridge": SEGMENT,
    "ovs-bridge": SEGMENT,
}
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
    name = kind[3:] if kind.startswith("vr-") else kind
    name = _NAMES.get(name, name)
    if name == SEGMENT or name in kinds.shipped() and name != "linux":
        return name, ""
    if _CONTAINERS.fullmatch(name):
        return "", _CONTAINER
    return "", _REFUSED.get(name, "there is no kind for it")
