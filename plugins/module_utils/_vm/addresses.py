# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The slots and addresses of all devices of a VM.

The definition keeps the slot of each device, so that a device never moves when another one is added
or removed. A slot is {"kind": K, "index": N}. Its PCI bus and address, or its unit on another bus,
are a pure function of the slot and the family of the machine. Guests number their cards in this
order.

The root bus of i440fx ("pc") and of the spapr bridge, PCI devices in hexadecimal:
  02-0a  single devices (_SINGLE)       0b-0f  disks and devices 0-4
  10-16  NICs 0-6                       17-1e  bridges with 31 NICs each
  1f     a bridge with 31 more disks and devices
PCIe machines ("q35", "virt") have a root port, which supports hotplug, before each of them:
  0b-0f  40 ports for disks and devices 10-17  64 ports for NICs
  18-1e  bridges with 31 NICs each
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import device

Slot = Dict[str, Any]
Slots = Dict[str, Slot]
# A device that needs a slot on a bus: its key in definition["slots"], such as "nics/eth0"; the
# kind of slot; the index asked for, or None; the option that asks, for errors.
SlotRequest = tuple[str, str, Optional[int], str]

_SINGLE = {
    "display": 2,
    "serial": 3,
    "scsi": 4,
    "sata": 5,
    "rng": 6,
    "balloon": 7,
    "watchdog": 8,
    "usb": 9,
    "sd": 10,
}
_PER_BRIDGE = 31
_FIRST_DEVICE = 0x0B
_FIRST_NIC = 0x10
_FIRST_NIC_BRIDGE = 0x17
_DEVICE_BRIDGE = 0x1F
_FIRST_PCIE_NIC_BRIDGE = 0x18
_ROOT_NICS = 7
_ROOT_DEVICES = 5
_PORT_NICS = 64
_PORT_DEVICES = 40
_SPARE_PORTS = 2
MAX_NICS = 255
_SLOTS_AT_START = "slots_at_start"
# A NIC takes the number in its name up to this, or to the number of NICs; others would add bridges
# needlessly.
_MAX_NUMBER_IN_NAME = 63

# The number of units of each bus. IDE: two channels of two; AHCI: six ports; the i82078 floppy
# controller: two drives.
UNITS = {
    "ide": 4,
    "sata": 6,
    "scsi": 256,
    "floppy": 2,
    "usb": 14,
    "sd": 1,
    "pflash": 2,
    "pci": _ROOT_DEVICES + _PER_BRIDGE,
    "nic": MAX_NICS,
}


def family(machine: str, arch: str) -> str:
    """Return i440fx, q35, virt, spapr, or none where QEMU assigns the addresses itself."""
    if arch in ("x86_64", "i386"):
        if machine == "pc" or machine.startswith("pc-i440fx"):
            return "i440fx"
        return "q35" if machine == "q35" or machine.startswith("pc-q35") else "none"
    if machine == "virt" or machine.startswith("virt-"):
        return "virt" if arch in ("aarch64", "arm", "riscv64", "riscv32", "loongarch64") else "none"
    return "spapr" if machine.startswith("pseries") else "none"


def is_pcie(machine_family: str) -> bool:
    """Return whether the family has PCI Express root ports."""
    return machine_family in ("q35", "virt")


def assign(slots: Slots, requests: Iterable[SlotRequest]) -> Slots:
    """Return a slot for each request; devices that have a slot keep it.

    Raises OptionError when two devices ask for one unit, or when a bus is full.
    """
    assigned: Slots = {}
    taken: dict[tuple[str, int], str] = {}
    unassigned: list[tuple[str, str, str]] = []
    for key, kind, index, option in requests:
        old = slots.get(key)
        if index is not None:
            if not 0 <= index < UNITS[kind]:
                raise OptionError(option, "%s has the units 0 to %d" % (kind, UNITS[kind] - 1))
        elif old and old["kind"] == kind:
            index = old["index"]
        if index is None:
            unassigned.append((key, kind, option))
            continue
        if (kind, index) in taken:
            raise OptionError(
                option,
                "unit %d of %s is assigned to both %s and %s; only one can have it"
                % (index, kind, taken[kind, index], key),
            )
        assigned[key] = {"kind": kind, "index": index}
        taken[kind, index] = key
    kinds = [slot["kind"] for slot in assigned.values()] + [entry[1] for entry in unassigned]
    nics = kinds.count("nic")
    # Numbers in names first, so that they do not depend on the order of the devices.
    for key, kind, option in unassigned:
        number = _number_in(key, nics) if kind == "nic" else None
        if number is not None and (kind, number) not in taken:
            assigned[key] = {"kind": kind, "index": number}
            taken[kind, number] = key
    for key, kind, option in unassigned:
        if key not in assigned:
            index = next((n for n in range(UNITS[kind]) if (kind, n) not in taken), None)
            if index is None:
                raise OptionError(
                    option,
                    "%s has no free unit for %s (maximum: %d)" % (kind, key, UNITS[kind]),
                )
            assigned[key] = {"kind": kind, "index": index}
            taken[kind, index] = key
    return assigned


def _number_in(key: str, nics: int) -> Optional[int]:
    """Return the number at the end of a NIC's name: eth3 has slot 3 whenever it is added.

    nics: how many NICs the VM has.
    """
    match = re.search(r"([0-9]+)\Z", key)
    if not match or len(match.group(1)) > 3:
        return None
    number = int(match.group(1))
    return number if number <= max(_MAX_NUMBER_IN_NAME, nics) and number < MAX_NICS else None


