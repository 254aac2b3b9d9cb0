# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""The devices of VMs of Proxmox VE."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import (
    CACHE_MODES,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import libvirt_nics, machines
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Hub, Lab, Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import excerpt
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import file_name
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import vm_options

# Values of scsihw, as scsi_controller calls them; lsi is the default.
_SCSI = {
    "lsi": "lsilogic",
    "lsi53c810": "lsi53c810",
    "megasas": "megasas",
    "pvscsi": "pvscsi",
    "virtio-scsi-pci": "virtio",
    "virtio-scsi-single": "virtio",
}
_DISK = re.compile(r"(ide|sata|scsi|virtio)(\d{1,2})")
_NIC = re.compile(r"net(\d{1,2})")
_VGA = {"std": "std", "cirrus": "cirrus", "vmware": "vmware", "qxl": "qxl", "virtio": "virtio"}
_MODELS = ("virtio", "e1000", "e1000e", "rtl8139", "vmxnet3", "ne2k_pci", "pcnet", "i82559er")
# Settings of disks, and what their values become.
_DISK_SETTINGS: dict[str, dict[str, Any]] = {
    "cache": {mode: mode for mode in CACHE_MODES},
    "discard": {"on": True, "ignore": False},
    "aio": {mode: mode for mode in ("threads", "native", "io_uring")},
}
_FORMATS = {".qcow2": "qcow2", ".raw": "raw", ".vmdk": "vmdk"}


def kind(lab: Lab) -> str:
    """Return the kind of the nodes, which have all settings of their own."""
    nic = {"name": "net{n}", "first": 0, "fill_slots": True}
    return lab.add_kind("machine", {"description": "A VM as its node describes it.", "nic": nic})


def properties(text: str) -> dict[str, str]:
    """Return the properties of a value; the first can have no name: then its name is empty."""
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals:
            found.setdefault(key.strip(), value.strip())
        else:
            found.setdefault("", part.strip())
    return found


