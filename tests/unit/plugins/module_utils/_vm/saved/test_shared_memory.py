# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory that clones of a snapshot share: when it is made and used, and what else happens."""

from __future__ import annotations

import os
import types

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LaunchError,
    MonitorError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.guest_start import start
from ansible_collections.vlab.qemu.plugins.module_utils._vm.launch import Launch
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import clone as cloning
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.shared_memory import SharedMemory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of
from ansible_collections.vlab.qemu.tests.unit.vm_world import (
    FakeHost,
    compose,
    granted,
    snapshot_record,
)

WHOLE, MADE, MAPPED = "the whole memory", "into a new file", "mapped"


class Clones:
    """A snapshot with memory, of which clones are started without a QEMU.

    launches: what the QEMUs were to load. failures: the errors of launches, by what they load.
    """

    def __init__(self, root, monkeypatch, given):
        self.root, self.failures, self.launches = str(root), {}, []
        host = FakeHost(name="r1", lab="first", root=root)
        host.folder.make()
        definition = granted(compose(given, host=host, memory="32"))
        definitions.save(host.folder, definition)
        self.state = SavedState(host.folder, "s")
        self.state.make()
        self.state.save(snapshot_record(definition))
        with open(self.state.memory, "w", encoding="ascii") as stream:
            stream.write("pages")

        def run(launch):
            self.launch(launch)

        monkeypatch.setattr(Launch, "run", run)
        monkeypatch.setattr(memory, "save_memory", self.save)

    def launch(self, launch):
        host, file = launch.host, launch.host.memory_file
        for part in PARTS:
            part.before_launch(launch.desired, host)
        if file is None:
            assert host.saved_memory == self.state.memory
            self.launches.append(WHOLE)
        elif file.is_shared:
            assert host.saved_memory == self.state.memory and os.path.getsize(file.path) == 32 << 20
            self.launches.append(MADE)
        else:
            with open(host.saved_memory, encoding="ascii") as stream:
                assert stream.read() == "devices"
            self.launches.append(MAPPED)
        if self.launches[-1] in self.failures:
            raise self.failures[self.launches[-1]]
        launch.observation.monitor = types.SimpleNamespace(close=lambda: None)

    def save(self, _monitor, path, _timeout, file):
        if "save" in self.failures:
            raise self.failures["save"]
        with open(path, "w", encoding="ascii") as stream:
            stream.write("devices")
        with open(file, "r+", encoding="ascii") as stream:
            stream.write("ram")

    def make(self, name, accel="tcg"):
        """Make a clone; return what its QEMUs loaded, and the warnings."""
        self.launches.clear()
        folder = Folder(self.root, "second", name)
        folder.make()
        clone = cloning.Clone(folder, "first", "r1", "s")
        clone.load()
        host = FakeHost(name=name, lab="second", root=self.root)
        host.clone, host.accel, desired = clone, accel, clone.definition()
        definitions.save(folder, desired)
        clone.plan_load(host)
        start(host, Observation(folder), desired, settings_of({}), resumes=True)
        return self.launches, host.warnings

    def shared(self):
        folder = os.path.join(self.state.path, "shared")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


@pytest.fixture
def clones(tmp_path, monkeypatch):
    return lambda **given: Clones(tmp_path, monkeypatch, given)


FILES = ["memory", "ram", "shared.json"]


def test_the_second_clone_makes_the_file_and_all_others_map_it(clones):
    world = clones()
    assert world.make("a") == ([WHOLE], []) and world.shared() == []
    assert world.make("b") == ([MADE, MAPPED], []) and world.shared() == FILES
    assert world.make("c") == ([MAPPED], [])
    paths = [os.path.join(world.state.path, "shared", name) for name in FILES[:2]]
    assert [os.stat(path).st_mode & 0o777 for path in paths] == [0o400, 0o400]


def test_another_accelerator_or_a_damaged_record_makes_the_file_again(clones):
    world = clones()
    world.make("a")
    world.make("b")
    assert world.make("c", accel="kvm") == ([MADE, MAPPED], [])
    with open(os.path.join(world.state.path, "shared", "shared.json"), "w") as stream:
        stream.write("{")
    assert world.make("d", accel="kvm") == ([MADE, MAPPED], [])
    for name in ("memory", "ram"):
        os.remove(os.path.join(world.state.path, "shared", name))
        assert world.make("e", accel="kvm") == ([MADE, MAPPED], [])
    os.truncate(os.path.join(world.state.path, "shared", "ram"), 1 << 20)
    assert world.make("f", accel="kvm") == ([MADE, MAPPED], [])


@pytest.mark.parametrize(
    "at, launches",
    [(MADE, [MADE, WHOLE]), ("save", [MADE, WHOLE]), (MAPPED, [MADE, MAPPED, WHOLE])],
)
def test_a_clone_that_cannot_share_memory_has_its_own(clones, at, launches):
    world = clones()
    world.make("a")
    world.failures[at] = MonitorError("it does not work")
    made, warnings = world.make("b")
    assert made == launches and world.shared() == []
    assert warnings == ["b has its own copy of the memory of its snapshot: it does not work"]


def test_what_has_another_reason_is_reported_and_the_file_stays(clones):
    world = clones()
    world.make("a")
    world.make("b")
    error = LaunchError("its port is taken", cmd=["q"])
    world.failures.update({MAPPED: error, WHOLE: error})
    with pytest.raises(LaunchError, match="its port is taken"):
        world.make("c")
    assert world.shared() == FILES


def test_without_space_a_clone_has_its_own_memory(clones, monkeypatch):
    world = clones()
    world.make("a")
    facts = types.SimpleNamespace(f_bavail=1, f_frsize=1 << 20)
    monkeypatch.setattr(os, "statvfs", lambda _path: facts)
    made, (warning,) = world.make("b")
    assert made == [WHOLE] and "takes 16 MiB" in warning and "has 1 MiB free" in warning


@pytest.mark.parametrize(
    "given, blocker",
    [
        ({"balloon": True}, "balloon"),
        ({"devices": [{"driver": "virtio-balloon-pci"}]}, "devices[0]"),
        ({"devices": [{"driver": "pvpanic"}, {"driver": "virtio-balloon-pci"}]}, "devices[1]"),
        ({"memory_backend": {"share": True}}, "memory_backend"),
        ({"extra_args": ["-snapshot"]}, "extra_args"),
        ({"devices": [{"driver": "pvpanic"}]}, None),
    ],
)
def test_memory_that_guests_must_not_share(clones, given, blocker):
    world = clones(**given)
    definition = world.state.load()["definition"]
    found = [reason for part in PARTS for reason in part.sharing_blockers(definition)]
    assert [reason.split(":")[0] for reason in found] == ([blocker] if blocker else [])
    world.make("a")
    assert world.make("b")[0] == ([WHOLE] if blocker else [MADE, MAPPED])


def test_a_machine_without_the_name_of_its_memory(clones):
    world = clones()
    host = FakeHost(name="b")
    world.make("a")
    world.make("b")
    shared, definition = SharedMemory(world.state, host), world.state.load()["definition"]
    assert shared.is_useful(definition)
    host.__dict__["capabilities"] = types.SimpleNamespace(
        machines={"m": {}}, machine_name=lambda _name: "m"
    )
    assert not shared.is_useful(definition)


def test_a_folder_that_cannot_be_removed(clones, monkeypatch):
    world = clones()
    world.make("a")
    world.make("b")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(HostError, match="cannot remove .*Permission denied"):
        SharedMemory(world.state, FakeHost()).remove()