def identifier(slot: Slot) -> str:
    """Return the ID of the device in a slot, such as nic3 or disk-scsi0."""
    return "%s%d" % ("nic" if slot["kind"] == "nic" else "disk-" + slot["kind"], slot["index"])


def pci(machine_family: str, slot: Slot) -> dict[str, str]:
    """Return bus and addr of a PCI device in a slot of kind nic or pci.

    Empty where QEMU assigns the addresses itself.
    """
    if machine_family == "none":
        return {}
    index, is_nic = slot["index"], slot["kind"] == "nic"
    if is_pcie(machine_family):
        if index < (_PORT_NICS if is_nic else _PORT_DEVICES):
            return {"bus": "%s-port%d" % (slot["kind"], index), "addr": "0"}
        bridge, number = divmod(index - _PORT_NICS, _PER_BRIDGE)
        return {"bus": "nics%d" % bridge, "addr": "%x" % (number + 1)}
    on_root = _ROOT_NICS if is_nic else _ROOT_DEVICES
    if index < on_root:
        first = _FIRST_NIC if is_nic else _FIRST_DEVICE
        return {"bus": "pci.0", "addr": "%x" % (first + index)}
    bridge, number = divmod(index - on_root, _PER_BRIDGE)
    return {"bus": "nics%d" % bridge if is_nic else "devices", "addr": "%x" % (number + 1)}


def virtio_suffix(machine_family: str, arch: str) -> str:
    """Return the suffix of the names of virtio devices on a machine."""
    if arch == "s390x":
        return "ccw"
    return "device" if machine_family == "none" else "pci"


def single(machine_family: str, name: str) -> dict[str, str]:
    """Return bus and addr of a device that a machine has once; its name is a key of _SINGLE."""
    if machine_family == "none":
        return {}
    bus = "pcie.0" if is_pcie(machine_family) else "pci.0"
    return {"bus": bus, "addr": "%x" % _SINGLE[name]}


def buses(machine_family: str, slots: Slots) -> list[dict[str, Any]]:
    """Return the bridges and root ports that the slots need, in the order of their creation."""
    if machine_family == "none":
        return []
    nics = _used(slots, "nic")
    devices = _used(slots, "pci")
    return _pcie_ports(nics, devices) if is_pcie(machine_family) else _pci_bridges(nics, devices)


def _used(slots: Slots, kind: str) -> int:
    return max((slot["index"] for slot in slots.values() if slot["kind"] == kind), default=-1) + 1


def _pci_bridges(nics: int, devices: int) -> list[dict[str, Any]]:
    bridges = [
        ("nics%d" % n, _FIRST_NIC_BRIDGE + n) for n in range(_bridge_count(nics - _ROOT_NICS))
    ]
    if devices > _ROOT_DEVICES:
        bridges.append(("devices", _DEVICE_BRIDGE))
    return [
        {
            "driver": "pci-bridge",
            "id": name,
            "bus": "pci.0",
            "addr": "%x" % address,
            "chassis_nr": chassis,
        }
        for chassis, (name, address) in enumerate(bridges, 1)
    ]


def _pcie_ports(nics: int, devices: int) -> list[dict[str, Any]]:
    ports = [("nic", n) for n in range(min(nics + _SPARE_PORTS, _PORT_NICS))]
    ports += [("pci", n) for n in range(min(devices + _SPARE_PORTS, _PORT_DEVICES))]
    result = []
    for name, n in ports:
        address, function = divmod(n, 8)
        first = _FIRST_NIC if name == "nic" else _FIRST_DEVICE
        result.append(
            {
                "driver": "pcie-root-port",
                "id": "%s-port%d" % (name, n),
                "bus": "pcie.0",
                "addr": "%x.%x" % (first + address, function),
                "multifunction": True if function == 0 else None,
                "chassis": n + (1 if name == "nic" else 101),
                "slot": n,
            }
        )
    result += [
        {
            "driver": "pcie-pci-bridge",
            "id": "nics%d" % n,
            "bus": "pcie.0",
            "addr": "%x" % (_FIRST_PCIE_NIC_BRIDGE + n),
        }
        for n in range(_bridge_count(nics - _PORT_NICS))
    ]
    return result


def _bridge_count(nics: int) -> int:
    """Return the number of bridges for so many NICs, rounded up."""
    return max(0, -(-nics // _PER_BRIDGE))


def slots_at_start(running: dict[str, Any]) -> Slots:
    """Return the slots with which a running VM was started: its buses and controllers are theirs.

    Devices that come and go while it runs change its slots, but neither buses nor controllers.
    """
    slots: Slots = running.get(_SLOTS_AT_START) or running["slots"]
    return slots


def with_slots_at_start(definition: dict[str, Any], slots: Slots) -> dict[str, Any]:
    """Return the definition of a running VM, with the slots with which it was started."""
    return {**definition, _SLOTS_AT_START: slots}


def without_slots_at_start(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition of a VM that does not run."""
    return {key: value for key, value in definition.items() if key != _SLOTS_AT_START}


def bus_exists(machine_family: str, slots: Slots, address: dict[str, str]) -> bool:
    """Return whether a machine that was started with slots has the bus of address."""
    bus = address.get("bus")
    return bus in (None, "pci.0", "pcie.0") or any(
        bridge["id"] == bus for bridge in buses(machine_family, slots)
    )


def bus_arguments(machine_family: str, slots: Slots) -> list[str]:
    """Return the command line words of the buses."""
    return [word for bus in buses(machine_family, slots) for word in device(bus)]
