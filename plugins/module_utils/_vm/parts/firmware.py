# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Firmware and boot: UEFI and its variables, boot order, direct kernel boot, SMBIOS, TPM."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import make_private_folder
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import images
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_program
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    blockdev,
    check_properties,
    keyval,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition, Params
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

_DESCRIPTORS = ("/etc/qemu/firmware", "/usr/share/qemu/firmware")
# Fields by SMBIOS type: QEMU documentation, "Invocation", -smbios.
_SMBIOS_TYPES = (0, 1, 2, 3, 4, 8, 11, 17, 41)
_MAX_BOOT_DEVICES = 3  # in the boot order of a PC


def _boot_order(path: str, value: str) -> str:
    wrong = set(value) - set("abcdnp")
    if wrong or len(set(value)) != len(value):
        raise OptionError(
            path,
            "%r is not a boot order: each of a, b (floppies), c (disk), d (cdrom), n (network) once"
            " at most" % value,
        )
    return value


def _check_boot_order(desired: Definition) -> None:
    """Check the boot order against the machine, as QEMU does: hw/i386/pc.c, set_boot_dev()."""
    order, is_pc = desired["boot_order"], desired["machine"].startswith(("isapc", "xenfv"))
    if not is_pc and desired["family"] not in ("i440fx", "q35"):
        return
    if "p" in order:
        raise OptionError(
            "boot_order",
            "the machine %s cannot boot from p: use n for the network" % desired["machine"],
        )
    if len(order) > _MAX_BOOT_DEVICES:
        raise OptionError(
            "boot_order",
            "%r has more than the %d devices that the machine %s tries; boot_index of disks and"
            " NICs orders more" % (order, _MAX_BOOT_DEVICES, desired["machine"]),
        )


