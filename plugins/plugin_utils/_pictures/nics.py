# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The NICs of a node in a picture: addresses, links to the outside, captures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import outside
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import model

# A VM as qemu_vm_info returns it; it may also have a hypervisor.
Vm = Mapping[str, Any]


@dataclasses.dataclass
class Nic:
    """A NIC that is connected or has an address.

    reachable_at: where, according to the hypervisor, the guest can be reached through it.
    outside: what it is connected to outside the lab, empty if it is not. is_shared: other NICs can
    be connected to that as well. forwards: ports of the host. capture: the file of its capture, or
    yes if the file is unknown; empty without one.
    """

    name: str
    mac: str
    addresses: list[str]
    reachable_at: list[str]
    outside: str = ""
    is_shared: bool = False
    forwards: list[str] = dataclasses.field(default_factory=list)
    capture: str = ""


def nics_of(node: model.Node, vm: Vm) -> list[Nic]:
    """Return the NICs of a node that are worth showing."""
    vm_nics = {nic.get("name"): nic for nic in vm.get("nics") or ()}
    nics = []
    for nic in node.nics.values():
        if nic.network is not None and nic.network.internal:
            continue
        vm_nic = vm_nics.get(nic.vm_name, {})
        found = vm_nic.get("addresses") or ()
        reachable_at = [_reachable_at(entry) for entry in found]
        if nic.network is not None or nic.addresses or nic.settings.get("link") or reachable_at:
            link = nic.settings.get("link") if nic.network is None else None
            ports = [entry for entry in vm.get("forwards") or () if entry.get("nic") == nic.vm_name]
            nics.append(
                Nic(
                    nic.name,
                    nic.mac,
                    list(nic.addresses),
                    reachable_at,
                    outside.destination(link),
                    outside.is_shared(link),
                    outside.forwards(ports or (link or {}).get("forwards") or ()),
                    _capture(node, nic, vm_nic),
                )
            )
    return nics


def _capture(node: model.Node, nic: model.Nic, vm_nic: Mapping[str, Any]) -> str:
    """Return the file of a NIC's capture, yes if it is not known, empty without one."""
    capture = nic.settings.get("capture")
    network = nic.network
    # A link is captured at its first end.
    if network is not None and network.ends[0] == (node.name, nic.name):
        capture = network.settings.get("capture", capture)
    if "capture" in vm_nic:
        capture = vm_nic["capture"]
    if isinstance(capture, Mapping):
        enabled = capture.get("enabled", True)
        return str(capture.get("path") or "yes") if enabled else ""
    return "yes" if capture else ""


def _reachable_at(entry: Mapping[str, Any]) -> str:
    text = str(entry.get("address"))
    if entry.get("port"):
        text += " port %s" % entry["port"]
    if entry.get("guest_port"):
        text += " for port %s" % entry["guest_port"]
    return text
