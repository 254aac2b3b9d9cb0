# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take snapshots of VMs that do not run."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.save import Saver
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose

OF_MEMORY = {
    "status": "paused",
    "qemu_version": [6, 1, 0],
    "machine_type": "pc-i440fx-6.1",
    "accel": "kvm",
    "console_from": 17,
}


@pytest.fixture
def host(tmp_path):
    host = FakeHost(root=tmp_path)
    host.folder.make()
    definitions.save(host.folder, compose(disks=[], host=host))
    return host


def suspend(host):
    """Write the saved state of a guest, as a suspended VM has it."""
    state = SavedState(host.folder, None)
    state.make()
    with open(state.memory, "w", encoding="ascii") as stream:
        stream.write("pages")
    definition = compose(disks=[], host=host)
    more = {"description": "", "memory": True, "disks": {}, "files": [], "definition": definition}
    state.save({"name": "", **OF_MEMORY, **more})
    return state


def take(host, memory):
    saver = Saver(host, observe(host.folder), SavedState(host.folder, "s"), memory)
    saver.prepare()
    saver.pause()
    saver.save("", 1)
    saver.resume()
    return saver.state


def test_a_snapshot_of_a_suspended_vm_has_its_memory(host):
    suspended = suspend(host)
    state = take(host, memory=True)
    record = state.load()
    assert {key: record[key] for key in OF_MEMORY} == OF_MEMORY
    assert record["memory"] and record["name"] == "s"
    assert os.path.samefile(state.memory, suspended.memory)
    suspended.remove()
    assert os.path.exists(state.memory)


@pytest.mark.parametrize("is_suspended", [False, True])
def test_a_snapshot_without_memory(host, is_suspended):
    if is_suspended:
        suspend(host)
    state = take(host, memory=not is_suspended)
    record = state.load()
    assert not record["memory"] and record["status"] == "stopped"
    assert not os.path.exists(state.memory)


def test_a_layer_that_the_cleaning_of_a_killed_run_changes_is_looked_at_after_it(host, monkeypatch):
    disks = [{"name": "d", "size": "4M"}]
    definitions.save(host.folder, compose(disks=disks, host=host))
    frozen = []
    monkeypatch.setattr(
        "ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.layers.make_overlays",
        lambda layers, _qemu_img: frozen.extend(layer.frozen for layer in layers),
    )
    observation = observe(host.folder)
    saver = Saver(host, observation, SavedState(host.folder, "s"), saves_memory=False)
    # The run that was killed had recorded an overlay, and the image under it is merged by now.
    overlay = host.folder.file("d.0123abcd.qcow2")
    with open(overlay, "wb"):
        pass
    disk = dict(observation.saved["disks"][0], image="d.0123abcd.qcow2")
    observation.saved = dict(observation.saved, disks=[disk])
    saver.prepare()
    assert frozen == [overlay]
