# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Import domains of libvirt (virsh dumpxml --inactive) as the nodes of a lab."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import libvirt_devices, machines
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.file_text import FileText
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Hub, Lab, Options, Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.qemu_arguments import (
    apply_arguments,
    not_allowed,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import (
    DROPPED,
    KEPT,
    MAPPED,
    Report,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.xml_tree import Element

_UNITS = {
    "b": 1,
    "bytes": 1,
    "kb": 1000,
    "k": 1 << 10,
    "kib": 1 << 10,
    "mb": 1000**2,
    "m": 1 << 20,
    "mib": 1 << 20,
    "gb": 1000**3,
    "g": 1 << 30,
    "gib": 1 << 30,
    "tb": 1000**4,
    "t": 1 << 40,
    "tib": 1 << 40,
}
_BOOT = {"hd": "c", "cdrom": "d", "network": "n", "fd": "a"}
_LIBVIRT = "it concerns libvirt itself"
_DROPPED = {"metadata": _LIBVIRT, "resource": _LIBVIRT, "seclabel": _LIBVIRT}
_MODEL = re.compile(r"[A-Za-z0-9_.-]{1,60}")


def import_libvirt(texts: list[FileText], report: Report, options: Options) -> Lab:
    """Return the lab of the domains in texts. Raise LabFileError."""
    lab = Lab(report, options)
    hubs: dict[str, Hub] = {}
    domains: list[Element] = []
    for number, given in enumerate(texts):
        root = given.xml
        found = [root] if root.tag == "domain" else root.all("domain")
        if not found:
            reason = "the root is %s, not domain" % excerpt(root.tag)
            raise LabFileError(given.file, [(root.place, reason)])
        if len(texts) > 1:
            for domain in found:
                domain.rename("file[%d].%s" % (number, domain.place))
        domains += found
    first = domains[0].first("name")
    lab.set_name(first.text.strip() if first and len(domains) == 1 else "domains")
    for domain in domains:
        _Domain(lab, domain, hubs).add()
    return lab


class _Domain:
    """The import of one domain. hubs: the segments of libvirt's networks, for all domains."""

    def __init__(self, lab: Lab, domain: Element, hubs: dict[str, Hub]) -> None:
        self.lab, self.domain, self.report, self.hubs = lab, domain, lab.report, hubs

    def add(self) -> None:
        """Add the domain as a node."""
        head = self.domain.fields(self.report)
        kind = head.text("type", "accel")
        if kind not in ("kvm", "qemu", "hvf", ""):
            head.fail("type", "%s is no QEMU" % excerpt(kind))
        head.close({"id": _LIBVIRT, "xmlns:qemu": _LIBVIRT})
        name = self.domain.first("name")
        if name is None or not name.text.strip():
            reason = "the domain has no name"
            raise LabFileError(self.report.file, [(self.domain.place, reason)])
        vm = self.lab.add_vm(name.text.strip(), self.domain.place, libvirt_devices.kind(self.lab))
        if kind == "qemu":
            vm.settings["accel"] = "tcg"
        self.report.whole(name.place, MAPPED, "the name of the node")
        vm.imported.update(head.kept_values)
        for element in self.domain.children:
            self._element(vm, element)

    def _element(self, vm: Vm, element: Element) -> None:
        tag = element.tag
        if tag == "name":
            return
        if tag == "devices":
            libvirt_devices.Devices(self.lab, vm, self.hubs).add(element)
            return
        if tag == "os":
            self._os(vm, element)
            return
        if tag in _DROPPED:
            self.report.whole(element.place, DROPPED, _DROPPED[tag])
            return
        if tag == "qemu:commandline":
            self._arguments(vm, element)
            return
        apply = getattr(self, "_" + tag, None) if tag in _TYPED else None
        note = apply(vm, element) if apply else ""
        if note:
            self.report.whole(element.place, MAPPED, note)
        else:
            self.report.whole(element.place, KEPT, "vars.imported")
            vm.imported.setdefault(tag, element.data())

    def _description(self, vm: Vm, element: Element) -> str:
        vm.settings["description"] = " ".join(element.text.split())
        return "description"

    def _memory(self, vm: Vm, element: Element) -> str:
        unit = element.attributes.get("unit", "KiB").lower()
        text = element.text.strip()
        if unit not in _UNITS or not re.fullmatch(r"[1-9]\d{0,14}", text):
            reason = "%s %s is not an amount of memory" % (excerpt(text), excerpt(unit))
            raise LabFileError(self.report.file, [(element.place, reason)])
        vm.settings["memory"] = max(1, int(text) * _UNITS[unit] >> 20)
        return "memory"

    def _uuid(self, vm: Vm, element: Element) -> str:
        return "uuid" if self.lab.set_uuid(vm, element.text.strip()) else ""

    def _vcpu(self, vm: Vm, element: Element) -> str:
        text = element.text.strip()
        if not re.fullmatch(r"[1-9]\d{0,3}", text):
            reason = "%s is not a number of CPUs" % excerpt(text)
            raise LabFileError(self.report.file, [(element.place, reason)])
        vm.settings["vcpus"] = int(text)
        if set(element.attributes) - {"placement"}:
            vm.imported["vcpu"] = element.data()
        return "vcpus; cpuset and current in vars.imported"

    def _cpu(self, vm: Vm, element: Element) -> str:
        mode = element.attributes.get("mode", "custom")
        model = element.first("model")
        name = model.text.strip() if model else ""
        if mode in ("host-passthrough", "host-model", "maximum"):
            name = "max" if mode == "maximum" else "host"
        features = [
            ("-" if feature.attributes.get("policy") in ("disable", "forbid") else "+")
            + feature.attributes.get("name", "")
            for feature in element.all("feature")
        ]
        if name and _MODEL.fullmatch(name) and all(_MODEL.fullmatch(f[1:]) for f in features):
            vm.settings["cpu"] = ",".join([name, *features])
        topology = element.first("topology")
        if topology:
            smp = {
                key: int(value)
                for key, value in topology.attributes.items()
                if key in ("sockets", "cores", "threads") and re.fullmatch(r"[1-9]\d{0,2}", value)
            }
            product = smp.get("sockets", 1) * smp.get("cores", 1) * smp.get("threads", 1)
            if product == vm.settings.get("vcpus"):
                vm.settings["smp"] = smp
        vm.imported["cpu"] = element.data()
        return "cpu and smp; all of it in vars.imported"

    def _arguments(self, vm: Vm, element: Element) -> None:
        words = [child.attributes.get("value", "") for child in element.all("qemu:arg")]
        left, notes = apply_arguments(vm.settings, words, self.lab.options.arguments)
        rest = [child.data() for child in element.children if child.tag != "qemu:arg"]
        if left or rest:
            vm.imported["qemu:commandline"] = [*left, *rest]
            note = "vars.imported; " + not_allowed(notes)
            self.report.whole(element.place, KEPT, note)
        else:
            self.report.whole(element.place, MAPPED, "; ".join(notes) or "no arguments")

    # --- The operating system ---

    def _os(self, vm: Vm, element: Element) -> None:
        if element.attributes.get("firmware") == "efi":
            vm.settings["firmware"] = "uefi"
        head = element.fields(self.report)
        head.mapped("firmware", "firmware")
        vm.imported.update(head.close())
        boot = ""
        kept: dict[str, Any] = {}
        for child in element.children:
            note = self._os_element(vm, child)
            if child.tag == "boot" and child.attributes.get("dev") in _BOOT:
                boot += _BOOT[child.attributes["dev"]]
                note = "boot_order"
            if note:
                self.report.whole(child.place, MAPPED, note)
            else:
                self.report.whole(child.place, KEPT, "vars.imported")
                kept.setdefault(child.tag, child.data())
        if boot:
            vm.settings["boot_order"] = "".join(dict.fromkeys(boot))
        if kept:
            vm.imported["os"] = kept

    def _os_element(self, vm: Vm, child: Element) -> str:
        text = child.text.strip()
        if child.tag == "type":
            return self._type(vm, child)
        if child.tag == "loader":
            if child.attributes.get("type") == "pflash":
                vm.settings["firmware"] = "uefi"
                return "firmware: uefi, with the firmware of the hypervisor"
            vm.settings["bios_image"] = text
            return "bios_image"
        if child.tag in ("kernel", "initrd") and text.startswith("/"):
            vm.settings[child.tag] = text
            return child.tag
        if child.tag == "cmdline" and vm.settings.get("kernel"):
            vm.settings["cmdline"] = text
            return "cmdline"
        if child.tag == "bootmenu":
            vm.settings["boot_menu"] = child.attributes.get("enable") == "yes"
            return "boot_menu"
        if child.tag == "nvram":
            self.report.warn(
                "%s: the firmware variables of %s are not copied" % (child.place, vm.name)
            )
        return ""

    def _type(self, vm: Vm, child: Element) -> str:
        if child.text.strip() != "hvm":
            reason = "%s is no full virtualization" % excerpt(child.text.strip())
            raise LabFileError(self.report.file, [(child.place, reason)])
        arch = child.attributes.get("arch", "")
        if arch and arch != "x86_64":
            vm.settings["arch"] = arch
        machine = child.attributes.get("machine", "")
        if machine:
            vm.settings["machine"] = machines.machine_type(machine)
        return "arch and machine, without its version"


_TYPED = ("description", "memory", "vcpu", "cpu", "uuid")
