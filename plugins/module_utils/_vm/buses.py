# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Which buses a machine has for the devices of a user, and the ports of its USB controller."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, FrozenSet, Mapping, Optional

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.addresses import Slot, Slots
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

USB = "usb-bus"
_BUSES = {
    "i440fx": frozenset(("PCI", "ISA", USB)),
    "q35": frozenset(("PCI", "ISA", USB)),
    "virt": frozenset(("PCI", USB, "virtio-bus")),
    "spapr": frozenset(("PCI", USB, "spapr-vio-bus")),
}
_USB_CONTROLLER = re.compile(r"[eoux]hci")
_SUFFIX = "/usb"


def of_machine(definition: Definition) -> Optional[FrozenSet[str]]:
    """Return the types of the buses of a machine, as QEMU names them; None if they are unknown."""
    if definition["family"] == "none" and definition["machine"].startswith("isapc"):
        return frozenset(("ISA",))
    if definition["machine"] == "microvm" and not definition["machine_options"]:
        return frozenset(("ISA", "virtio-bus"))
    return _BUSES.get(definition["family"])


def lacks_bus(device_type: str, definition: Definition, host: Host) -> str:
    """Return the type of the bus that a device needs and the machine lacks; else an empty text."""
    offered = of_machine(definition)
    name = host.capabilities.device_name(device_type) or device_type
    bus = host.capabilities.device_buses.get(name, "")
    if offered is None or bus in offered or (bus == USB and has_own_controller(definition)):
        return ""
    return bus


def needs_usb_port(
    device_type: str, properties: Mapping[str, Any], definition: Definition, host: Host
) -> bool:
    """Return whether a device is to have a port of the USB controller of the module.

    It is not if the user names a bus, or gives a controller: QEMU then looks for a port.
    """
    name = host.capabilities.device_name(device_type) or device_type
    return (
        host.capabilities.device_buses.get(name) == USB
        and "bus" not in properties
        and definition["family"] != "none"
        and not has_own_controller(definition)
    )


def has_own_controller(definition: Definition) -> bool:
    """Return whether options of the user give the machine a USB controller."""
    if definition["machine_options"].get("usb") in (True, "on", "yes", "true"):
        return True
    return any(_USB_CONTROLLER.search(entry["driver"]) for entry in definition["devices"])


def usb_key(key: str) -> str:
    """Return the key of the USB port of an item. key: of its slot, such as nics/eth0."""
    return key + _SUFFIX


def usb_port(slots: Slots, key: str) -> dict[str, str]:
    """Return bus and port of the item with a key; empty if it has no USB port."""
    slot: Slot | None = slots.get(usb_key(key))
    return {"bus": "usb.0", "port": str(slot["index"] + 1)} if slot else {}


def has_usb(definition: Definition, slots: Slots) -> bool:
    """Return whether the module gives a machine with these slots a USB controller."""
    return bool(definition["usb_tablet"]) or any(slot["kind"] == "usb" for slot in slots.values())
