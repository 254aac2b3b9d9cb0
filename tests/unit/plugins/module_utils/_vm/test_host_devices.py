# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Host devices, with a folder in the key of sysfs in which writes have the kernel's effects."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import host_devices
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host_pci import HostPci
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts import devices
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, argv, compose, values

PF, VFS = "0000:3b:00.0", ["0000:3b:02.%d" % n for n in range(4)]
TWO = [{"device": "ens1f0", "virtual_functions": 2}]


class FakePci(HostPci):
    """A host with the NIC ens1f0 and four virtual functions of it.

    refused: addresses that vfio-pci does not accept. busy: IOMMU groups that a program has open.
    """

    def __init__(self, folder):
        self.sys, self.refused, self.busy, self.log = str(folder / "sys"), set(), set(), []
        super().__init__(self.sys, str(folder / "dev"))
        for driver in ("vfio-pci", "ixgbe", "ixgbevf"):
            os.makedirs(self.at("bus/pci/drivers", driver))
        os.makedirs(self.at("class/net"))
        os.makedirs(str(folder / "dev/vfio"))
        for number, address in enumerate([PF, *VFS]):
            name = "ens1f0" if address == PF else "ens1f0v%d" % (number - 1)
            os.makedirs(self.device(address))
            with open(self.device(address, "driver_override"), "w", encoding="ascii"):
                pass
            os.makedirs(self.at("kernel/iommu_groups", str(number)))
            os.symlink(
                self.at("kernel/iommu_groups", str(number)), self.device(address, "iommu_group")
            )
            self.make_interface(address, name)
            self.attach(address, "ixgbe" if address == PF else "ixgbevf")
        for number, address in enumerate(VFS):
            os.symlink(self.device(address), self.device(PF, "virtfn%d" % number))
        os.symlink(self.device(PF), self.device(VFS[0], "physfn"))

    def at(self, *names):
        return os.path.join(self.sys, *names)

    def device(self, address, *names):
        return self.at("bus/pci/devices", address, *names)

    def make_interface(self, address, name, up=False):
        os.makedirs(self.device(address, "net", name))
        os.makedirs(self.at("class/net", name), exist_ok=True)
        os.symlink(self.device(address), self.at("class/net", name, "device"))
        self.set_up(name, up)

    def set_up(self, name, up=True):
        with open(self.at("class/net", name, "flags"), "w", encoding="ascii") as stream:
            stream.write("0x1003\n" if up else "0x1002\n")

    def attach(self, address, driver):
        os.symlink(self.at("bus/pci/drivers", driver), self.device(address, "driver"))

    def write(self, path, text):
        """Have the effect that the kernel has."""
        what = os.path.relpath(path, self.sys)
        self.log.append((what.replace("bus/pci/", ""), text.strip()))
        if what.endswith("driver_override"):
            super().write(path, text)
        elif what.endswith("unbind"):
            os.unlink(self.device(text, "driver"))
        elif what.endswith("drivers_probe"):
            with open(self.device(text, "driver_override"), encoding="ascii") as stream:
                override = stream.read().strip()
            if text not in self.refused:
                self.attach(text, override or ("ixgbe" if text == PF else "ixgbevf"))

    def _is_open(self, group):
        return group in self.busy


@pytest.fixture(name="pci")
def fixture_pci(tmp_path, monkeypatch):
    pci = FakePci(tmp_path)
    monkeypatch.setattr(devices, "HostPci", lambda: pci)
    return pci


@pytest.fixture(name="vm")
def fixture_vm(tmp_path):
    def make(name):
        folder = Folder(str(tmp_path / "root"), "l", name)
        folder.make()
        return folder

    return make


def addresses(found):
    return [device.address for device in found]


