# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""The templates of EVE-NG and PNETLab, and what their nodes become."""

from __future__ import annotations

import re

# A node that gets a kind of the lab, because the collection has none for its template.
MACHINE = "machine"
_KINDS = {
    "a10": MACHINE,
    "arubacx": "aruba_aoscx",
    "asav": "cisco_asav",
    "bigip": "f5_bigip_ve",
    "c8000v": "cisco_c8000v",
    "c9800cl": "cisco_cat9800",
    "cat9kv": "cisco_cat9kv",
    "csr1000v": "cisco_csr1000v",
    "csr1000vng": "cisco_csr1000v",
    "cumulus": "nvidia_cumulusvx",
    "dellos10": "dell_ftosv",
    "extremexos": "extreme_exos",
    "firepower": "cisco_ftdv",
    "firepower6": "cisco_ftdv",
    "fortinet": "fortinet_fortigate",
    "linux": "cloud",
    "mikrotik": "mikrotik_ros",
    "nxosv9k": "cisco_n9kv",
    "ocnos": "ipinfusion_ocnos",
    "openwrt": "openwrt",
    "opnsense": "opnsense",
    "paloalto": "paloalto_panos",
    "sonicsw": "sonic",
    "timos": "nokia_sros",
    "titanium": "cisco_nxos",
    "veos": "arista_veos",
    "vios": "cisco_vios",
    "viosl2": "cisco_viosl2",
    "vjunosevolved": "juniper_vjunosevolved",
    "vjunosrouter": "juniper_vjunosrouter",
    "vjunosswitch": "juniper_vjunosswitch",
    "vsrx": "juniper_vsrx",
    "vsrxng": "juniper_vsrx",
    "vyos": "vyos",
    "xrv": "cisco_xrv",
    "xrv9k": "cisco_xrv9k",
}
_TYPES = {
    "iol": "it is a program for Linux (IOL), not a VM; vios or viosl2 are near to it",
    "dynamips": "it is an emulated router of Dynamips, not a VM",
    "docker": "it is a container, and only VMs can be nodes",
    "vpcs": "it is a program of the server, not a VM",
}
_DISKS = {
    "ide": "hda.qcow2",
    "virtio": "virtioa.qcow2",
    "sata": "sataa.qcow2",
    "scsi": "scsia.qcow2",
}


def decision(kind: str, template: str) -> tuple[str, str]:
    """Return what nodes of a type and a template become, and why nothing if it is empty."""
    if kind != "qemu":
        return "", _TYPES.get(kind, "it is not a QEMU node")
    return _KINDS.get(template, MACHINE), ""


def port_name(text: str) -> str:
    """Return the name of a port; of two, as in "em2 / ge-0/0/0", the last with a number."""
    names = text.split(" / ")
    numbered = [name for name in names if re.search(r"\d", name)]
    return (numbered or names)[-1]


def position(kind: str, number: int, numbers: set[int]) -> int:
    """Return the position of an interface among those of its node.

    number: its ID. IOL has cards of four ports, and counts 16 for each port; Dynamips has cards of
    different sizes, and counts 16 for each card. numbers: the IDs of all interfaces of the node.
    """
    if kind == "iol":
        return number % 16 * 4 + number // 16
    if kind == "dynamips":
        return sum(other < number for other in numbers)
    return number


def disk_file(bus: str) -> str:
    """Return the name of the first disk in the folder of an image."""
    return _DISKS.get(bus, "virtioa.qcow2")
