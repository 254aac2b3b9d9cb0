# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Arguments of QEMU in a file: those with an option of qemu_vm, and the others.

Others can read and write every file of the hypervisor and run programs, so that they are only taken
over if the user allows it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Lab, Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.machines import machine_type
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import vm_options

# Without a value: the collection sets them itself.
_SET_ANYWAY = (
    "-nographic",
    "-enable-kvm",
    "-nodefaults",
    "-daemonize",
    "-no-user-config",
    "-nodefconfig",
)
# QEMU 7.1 and later do not have them: a VM has no sound card.
_NO_MORE_VALUE = ("-soundhw",)
_SET_ANYWAY_VALUE = ("-serial", "-display", "-monitor", "-rtc", "-name", "-pidfile", "-uuid")
_PROPERTIES = re.compile(r"[A-Za-z0-9_.+-]+(=[^,]*)?(,[A-Za-z0-9_.+-]+(=[^,]*)?)*")
_OVMF = re.compile(r"/usr/share/(?:[\w.-]+/)*OVMF(?:_CODE)?(?:_4M)?\.fd")
_CPU = re.compile(r"[A-Za-z0-9_.,=+:-]{1,200}")


def not_allowed(notes: list[str]) -> str:
    """Return the note on arguments that are not taken over, after those that are."""
    return "; ".join(
        [*notes, "other arguments can read files and run programs: set arguments to take them over"]
    )


