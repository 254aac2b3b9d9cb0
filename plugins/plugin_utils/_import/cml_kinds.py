# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""The node definitions of CML, and what their nodes become."""

from __future__ import annotations

import re

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import SEGMENT, USER
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import kinds

_IOL = "it is a program for Linux (IOL), not a VM; iosv or iosvl2 are near to it"
_NAMES = (
    (r"iosv|iosv-\d+", "cisco_vios"),
    (r"iosvl2|iosvl2-\d+", "cisco_viosl2"),
    (r"csr1000v.*", "cisco_csr1000v"),
    (r"cat8000v.*", "cisco_c8000v"),
    (r"cat9000v.*|cat9kv.*", "cisco_cat9kv"),
    (r"cat9800.*", "cisco_cat9800"),
    (r"nxosv9.*", "cisco_n9kv"),
    (r"nxosv", "cisco_nxos"),
    (r"iosxrv", "cisco_xrv"),
    (r"cat-sdwan-manager.*", "cisco_sdwan_manager"),
    (r"cat-sdwan-controller.*", "cisco_sdwan_controller"),
    (r"cat-sdwan-validator.*", "cisco_sdwan_validator"),
    (r"cat-sdwan-edge.*", "cisco_sdwan_edge"),
    (r"vwlc", "cisco_vwlc"),
    (r"fmcv.*", "cisco_fmcv"),
    (r"gaia.*", "checkpoint_gaia"),
    (r"fireboxv", "watchguard_fireboxv"),
    (r"a10vthunder", "a10_vthunder"),
    (r"voss", "extreme_voss"),
    (r"asav.*", "cisco_asav"),
    (r"ftdv.*", "cisco_ftdv"),
    (r"iosxrv9000.*", "cisco_xrv9k"),
    (r"veos.*", "arista_veos"),
    (r"jnpr-vsrx.*|vsrx.*", "juniper_vsrx"),
    (r"jnpr-vmx-vcp", "juniper_vmx_vcp"),
    (r"jnpr-vmx-vfp", "juniper_vmx_vfp"),
    (r"jnpr-vqfx-re", "juniper_vqfx_re"),
    (r"jnpr-vqfx-pfe", "juniper_vqfx_pfe"),
    (r"vjunos-?switch.*", "juniper_vjunosswitch"),
    (r"vjunos-?router.*", "juniper_vjunosrouter"),
    (r"vjunos-?evolved.*", "juniper_vjunosevolved"),
    (r"fortigate.*", "fortinet_fortigate"),
    (r"exos.*", "extreme_exos"),
    (r"cumulusvx.*", "nvidia_cumulusvx"),
    (r"chr|mikrotik.*", "mikrotik_ros"),
    (r"opnsense.*", "opnsense"),
    (r"vyos.*", "vyos"),
    (r"sonic.*", "sonic"),
    (r"freebsd.*", "freebsd"),
    (r"alpine.*|desktop|server|alpine-.*", "tiny"),
    (r"ubuntu.*|debian.*|centos.*|coreos", "cloud"),
    (r"unmanaged_switch", SEGMENT),
    (r"external_connector", USER),
)
_REFUSED = (
    (r"iol.*", _IOL),
    (r"wan_?em.*", "it changes the frames of links; set that on the links"),
    (
        r"trex|thousandeyes.*|frr|nginx|dnsmasq|radius.*|syslog|tacplus.*|net-tools|chrome|firefox",
        "it is a container or a tool of CML",
    ),
)


def decision(definition: str) -> tuple[str, str]:
    """Return what nodes of a definition become, and why nothing if it is empty."""
    name = definition.lower()
    for pattern, kind in _NAMES:
        if re.fullmatch(pattern, name):
            return kind, ""
    if name in kinds.shipped() and name not in ("frr",):
        return name, ""
    for pattern, reason in _REFUSED:
        if re.fullmatch(pattern, name):
            return "", reason
    return "", "there is no kind for it"