@pytest.mark.parametrize(
    "given, expected",
    [
        ("3B:00.1", "0000:3b:00.1"),
        ("0001:3b:00.1", "0001:3b:00.1"),
        ("ens1f0", "ens1f0"),
        ({"interface": "ens1f0"}, "ens1f0"),
        ({"address": "3b:00.0", "virtual_functions": None}, "0000:3b:00.0"),
        (
            {"interface": "ens1f0", "virtual_functions": "2"},
            {"device": "ens1f0", "virtual_functions": 2},
        ),
        (
            {"address": "3b:00.0", "virtual_functions": 1},
            {"device": "0000:3b:00.0", "virtual_functions": 1},
        ),
        ("3b:00", "p[0]: '3b:00' is not a PCI address"),
        ("", "p[0]: '' is not a PCI address"),
        ("..", "p[0]: '..' is not a PCI address"),
        ("a/b", "p[0]: 'a/b' is not a PCI address"),
        ("a b", "p[0]: 'a b' is not a PCI address"),
        ("sixteen-letters-", "p[0]: 'sixteen-letters-' is not a PCI address"),
        (5, "p[0]: 5 is neither a device nor a dictionary"),
        ({}, "p[0]: give one of interface and address"),
        ({"interface": "a", "address": "3b:00.0"}, "p[0]: give one of interface and address"),
        ({"interface": 5}, "p[0]: give one of interface and address"),
        ({"interface": "a", "count": 2}, "p[0].count: there is no such suboption"),
        ({"interface": "a", "virtual_functions": 0}, "p[0].virtual_functions: 0 is not a number"),
        ({"interface": "a", "virtual_functions": 257}, "p[0].virtual_functions: 257 is not a"),
        ({"interface": "a", "virtual_functions": "x"}, "p[0].virtual_functions: 'x' is not a"),
        ({"interface": "a", "virtual_functions": True}, "p[0].virtual_functions: true is not a"),
    ],
)
def test_what_the_user_gives(given, expected):
    if isinstance(expected, str) and ": " in expected:
        with pytest.raises(OptionError) as caught:
            host_devices.normalise("p", [given])
        assert caught.value.message.startswith(expected)
        return
    entries = host_devices.normalise("p", [given])
    assert entries == [expected]
    assert host_devices.normalise("p", host_devices.written(entries)) == entries


def test_a_device_is_given_once():
    for given in (["3b:00.0", "0000:3B:00.0"], ["a", {"interface": "a"}]):
        with pytest.raises(OptionError, match="^p: a device is named twice"):
            host_devices.normalise("p", given)
    twice = [{"interface": "a", "virtual_functions": n} for n in (1, 2)]
    with pytest.raises(OptionError, match="^p: a device is named twice"):
        host_devices.normalise("p", twice)


def test_an_interface_is_its_device_and_is_given_back(pci, vm):
    host_devices.check(vm("a"), ["ens1f0"], pci)
    assert not pci.log, "a check changes nothing"
    host_devices.take(vm("a"), ["ens1f0"], pci)
    assert pci.log == [
        ("devices/%s/driver_override" % PF, "vfio-pci"),
        ("devices/%s/driver/unbind" % PF, PF),
        ("drivers_probe", PF),
    ]
    assert pci.driver(PF) == "vfio-pci"
    assert host_devices.bound(vm("a"), ["ens1f0", VFS[3]]) == {"ens1f0": PF, VFS[3]: VFS[3]}
    assert addresses(host_devices.choose(vm("a"), ["ens1f0"], pci)) == [PF]
    assert list(host_devices.give_back(vm("a"), pci)) == []
    assert pci.driver(PF) == "ixgbe" and host_devices.bound(vm("a"), ["ens1f0"]) == {}
    with open(pci.device(PF, "driver_override"), encoding="ascii") as stream:
        assert stream.read() == "\n"
    assert not os.path.exists(vm("a").host), "nothing is left"


def test_functions_that_are_free(pci, vm):
    pci.set_up("ens1f0v1")
    host_devices.take(vm("a"), TWO, pci)
    assert host_devices.bound(vm("a"), TWO) == {"ens1f0/0": VFS[0], "ens1f0/1": VFS[2]}
    with pytest.raises(HostError) as caught:
        host_devices.check(vm("b"), TWO, pci)
    assert "ens1f0 has 1 free virtual functions of 4, but 2 are needed" in caught.value.message
    one = [{"device": PF, "virtual_functions": 1}]
    host_devices.take(vm("b"), one, pci)
    assert host_devices.bound(vm("b"), one) == {PF + "/0": VFS[3]}
    list(host_devices.give_back(vm("a"), pci))
    assert [pci.driver(address) for address in VFS] == ["ixgbevf"] * 3 + ["vfio-pci"]
    assert os.path.exists(vm("a").host), "the other VM has a record"


def test_a_killed_run_keeps_its_functions(pci, vm):
    host_devices.take(vm("a"), TWO, pci)
    before = host_devices.bound(vm("a"), TWO)
    host_devices.take(vm("a"), TWO, pci)
    assert host_devices.bound(vm("a"), TWO) == before
    # After a reboot of the host, the record is old: the host has the devices.
    for address in before.values():
        os.unlink(pci.device(address, "driver"))
        pci.attach(address, "ixgbevf")
    pci.set_up("ens1f0v0")
    assert addresses(host_devices.choose(vm("a"), TWO, pci)) == [VFS[1], VFS[2]]
    list(host_devices.give_back(vm("a"), pci))
    assert pci.driver(VFS[0]) == "ixgbevf"


def test_two_entries_of_one_device(pci, vm):
    both = [*TWO, {"device": PF, "virtual_functions": 2}]
    host_devices.take(vm("a"), both, pci)
    assert sorted(host_devices.bound(vm("a"), both).values()) == VFS


