# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""The devices of domains of libvirt."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import libvirt_nics, machines
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Hub, Lab, Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import unique_name
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import (
    DROPPED,
    KEPT,
    MAPPED,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.xml_tree import Element
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import (
    CACHE_MODES,
    FORMATS,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import vm_options

_PLACES = "the hypervisor gives the devices their places, which the guest sees"
_DROPPED = {
    "emulator": "the hypervisor chooses its program; set qemu_binary for another one",
}
# Models of SCSI controllers, as scsi_controller calls them.
_SCSI = {
    "virtio-scsi": "virtio",
    "virtio-transitional": "virtio",
    "virtio-non-transitional": "virtio",
    "vmpvscsi": "pvscsi",
    "lsisas1078": "megasas",
    "lsisas1068": "mptsas1068",
    "lsilogic": "lsilogic",
}
_VGA = {"virtio": "virtio", "qxl": "qxl", "vga": "std", "bochs": "std", "cirrus": "cirrus"}
_LIMITS = {
    "total_bytes_sec": "bps_total",
    "read_bytes_sec": "bps_read",
    "write_bytes_sec": "bps_write",
    "total_iops_sec": "iops_total",
    "read_iops_sec": "iops_read",
    "write_iops_sec": "iops_write",
}


def kind(lab: Lab) -> str:
    """Return the kind of the nodes, which have all settings of their own."""
    nic = {"name": "eth{n}", "first": 0, "fill_slots": True}
    return lab.add_kind("machine", {"description": "A VM as its node describes it.", "nic": nic})


class Devices:
    """Adds the devices of one domain to its node."""

    def __init__(self, lab: Lab, vm: Vm, hubs: dict[str, Hub]) -> None:
        self.lab, self.vm, self.hubs, self.report = lab, vm, hubs, lab.report
        self.drives: set[str] = set()
        self.has_scsi = False

    def add(self, devices: Element) -> None:
        """Add all devices."""
        vm = self.vm
        vm.settings["disks"] = []
        vm.imported.update(devices.fields(self.report).close())
        for number, element in enumerate(devices.all("interface")):
            libvirt_nics.add(self.lab, vm, number, element, self.hubs)
        for element in devices.children:
            if element.tag == "interface":
                continue
            if element.tag in _DROPPED:
                self.report.whole(element.place, DROPPED, _DROPPED[element.tag])
                continue
            apply = _DEVICES.get(element.tag)
            note = apply(self, element) if apply else ""
            if note:
                self.report.whole(element.place, MAPPED, note)
            elif element.tag == "controller":
                self.report.whole(element.place, DROPPED, _PLACES)
            else:
                self.report.whole(element.place, KEPT, "vars.imported")
                kept = vm.imported.setdefault("devices", {})
                kept.setdefault(element.tag, []).append(_without_secrets(element.data()))

    def _disk(self, element: Element) -> str:
        source = element.first("source")
        attributes = source.attributes if source else {}
        path = attributes.get("file") or attributes.get("dev") or ""
        target = element.first("target")
        dev = target.attributes.get("dev", "") if target else ""
        bus = target.attributes.get("bus", "") if target else ""
        kind_of = element.attributes.get("device", "disk")
        name = unique_name(dev, "disk%d" % len(self.drives), self.drives)
        self.drives.add(name)
        settings: dict[str, Any] = {"name": name}
        boot = element.first("boot")
        order = boot.attributes.get("order", "") if boot else ""
        if re.fullmatch(r"[1-9]\d{0,4}", order):
            settings["boot_index"] = int(order)
        if kind_of in ("cdrom", "floppy"):
            if path.startswith("/"):
                settings["path"] = path
            if kind_of == "cdrom" and bus in ("ide", "sata", "scsi"):
                settings["bus"] = bus
            option = kind_of + ("s" if kind_of == "cdrom" else "")
            option = {"floppy": "floppies"}.get(option, option)
            if kind_of == "floppy":
                settings.pop("boot_index", None)
            self.vm.settings.setdefault(option, []).append(settings)
            return option
        if not path.startswith("/"):
            self.report.warn(
                "%s: the disk %s is left out: only files and devices have a path"
                % (element.place, name)
            )
            return ""
        settings.update(backing_file=path, bus=machines.disk_bus(bus if bus != "fdc" else "floppy"))
        self._disk_details(element, settings)
        self.vm.settings["disks"].append(settings)
        self.lab.use_disk(self.vm, name, path)
        return "disks, as an overlay"

    def _disk_details(self, element: Element, settings: dict[str, Any]) -> None:
        driver = element.first("driver")
        given = driver.attributes if driver else {}
        if given.get("type") in FORMATS:
            settings["backing_format"] = given["type"]
        if given.get("cache") in CACHE_MODES:
            settings["cache"] = given["cache"]
        if given.get("io") in ("threads", "native", "io_uring"):
            settings["aio"] = given["io"]
        if given.get("discard") in ("unmap", "ignore"):
            settings["discard"] = given["discard"] == "unmap"
        serial = element.first("serial")
        if serial and serial.text.strip():
            settings["serial"] = serial.text.strip()
        if element.first("readonly"):
            settings["read_only"] = True
        tune = element.first("iotune")
        limits = {
            _LIMITS[child.tag]: child.text.strip()
            for child in (tune.children if tune else [])
            if child.tag in _LIMITS and re.fullmatch(r"[1-9]\d{0,14}", child.text.strip())
        }
        if limits:
            settings["limits"] = limits
        if element.first("encryption"):
            reason = "the disk is encrypted: decrypt it first"
            raise LabFileError(self.report.file, [(element.place, reason)])

    def _controller(self, element: Element) -> str:
        """Take over the first SCSI controller: a VM has one."""
        model = element.attributes.get("model", "")
        if element.attributes.get("type") != "scsi" or self.has_scsi:
            return ""
        self.has_scsi = True
        if model in _SCSI:
            if _SCSI[model] != "virtio":
                self.vm.settings["scsi_controller"] = _SCSI[model]
            return "scsi_controller"
        if model not in ("", "auto"):
            self.report.warn(
                "%s: there is no SCSI controller %s here: disks on scsi are on that of virtio, for "
                "which the guest needs a driver" % (element.place, excerpt(model))
            )
        return ""

    def _console(self, element: Element) -> str:
        if element.attributes.get("type", "pty") in ("pty", "unix", "tcp"):
            return "the console, a socket"
        return ""

    def _channel(self, element: Element) -> str:
        target = element.first("target")
        if target and target.attributes.get("name") == "org.qemu.guest_agent.0":
            self.vm.settings["guest_agent"] = True
            return "guest_agent"
        return ""

    def _tpm(self, element: Element) -> str:
        backend = element.first("backend")
        if backend is None or backend.attributes.get("type") != "emulator":
            return ""
        self.vm.settings["tpm"] = True
        return "tpm"

    def _rng(self, _element: Element) -> str:
        self.vm.settings["rng"] = True
        return "rng"

    def _balloon(self, element: Element) -> str:
        self.vm.settings["balloon"] = element.attributes.get("model") != "none"
        return "balloon"

    def _watchdog(self, element: Element) -> str:
        model = element.attributes.get("model", "")
        action = element.attributes.get("action", "reset")
        if model not in vm_options()["watchdog"]["enum"]:
            return ""
        self.vm.settings["watchdog"] = model
        if action in vm_options()["watchdog_action"]["enum"]:
            self.vm.settings["watchdog_action"] = action
        return "watchdog"

    def _video(self, element: Element) -> str:
        model = element.first("model")
        vga = _VGA.get(model.attributes.get("type", "")) if model else None
        if not vga or "vga" in self.vm.settings:
            return ""
        self.vm.settings["vga"] = vga
        return "vga"

    def _graphics(self, element: Element) -> str:
        kind_of = element.attributes.get("type")
        if kind_of not in ("vnc", "spice") or "display" in self.vm.settings:
            return ""
        self.vm.settings["display"] = {"type": kind_of}
        return "display, on the loopback address, without its password"

    def _input(self, element: Element) -> str:
        if element.attributes.get("type") == "tablet":
            self.vm.settings["usb_tablet"] = True
            return "usb_tablet"
        return "part of every machine" if element.attributes.get("bus") == "ps2" else ""


def _without_secrets(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {
        key: "omitted" if key in ("passwd", "secret") else _without_secrets(value)
        for key, value in data.items()
    }


_DEVICES: dict[str, Any] = {
    "disk": Devices._disk,
    "serial": Devices._console,
    "console": Devices._console,
    "controller": Devices._controller,
    "channel": Devices._channel,
    "tpm": Devices._tpm,
    "rng": Devices._rng,
    "memballoon": Devices._balloon,
    "watchdog": Devices._watchdog,
    "video": Devices._video,
    "graphics": Devices._graphics,
    "input": Devices._input,
}
