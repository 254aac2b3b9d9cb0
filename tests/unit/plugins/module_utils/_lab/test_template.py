# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which nodes continue from a template, and from which one. No QEMU is started."""

from __future__ import annotations

import os
import re
import types

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._lab import template
from ansible_collections.vlab.qemu.plugins.module_utils._lab.node_run import NodeRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm import command_line
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import MemoryFile
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.memory import Memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted

SETTINGS = settings_of({})
NIC = {"name": "eth1", "model": "virtio-net-pci", "link": {"type": "none"}}


@pytest.fixture
def boot_files(tmp_path, monkeypatch):
    """A kernel and an initrd, and a cache folder."""
    monkeypatch.setattr(template, "cache_folder", lambda: str(tmp_path / "cache"))
    for name in ("kernel", "initrd"):
        (tmp_path / name).write_bytes(b"\x1f\x8b" + name.encode("ascii"))
    return {name: str(tmp_path / name) for name in ("kernel", "initrd")}


def define(boot_files, host, **more):
    given = {
        "memory": "128",
        "disks": [],
        "nics": [NIC],
        "config_drive": {"files": {"hostname": host.folder.name}},
        **boot_files,
        **more,
    }
    return granted(compose(given, host=host))


def node(definition, host, warm=True, starts=True, **more):
    observation = types.SimpleNamespace(suspended=False)
    plan = types.SimpleNamespace(starts=starts)
    vm = types.SimpleNamespace(desired=definition, host=host, observation=observation, plan=plan)
    made = NodeRun.__new__(NodeRun)
    made.__dict__.update(name=host.folder.name, node={"warm": warm, **more}, vm=vm, template=None)
    return made


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, None),
        ({"kernel": None, "initrd": None, "disks": [{"name": "d", "size": "1G"}]}, "kernel"),
        ({"disks": [{"name": "d", "size": "1G"}]}, "the option disks"),
        ({"config_drive": None}, "no config drive"),
        ({"config_drive": {"files": {"a": "b"}, "label": "other"}}, "no config drive"),
        ({"config_drive": {"files": {"a": "b"}, "bus": "ide"}}, "no config drive"),
        ({"nics": [dict(NIC, model="e1000")]}, r"nics\[eth1\] is no virtio-net-pci"),
        ({"extra_args": ["-snapshot"]}, "^extra_args: "),
        ({"memory_backend": {"share": True}}, "^memory_backend: "),
        ({"balloon": True}, "^balloon: "),
        ({"devices": [{"driver": "virtio-balloon-pci"}]}, r"^devices\[0\]: it takes memory"),
        ({"display": {"type": "vnc"}}, "the option display"),
        ({"devices": [{"driver": "nvme"}]}, r"devices\[0\]"),
    ],
)
def test_which_vms_can_continue_from_a_template(boot_files, given, reason):
    definition = define(boot_files, FakeHost(), **given)
    found = template.unsuitable(definition)
    assert found is None if reason is None else re.search(reason, found or "")


def key(boot_files, name="r1", **more):
    host = FakeHost(name=name)
    host.find(None, None)
    return template.template_key(template.template_of(define(boot_files, host, **more)), host)


def test_nodes_that_differ_in_their_configuration_share_a_template(boot_files):
    first = key(boot_files)
    link = {"type": "user", "forwards": [{"guest_port": 22}]}
    assert key(boot_files, "r2", nics=[dict(NIC, mac="52:54:00:00:00:09", link=link)]) == first
    assert key(boot_files, description="x", priority="low", cpu_limit=50) == first
    assert key(boot_files, config_drive={"files": {"frr.conf": "!"}}) == first


@pytest.mark.parametrize(
    "more",
    [
        {"memory": "256"},
        {"vcpus": 2},
        {"cmdline": "quiet"},
        {"nics": [NIC, dict(NIC, name="eth2")]},
        {"guest_agent": True},
        {"machine": "q35"},
    ],
)
def test_nodes_with_other_hardware_have_another_template(boot_files, more):
    assert key(boot_files, **more) != key(boot_files)


def test_another_kernel_or_accelerator_is_another_template(boot_files):
    first = key(boot_files)
    with open(boot_files["kernel"], "ab") as stream:
        stream.write(b"more")
    assert key(boot_files) != first


def assigned(*nodes):
    template.assign_templates(nodes, SETTINGS)
    return [one.template and one.template.key for one in nodes]


def nodes(boot_files, count, warm):
    hosts = [FakeHost(name="r%d" % number) for number in range(count)]
    return [node(define(boot_files, host), host, warm) for host in hosts]


def test_auto_needs_three_nodes_or_a_template(boot_files):
    assert assigned(*nodes(boot_files, 2, "auto")) == [None, None]
    three = assigned(*nodes(boot_files, 3, "auto"))
    assert three[0] and len(set(three)) == 1
    made = template.Template(three[0], {}, "x86_64", SETTINGS)
    os.makedirs(os.path.dirname(made.folder.suspended))
    for path, size in ((made.folder.suspended, 0), (made._memory, 128 << 20)):
        with open(path, "w", encoding="ascii") as stream:
            stream.truncate(size)
    assert assigned(*nodes(boot_files, 1, "auto")) == [three[0]]
    # QEMU would create an empty file, or not start.
    os.truncate(made._memory, 1 << 20)
    assert assigned(*nodes(boot_files, 1, "auto")) == [None]
    os.remove(made._memory)
    assert assigned(*nodes(boot_files, 1, "auto")) == [None]


