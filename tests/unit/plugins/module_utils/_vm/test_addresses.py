# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import random

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses

FAMILIES = ["i440fx", "q35", "virt", "spapr"]
SINGLES = ("display", "serial", "scsi", "sata", "rng", "balloon", "watchdog", "usb", "sd")


def request(key, kind="nic", index=None):
    return key, kind, index, "option of " + key


def nics(*numbers):
    return [request("nics/eth%d" % number) for number in numbers]


def indexes(slots):
    return {key: slot["index"] for key, slot in slots.items()}


@pytest.mark.parametrize(
    "machine, arch, family",
    [
        ("pc", "x86_64", "i440fx"),
        ("pc-i440fx-5.2", "i386", "i440fx"),
        ("q35", "x86_64", "q35"),
        ("pc-q35-10.0", "x86_64", "q35"),
        ("microvm", "x86_64", "none"),
        ("isapc", "x86_64", "none"),
        ("virt", "aarch64", "virt"),
        ("virt-7.2", "riscv64", "virt"),
        ("virt", "m68k", "none"),
        ("pseries-7.2", "ppc64", "spapr"),
        ("s390-ccw-virtio", "s390x", "none"),
        ("raspi3b", "aarch64", "none"),
    ],
)
def test_families(machine, arch, family):
    assert addresses.family(machine, arch) == family


@pytest.mark.parametrize(
    "desired, expected",
    [
        (nics(0, 1, 2), {"nics/eth0": 0, "nics/eth1": 1, "nics/eth2": 2}),
        (nics(3), {"nics/eth3": 3}),
        (nics(63, 32, 64), {"nics/eth63": 63, "nics/eth32": 32, "nics/eth64": 0}),
        (nics(192, 2024), {"nics/eth192": 0, "nics/eth2024": 1}),
        ([request("nics/eth007")], {"nics/eth007": 7}),
        ([request("nics/lan"), request("nics/eth0")], {"nics/lan": 1, "nics/eth0": 0}),
        ([request("nics/a1"), request("nics/b1")], {"nics/a1": 1, "nics/b1": 0}),
        ([request("disks/disk7", "scsi")], {"disks/disk7": 0}),
        (
            [request("disks/a", "ide", 2), request("disks/b", "ide"), request("cdroms/c", "ide")],
            {"disks/a": 2, "disks/b": 0, "cdroms/c": 1},
        ),
        (
            [request("disks/a", "pci"), request("nics/a", "nic"), request("devices/0", "pci")],
            {"disks/a": 0, "nics/a": 0, "devices/0": 1},
        ),
    ],
)
def test_new_places(desired, expected):
    assert indexes(addresses.assign({}, desired)) == expected


@pytest.mark.parametrize(
    "order",
    list(itertools.permutations([request("disks/a", "scsi", 0), request("disks/b", "scsi")])),
)
def test_a_slot_is_not_taken_from_another_device(order):
    """It would move a device of a running VM behind its back."""
    held = addresses.assign({}, [request("disks/b", "scsi")])
    with pytest.raises(OptionError, match="unit 0 of scsi is assigned to both"):
        addresses.assign(held, list(order))
    assert indexes(addresses.assign({}, list(order))) == {"disks/a": 0, "disks/b": 1}, (
        "of two new ones, the one that asks has it"
    )


@pytest.mark.parametrize(
    "desired, message",
    [
        ([request("a", "ide", 4)], "units 0 to 3"),
        ([request("a", "scsi", -1)], "units 0 to 255"),
        ([request("a", "sd"), request("b", "sd")], "no free unit for b"),
        ([request("a", "ide", 1), request("b", "ide", 1)], "both a and b"),
        ([request("n%d" % n) for n in range(256)], "maximum: 255"),
    ],
)
def test_what_does_not_fit(desired, message):
    with pytest.raises(OptionError, match=message):
        addresses.assign({}, desired)


def test_numbers_of_many_nics_are_their_slots_in_any_order():
    """They come and go on a VM that has so many, and each returns to its slot."""
    every = nics(*range(255))
    slots = addresses.assign({}, every[::-1])
    assert indexes(slots) == {"nics/eth%d" % n: n for n in range(255)}
    fewer = [entry for entry in every if entry[0] not in ("nics/eth70", "nics/eth200")]
    slots = addresses.assign(slots, fewer)
    slots = addresses.assign(slots, [*fewer, request("nics/eth200")])
    assert slots["nics/eth200"]["index"] == 200


def test_another_bus_is_another_slot():
    held = addresses.assign({}, [request("disks/a", "scsi", 3)])
    assert addresses.assign(held, [request("disks/a", "ide")]) == {
        "disks/a": {"kind": "ide", "index": 0}
    }


