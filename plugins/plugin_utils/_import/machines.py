# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Machines that a file describes in full: their options, and kinds of the lab for them."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import BUSES
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import nic_names
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Lab, Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import (
    file_name,
    valid_name,
    valid_nic_name,
)

_MODELS = {"virtio": "virtio-net-pci", "": "e1000"}
_VERSIONED = re.compile(r"(?:pc-)?(q35|i440fx|virt)(?:-[\w.+-]*)?|pc-\d[\w.+-]*")
_MODEL = re.compile(r"[a-z0-9][A-Za-z0-9-]{0,40}")
MAX_NICS = 250


def nic_model(text: str) -> str:
    """Return a model of a NIC as QEMU calls it, empty if it cannot be one."""
    text = text.strip()
    return _MODELS.get(text, text if _MODEL.fullmatch(text) else "")


def machine_type(text: str) -> str:
    """Return a type of machine without its version, which another QEMU may not have."""
    match = _VERSIONED.fullmatch(text)
    if not match:
        return text
    return {None: "pc", "i440fx": "pc"}.get(match.group(1), match.group(1))


def disk_bus(text: str) -> str:
    """Return the bus of a disk; ide if the text is none."""
    return text if text in BUSES else "ide"


def image_name(path: str) -> str:
    """Return the name of an image for a file."""
    name = re.sub(r"\.(qcow2|img|vmdk|raw|vdi|iso|bin)$", "", file_name(path, "image"))
    return valid_name(name, "image")


def unique_nic_names(names: list[str]) -> list[str]:
    """Return valid names of NICs, each once."""
    result: list[str] = []
    used: set[str] = set()
    for number, text in enumerate(names):
        default = "nic%d" % number
        name = valid_nic_name(text, default)
        # A dot or slash at the end is no problem here; the names must only differ.
        while name in used:
            name = name[:50] + "-%d" % number
        used.add(name)
        result.append(name)
    return result


def machine_kind(
    lab: Lab, name: str, image: str, vm: dict[str, Any], names: list[str], model: str, bus: str
) -> str:
    """Return the kind of the lab for a machine with these options and NICs.

    image: the name of its image. vm: options of qemu_vm. names: of its NICs, in their order.
    """
    spec: dict[str, Any] = {"image": image, "vm": vm, "disk": {"bus": bus}}
    spec["nic"] = {"model": model, **nic_names.naming_of_names(names or ["eth0"])}
    return lab.add_kind(name, spec)


def add_disk(lab: Lab, vm: Vm, name: str, image: str, bus: str) -> None:
    """Add a disk on top of an image that the file names."""
    path = lab.image_path(image)
    vm.disk(name).update({"backing_file": path, "bus": bus})
    lab.report.images.setdefault(image_name(image), {"source": image, "disk": path})
