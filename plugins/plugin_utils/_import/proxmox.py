# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Import VMs of Proxmox VE: the output of qm config, or files of /etc/pve/qemu-server."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import proxmox_devices
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.file_text import FileText
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Hub, Lab, Options, Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import file_name
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import PlainData
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.qemu_arguments import (
    apply_text,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report

_LINE = re.compile(r"([a-z][a-z0-9_.-]*):\s?(.*)")
_TYPICAL = re.compile(r"^(ostype|scsihw|net0|bootdisk|sockets|cores|vmgenid|smbios1): ", re.M)
# Not the models that only Proxmox defines.
_CPU = re.compile(r"(?!x86-64-|custom-)[A-Za-z][\w.-]{0,60}")
_FLAG = re.compile(r"[+-][A-Za-z0-9_.-]{1,40}|kvm=off")
_PROXMOX = "it concerns Proxmox itself"
_DROPPED = {
    **{key: _PROXMOX for key in "digest lock meta parent snaptime running-nets".split()},
    "cipassword": "it is a secret",
    "spice_enhancements": "there is no such option",
}


def is_proxmox(text: str) -> bool:
    """Return whether a text is the configuration of a VM of Proxmox."""
    lines = [line for line in text.splitlines() if line.strip() and line[0] not in "#["]
    return bool(
        lines and all(map(_LINE.fullmatch, lines[:200])) and _TYPICAL.search(text) is not None
    )


def import_proxmox(texts: list[FileText], report: Report, options: Options) -> Lab:
    """Return the lab of the VMs in texts. Raise LabFileError."""
    lab = Lab(report, options)
    hubs: dict[str, Hub] = {}
    parsed = [_parsed(given.file, given.text) for given in texts]
    for given, data in zip(texts, parsed):
        if "rootfs" in data:
            reason = "it is a container, and only VMs can be nodes"
            raise LabFileError(given.file, [("rootfs", reason)])
    lab.set_name(str(parsed[0].get("name", "")) if len(texts) == 1 else "machines")
    for number, data in enumerate(parsed):
        path = "file[%d]" % number if len(texts) > 1 else ""
        _Machine(lab, Fields(report, path, data), hubs).add(texts[number].file)
    return lab


def _parsed(file: str, text: str) -> dict[str, Any]:
    """Return the lines of the current configuration; sections of snapshots are one value each."""
    data: dict[str, Any] = {}
    section = data
    comments: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            comments.append(line[1:])
            continue
        if not line.strip():
            continue
        match = re.fullmatch(r"\[([^\]]{1,100})\]\s*", line)
        if match:
            section = data.setdefault("[%s]" % match.group(1), {})
            continue
        match = _LINE.fullmatch(line.rstrip())
        if not match:
            reason = "%s is no line with a key and a value" % excerpt(line)
            raise LabFileError(file, [("line %d" % number, reason)])
        key, value = match.groups()
        if key in section:
            raise LabFileError(file, [("line %d" % number, "found duplicate key %s" % key)])
        section[key] = value
    if comments:
        data["#"] = "\n".join(comments)
    plain: dict[str, Any] = PlainData(file).copy(data)
    return plain


class _Machine:
    """The import of one VM."""

    def __init__(self, lab: Lab, fields: Fields, hubs: dict[str, Hub]) -> None:
        self.lab, self.fields, self.hubs, self.report = lab, fields, hubs, lab.report

    def add(self, file: str) -> None:
        """Add the VM as a node."""
        fields = self.fields
        default = re.sub(r"\.conf$", "", file_name(file, "vm"))
        if default.isdigit():
            default = "vm-" + default
        name = fields.text("name", "the name of the node") or default
        vm = self.lab.add_vm(name, fields.path or "name", proxmox_devices.kind(self.lab))
        vm.settings["disks"] = []
        self._machine(vm)
        self._identity(vm)
        proxmox_devices.Devices(self.lab, vm, fields, self.hubs).add()
        self._arguments(vm)
        for key in list(fields.data):
            if key.startswith("["):
                fields.dropped(key, "a snapshot, or a change that waits for a restart")
            elif re.fullmatch(r"unused\d+", key):
                fields.dropped(key, "the VM does not use the disk")
        vm.imported.update(fields.close(_DROPPED))

    def _machine(self, vm: Vm) -> None:
        fields, settings = self.fields, vm.settings
        memory = re.sub("^current=", "", fields.text("memory", "memory"))
        settings["memory"] = fields.number("memory", memory, 16, 1 << 24) if memory else 512
        cores = fields.integer("cores", "vcpus", 1, 512) or 1
        sockets = fields.integer("sockets", "vcpus", 1, 64) or 1
        settings["vcpus"] = cores * sockets
        if sockets > 1:
            settings["smp"] = {"sockets": sockets, "cores": cores}
        self._cpu(vm)
        machine = fields.text("machine", "machine, without its version").partition(",")[0]
        if machine:
            settings["machine"] = "q35" if "q35" in machine else "pc"
        if fields.text("bios", "firmware") == "ovmf":
            settings["firmware"] = "uefi"
        if fields.text("kvm", "accel") == "0":
            settings["accel"] = "tcg"
        limit = fields.text("cpulimit", "cpu_limit")
        if re.fullmatch(r"\d{1,3}(\.\d{1,3})?", limit) and float(limit) > 0:
            settings["cpu_limit"] = max(1, int(float(limit) * 100))
        if fields.text("balloon", "balloon") == "0":
            settings["balloon"] = False
        if fields.text("tablet", "usb_tablet") == "1":
            settings["usb_tablet"] = True

    def _cpu(self, vm: Vm) -> None:
        given = proxmox_devices.properties(self.fields.text("cpu", "cpu"))
        model = given.pop("cputype", "") or given.pop("", "")
        flags = [flag for flag in given.pop("flags", "").split(";") if flag]
        if given.pop("hidden", "0") == "1":
            flags.append("kvm=off")
        is_usable = bool(_CPU.fullmatch(model)) and all(map(_FLAG.fullmatch, flags))
        if is_usable:
            vm.settings["cpu"] = ",".join([model, *flags])
        if given or (model and not is_usable):
            vm.imported["cpu"] = self.fields.data["cpu"]

    def _identity(self, vm: Vm) -> None:
        text = " ".join(self.fields.text("description", "description").split())
        comments = " ".join(self.fields.text("#", "description").split())
        if text or comments:
            vm.settings["description"] = (text or comments)[:1000]
        if "smbios1" not in self.fields:
            return
        given = proxmox_devices.properties(self.fields.text("smbios1", "smbios and uuid"))
        vm.imported["smbios1"] = self.fields.data["smbios1"]
        self.lab.set_uuid(vm, given.get("uuid", ""))
        entry = {
            key: given[key]
            for key in ("manufacturer", "product", "version", "serial", "sku", "family")
            if given.get(key)
        }
        if entry and given.get("base64") != "1":
            vm.settings["smbios"] = [dict(entry, type=1)]

    def _arguments(self, vm: Vm) -> None:
        text = self.fields.text("args", "options of qemu_vm")
        if not text.strip():
            return
        left = apply_text(self.lab, vm, text, self.fields.place("args"))
        if left:
            vm.imported["args"] = left
