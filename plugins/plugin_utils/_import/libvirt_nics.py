# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""The NICs of domains of libvirt, and its networks."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import machines
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    DROP,
    SEGMENT,
    USER,
    End,
    Hub,
    Lab,
    Vm,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import excerpt
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import MAPPED
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.xml_tree import Element

BRIDGE = "bridge"
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_READ = ("mac", "source", "model", "link", "boot", "mtu", "target", "alias", "address")


def add(lab: Lab, vm: Vm, number: int, element: Element, hubs: dict[str, Hub]) -> None:
    """Add an interface as a NIC. hubs: the segments of the networks so far."""
    name = vm.naming.name(number)
    nic = vm.nic(name)
    mac = element.first("mac")
    if mac:
        nic["mac"] = mac.attributes.get("address", "")
    model = element.first("model")
    text = model.attributes.get("type", "") if model else "rtl8139"
    model_name = machines.nic_model(text)
    nic["model"] = model_name or "virtio-net-pci"
    _details(element, nic)
    lab.report.whole(
        element.place, MAPPED, "the NIC %s, %s" % (name, _connect(lab, vm, name, element, hubs))
    )
    rest = [child for child in element.children if child.tag not in _READ]
    for child in rest:
        kept = vm.imported.setdefault("nics", {}).setdefault(name, {})
        kept.setdefault(child.tag, child.data())
        lab.report.warn("%s: kept in vars.imported, without an effect" % child.place)
    if element.attributes.get("trustGuestRxFilters"):
        vm.imported.setdefault("nics", {}).setdefault(name, {})["attributes"] = element.attributes


def _details(element: Element, nic: dict[str, Any]) -> None:
    link, mtu, boot = element.first("link"), element.first("mtu"), element.first("boot")
    if link and link.attributes.get("state") == "down":
        nic["link_down"] = True
    size = mtu.attributes.get("size", "") if mtu else ""
    if re.fullmatch(r"[1-9]\d{2,4}", size) and nic["model"].startswith("virtio"):
        nic["mtu"] = int(size)
    order = boot.attributes.get("order", "") if boot else ""
    if re.fullmatch(r"[1-9]\d{0,4}", order):
        nic["boot_index"] = int(order)


def _connect(lab: Lab, vm: Vm, name: str, element: Element, hubs: dict[str, Hub]) -> str:
    """Connect a NIC; return what it is connected to."""
    kind = element.attributes.get("type", "")
    source = element.first("source")
    given = source.attributes if source else {}
    network = given.get("network") or given.get("bridge") or ""
    if kind in ("network", BRIDGE) and network:
        default = USER if network == "default" else SEGMENT
        if kind == BRIDGE:
            default = BRIDGE
        return connect_network(lab, vm, name, network, default, element.place, hubs)
    if kind == "user":
        vm.nic(name)["link"] = {"type": "user"}
        return "a link of type user"
    local = source.first("local") if source else None
    if kind == "udp" and given.get("port") and local and local.attributes.get("port"):
        vm.nic(name)["link"] = {
            "type": "udp",
            "local_address": local.attributes.get("address", "127.0.0.1"),
            "local_port": local.attributes["port"],
            "remote_address": given.get("address", "127.0.0.1"),
            "remote_port": given["port"],
        }
        return "a link of type udp"
    if kind == "mcast" and given.get("address") and given.get("port", "").isdigit():
        port = int(given["port"][:6])
        vm.nic(name)["link"] = {"type": "mcast", "group": given["address"], "port": port}
        return "a link of type mcast"
    lab.report.warn(
        "%s: there is no import of type %s: the NIC has no link" % (element.place, excerpt(kind))
    )
    vm.imported.setdefault("nics", {}).setdefault(name, {})["source"] = dict(given, type=kind)
    return "without a link; its source is in vars.imported"


def connect_network(
    lab: Lab,
    vm: Vm,
    nic: str,
    network: str,
    default: str,
    place: str,
    hubs: dict[str, Hub],
) -> str:
    """Connect a NIC to a network or bridge of the host; return what it is connected to.

    default: what the network becomes, unless kinds_map decides.
    """
    decision = lab.decision(network, default, default)
    if decision == SEGMENT:
        if network not in hubs:
            hubs[network] = lab.add_hub(network, place)
        lab.connect(place, [End(vm, nic), End(hubs[network])], {})
        return "in the segment " + hubs[network].name
    if decision == BRIDGE and _INTERFACE.fullmatch(network):
        vm.nic(nic)["link"] = {"type": "bridge", "bridge": network}
        lab.report.warn(
            "the bridge %s must exist on the hypervisor; kinds_map makes it a segment or user"
            % excerpt(network)
        )
        return "on the bridge " + network
    if decision == DROP:
        return "without a link, as kinds_map says"
    vm.nic(nic)["link"] = {"type": "user"}
    return "a link of type user"
