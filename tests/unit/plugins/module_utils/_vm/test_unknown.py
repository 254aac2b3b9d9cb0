# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a misspelt name does not do: make a VM, or a NIC."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import converge
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, snapshot_record


ORIGIN = {"lab": None, "vm": "r1", "snapshot": "s"}


@pytest.fixture(autouse=True)
def _fake_host(monkeypatch):
    monkeypatch.setattr(Host, "find", FakeHost.find)
    monkeypatch.setattr(Host, "its_arch", "x86_64", raising=False)
    known = FakeHost().__dict__["capabilities"]
    monkeypatch.setattr(Host, "capabilities", known)
    monkeypatch.setattr(converge, "VmRun", _Run)


class _Run(converge.VmRun):
    """A run that does not ask a QEMU which accelerators it has."""

    def make_plan(self, compose, allow_restart):  # pylint: disable=redefined-outer-name
        self.host.accel, self.host.accel_reason = "tcg", ""
        self.request_state("present", True)
        super().make_plan(compose, allow_restart)


def known_vm(root, name, **options):
    host = FakeHost(root=root, name=name)
    host.folder.make()
    definitions.save(host.folder, compose({"disks": [], **options}, host=host))


def vm(root, check_mode=True, **options):
    given = {"root": str(root), "lab": "lab1", "name": "router2", "allow_restart": False}
    return converge.converge_vm({**given, **options}, check_mode)


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"state": "stopped"},
        {"state": "paused"},
        {"state": "restarted"},
        {"state": "reset"},
        {"state": "reset", "memory": "128"},
    ],
)
def test_a_change_of_power_of_an_unknown_vm_is_an_error(tmp_path, options, check_mode):
    known_vm(tmp_path, "router1")
    with pytest.raises(OptionError) as caught:
        vm(tmp_path, check_mode, **options)
    assert caught.value.option == "name"
    assert "no VM router2" in caught.value.reason
    assert "did you mean router1?" in caught.value.reason
    assert os.listdir(tmp_path / "lab1") == ["router1"]


@pytest.mark.parametrize(
    "options",
    [
        {"state": "started"},
        {"state": "present"},
        {"state": "started", "memory": "128"},
        {"state": "stopped", "memory": "128"},
        {"state": "paused", "disks": []},
        {"state": "restarted", "vcpus": 2},
        {"state": "present", "nics": [{"name": "eth0"}], "disks": []},
        {"state": "present", "nics": [{"name": "eth0", "boot_index": 1}]},
    ],
)
def test_what_defines_a_new_vm(tmp_path, options):
    assert vm(tmp_path, **options)["changed"]


@pytest.mark.parametrize("state", ["present", "stopped"])
def test_a_clone_is_described_by_its_origin(tmp_path, state):
    known_vm(tmp_path, "r1")
    host = FakeHost(root=tmp_path, name="r1")
    saved = SavedState(host.folder, "s")
    saved.make()
    saved.save(snapshot_record(compose({"disks": []}, host=host), memory=False))
    assert vm(tmp_path, state=state, **{"from": ORIGIN})["changed"]


@pytest.mark.parametrize(
    "options", [{"nics": [{"name": "eth0"}]}, {"memory": "64", "passthrough": ["0000:01:00.0"]}]
)
def test_a_described_vm_without_anything_to_boot_is_an_error(tmp_path, options):
    with pytest.raises(OptionError, match="nothing to boot: give disks, .*, or disks: .. for none"):
        vm(tmp_path, state="present", **options)


def nic(root, **options):
    params = {"root": str(root), "lab": "lab1", "vm": "r1", "allow_restart": False}
    return converge.converge_item(params, True, "nics", {"name": "eht0", **options})


@pytest.mark.parametrize("options", [{"link_down": True}, {"capture": {"enabled": True}}])
def test_a_change_of_an_unknown_nic_is_an_error(tmp_path, options):
    known_vm(tmp_path, "r1", nics=[{"name": "eth0"}])
    with pytest.raises(OptionError, match="no NIC eht0: did you mean eth0.*give what it is"):
        nic(tmp_path, **options)


@pytest.mark.parametrize(
    "options", [{}, {"model": "e1000"}, {"link": {"type": "user"}, "link_down": True}]
)
def test_what_defines_a_new_nic(tmp_path, options):
    known_vm(tmp_path, "r1", nics=[{"name": "eth0"}])
    assert nic(tmp_path, **options)["changes"][0]["option"] == "nics[eht0]"
