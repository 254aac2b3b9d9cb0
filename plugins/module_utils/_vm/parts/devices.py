# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Single devices: common ones, host devices that are passed through, and any other by driver."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown, suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    check_properties,
    device,
    qom_object,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.addresses import SlotRequest
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition, Params
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

_HOST_ADDRESS = re.compile(
    r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE
)
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_WATCHDOG_ACTIONS = ["reset", "shutdown", "poweroff", "inject-nmi", "pause", "debug", "none"]


def _passthrough(path: str, value: list[str]) -> list[str]:
    normal = []
    for number, address in enumerate(value):
        match = _HOST_ADDRESS.fullmatch(address)
        if not match:
            raise OptionError(
                "%s[%d]" % (path, number),
                "%r is not a PCI address: give domain:bus:slot.function, such as 0000:3b:00.1"
                % address,
            )
        normal.append("%s:%s:%s.%s" % tuple((part or "0000").lower() for part in match.groups()))
    if len(set(normal)) != len(normal):
        raise OptionError(path, "a device is named twice")
    return normal


def _devices(path: str, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    numbers: dict[str, int] = {}
    for number, entry in enumerate(value):
        item_path = "%s[%d]" % (path, number)
        if not isinstance(entry.get("driver"), str) or not entry["driver"]:
            raise OptionError(
                item_path + ".driver",
                "each device needs the name of its driver, such as {driver: pvpanic}",
            )
        check_properties(item_path, entry)
        name = entry.get("id")
        if name is not None:
            if not _IDENTIFIER.fullmatch(str(name)):
                raise OptionError(
                    item_path + ".id",
                    "%s is not an id: a letter, then letters, digits, - . _" % shown(name),
                )
            if name in numbers:
                raise OptionError(
                    item_path + ".id",
                    "%s is also the id of %s[%d]" % (shown(name), path, numbers[name]),
                )
            numbers[name] = number
    return value


# Devices whose state QEMU cannot save, or that are outside QEMU.
_NOT_SAVED = ("nvme", "vfio-", "vhost-user-", "virtio-9p", "ivshmem")


class Devices(Part):
    """The part that owns single devices."""

    name = "devices"
    options = {
        "rng": Option({"type": "bool"}, False),
        "balloon": Option({"type": "bool"}, False),
        "watchdog": Option({"type": "str", "choices": ["none", "i6300esb", "ib700"]}, "none"),
        "watchdog_action": Option({"type": "str", "choices": _WATCHDOG_ACTIONS}, "reset"),
        "usb_tablet": Option({"type": "bool"}, False),
        "devices": Option({"type": "list", "elements": "dict"}, [], normalise=_devices),
        "passthrough": Option(
            {"type": "list", "elements": "str", "no_log": False}, [], normalise=_passthrough
        ),
    }

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        have = host.capabilities
        for number, entry in enumerate(desired["devices"]):
            if not have.has_device(entry["driver"]):
                raise OptionError(
                    "devices[%d].driver" % number,
                    "%s has no device %r%s"
                    % (
                        host.binary,
                        entry["driver"],
                        suggestion(entry["driver"], have.device_types),
                    ),
                )
        if desired["watchdog"] != "none" and not have.has_device(desired["watchdog"]):
            raise OptionError(
                "watchdog", "%s has no device %s" % (host.binary, desired["watchdog"])
            )
        desired["pci_devices"] = sorted(
            n
            for n, entry in enumerate(desired["devices"])
            if have.device_name(entry["driver"]) in have.pci_devices
            and "addr" not in entry
            and "bus" not in entry
        )

    def slots(self, desired: Definition) -> list[SlotRequest]:
        keys = [(_key(desired["devices"][n], n), "devices[%d]" % n) for n in desired["pci_devices"]]
        keys += [("passthrough/%s" % address, "passthrough") for address in desired["passthrough"]]
        return [(key, "pci", None, option) for key, option in keys]

    def check_start(self, desired: Definition, host: Host) -> None:
        for address in desired["passthrough"]:
            _check_host_device(address)

    def memory_blockers(self, definition: Definition) -> list[str]:
        found = []
        if definition["passthrough"]:
            found.append("passthrough: QEMU cannot save the state of a device of the host")
        for number, entry in enumerate(definition["devices"]):
            if entry["driver"].startswith(_NOT_SAVED):
                found.append(
                    "devices[%d]: QEMU cannot save the state of %s" % (number, entry["driver"])
                )
        return found

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        kind, words = desired["family"], []
        suffix = addresses.virtio_suffix(kind, host.arch)

        def single(name: str) -> dict[str, str]:
            return addresses.single(kind, name)

        if desired["rng"]:
            words += qom_object(
                {"qom-type": "rng-random", "id": "random", "filename": "/dev/urandom"}
            )
            words += device(
                {"driver": "virtio-rng-" + suffix, "id": "rng", "rng": "random", **single("rng")}
            )
        if desired["balloon"]:
            words += device(
                {"driver": "virtio-balloon-" + suffix, "id": "balloon", **single("balloon")}
            )
        if desired["watchdog"] != "none":
            slot = single("watchdog") if desired["watchdog"] == "i6300esb" else {}
            words += device({"driver": desired["watchdog"], "id": "watchdog", **slot})
            words += ["-watchdog-action", desired["watchdog_action"]]
        if needs_usb(desired):
            words += device(
                {"driver": "qemu-xhci", "id": "usb", "p2": 15, "p3": 15, **single("usb")}
            )
        if desired["usb_tablet"]:
            words += device(
                # The ports before it are for disks.
                {"driver": "usb-tablet", "id": "tablet", "bus": "usb.0", "port": "15"}
            )
        for number, entry in enumerate(desired["devices"]):
            slot = desired["slots"].get(_key(entry, number))
            words += device(
                {
                    "id": "device%d" % number,
                    **(addresses.pci(kind, slot) if slot else {}),
                    **entry,
                }
            )
        for number, address in enumerate(desired["passthrough"]):
            slot = addresses.pci(kind, desired["slots"]["passthrough/%s" % address])
            words += device(
                {"driver": "vfio-pci", "id": "host%d" % number, "host": address, **slot}
            )
        return words


def _key(entry: dict[str, Any], number: int) -> str:
    """Return the key of a device's slot: its ID, independent of the order, or its number."""
    return "devices/%s" % entry.get("id", number)


def needs_usb(definition: Definition) -> bool:
    """Return whether the machine needs a USB controller."""
    return bool(definition["usb_tablet"]) or any(
        slot["kind"] == "usb" for slot in definition["slots"].values()
    )


def _check_host_device(address: str) -> None:
    """Raise HostError if a host PCI device cannot be passed through, with what is missing."""
    folder = "/sys/bus/pci/devices/" + address
    if not os.path.isdir(folder):
        raise HostError("passthrough: the host has no PCI device %s (see lspci -D)" % address)
    group = os.path.join(folder, "iommu_group")
    if not os.path.exists(group):
        raise HostError(
            "passthrough: %s is in no IOMMU group: switch the IOMMU on (intel_iommu=on or"
            " amd_iommu=on) and in the firmware" % address
        )
    driver = (
        os.path.basename(os.path.realpath(os.path.join(folder, "driver")))
        if os.path.exists(os.path.join(folder, "driver"))
        else ""
    )
    if driver != "vfio-pci":
        raise HostError(
            "passthrough: %s is bound to %s: bind it to vfio-pci first (driverctl set-override %s"
            " vfio-pci)" % (address, driver or "no driver", address)
        )
    number = os.path.basename(os.path.realpath(group))
    if not os.access("/dev/vfio/%s" % number, os.R_OK | os.W_OK):
        raise HostError(
            "passthrough: no permission on /dev/vfio/%s, the IOMMU group of %s: become root, or"
            " change its owner" % (number, address)
        )