def test_a_device_that_was_bound_before_stays_so(pci, vm):
    os.unlink(pci.device(VFS[0], "driver"))
    pci.attach(VFS[0], "vfio-pci")
    one = [{"device": "ens1f0", "virtual_functions": 1}]
    host_devices.take(vm("a"), one, pci)
    list(host_devices.give_back(vm("a"), pci))
    assert pci.log == [] and pci.driver(VFS[0]) == "vfio-pci"
    pci.busy.add("1")
    assert addresses(host_devices.choose(vm("a"), one, pci)) == [VFS[1]], "another program has it"


@pytest.mark.parametrize(
    "entry, change, message",
    [
        ("ens9", None, "passthrough[0]: the host has no network interface ens9"),
        (
            "lo",
            lambda p: os.makedirs(p.at("class/net/lo")),
            "lo of the host is not of a PCI device",
        ),
        (
            "ens1f0",
            lambda p: p.set_up("ens1f0"),
            "in use by the hypervisor, its interface ens1f0 is up",
        ),
        (
            "ens1f0",
            lambda p: os.makedirs(p.at("class/net/ens1f0/master")),
            "its interface ens1f0 is part of a bridge or a bond",
        ),
        ("ens1f0", lambda p: os.rmdir(p.at("bus/pci/drivers/vfio-pci")), "modprobe vfio-pci"),
        ("ens1f0", lambda p: os.unlink(p.device(PF, "iommu_group")), "is in no IOMMU group"),
        (
            "ens1f0",
            lambda p: os.unlink(p.device(PF, "driver_override")),
            "no permission to bind %s to vfio-pci: become root" % PF,
        ),
        (VFS[0], None, "passthrough: %s is bound to ixgbevf: bind it to vfio-pci first" % VFS[0]),
        ("0000:ff:00.0", None, "passthrough: the host has no PCI device 0000:ff:00.0"),
        (
            {"device": VFS[1], "virtual_functions": 1},
            None,
            "%s has no virtual functions: create them (echo 1 >" % VFS[1],
        ),
    ],
)
def test_what_prevents_a_start(pci, vm, entry, change, message):
    if change:
        change(pci)
    with pytest.raises(VlabError) as caught:
        host_devices.check(vm("a"), [entry], pci)
    assert message in caught.value.message
    assert not pci.log


def test_a_start_that_fails_gives_back_what_it_took(pci, vm):
    pci.refused.add(VFS[1])
    with pytest.raises(HostError, match="the driver vfio-pci does not accept " + VFS[1]):
        host_devices.take(vm("a"), TWO, pci)
    assert pci.driver(VFS[0]) == "ixgbevf" and not os.path.exists(vm("a").host)


def test_what_cannot_be_given_back_stays_in_the_record(pci, vm, monkeypatch):
    host_devices.take(vm("a"), TWO, pci)

    def refuse(path, text):
        if text == VFS[1] or VFS[1] in path:
            raise HostError("no")
        FakePci.write(pci, path, text)

    monkeypatch.setattr(pci, "write", refuse)
    assert list(host_devices.give_back(vm("a"), pci)) == [
        "%s was not given back to the driver ixgbevf: no" % VFS[1]
    ]
    assert list(host_devices.bound(vm("a"), TWO)) == ["ens1f0/1"]


@pytest.mark.parametrize(
    "content", ["[]", '{"a": 1}', '{"a": {"address": "x", "driver": "y"}}', "{", '{"a": {}}']
)
def test_a_damaged_record(pci, vm, content):
    with open(vm("a").file("host-devices.json"), "w", encoding="ascii") as stream:
        stream.write(content)
    with pytest.raises(HostError, match="damaged|not JSON|cannot"):
        host_devices.take(vm("a"), TWO, pci)
    assert len(list(host_devices.give_back(vm("a"), pci))) == 1
    host_devices.take(vm("b"), TWO, pci)
    assert len(host_devices.bound(vm("b"), TWO)) == 2, "it does not concern another VM"


def test_the_part(pci, tmp_path):
    """The command line has the chosen devices in fixed slots, before and after they are bound."""
    host = FakeHost(root=str(tmp_path / "root"))
    host.folder.make()
    given = {"memory": "16", "disks": [], "passthrough": [TWO_GIVEN, "ens1f0", VFS[3]]}
    made = compose(given, host=host)
    assert made["passthrough"] == [*TWO, "ens1f0", VFS[3]]
    assert json.loads(json.dumps(made)) == made
    before = [word for word in values(argv(given, host), "-device") if "vfio" in word]
    part = devices.Devices()
    part.before_launch(made, host)
    after = [word for word in values(argv(given, host), "-device") if "vfio" in word]
    assert after == before and len(before) == 4
    hosts = [word.split("host=")[1].split(",")[0] for word in after]
    assert hosts == [VFS[0], VFS[1], PF, VFS[3]]
    part.release(made, host)
    assert not host.warnings and pci.driver(PF) == "ixgbe"


TWO_GIVEN = {"interface": "ens1f0", "virtual_functions": 2}
