# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""The devices of netlab, and what their nodes become."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import SEGMENT

_CONTAINER = "it is a container, and only VMs can be nodes"
_KINDS = {
    "arubacx": "aruba_aoscx",
    "asav": "cisco_asav",
    "cat8000v": "cisco_c8000v",
    "csr": "cisco_csr1000v",
    "cumulus": "nvidia_cumulusvx",
    "cumulus_nvue": "nvidia_cumulusvx",
    "dellos10": "dell_ftosv",
    "eos": "arista_veos",
    "fortios": "fortinet_fortigate",
    "frr": "frr",
    "iosv": "cisco_vios",
    "iosvl2": "cisco_viosl2",
    "iosxr": "cisco_xrv9k",
    "linux": "linux",
    "nxos": "cisco_n9kv",
    "openbsd": "openbsd",
    "routeros": "mikrotik_ros",
    "routeros7": "mikrotik_ros",
    "sonic": "sonic",
    "sros": "nokia_sros",
    "vjunos-router": "juniper_vjunosrouter",
    "vjunos-switch": "juniper_vjunosswitch",
    "vmx": "juniper_vmx",
    "vptx": "juniper_vjunosevolved",
    "vsrx": "juniper_vsrx",
    "vyos": "vyos",
}
_REFUSED = {
    "bird": _CONTAINER,
    "dnsmasq": _CONTAINER,
    "srlinux": _CONTAINER,
    "ioll2": "it is a program for Linux (IOL), not a VM",
    "iol": "it is a program for Linux (IOL), not a VM",
    "none": "it is an unknown device",
    "unknown": "it is an unknown device",
}


def decision(device: str, role: str) -> tuple[str, str]:
    """Return what nodes of a device become, and why nothing if it is empty."""
    if device == "linux" and role == "bridge":
        return SEGMENT, ""
    return _KINDS.get(device, ""), _REFUSED.get(device, "there is no kind for it")