def _smbios(path: str, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for number, entry in enumerate(value):
        check_properties("%s[%d]" % (path, number), entry)
        if str(entry.get("type", "")) not in map(str, _SMBIOS_TYPES):
            raise OptionError(
                "%s[%d].type" % (path, number),
                "%s is not an SMBIOS type that QEMU can fill: one of %s"
                % (shown(entry.get("type")), ", ".join(map(str, _SMBIOS_TYPES))),
            )
    return [
        {
            key: content if isinstance(content, (list, dict, bool)) else str(content)
            for key, content in entry.items()
            if content is not None
        }
        for entry in value
    ]


def _file(path: str, value: str) -> str | None:
    return absolute_path(path, value) if value else None


def find_uefi(arch: str, machine: str) -> tuple[str, str, str, str]:
    """Return code, its format, variables template and its format of the UEFI for a machine.

    They are found by the firmware descriptors that distributions install.

    Source: QEMU, docs/interop/firmware.json. Firmware for secure boot, which requires SMM, is
    excluded. Raises HostError.
    """
    for folder in _DESCRIPTORS:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as stream:
                    descriptor = json.load(stream)
            except (OSError, ValueError):
                continue
            if _suits(descriptor, arch, machine):
                mapping = descriptor["mapping"]
                return (
                    mapping["executable"]["filename"],
                    mapping["executable"]["format"],
                    mapping["nvram-template"]["filename"],
                    mapping["nvram-template"]["format"],
                )
    raise HostError(
        "firmware: no UEFI for %s is on this host: install the package ovmf (or edk2-ovmf,"
        " qemu-efi-aarch64)" % arch
    )


def _suits(descriptor: dict[str, Any], arch: str, machine: str) -> bool:
    if (
        "uefi" not in descriptor.get("interface-types", ())
        or descriptor.get("mapping", {}).get("device") != "flash"
    ):
        return False
    if "nvram-template" not in descriptor["mapping"] or "requires-smm" in descriptor.get(
        "features", ()
    ):
        return False
    for target in descriptor.get("targets", ()):
        if target["architecture"] == arch and any(
            _like(machine, pattern) for pattern in target["machines"]
        ):
            return os.path.exists(descriptor["mapping"]["executable"]["filename"])
    return False


def _like(machine: str, pattern: str) -> bool:
    kinds = {"pc": "pc-i440fx-", "q35": "pc-q35-", "virt": "virt-"}
    return kinds.get(machine, machine).startswith(pattern.rstrip("*"))


class Firmware(Part):
    """The part that owns firmware and boot."""

    name = "firmware"
    image_options = ("kernel", "initrd", "bios_image")
    options = {
        "firmware": Option({"type": "str", "choices": ["bios", "uefi"]}, "bios"),
        "bios_image": Option({"type": "path"}, normalise=_file),
        "boot_order": Option({"type": "str"}, "", normalise=_boot_order),
        "boot_menu": Option({"type": "bool"}, False),
        "kernel": Option({"type": "path"}, normalise=_file),
        "initrd": Option({"type": "path"}, normalise=_file),
        "cmdline": Option({"type": "str"}, ""),
        "smbios": Option({"type": "list", "elements": "dict"}, [], normalise=_smbios),
        "tpm": Option({"type": "bool"}, False),
    }

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        if desired["firmware"] == "uefi" and desired["bios_image"]:
            raise OptionError("bios_image", "it cannot be given with firmware: uefi")
        for option in ("initrd", "cmdline"):
            if desired[option] and not desired["kernel"]:
                raise OptionError(option, "it needs kernel")
        _check_boot_order(desired)

    def check_files(self, desired: Definition, options: set[str] | None) -> None:
        for option in ("kernel", "initrd", "bios_image"):
            if desired.get(option) and (options is None or option in options):
                images.check_readable(option, desired[option])

    def check_start(self, desired: Definition, host: Host) -> None:
        if desired["tpm"] and not find_program("swtpm"):
            raise HostError(
                "tpm: the program swtpm is not on this host: install it, or set tpm: false"
            )
        if desired["firmware"] == "uefi":
            find_uefi(host.arch, desired["machine"])

    def prepare(self, desired: Definition, host: Host) -> list[str]:
        done = []
        if desired["firmware"] == "uefi":
            template = find_uefi(host.arch, desired["machine"])[2]
            if not os.path.exists(_variables(host)):
                temporary = _variables(host) + ".new"
                with report_os_errors("cannot copy the UEFI variables from %s" % template):
                    shutil.copyfile(template, temporary)
                    os.replace(temporary, _variables(host))
                done.append("copy UEFI variables from %s" % template)
        if desired["tpm"]:
            make_private_folder(host.folder.file("tpm"))
        return done

    def state_files(self, definition: Definition, host: Host) -> list[str]:
        return [os.path.basename(_variables(host)), "tpm"]

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        words = []
        if desired["firmware"] == "uefi":
            code, code_format, _template, variables_format = find_uefi(
                host.arch, desired["machine"]
            )
            words += blockdev(_flash("uefi-code", code, code_format, True))
            words += blockdev(_flash("uefi-variables", _variables(host), variables_format, False))
            host.machine_properties.update({"pflash0": "uefi-code", "pflash1": "uefi-variables"})
        elif desired["bios_image"]:
            words += ["-bios", desired["bios_image"]]
        if desired["boot_order"] or desired["boot_menu"]:
            words += [
                "-boot",
                keyval(
                    "",
                    {"order": desired["boot_order"] or None, "menu": desired["boot_menu"] or None},
                ),
            ]
        for option, word in (("kernel", "-kernel"), ("initrd", "-initrd"), ("cmdline", "-append")):
            if desired[option]:
                words += [word, desired[option]]
        for entry in desired["smbios"]:
            words += ["-smbios", keyval("", entry)]
        if desired["tpm"]:
            device = "tpm-tis" if desired["family"] in ("i440fx", "q35") else "tpm-tis-device"
            words += [
                "-chardev",
                keyval("socket", {"id": "tpm", "path": host.folder.socket("tpm.sock")}),
                "-tpmdev",
                "emulator,id=tpm0,chardev=tpm",
                "-device",
                "%s,tpmdev=tpm0" % device,
            ]
        return words

    def helper_processes(self, desired: Definition, host: Host) -> list[list[str]]:
        """Return the TPM emulator: with --daemon, it exits once its socket is ready (swtpm(8))."""
        if not desired["tpm"]:
            return []
        return [
            [
                find_program("swtpm") or "swtpm",
                "socket",
                "--tpm2",
                "--daemon",
                "--terminate",
                "--tpmstate",
                "dir=" + host.folder.file("tpm"),
                "--ctrl",
                "type=unixio,path=" + host.folder.socket("tpm.sock"),
            ]
        ]


def _variables(host: Host) -> str:
    return host.folder.file("uefi-variables.fd")


def _flash(node: str, path: str, form: str, read_only: bool) -> dict[str, Any]:
    return {
        "driver": form,
        "node-name": node,
        "read-only": read_only,
        "file": {"driver": "file", "filename": path},
    }
