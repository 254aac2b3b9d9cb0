# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a hypervisor for a lab: the VMs in short."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._lab import facts, moved
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

IMPAIRMENT = {"status": "running", "asked": {"delay": 5}, "measured": {"delay_p50": 5.1}}


@pytest.mark.parametrize(
    "vm, more",
    [
        ({"nics": [{"name": "eth0"}]}, {}),
        ({}, {}),  # one that cannot be read
        (
            {"nics": [{"name": "eth0"}, {"name": "eth1", "impairment": IMPAIRMENT}]},
            {"impairments": {"eth1": IMPAIRMENT}},
        ),
    ],
)
def test_a_vm_in_short(tmp_path, monkeypatch, vm, more):
    vm = {"name": "r1", "status": "running", "memory_mb": 64, **vm}
    monkeypatch.setattr(facts, "vm_facts", lambda _root, _lab: ([vm], []))
    found, _warnings = facts.hypervisor_facts(str(tmp_path), "lab", [])
    assert found["vms"] == {"r1": {"status": "running", "memory_mb": 64, "has_state": True, **more}}


@pytest.mark.parametrize(
    "status, disks, snapshot, has_state",
    [
        ("running", [], False, True),
        ("suspended", [], False, True),
        ("damaged", None, False, True),
        ("stopped", [], False, False),
        ("crashed", [], False, False),
        ("absent", None, False, False),
        ("stopped", [{"name": "disk0"}], False, True),
        ("stopped", [], True, True),
    ],
)
def test_what_a_vm_would_lose_on_another_hypervisor(tmp_path, status, disks, snapshot, has_state):
    folder = Folder(str(tmp_path), "lab", "r1")
    if snapshot:
        os.makedirs(folder.file("snapshots") + "/one")
    assert moved.has_state(folder, status, disks) == has_state