class Devices:
    """Adds the devices of one VM to its node."""

    def __init__(self, lab: Lab, vm: Vm, fields: Fields, hubs: dict[str, Hub]) -> None:
        self.lab, self.vm, self.fields, self.hubs = lab, vm, fields, hubs

    def add(self) -> None:
        """Add all devices."""
        order = properties(self.fields.text("boot", "boot_order, or the positions of devices"))
        first = order.get("order", "").split(";")
        self.boot = {name: number for number, name in enumerate(filter(None, first), 1)}
        disk = self.fields.text("bootdisk", "the position of the disk")
        if disk and not self.boot:
            self.boot = {disk: 1}
        letters = order.get("") or order.get("legacy") or ""
        if letters and not set(letters) - set("acdn"):
            self.vm.settings["boot_order"] = "".join(dict.fromkeys(letters))
        for key in list(self.fields.data):
            if _DISK.fullmatch(key):
                self._disk(key)
            elif _NIC.fullmatch(key):
                self._nic(key)
            elif re.fullmatch(r"serial\d", key):
                self.fields.mapped(key, "the console, a socket")
        self._others()

    def _disk(self, key: str) -> None:
        given = properties(self.fields.text(key, "disks or cdroms"))
        volume = given.get("file") or given.get("", "")
        match = _DISK.fullmatch(key)
        bus = match.group(1) if match else "ide"
        settings: dict[str, Any] = {"name": key, "bus": bus}
        if key in self.boot:
            settings["boot_index"] = self.boot[key]
        if given.get("media") == "cdrom":
            if "cloudinit" in volume:
                self.vm.imported[key] = self.fields.data[key]
                self.lab.report.warn(
                    "%s: the cloud-init drive is not copied: use the option cloud_init"
                    % self.fields.place(key)
                )
                return
            if volume not in ("none", "cdrom", ""):
                settings["path"] = self._path(volume)
            if bus == "virtio":
                settings["bus"] = "scsi"
            self.vm.settings.setdefault("cdroms", []).append(settings)
            return
        path = self._path(volume)
        settings["backing_file"] = path
        ending = path[path.rfind(".") :]
        formats = {name: name for name in _FORMATS.values()}
        found = formats.get(given.pop("format", "")) or _FORMATS.get(ending)
        settings["backing_format"] = found or "raw"
        for name, values in _DISK_SETTINGS.items():
            if given.get(name) in values:
                settings[name] = values[given[name]]
        if given.get("serial"):
            settings["serial"] = given["serial"]
        self.vm.settings["disks"].append(settings)
        read = ("", "file", "media", *settings)
        rest = {k: v for k, v in given.items() if k not in read}
        if rest:
            self.vm.imported.setdefault("disks", {})[key] = rest
        self.lab.use_disk(self.vm, key, path)

    def _path(self, volume: str) -> str:
        """Return the path of a volume STORAGE:NAME."""
        if volume.startswith("/"):
            return volume
        storage, _colon, name = volume.partition(":")
        parts = [file_name(part, "x") for part in name.split("/")]
        if storage == "local" and parts[0] == "iso":
            return "/var/lib/vz/template/iso/" + parts[-1]
        if storage == "local" and len(parts) == 2:
            return "/var/lib/vz/images/" + "/".join(parts)
        if storage == "local-zfs":
            return "/dev/zvol/rpool/data/" + parts[-1]
        if storage == "local-lvm":
            return "/dev/pve/" + parts[-1]
        path = self.lab.image_path(parts[-1])
        self.lab.report.warn(
            "the storage %s is unknown: copy %s to %s" % (excerpt(storage), excerpt(volume), path)
        )
        return path

    def _nic(self, key: str) -> None:
        text = self.fields.text(key, "a NIC")
        given = properties(text)
        match = _NIC.fullmatch(key)
        name = self.vm.naming.name(int(match.group(1)) if match else 0)
        nic = self.vm.nic(name)
        model = next((each for each in _MODELS if each in given), "") or given.get("model", "")
        nic["model"] = machines.nic_model(model or given.get("", "virtio")) or "virtio-net-pci"
        mac = given.get("macaddr") or given.get(model, "")
        if mac:
            nic["mac"] = mac
        if given.get("link_down") == "1":
            nic["link_down"] = True
        mtu = given.get("mtu", "")
        if re.fullmatch(r"[1-9]\d{2,4}", mtu) and nic["model"].startswith("virtio"):
            nic["mtu"] = int(mtu)
        if key in self.boot:
            nic["boot_index"] = self.boot[key]
        read = ["", "model", "macaddr", model, "link_down", "bridge"]
        read += ["mtu"] if "mtu" in nic else []
        rest = {k: v for k, v in given.items() if k not in read}
        if rest:
            self.vm.imported.setdefault("nics", {})[name] = rest
            self.lab.report.warn(
                "%s: %s are kept in vars.imported, without an effect"
                % (self.fields.place(key), ", ".join(sorted(rest)))
            )
        bridge = given.get("bridge")
        if bridge:
            libvirt_nics.connect_network(
                self.lab,
                self.vm,
                name,
                bridge,
                libvirt_nics.BRIDGE,
                self.fields.place(key),
                self.hubs,
            )
        else:
            nic["link"] = {"type": "user"}

    def _others(self) -> None:
        settings, fields = self.vm.settings, self.fields
        controller = _SCSI.get(fields.text("scsihw", "scsi_controller") or "lsi")
        drives = settings["disks"] + settings.get("cdroms", [])
        if controller and controller != "virtio" and any(d["bus"] == "scsi" for d in drives):
            settings["scsi_controller"] = controller
        agent = properties(fields.text("agent", "guest_agent"))
        if "1" in (agent.get(""), agent.get("enabled")):
            settings["guest_agent"] = True
        if "tpmstate0" in fields:
            fields.mapped("tpmstate0", "tpm, with a new state")
            settings["tpm"] = True
        fields.dropped("efidisk0", "the firmware variables are new")
        if "rng0" in fields:
            fields.mapped("rng0", "rng")
            settings["rng"] = True
        watchdog = properties(fields.text("watchdog", "watchdog"))
        model = watchdog.get("model") or watchdog.get("", "")
        if model in vm_options()["watchdog"]["enum"]:
            settings["watchdog"] = model
            if watchdog.get("action") in vm_options()["watchdog_action"]["enum"]:
                settings["watchdog_action"] = watchdog["action"]
        vga = properties(fields.text("vga", "vga"))
        name = vga.get("type") or vga.get("", "")
        if name in _VGA:
            settings["vga"] = _VGA[name]
            settings["display"] = {"type": "spice" if name == "qxl" else "vnc"}
