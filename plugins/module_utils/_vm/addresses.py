# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Where every device sits: places are given once, kept in the definition, and never move because another device comes or goes.

A place is {"kind": K, "index": N}. Its PCI bus and address, or its unit on another bus, are a pure function of the machine's
family and the place. Guests number their cards in this order.

The root bus of i440fx ("pc") and of the spapr bridge, slots in hexadecimal:
  02-0a  one of a kind (_SINGLE)        0b-0f  disks and devices 0-4        10-16  NICs 0-6
  17-1e  bridges with 31 NICs each      1f     a bridge with 31 more disks and devices
PCIe machines ("q35", "virt") put a root port, which takes a card while the guest runs, before each of them:
  0b-0f  40 ports for disks and devices 10-17  64 ports for NICs            18-1e  bridges with 31 NICs each
"""

from __future__ import annotations

import re

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import device

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
_PCI_ROOM = 0x0B
_NIC_ROOM = 0x10
_ROOT_NICS = 7
_ROOT_DEVICES = 5
_PORT_NICS = 64
_PORT_DEVICES = 40
_SPARE_PORTS = 2
MOST_NICS = 255

# How many units a bus has. IDE: two channels of two; AHCI: six ports; the i82078 floppy controller: two drives.
_UNITS = {
    "ide": 4,
    "sata": 6,
    "scsi": 256,
    "floppy": 2,
    "usb": 14,
    "sd": 1,
    "pflash": 2,
    "pci": _ROOT_DEVICES + _PER_BRIDGE,
    "nic": MOST_NICS,
}


def family(machine, arch):
    """i440fx, q35, virt, spapr, or none where QEMU places devices itself."""
    if arch in ("x86_64", "i386"):
        if machine == "pc" or machine.startswith("pc-i440fx"):
            return "i440fx"
        return "q35" if machine == "q35" or machine.startswith("pc-q35") else "none"
    if machine == "virt" or machine.startswith("virt-"):
        return "virt" if arch in ("aarch64", "arm", "riscv64", "riscv32", "loongarch64") else "none"
    return "spapr" if machine.startswith("pseries") else "none"


def is_pcie(kind):
    """Whether the family has PCI Express root ports."""
    return kind in ("q35", "virt")


def assign(places, desired):
    """Give each key of wanted a place; keep those of places; forget the keys that are not wanted any more.

    wanted: list of (key, kind, index asked for or None, option). Raises OptionError when two ask for one unit, or a bus is full.
    """
    kept, taken, fresh = {}, {}, []
    for key, kind, index, option in desired:
        old = places.get(key)
        if index is not None:
            if not 0 <= index < _UNITS[kind]:
                raise OptionError(option, "%s has the units 0 to %d" % (kind, _UNITS[kind] - 1))
        elif old and old["kind"] == kind:
            index = old["index"]
        if (kind, index) in taken:
            raise OptionError(
                option,
                "unit %d of %s is for %s and for %s: only one can have it"
                % (index, kind, taken[kind, index], key),
            )
        if index is None:
            fresh.append((key, kind, option))
        else:
            kept[key] = {"kind": kind, "index": index}
            taken[kind, index] = key
    named = [(key, kind, option, _number_in(key)) for key, kind, option in fresh]
    for preferred in (True, False):
        for key, kind, option, number in named:
            if key in kept:
                continue
            if preferred:
                if number is None or (kind, number) in taken:
                    continue
                index = number
            else:
                index = next((n for n in range(_UNITS[kind]) if (kind, n) not in taken), None)
                if index is None:
                    raise OptionError(
                        option, "%s has no unit left for %s: %d at most" % (kind, key, _UNITS[kind])
                    )
            kept[key] = {"kind": kind, "index": index}
            taken[kind, index] = key
    return kept


def _number_in(key):
    """A NIC called eth3 sits third whenever it comes; high numbers would need bridges for nothing."""
    match = re.search(r"(\d+)$", key) if key.startswith("nics/") else None
    return (
        int(match.group(1))
        if match and len(match.group(1)) < 3 and int(match.group(1)) < 32
        else None
    )


def identifier(place):
    """The id of the device at a place, such as nic3 or disk-scsi0."""
    return "%s%d" % ("nic" if place["kind"] == "nic" else "disk-" + place["kind"], place["index"])


def pci(kind, place):
    """bus and addr of a PCI device at a place of kind nic or pci; empty where QEMU places devices itself."""
    if kind == "none":
        return {}
    index, is_nic = place["index"], place["kind"] == "nic"
    if is_pcie(kind):
        if index < (_PORT_NICS if is_nic else _PORT_DEVICES):
            return {"bus": "%s-port%d" % (place["kind"], index), "addr": "0"}
        bridge, slot = divmod(index - _PORT_NICS, _PER_BRIDGE)
        return {"bus": "nics%d" % bridge, "addr": "%x" % (slot + 1)}
    root = _ROOT_NICS if is_nic else _ROOT_DEVICES
    if index < root:
        return {"bus": "pci.0", "addr": "%x" % ((_NIC_ROOM if is_nic else _PCI_ROOM) + index)}
    bridge, slot = divmod(index - root, _PER_BRIDGE)
    return {"bus": "nics%d" % bridge if is_nic else "devices", "addr": "%x" % (slot + 1)}


def single(kind, name):
    """bus and addr of a device that a machine has once: display, serial, scsi, sata, rng, balloon, watchdog, usb, sd."""
    return (
        {}
        if kind == "none"
        else {"bus": "pcie.0" if is_pcie(kind) else "pci.0", "addr": "%x" % _SINGLE[name]}
    )


def buses(kind, places):
    """The bridges and root ports that the places need, as devices in the order in which QEMU must make them."""
    if kind == "none":
        return []
    nics = max((p["index"] for p in places.values() if p["kind"] == "nic"), default=-1) + 1
    devices = max((p["index"] for p in places.values() if p["kind"] == "pci"), default=-1) + 1
    if not is_pcie(kind):
        bridges = [("nics%d" % n, 0x17 + n) for n in range(_count(nics - _ROOT_NICS))]
        if devices > _ROOT_DEVICES:
            bridges.append(("devices", 0x1F))
        return [
            {
                "driver": "pci-bridge",
                "id": name,
                "bus": "pci.0",
                "addr": "%x" % slot,
                "chassis_nr": chassis,
            }
            for chassis, (name, slot) in enumerate(bridges, 1)
        ]
    ports = [("nic", n) for n in range(min(nics + _SPARE_PORTS, _PORT_NICS))]
    ports += [("pci", n) for n in range(min(devices + _SPARE_PORTS, _PORT_DEVICES))]
    made = []
    for name, n in ports:
        slot, function = divmod(n, 8)
        made.append(
            {
                "driver": "pcie-root-port",
                "id": "%s-port%d" % (name, n),
                "bus": "pcie.0",
                "addr": "%x.%x" % ((_NIC_ROOM if name == "nic" else _PCI_ROOM) + slot, function),
                "multifunction": True if function == 0 else None,
                "chassis": n + (1 if name == "nic" else 101),
                "slot": n,
            }
        )
    made += [
        {
            "driver": "pcie-pci-bridge",
            "id": "nics%d" % n,
            "bus": "pcie.0",
            "addr": "%x" % (0x18 + n),
        }
        for n in range(_count(nics - _PORT_NICS))
    ]
    return made


def _count(beyond):
    return max(0, -(-beyond // _PER_BRIDGE))


def bus_exists(kind, places, address):
    """Whether a machine that runs with places has the bus for one more device at address."""
    bus = address.get("bus")
    return bus in (None, "pci.0", "pcie.0") or any(
        made["id"] == bus for made in buses(kind, places)
    )


def bus_arguments(kind, places):
    """The command line words of the buses."""
    return [word for made in buses(kind, places) for word in device(made)]