@pytest.mark.parametrize("seed", range(20))
def test_slots_never_move(seed):
    """Devices keep their slots and never share one, in any order of additions and removals."""
    chance = random.Random(seed)
    names = [("nics/eth%d" % n, "nic") for n in range(40)] + [
        ("nics/%s" % c, "nic") for c in "abcdef"
    ]
    names += [("disks/d%d" % n, kind) for n in range(3) for kind in ("pci", "scsi")] + [
        ("cdroms/c%d" % n, "ide") for n in range(4)
    ]
    names = list(dict(names).items())
    present, slots = [], {}
    for _step in range(60):
        name = chance.choice(names)
        if name in present:
            present.remove(name)
        else:
            present.insert(chance.randint(0, len(present)), name)
        before = slots
        slots = addresses.assign(slots, [request(key, kind) for key, kind in present])
        assert set(slots) == {key for key, kind in present}
        assert all(slots[key] == before[key] for key in set(slots) & set(before))
        assert len({(slot["kind"], slot["index"]) for slot in slots.values()}) == len(slots)
        assert slots == addresses.assign(
            slots, [request(key, kind) for key, kind in chance.sample(present, len(present))]
        )
        assert len({addresses.identifier(slot) for slot in slots.values()}) == len(slots)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "nic_count, device_count", [(0, 0), (1, 1), (7, 5), (8, 6), (64, 36), (65, 30), (255, 36)]
)
def test_no_two_on_one_address(family, nic_count, device_count):
    slots = {"nics/n%d" % n: {"kind": "nic", "index": n} for n in range(nic_count)}
    slots.update({"disks/d%d" % n: {"kind": "pci", "index": n} for n in range(device_count)})
    made = addresses.buses(family, slots)
    root = "pcie.0" if addresses.is_pcie(family) else "pci.0"
    devices_on = {root: 32}
    used = set()

    def use(bus, addr):
        number, _dot, function = addr.partition(".")
        assert bus in devices_on, "a bus must exist before its devices"
        assert int(number, 16) < devices_on[bus]
        assert (bus, int(number, 16), int(function or "0")) not in used
        used.add((bus, int(number, 16), int(function or "0")))

    for bus in made:
        use(bus["bus"], bus["addr"])
        devices_on[bus["id"]] = 1 if bus["driver"] == "pcie-root-port" else 32
        assert (bus["addr"].endswith(".0") and bus.get("multifunction") is True) or bus.get(
            "multifunction"
        ) is None
    for name in SINGLES:
        address = addresses.single(family, name)
        use(address["bus"], address["addr"])
    for slot in slots.values():
        address = addresses.pci(family, slot)
        use(address["bus"], address["addr"])
        assert addresses.bus_exists(family, slots, address)
        if address["bus"] != root and not address["bus"].endswith(tuple("0123456789")):
            assert address["addr"] != "0"
    chassis = [
        bus.get("chassis_nr", bus.get("chassis"))
        for bus in made
        if bus["driver"] != "pcie-pci-bridge"
    ]
    assert len(set(chassis)) == len(chassis) and all(1 <= number <= 255 for number in chassis)
    assert len({bus["id"] for bus in made}) == len(made)
    reserved = {0, 1} | (
        {0x1F, 0x1E}
        if family == "q35" and nic_count < 200
        else {0x1F}
        if family == "q35"
        else set()
    )
    assert not reserved & {number for bus, number, function in used if bus == root}, (
        "the board's own devices are there"
    )


@pytest.mark.parametrize(
    "family, before, index, there",
    [
        ("i440fx", 0, 6, True),
        ("i440fx", 0, 7, False),
        ("i440fx", 8, 37, True),
        ("i440fx", 8, 38, False),
        ("q35", 1, 2, True),
        ("q35", 1, 3, False),
        ("q35", 64, 64, False),
        ("q35", 65, 94, True),
        ("none", 0, 200, True),
    ],
)
def test_bus_for_one_more_nic_while_it_runs(family, before, index, there):
    slots = {"nics/%d" % n: {"kind": "nic", "index": n} for n in range(before)}
    assert (
        addresses.bus_exists(family, slots, addresses.pci(family, {"kind": "nic", "index": index}))
        is there
    )


def test_where_qemu_places_devices_itself():
    assert (
        addresses.pci("none", {"kind": "nic", "index": 3}) == addresses.single("none", "usb") == {}
        and addresses.buses("none", {}) == []
    )


def test_adding_a_nic_moves_no_bus():
    """A bridge that appears must leave the addresses of those before it."""
    for family in FAMILIES:
        for count in [*range(12), 36, 37, 38, 62, 63, 64, 65, 94, 95, 96, 253, 254]:
            fewer, more = (
                {"n%d" % n: {"kind": "nic", "index": n} for n in range(number)}
                for number in (count, count + 1)
            )
            known = {bus["id"]: bus for bus in addresses.buses(family, more)}
            assert all(known[bus["id"]] == bus for bus in addresses.buses(family, fewer)), (
                family,
                count,
            )
