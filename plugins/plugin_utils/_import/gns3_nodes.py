# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""The nodes of GNS3: QEMU machines with all their settings, switches, hubs, NAT."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import machines
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields, whole_number
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.gns3_ports import port_names
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    SEGMENT,
    USER,
    Lab,
    Missing,
    Vm,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import excerpt
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.qemu_arguments import (
    apply_text,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import vm_options

NOTHING = Missing("", "it does not exist")
_CANVAS = "it concerns the canvas"
_SERVER = "it concerns the server of GNS3"
_DERIVED = "GNS3 derives it"
NODE_DROPPED = {
    **{
        key: _CANVAS
        for key in "height width label locked symbol z port_segment_size_label style".split()
    },
    **{
        key: _SERVER
        for key in (
            "compute_id console console_auto_start console_resolution aux template_id"
        ).split()
    },
}
PROPERTY_DROPPED = {
    **{
        key: _DERIVED
        for key in (
            "hda_disk_image_md5sum hdb_disk_image_md5sum hdc_disk_image_md5sum "
            "hdd_disk_image_md5sum bios_image_md5sum cdrom_image_md5sum initrd_md5sum "
            "kernel_image_md5sum hda_disk_image_backing_file hdb_disk_image_backing_file "
            "hdc_disk_image_backing_file hdd_disk_image_backing_file command_line status "
            "node_directory"
        ).split()
    },
    "qemu_path": "the hypervisor chooses its program; set qemu_binary for another one",
    "legacy_networking": "it is obsolete",
    "linked_clone": "the root disk is always an overlay",
    "replicate_network_connection_state": "the carrier always follows the link",
    "maxcpus": "set smp.maxcpus",
}
_BOOT = "cdn"
_FILES = (("bios_image", "bios_image"), ("kernel_image", "kernel"), ("initrd", "initrd"))
_SLOTS = ("hda", "hdb", "hdc", "hdd")


def decision(kind: str, properties: Fields) -> tuple[str, str]:
    """Return what a node that is not QEMU becomes, and why nothing if it is empty."""
    if kind == "ethernet_hub":
        return SEGMENT, ""
    if kind == "nat":
        return USER, ""
    if kind == "ethernet_switch":
        for port in _switch_ports(properties).values():
            if vlans_of(port) is None:
                return "", "a port of it has VLANs that a switch does not have: %s" % excerpt(
                    str(port)
                )
        return SEGMENT, ""
    if kind == "cloud":
        return "", "it is a network of the host"
    return "", ""


def _switch_ports(properties: Fields) -> dict[int, dict[str, Any]]:
    """Return the ports of a switch by their numbers."""
    ports = properties.data.get("ports_mapping")
    found = [port for port in ports if isinstance(port, dict)] if isinstance(ports, list) else []
    numbers = [whole_number(port.get("port_number")) for port in found]
    return {
        index if number is None else number: port
        for index, (number, port) in enumerate(zip(numbers, found))
    }


def has_vlans(properties: Fields) -> bool:
    """Return whether the ports of a switch have different VLANs."""
    ports = _switch_ports(properties).values()
    vlans = {json.dumps(vlans_of(port), sort_keys=True) for port in ports}
    return len(vlans) > 1 or any("access" not in (vlans_of(port) or {}) for port in ports)


def port_vlans(properties: Fields) -> dict[int, dict[str, Any]]:
    """Return the VLANs of the ports of a switch by their numbers."""
    return {number: vlans_of(port) or {} for number, port in _switch_ports(properties).items()}


def vlans_of(port: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the VLANs of a port as a member of a segment has them, None for unknown ones."""
    kind, vlan = port.get("type", "access"), port.get("vlan", 1)
    if not isinstance(vlan, int) or not 1 <= vlan <= 4094:
        return None
    if kind == "access":
        return {"access": vlan}
    if kind == "dot1q":
        return {"trunk": "all", "native": vlan}
    # The outer tags of other protocols would be those of other ports.
    is_usual = str(port.get("ethertype") or "0x8100").lower() == "0x8100"
    return {"qinq": vlan} if kind == "qinq" and is_usual else None


def nic_of(vm: Vm, adapter: int, port: int) -> str | None:
    """Return the NIC of an adapter; other kinds of nodes count ports."""
    return vm.naming.at(adapter + port)


def add_machine(lab: Lab, node: Fields, properties: Fields, name: str) -> Vm:
    """Add a QEMU node with its own kind."""
    options = machine_options(node, properties)
    model_text = properties.text("adapter_type", "the model of the NICs")
    model = machines.nic_model(model_text)
    if not model:
        properties.fail("adapter_type", "%s is not a model of a NIC" % excerpt(model_text))
    names, custom = nics(node, properties)
    root = properties.text("hda_disk_image", "the image of the node")
    bus = machines.disk_bus(
        properties.text("hda_disk_interface", "the bus of the root disk") or "ide"
    )
    image = machines.image_name(root) if root else machines.image_name(name)
    kind = machines.machine_kind(lab, image, image, options, names, model, bus)
    vm = lab.add_vm(name, node.path, kind)
    if root:
        lab.want_image(vm, root, root.replace("\\", "/").rpartition("/")[2])
        checksum = properties.data.get("hda_disk_image_md5sum")
        if isinstance(checksum, str) and re.fullmatch("[0-9a-f]{32}", checksum):
            lab.report.images[str(vm.settings.get("image") or image)]["md5"] = checksum
    else:
        vm.settings["disks"] = []
    _other_media(lab, vm, properties)
    for index, settings in custom.items():
        if index < len(names) and settings:
            vm.nic(names[index]).update(settings)
    mac = properties.text("mac_address", "mac_base")
    if mac:
        vm.settings["mac_base"] = mac
    _arguments(lab, vm, properties)
    return vm


def machine_options(node: Fields, properties: Fields) -> dict[str, Any]:
    """Return the options of qemu_vm of a node."""
    options: dict[str, Any] = {
        "memory": properties.integer("ram", "memory", 1, 1 << 24) or 256,
        "vcpus": properties.integer("cpus", "vcpus", 1, 1024) or 1,
    }
    platform = properties.text("platform", "arch")
    if platform and platform != "x86_64":
        options["arch"] = platform
    boot = properties.text("boot_priority", "boot_order")
    if boot:
        if set(boot) - set(_BOOT):
            properties.fail("boot_priority", "%s is not a boot order" % excerpt(boot))
        options["boot_order"] = boot
    if properties.mapped("uefi", "firmware"):
        options["firmware"] = "uefi"
    if properties.mapped("tpm", "tpm"):
        options["tpm"] = True
    priority = properties.text("process_priority", "priority")
    if priority in vm_options()["priority"]["enum"]:
        options["priority"] = priority
    limit = properties.integer("cpu_throttling", "cpu_limit", 0, 100000)
    if limit:
        options["cpu_limit"] = limit
    console = node.text("console_type", "the console or the display")
    if console in ("vnc", "spice", "spice+agent"):
        options["display"] = {"type": "vnc" if console == "vnc" else "spice"}
    return options


def nics(node: Fields, properties: Fields) -> tuple[list[str], dict[int, dict[str, str]]]:
    """Return the names of the NICs, and the settings of single NICs."""
    adapters = properties.integer("adapters", "the NICs", 0, machines.MAX_NICS)
    own_names: dict[int, str] = {}
    settings: dict[int, dict[str, str]] = {}
    holder = node if "custom_adapters" in node else properties
    for adapter in holder.mappings("custom_adapters"):
        number = adapter.integer("adapter_number", "the NIC", 0, machines.MAX_NICS) or 0
        own_names[number] = adapter.text("port_name", "the name of the NIC")
        model = machines.nic_model(adapter.text("adapter_type", "nics[].model") or "virtio")
        given = {"mac": adapter.text("mac_address", "nics[].mac")}
        if "adapter_type" in adapter:
            given["model"] = model
        settings[number] = {key: value for key, value in given.items() if value}
        adapter.close()
    names = port_names(
        1 if adapters is None else adapters,
        node.text("first_port_name", "the names of the NICs"),
        node.text("port_name_format", "the names of the NICs"),
        node.integer("port_segment_size", "the names of the NICs", 0, 1000) or 0,
        own_names,
    )
    if names is None:
        node.fail("port_name_format", "it has unknown fields")
    return machines.unique_nic_names(names or []), settings


def _other_media(lab: Lab, vm: Vm, properties: Fields) -> None:
    """Add the disks besides the first, CD-ROMs and the files of the firmware and the kernel."""
    for slot in _SLOTS[1:]:
        image = properties.text(slot + "_disk_image", "disks")
        bus = properties.text(slot + "_disk_interface", "disks[].bus") or "ide"
        if image and bus == "none":
            lab.report.dropped(properties.place(slot + "_disk_image"), "it has no bus")
        elif image:
            machines.add_disk(lab, vm, slot, image, machines.disk_bus(bus))
    image = properties.text("cdrom_image", "cdroms")
    if image:
        vm.settings["cdroms"] = [{"name": "cdrom", "path": lab.image_path(image)}]
    for key, option in (
        ("bios_image", "bios_image"),
        ("kernel_image", "kernel"),
        ("initrd", "initrd"),
    ):
        image = properties.text(key, option)
        if image:
            vm.settings[option] = lab.image_path(image)
    cmdline = properties.text("kernel_command_line", "cmdline")
    if cmdline and vm.settings.get("kernel"):
        vm.settings["cmdline"] = cmdline


def _arguments(lab: Lab, vm: Vm, properties: Fields) -> None:
    text = properties.text("options", "options of qemu_vm")
    if not text.strip():
        return
    left = apply_text(lab, vm, text, properties.place("options"))
    if left:
        vm.imported["options"] = left
