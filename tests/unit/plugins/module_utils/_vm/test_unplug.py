# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    MonitorError,
    MonitorTimeout,
)
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
