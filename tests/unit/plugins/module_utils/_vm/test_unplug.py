# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import types

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    MonitorError,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import unplug as module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.unplug import delete_node, unplug


class Monitor:
    """Refuses to delete the node some times before it does."""

    def __init__(self, refusals, text="Node disk-pci1 is in use"):
        self.refusals, self.text, self.tries = refusals, text, 0

    def batch(self, commands):
        assert commands == [("blockdev-del", {"node-name": "disk-pci1"})]
        self.tries += 1
        return [MonitorError(self.text) if self.tries <= self.refusals else {}]

    def wait_event(self, name, match, timeout):
        assert (name, match) == ("DEVICE_DELETED", {"device": "disk-pci1"})
        raise MonitorTimeout("none")


def live(monitor, timeout=1):
    return types.SimpleNamespace(monitor=monitor, unplug_timeout=timeout)


@pytest.mark.parametrize(
    "refusals, text, tries",
    [
        (0, "", 1),
        (3, "Node disk-pci1 is in use", 4),
        (1, "Block device disk-pci1 is in use", 2),
        (9, "Failed to find node with node-name='disk-pci1'", 1),
    ],
)
def test_a_node_in_use_is_waited_for(refusals, text, tries):
    monitor = Monitor(refusals, text)
    delete_node(live(monitor), "disk-pci1")
    assert monitor.tries == tries


def test_a_node_that_stays_in_use_is_an_error():
    with pytest.raises(MonitorError, match="in use"):
        delete_node(live(Monitor(10**9), timeout=0), "disk-pci1")


@pytest.mark.parametrize(
    "left, text, fails",
    [
        ([], "Device 'nic1' not found", None),
        (["nic1"], "Device nic1 is already in the process of unplug", None),
        (["nic1"], "Bus 'pci.0' does not support hotplugging", "does not support"),
    ],
)
def test_a_device_that_goes_between_the_look_and_its_removal(left, text, fails):
    """An earlier run has asked the guest to release it, and was killed."""

    class Vm:
        devices = {"nic1": "e1000"}
        unplug_timeout = 1
        monitor = types.SimpleNamespace(
            wait_event=lambda *_args, **_more: {"event": "DEVICE_DELETED"}
        )

        def refresh_devices(self):
            self.devices = dict.fromkeys(left, "e1000")

    def refuse(command, _arguments):
        assert command == "device_del"
        raise MonitorError(text)

    vm = Vm()
    vm.monitor.execute = refuse
    if fails:
        with pytest.raises(MonitorError, match=fails):
            unplug(vm, "nic1", "nics[e]")
    else:
        assert unplug(vm, "nic1", "nics[e]") is True


class SlowGuest:
    """A VM whose guest takes note of the requests from a certain one on."""

    def __init__(self, hears, refuses_again=False, event="DEVICE_DELETED"):
        self.hears, self.refuses_again, self.event = hears, refuses_again, event
        self.devices, self.requests, self.unplug_timeout = {"nic1": "e1000"}, 0, 1
        self.monitor = self

    def execute(self, command, arguments):
        assert (command, arguments) == ("device_del", {"id": "nic1"})
        self.requests += 1
        if self.refuses_again and self.requests > 1:
            raise MonitorError("Device nic1 is already in the process of unplug")

    def wait_event(self, names, match, timeout):
        assert match == {"device": "nic1"}
        if self.requests < self.hears:
            time.sleep(min(timeout, 0.05))
            raise MonitorTimeout("none")
        if self.event == "DEVICE_DELETED":
            self.devices = {}
        return {"event": self.event}

    def refresh_devices(self):
        pass


@pytest.mark.parametrize("refuses_again", [False, True])
@pytest.mark.parametrize("hears", [1, 3])
def test_a_guest_is_asked_again_within_the_deadline(monkeypatch, hears, refuses_again):
    monkeypatch.setattr(module, "_REPEAT_INTERVAL", 0.05)
    guest = SlowGuest(hears, refuses_again)
    assert unplug(guest, "nic1", "nics[e]") is True
    assert guest.requests == hears


@pytest.mark.parametrize(
    "hears, event, message",
    [
        (10**9, "", "within 0 s. It may still boot, may not have taken a device"),
        (1, "DEVICE_UNPLUG_GUEST_ERROR", r"within 0 s \(it refused\)"),
    ],
)
def test_a_guest_that_keeps_the_device(hears, event, message):
    guest = SlowGuest(hears, event=event)
    guest.unplug_timeout = 0
    with pytest.raises(GuestError, match=message):
        unplug(guest, "nic1", "nics[e]")
    assert guest.requests == 1
