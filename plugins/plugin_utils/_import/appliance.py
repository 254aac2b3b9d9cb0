# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Appliances of GNS3 (.gns3a) as kinds of a topology."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import BUSES
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import gns3_nodes, machines
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.nic_names import naming_of_names
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import decoded, parse_json
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.qemu_arguments import (
    apply_arguments,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report

_MAX_BYTES = 4 << 20
_MAX_VERSIONS_SHOWN = 50
_NEWEST = 8  # registry_version; from here on, the settings of QEMU are in settings
_PORT_KEYS = ("first_port_name", "port_name_format", "port_segment_size", "custom_adapters")
# No path, and nothing that is expanded in paths.
_FILE_NAME = re.compile(r"(?!~)[^/\\$\x00-\x1f\x7f]{1,255}")
_IN_ARCHIVE = re.compile(r"([^/\\$\x00-\x1f\x7f]{1,255}\.ova)/([^/]+)")
_EMPTY_DISK = re.compile(r"empty(\d{1,4})G[\w.-]*\.qcow2")
_PLACEHOLDERS = {"%vm-name%": "{name}", "%vm-id%": "{uuid}"}
# Arguments that neither read files of the hypervisor nor run programs, if they name no file.
_HARMLESS = frozenset(
    """-boot -cpu -device -fw_cfg -global -icount -k -m -machine -M -overcommit -smbios -smp -vga
    -watchdog""".split()
)
# A file, or something that another argument makes of a file or a program.
_NAMES_FILE = re.compile(r"[/\\]|\b(file|path|script|splash|drive|netdev|chardev|fsdev)=")
_HARMLESS_FLAGS = frozenset(("-usb", "-no-acpi", "-no-fd-bootchk", "-no-hpet"))


def read_kind(path: str, version: Optional[str]) -> dict[str, Any]:
    """Return the kind that an appliance is. version: one of its versions; None for the first.

    Raise OptionError if the file cannot be read or used. The kind has what kinds.KindSpec has.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        # A path with a null byte is a ValueError.
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError("appliance", "cannot read %s: %s" % (excerpt(path), reason)) from None
    return kind_of(os.path.basename(path), content, version)


def reader(folder: str) -> Callable[[str, Optional[str]], dict[str, Any]]:
    """Return the function that reads appliances whose paths are relative to a folder."""

    def read(file: str, version: Optional[str]) -> dict[str, Any]:
        return read_kind(os.path.join(folder, os.path.expanduser(file)), version)

    return read


def kind_of(file: str, content: bytes, version: Optional[str]) -> dict[str, Any]:
    """Return the kind of an appliance with this content. Raise OptionError. See read_kind."""
    if len(content) > _MAX_BYTES:
        reason = "%s has more than %d MiB" % (file, _MAX_BYTES >> 20)
        raise OptionError("appliance", reason)
    try:
        # People write these files, and GNS3 reads them so: some have a key twice.
        data = parse_json(file, decoded(file, content), keep_last=True)
        root = Fields(Report(file), "", data)
        return _kind(root, version)
    except LabFileError as error:
        place, reason = error.problems[0]
        text = "%s: %s: %s" % (file, place, reason) if place else "%s: %s" % (file, reason)
        raise OptionError("appliance", text) from None


def _kind(root: Fields, requested: Optional[str]) -> dict[str, Any]:
    registry = root.integer("registry_version", "", 1, 1000)
    if registry is None:
        root.fail("registry_version", "it is missing: this is no appliance of GNS3")
    version = _version(root, requested)
    properties = _properties(root, registry or 1, version)
    node = _node(root, properties)
    vm = gns3_nodes.machine_options(node, properties)
    if properties.text("kvm", "") == "disable":
        vm["accel"] = "tcg"
    names, settings = gns3_nodes.nics(node, properties)
    model_text = properties.text("adapter_type", "")
    model = machines.nic_model(model_text)
    if not model:
        properties.fail("adapter_type", "%s is not a model of a NIC" % excerpt(model_text))
    models = {names[i]: s["model"] for i, s in settings.items() if i < len(names) and "model" in s}
    nic = {"model": model, **naming_of_names(names or ["eth0"])}
    if models:
        nic["models"] = models
    # Before the media: they can set the order in which these boot.
    arguments = _add_arguments(vm, properties)
    media = _Media(root, version, properties)
    disk = media.add_to(vm)
    return {
        "description": " ".join(filter(None, (root.text("name", ""), media.version_name))),
        "vm": vm,
        "disk": disk,
        "nic": nic,
        "facts": _facts(root, version),
        "needs": {
            "image": media.image,
            "files": media.files,
            "arguments": arguments,
        },
    }


def _version(root: Fields, requested: Optional[str]) -> Optional[Fields]:
    """Return the version with a name, or the first; None if the appliance has none."""
    versions = root.mappings("versions")
    names = [version.text("name", "") for version in versions]
    if requested is None:
        return versions[0] if versions else None
    if requested not in names:
        shown = [excerpt(name)[1:-1] for name in names[:_MAX_VERSIONS_SHOWN]]
        if len(names) > len(shown):
            shown.append("%d more" % (len(names) - len(shown)))
        text = "%s has no version %s; its versions are %s"
        reason = text % (root.report.file, excerpt(requested), ", ".join(shown) or "none")
        raise OptionError("version", reason)
    return versions[names.index(requested)]


def _properties(root: Fields, registry: int, version: Optional[Fields]) -> Fields:
    """Return the settings of QEMU, named as in a project of GNS3."""
    if registry > _NEWEST:
        root.fail("registry_version", "%d is newer than %d" % (registry, _NEWEST))
    if registry < _NEWEST:
        if "qemu" not in root:
            root.fail("qemu", "it is missing: only an appliance for QEMU can be a kind")
        found = root.fields("qemu")
    else:
        found = _settings(root, version)
    data = dict(found.data)
    data.setdefault("platform", data.get("arch"))
    return Fields(root.report, found.path, data)


def _settings(root: Fields, version: Optional[Fields]) -> Fields:
    """Return the settings that a version names, on top of the default ones."""
    entries = root.mappings("settings")
    default = next((entry for entry in entries if entry.data.get("default") is True), None)
    if default is None and len(entries) == 1:
        default = entries[0]
    chosen = _named_settings(entries, version) or default
    if chosen is None:
        root.fail("settings", "none of them is the default")
        return root
    emulator = chosen.text("template_type", "")
    if emulator != "qemu":
        reason = "%s: only an appliance for QEMU can be a kind" % excerpt(emulator)
        chosen.fail("template_type", reason)
    own = chosen.fields("template_properties")
    base: Mapping[str, Any] = {}
    inherits = chosen.data.get("inherit_default_properties") is not False
    if default and default is not chosen and inherits:
        base = default.fields("template_properties").data
    return Fields(root.report, own.path, {**base, **own.data})


def _named_settings(entries: list[Fields], version: Optional[Fields]) -> Optional[Fields]:
    """Return the settings that a version names, None if it names none."""
    name = version.text("settings", "") if version else ""
    if not version or not name:
        return None
    for entry in entries:
        if entry.data.get("name") == name:
            return entry
    version.fail("settings", "there are no settings %s" % excerpt(name))
    return None


def _node(root: Fields, properties: Fields) -> Fields:
    """Return what a node of a project has outside its properties: the ports and the console."""
    holders = {key: properties if key in properties else root for key in _PORT_KEYS}
    data = {key: holder.data[key] for key, holder in holders.items() if key in holder}
    data["console_type"] = properties.data.get("console_type")
    return Fields(root.report, "", data)


class _Media:
    """The images of a version. image: as an item of images. files: all that it needs."""

    def __init__(self, root: Fields, version: Optional[Fields], properties: Fields) -> None:
        self._properties = properties
        self._described = {image.text("filename", ""): image for image in root.mappings("images")}
        self._names = version.fields("images") if version else Fields(root.report, "versions", {})
        self._archives: dict[str, str] = {}
        self.version_name = version.text("name", "") if version else ""
        self.image: dict[str, str] = {}
        self.files: list[dict[str, Any]] = []

    def add_to(self, vm: dict[str, Any]) -> dict[str, Any]:
        """Add disks, CD-ROMs and firmware to options of a VM; return the settings of its root."""
        root: dict[str, Any] = {}
        for slot in ("hda", "hdb", "hdc", "hdd"):
            name = self._name(slot + "_disk_image")
            bus = self._bus(slot + "_disk_interface")
            if not name or bus == "none":
                continue
            empty = _EMPTY_DISK.fullmatch(name)
            disk: dict[str, Any] = {"name": "root" if slot == "hda" else slot, "bus": bus}
            if empty:
                disk["size"] = empty.group(1) + "G"
            elif slot != "hda":
                disk["backing_file"] = self._need(name)
            if slot == "hda":
                root = {"bus": bus}
                self.image.update({} if empty else {"disk": self._need(name)})
            if slot != "hda" or empty:
                vm.setdefault("disks", []).append(disk)
        self._add_cdrom(vm, root)
        for key, option in (("kernel_image", "kernel"), ("initrd", "initrd")):
            name = self._name(key)
            if name:
                self.image[option] = self._need(name)
        name = self._name("bios_image")
        if name:
            vm["bios_image"] = self._need(name)
            vm.pop("firmware", None)  # the image is the firmware
        cmdline = self._properties.text("kernel_command_line", "")
        if cmdline and "kernel" in self.image:
            vm["cmdline"] = cmdline
        return root

    def _add_cdrom(self, vm: dict[str, Any], root: dict[str, Any]) -> None:
        """Add the CD-ROM, and the order in which it and the disk boot."""
        name = self._name("cdrom_image")
        cdrom: dict[str, Any] = {"name": "cdrom", "path": self._need(name)} if name else {}
        order = vm.get("boot_order", "")
        if cdrom and order.startswith("d"):
            cdrom["boot_index"] = 1
            root["boot_index"] = 2
            for disk in vm.get("disks", []):
                if disk["name"] == "root":
                    disk["boot_index"] = 2
        if "n" not in order:
            vm.pop("boot_order", None)  # the indexes say it
        if cdrom:
            vm["cdroms"] = [cdrom]

    def _name(self, key: str) -> str:
        name = self._names.text(key, "")
        in_archive = _IN_ARCHIVE.fullmatch(name)
        if in_archive:
            archive, name = in_archive.groups()
            self._archives[name] = archive
        if name and (not _FILE_NAME.fullmatch(name) or name in (".", "..")):
            self._names.fail(key, "%s is not the name of a file" % excerpt(name))
        return name

    def _bus(self, key: str) -> str:
        bus = self._properties.text(key, "") or "ide"
        if bus not in (*BUSES, "none"):
            self._properties.fail(key, "%s is not a bus of disks" % excerpt(bus))
        return bus

    def _need(self, name: str) -> str:
        """Record that a file is needed; return its name."""
        archive = self._archives.get(name)
        described = self._described.get(archive or name)
        needed: dict[str, Any] = {"file": name, "archive": archive}
        if described:
            needed["md5"] = described.text("md5sum", "") or described.text("checksum", "")
            needed["size"] = described.integer("filesize", "")
            needed["url"] = described.text("direct_download_url", "")
            needed["page"] = described.text("download_url", "")
            needed["compression"] = described.text("compression", "")
        self.files.append({key: value for key, value in needed.items() if value})
        return name


def _facts(root: Fields, version: Optional[Fields]) -> dict[str, Any]:
    user, password = root.text("default_username", ""), root.text("default_password", "")
    notes = (version.text("usage", "") if version else "") or root.text("usage", "")
    facts = {"credentials": ", ".join(filter(None, (user, password))), "notes": notes}
    return {key: value for key, value in facts.items() if value}


def _add_arguments(vm: dict[str, Any], properties: Fields) -> list[str]:
    """Set options of a VM from the free text of arguments; return the refused arguments."""
    text = properties.text("options", "")
    for placeholder, ours in _PLACEHOLDERS.items():
        text = text.replace(placeholder, ours)
    try:
        words = shlex.split(text)
    except ValueError as error:
        properties.fail("options", "it cannot be split into arguments: %s" % error)
    left, _notes = apply_arguments(vm, words, False)
    if vm.get("cpu") == "host":
        del vm["cpu"]  # the default where it is possible
    extra: list[str] = []
    refused: list[str] = []
    while left:
        word = "-" + left[0].lstrip("-")
        has_value = len(left) > 1 and not left[1].startswith("-")
        count = 2 if has_value and word not in _HARMLESS_FLAGS else 1
        has_form = word in _HARMLESS_FLAGS or (word in _HARMLESS and count == 2)
        is_harmless = has_form and not _NAMES_FILE.search(" ".join(left[:count]))
        (extra if is_harmless else refused).extend(left[:count])
        del left[:count]
    if extra:
        vm["extra_args"] = extra
    return refused
