# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Single devices: common ones, host devices that are passed through, and any other by driver."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    check_properties,
    device,
    qom_object,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import (
    addresses,
    binary_checks,
    buses,
    host_devices,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host_pci import HostPci
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.addresses import SlotRequest
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_WATCHDOG_ACTIONS = ["reset", "shutdown", "poweroff", "inject-nmi", "pause", "debug", "none"]


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


# Devices by which a guest gives memory back: QEMU before 8.2 then removes it from the mapped file.
# Source: QEMU, softmmu/physmem.c, ram_block_discard_range.
_GIVES_MEMORY_BACK = ("virtio-balloon", "virtio-mem", "hv-balloon")


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
            {"type": "list", "elements": "raw", "no_log": False},
            [],
            normalise=host_devices.normalise,
            written=lambda entries: host_devices.written(entries) or None,
        ),
    }

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        have = host.capabilities
        for number, entry in enumerate(desired["devices"]):
            binary_checks.check_driver("devices[%d].driver" % number, entry["driver"], host)
            _check_bus("devices[%d].driver" % number, entry, desired, host)
        if desired["devices"] and binary_checks.is_new("devices", desired, saved):
            _check_properties(desired, host)
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
        desired["usb_devices"] = [
            n
            for n, entry in enumerate(desired["devices"])
            if buses.needs_usb_port(entry["driver"], entry, desired, host)
        ]

    def slots(self, desired: Definition) -> list[SlotRequest]:
        entries = desired["devices"]
        requests: list[SlotRequest] = [
            (_key(entries[n], n), "pci", None, "devices[%d]" % n) for n in desired["pci_devices"]
        ]
        requests += [
            ("passthrough/%s" % key, "pci", None, "passthrough[%d]" % number)
            for number, entry in enumerate(desired["passthrough"])
            for key in host_devices.keys_of(entry)
        ]
        requests += [
            (buses.usb_key(_key(entries[n], n)), "usb", None, "devices[%d]" % n)
            for n in desired.get("usb_devices", ())
        ]
        return requests

    def check_start(self, desired: Definition, host: Host) -> None:
        _check_properties(desired, host)
        host_devices.check(host.folder, desired["passthrough"], HostPci())

    def before_launch(self, desired: Definition, host: Host) -> None:
        host_devices.take(host.folder, desired["passthrough"], HostPci())

    def release(self, definition: Definition, host: Host) -> None:
        for problem in host_devices.give_back(host.folder, HostPci()):
            host.warn("passthrough: " + problem)

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

    def sharing_blockers(self, definition: Definition) -> list[str]:
        names = ["balloon"] if definition["balloon"] else []
        names += [
            "devices[%d]" % number
            for number, entry in enumerate(definition["devices"])
            if entry["driver"].startswith(_GIVES_MEMORY_BACK)
        ]
        return ["%s: it takes memory away from all guests that share it" % name for name in names]

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
        if buses.has_usb(desired, desired["slots"]):
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
                    **buses.usb_port(desired["slots"], _key(entry, number)),
                    **entry,
                }
            )
        given = desired["passthrough"]
        chosen = host_devices.choose(host.folder, given, HostPci()) if given else []
        for number, found in enumerate(chosen):
            slot = addresses.pci(kind, desired["slots"]["passthrough/%s" % found.key])
            words += device(
                {"driver": "vfio-pci", "id": "host%d" % number, "host": found.address, **slot}
            )
        return words

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        found: dict[str, str] = {}
        if observation.alive and definition["passthrough"]:
            with contextlib.suppress(HostError):  # a damaged record: the next stop reports it
                found = host_devices.bound(observation.folder, definition["passthrough"])
        result["passthrough"] = [{"device": key, "address": found[key]} for key in found]


def _check_properties(desired: Definition, host: Host) -> None:
    for number, entry in enumerate(desired["devices"]):
        binary_checks.check_device("devices[%d]" % number, entry["driver"], entry, host)


def _key(entry: dict[str, Any], number: int) -> str:
    """Return the key of a device's slot: its ID, independent of the order, or its number."""
    return "devices/%s" % entry.get("id", number)


def _check_bus(path: str, entry: dict[str, Any], desired: Definition, host: Host) -> None:
    """Refuse a device for PCI, ISA or USB on a machine without it: other buses devices may give."""
    bus = "" if "bus" in entry else buses.lacks_bus(entry["driver"], desired, host)
    if bus in ("PCI", "ISA", buses.USB):
        raise OptionError(
            path,
            "the machine %s has no bus of type %s for the device %s"
            % (desired["machine"], bus, entry["driver"]),
        )