def test_true_needs_no_other_node_and_false_has_none(boot_files):
    assert assigned(*nodes(boot_files, 1, True))[0]
    assert assigned(*nodes(boot_files, 3, False)) == [None, None, None]


@pytest.mark.parametrize(("warm", "warnings"), [(True, 1), ("auto", 0)])
def test_who_asked_for_it_learns_why_a_node_boots(boot_files, warm, warnings):
    host = FakeHost()
    one = node(define(boot_files, host, disks=[{"name": "d", "size": "1G"}]), host, warm)
    assert assigned(one) == [None]
    assert len(host.warnings) == warnings


def test_only_a_guest_that_boots_needs_one(boot_files):
    host = FakeHost()
    assert assigned(node(define(boot_files, host), host, starts=False)) == [None]
    suspended = node(define(boot_files, host), host)
    suspended.vm.observation.suspended = True
    assert assigned(suspended) == [None]


def test_a_template_that_cannot_be_made_is_tried_once(boot_files, monkeypatch):
    tries = []

    def fail(self):
        tries.append(1)
        raise HostError("no memory")

    monkeypatch.setattr(template.Template, "_make_once", fail)
    first, second = nodes(boot_files, 2, True)
    assigned(first, second)
    for one in (first, second):
        one.vm.apply = lambda defer_resume: None
        one.start()
        assert one.vm.host.warnings == ["%s boots without a template: no memory" % one.name]
        assert one.vm.host.saved_memory is None
    assert len(tries) == 1


def test_the_guest_of_a_template_waits(boot_files, tmp_path):
    host = FakeHost()
    host.find(None, None)
    definition = template.template_of(define(boot_files, host))
    made = template.Template("k", definition, "x86_64", SETTINGS)
    desired = made._compose(None, host)
    assert desired["config_drive"]["label"] == "template"
    assert len(host.secrets["config_drive"]) == 1 << 20
    assert b"template" in host.secrets["config_drive"][32768:34816]


def mapped(host, definition):
    """Return the properties of the object that the memory is mapped from, and -machine's."""
    argv = command_line.build(definition, host)
    backend = argv[argv.index("-object") + 1] if "-object" in argv else ""
    return backend, argv[argv.index("-machine") + 1]


@pytest.mark.parametrize(
    ("version", "is_shared", "more"),
    [
        ("5.2", True, "share=on"),
        ("5.2", False, "share=off"),
        ("7.2", False, "share=off"),
        ("10.0", True, "share=on"),
        ("10.0", False, "share=off,readonly=on,rom=off"),
    ],
)
def test_the_memory_of_a_node_is_mapped_from_its_template(boot_files, version, is_shared, more):
    host = FakeHost(version)
    definition = define(boot_files, host)
    assert mapped(host, definition)[0] == ""
    host.memory_file = MemoryFile("/cache/ram", is_shared)
    backend, machine = mapped(host, definition)
    assert backend == "memory-backend-file,id=pc.ram,size=134217728,mem-path=/cache/ram," + more
    assert "memory-backend=pc.ram" in machine
    host.boot()
    assert mapped(host, definition)[0] == ""


def test_the_file_of_the_memory_is_new_and_private(boot_files, tmp_path):
    host = FakeHost()
    definition = define(boot_files, host)
    old = tmp_path / "ram"
    old.write_bytes(b"of a node that runs")
    with open(old, "rb") as stream:
        for is_shared in (False, True):
            host.memory_file = MemoryFile(str(old), is_shared)
            Memory().before_launch(definition, host)
        assert stream.read() == b"of a node that runs"
    state = old.stat()
    assert (state.st_size, state.st_mode & 0o777, state.st_blocks) == (128 << 20, 0o600, 0)


def test_files_are_not_removed_while_a_node_starts_from_them(boot_files, tmp_path):
    made = template.Template("k", {}, "x86_64", SETTINGS)
    saved = tmp_path / "cache" / "templates" / "k" / "suspended"
    saved.mkdir(parents=True)
    (saved.parent / "vm.json").write_text("{}")
    (saved / "memory").write_bytes(b"x")
    with made.kept(), made.kept():
        made.discard()
        template._remove_unused(["t%d" % number for number in range(8)])
    assert os.listdir(saved) == ["memory"]
    with template._lock_files(is_shared=False), pytest.raises(HostError, match="another run"):
        with made.kept():
            pass
    made.discard()
    assert not saved.exists()


def test_the_oldest_templates_are_removed(boot_files, tmp_path):
    folder = tmp_path / "cache" / "templates"
    for number in range(12):
        one = folder / ("t%02d" % number)
        one.mkdir(parents=True)
        (one / "vm.json").write_text("{}")
        os.utime(one, (number, number))
    template._remove_unused(["t11"])
    assert sorted(os.listdir(folder)) == ["t%02d" % number for number in range(4, 12)]