def apply_text(lab: Lab, vm: Vm, text: str, place: str) -> str:
    """Set the options of a VM from the arguments in a text, and record that for its place.

    Return the arguments that are not taken over.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        words = [text]
    left, notes = apply_arguments(vm.settings, words, lab.options.arguments)
    if left:
        lab.report.kept(place, "vars.imported; " + not_allowed(notes))
    elif notes:
        lab.report.mapped(place, "; ".join(notes))
    return " ".join(left)


def apply_arguments(
    settings: dict[str, Any], words: list[str], allowed: bool
) -> tuple[list[str], list[str]]:
    """Set the options of a VM from arguments.

    Return (arguments that are not taken over, notes on those that are). allowed: whether others
    become extra_args.
    """
    left: list[str] = []
    notes: list[str] = []
    index = 0
    while index < len(words):
        word = "-" + words[index].lstrip("-") if words[index].startswith("-") else words[index]
        value = words[index + 1] if index + 1 < len(words) else ""
        apply = _TYPED.get(word)
        if word in _SET_ANYWAY:
            notes.append("%s: the collection sets this itself" % word)
            index += 1
        elif word == "-no-kvm":
            notes.append("%s: %s" % (word, _accel(settings, "tcg")))
            index += 1
        elif word in _SET_ANYWAY_VALUE and value:
            notes.append("%s %s: the collection sets this itself" % (word, value))
            index += 2
        elif word in _NO_MORE_VALUE and value:
            notes.append("%s %s: left out, QEMU does not have it any more" % (word, value))
            index += 2
        elif apply and value and (option := apply(settings, value)):
            notes.append("%s %s: %s" % (word, value, option))
            index += 2
        else:
            left.append(words[index])
            index += 1
    if allowed and left:
        settings["extra_args"] = [*settings.get("extra_args", []), *left]
        notes.append("%s: extra_args" % " ".join(left))
        left = []
    return left, notes


def _properties(value: str) -> dict[str, str] | None:
    if not _PROPERTIES.fullmatch(value):
        return None
    pairs = [pair.partition("=")[::2] for pair in value.split(",")]
    found = dict(pairs)
    # Some can be given twice, which a dictionary cannot say.
    return found if len(found) == len(pairs) else None


def _cpu(settings: dict[str, Any], value: str) -> str:
    if not _CPU.fullmatch(value):
        return ""
    settings["cpu"] = value
    return "cpu"


def set_cpus(settings: dict[str, Any], value: str) -> str:
    """Set vcpus and smp from the value of -smp; return the option, empty if that is impossible."""
    given = _properties(value)
    if given is None:
        return ""
    numbers = {key: number for key, number in given.items() if number}
    bare = [key for key, number in given.items() if not number]
    if bare:
        numbers["cpus"] = bare[0]
    wrong = set(numbers) - {"cpus", "sockets", "cores", "threads", "maxcpus"}
    if (
        wrong
        or len(bare) > 1
        or not all(
            number.isascii() and number.isdigit() and 0 < int(number[:6]) < 1024
            for number in numbers.values()
        )
    ):
        return ""
    smp = {key: int(number) for key, number in numbers.items() if key != "cpus"}
    product = smp.get("sockets", 1) * smp.get("cores", 1) * smp.get("threads", 1)
    settings["vcpus"] = int(numbers.get("cpus", product))
    if smp and product == settings["vcpus"] and smp.get("maxcpus", product) >= product:
        settings["smp"] = smp
    return "vcpus"


def _machine(settings: dict[str, Any], value: str) -> str:
    given = _properties(value)
    if given is None:
        return ""
    kind = given.pop("type", "") or next((key for key in given if not given[key]), "")
    given.pop(kind, None)
    accel = given.pop("accel", "")
    if given.get("usb") == "off":  # the default
        del given["usb"]
    if given or (kind and not re.fullmatch(r"[a-z0-9][A-Za-z0-9._-]{0,60}", kind)):
        return ""
    options = [_accel(settings, accel)] if accel else []
    if kind:
        settings["machine"] = machine_type(kind)
        has_version = settings["machine"] != kind
        options.insert(0, "machine, without its version" if has_version else "machine")
    return ", ".join(options)


def _firmware(settings: dict[str, Any], value: str) -> str:
    """Set firmware from the path of a file of OVMF, which each distribution has elsewhere."""
    if not _OVMF.fullmatch(value) or "bios_image" in settings:
        return ""
    settings["firmware"] = "uefi"
    return "firmware"


def _accel(settings: dict[str, Any], value: str) -> str:
    """Set accel, which is KVM where it can be used unless something else is asked for."""
    if value == "tcg":
        settings["accel"] = value
    return "accel"


def _vga(settings: dict[str, Any], value: str) -> str:
    if value not in vm_options()["vga"]["enum"]:
        return ""
    settings["vga"] = value
    return "vga"


def _boot(settings: dict[str, Any], value: str) -> str:
    match = re.fullmatch(r"(?:order=)?([acdn]{1,3})", value)
    if not match or len(set(match.group(1))) < len(match.group(1)):
        return ""
    settings["boot_order"] = match.group(1)
    return "boot_order"


def _tablet(settings: dict[str, Any], value: str) -> str:
    if value not in ("tablet", "usb-tablet"):
        return ""
    settings["usb_tablet"] = True
    return "usb_tablet"


def _memory(settings: dict[str, Any], value: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}[KMGkmg]?", value):
        return ""
    settings["memory"] = int(value) if value.isdigit() else value
    return "memory"


def _smbios(settings: dict[str, Any], value: str) -> str:
    given = _properties(value)
    # With a file, QEMU reads it on the hypervisor.
    if not given or "file" in given or not given.get("type", "").isdigit():
        return ""
    given = {key: entry for key, entry in given.items() if entry}
    settings.setdefault("smbios", []).append(dict(given, type=int(given["type"])))
    return "smbios"


_TYPED: dict[str, Callable[[dict[str, Any], str], str]] = {
    "-accel": lambda settings, value: _accel(settings, value) if value in ("kvm", "tcg") else "",
    "-cpu": _cpu,
    "-smp": set_cpus,
    "-machine": _machine,
    "-M": _machine,
    "-bios": _firmware,
    "-boot": _boot,
    "-vga": _vga,
    "-usbdevice": _tablet,
    "-m": _memory,
    "-smbios": _smbios,
}
