# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices for USB get a controller and a port that stays; models without a bus are refused."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, RESTART
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.apply import adopt
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.network import Network
from ansible_collections.vlab.qemu.tests.unit.vm_world import (
    VERSIONS,
    FakeHost,
    argv,
    compose,
    parsed,
    values,
)

TABLET = {"driver": "usb-tablet"}
DISK = {"name": "stick", "bus": "usb", "size": "1M"}


def nic(name="eth0", model="usb-net", **more):
    return {"name": name, "model": model, **more}


def devices(given, **more):
    """The devices with a driver for USB on the command line: {id: (driver, bus, port)}."""
    found = {}
    for text in values(argv({"memory": "64", **given}, **more), "-device"):
        words = dict(parsed(text, "driver"))
        if "usb" in words["driver"] or "hci" in words["driver"]:
            found[words["id"]] = (words["driver"], words.get("bus"), words.get("port"))
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("machine, bus", [("pc", "pci.0"), ("q35", "pcie.0")])
def test_a_usb_nic_gets_a_controller(version, machine, bus):
    given = {"machine": machine, "disks": [], "nics": [nic()]}
    assert devices(given, host=FakeHost(version)) == {
        "usb": ("qemu-xhci", bus, None),
        "nic0": ("usb-net", "usb.0", "1"),
    }


def test_each_has_a_port_of_its_own():
    given = {
        "usb_tablet": True,
        "disks": [DISK],
        "devices": [TABLET, {**TABLET, "id": "second"}],
        "nics": [nic(), nic("eth1", "e1000"), nic("eth2")],
    }
    found = devices(given)
    ports = [port for _driver, bus, port in found.values() if bus == "usb.0"]
    assert len(set(ports)) == len(ports) == 6
    assert found["tablet"][2] == "15"


def test_ports_stay():
    given = {"memory": "64", "disks": [], "devices": [{**TABLET, "id": "a"}, {**TABLET, "id": "b"}]}
    before = compose(given, nics=[nic()])
    after = compose({"devices": [{**TABLET, "id": "b"}], "nics": [nic("eth1")]}, before)
    for key in ("devices/b/usb", "nics/eth0/usb"):
        assert after["slots"][key] == before["slots"][key]
    assert "devices/a/usb" not in after["slots"] and "nics/eth1/usb" in after["slots"]


@pytest.mark.parametrize(
    "given, ids",
    [
        ({"devices": [{"driver": "qemu-xhci", "id": "mine"}, TABLET]}, {"mine", "device1"}),
        ({"machine_options": {"usb": True}, "devices": [TABLET]}, {"device0"}),
        ({"machine_options": {"usb": "on"}, "nics": [nic()]}, {"nic0"}),
        ({"devices": [{**TABLET, "bus": "other.0"}]}, {"device0"}),
        ({"nics": [nic(properties={"bus": "other.0"})]}, {"nic0"}),
    ],
)
def test_a_controller_of_the_user_is_left_alone(given, ids):
    found = devices({"disks": [], **given})
    assert set(found) == ids
    assert all(bus != "usb.0" for _driver, bus, _port in found.values())


@pytest.mark.parametrize(
    "given, option, message",
    [
        (
            {"nics": [nic(model="virtio-net-device")]},
            "nics[eth0].model",
            "the machine pc has no bus of type virtio-bus for virtio-net-device; its models are",
        ),
        (
            {"machine": "isapc", "nics": [nic(model="e1000")]},
            "nics[eth0].model",
            "the machine isapc has no bus of type PCI for e1000; its models are ne2k_isa",
        ),
        (
            {"machine": "isapc", "nics": [nic()]},
            "nics[eth0].model",
            "the machine isapc has no bus of type usb-bus for usb-net; its models are ne2k_isa",
        ),
        (
            {"machine": "isapc", "devices": [TABLET]},
            "devices[0].driver",
            "the machine isapc has no bus of type usb-bus for the device usb-tablet",
        ),
        (
            {"machine": "microvm", "devices": [{"driver": "ib700"}, {"driver": "i6300esb"}]},
            "devices[1].driver",
            "the machine microvm has no bus of type PCI for the device i6300esb",
        ),
    ],
)
def test_what_has_no_bus_is_refused(given, option, message):
    with pytest.raises(OptionError) as caught:
        compose({"memory": "64", "disks": [], **given})
    assert caught.value.option == option and message in caught.value.message


def test_models_that_need_another_bus_are_not_offered():
    with pytest.raises(OptionError) as caught:
        compose({"memory": "64", "disks": [], "nics": [nic(model="e1001")]})
    assert "virtio-net-device" not in caught.value.message and "usb-net" in caught.value.message


@pytest.mark.parametrize(
    "before, how",
    [
        ({}, RESTART),
        ({"usb_tablet": True}, LIVE),
        ({"nics": [nic("old")]}, LIVE),
    ],
)
def test_a_usb_nic_is_added_to_a_running_vm_with_a_controller(before, how):
    saved = compose({"memory": "64", "disks": [], **before})
    running = addresses.with_slots_at_start(saved, dict(saved["slots"]))
    desired = compose({"nics": [nic("eth7")]}, saved)
    (change,) = Network().compare(running, desired)
    assert change.how == how and ("USB controller" in change.reason) == (how == RESTART)


def test_the_record_of_a_run_has_the_port():
    saved = compose({"memory": "64", "disks": [], "nics": [nic("old")]})
    running = addresses.with_slots_at_start(saved, dict(saved["slots"]))
    desired = compose({"nics": [nic("new")], "remove_nics": ["old"]}, saved)
    for change in Network().compare(running, desired):
        adopt(change, running, desired)
    assert running["slots"] == desired["slots"] and "nics/new/usb" in running["slots"]
