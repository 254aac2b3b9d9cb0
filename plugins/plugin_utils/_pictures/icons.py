# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The icon of a node: router, switch, firewall or host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import model

# The beginnings of names of groups; the first match decides.
_GROUPS = (
    ("firewall", ("firewall",)),
    ("host", ("host", "server", "client", "workstation")),
    ("switch", ("switch", "access", "tor", "leaf", "leaves", "spine")),
)
_KINDS = {
    "firewall": (
        "checkpoint_gaia",
        "cisco_asav",
        "cisco_ftdv",
        "fortinet_fortigate",
        "genua_genuscreen",
        "juniper_vsrx",
        "opnsense",
        "paloalto_panos",
        "watchguard_fireboxv",
    ),
    "switch": (
        "arista_veos",
        "aruba_aoscx",
        "cisco_cat9kv",
        "cisco_n9kv",
        "cisco_nxos",
        "cisco_viosl2",
        "dell_ftosv",
        "extreme_exos",
        "extreme_voss",
        "ipinfusion_ocnos",
        "juniper_vjunosswitch",
        "juniper_vqfx",
        "juniper_vqfx_re",
        "nvidia_cumulusvx",
        "sonic",
    ),
    "host": (
        "tiny",
        "cloud",
        "freebsd",
        "openbsd",
        "a10_vthunder",
        "cisco_cat9800",
        "cisco_fmcv",
        "cisco_ise",
        "cisco_vwlc",
        "f5_bigip_ve",
        "juniper_apstra",
        "netapp_ontap",
        "nokia_cmglinux",
        "spirent_stc",
        "talos",
        "truenas",
    ),
}

# SVG paths in a square of 24.
SHAPES = {
    "router": "M3 8h9M9 5l3 3-3 3M21 16h-9M15 13l-3 3 3 3M12 3v0M12 21v0",
    "switch": "M3 8h16M16 5l3 3-3 3M21 16H5M8 13l-3 3 3 3",
    "firewall": (
        "M3 5h18v14H3zM3 9.7h18M3 14.3h18M9 5v4.7M15 5v4.7M12 9.7v4.6M6 9.7v4.6M18 9.7v4.6"
        "M9 14.3V19M15 14.3V19"
    ),
    "host": "M3 5h18v11H3zM9 20h6M12 16v4",
}


def icon_of(node: model.Node, own_kinds: Mapping[str, Any]) -> str:
    """Return the icon of a node: by its groups, else by its kind or the kinds that extends.

    own_kinds: the kinds of the topology.
    """
    for icon, prefixes in _GROUPS:
        if any(group.lower().startswith(prefixes) for group in node.groups):
            return icon
    kind = node.kind
    for _step in range(len(own_kinds) + 1):
        for icon, names in _KINDS.items():
            if kind in names:
                return icon
        kind = (own_kinds.get(kind) or {}).get("extends", kind)
    return "router"
