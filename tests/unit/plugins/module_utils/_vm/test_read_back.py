# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A definition in the words of qemu_vm's options, and the command line of the next start."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import command_line, facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import vm_argument_spec
from ansible_collections.vlab.qemu.tests.unit.plugins.module_utils._vm.test_command_line import RICH
from ansible_collections.vlab.qemu.tests.unit.plugins.module_utils._vm.test_definition import (
    BESIDE,
    ITEMS,
    SMALL,
    TABLE,
    UUID,
)
from ansible_collections.vlab.qemu.tests.unit.vm_world import VERSIONS, FakeHost, compose, granted

SECRET = "very-secret-words"
# What two VMs cannot both have, and what no definition keeps.
OWN = {
    "name",
    "uuid",
    "mac_base",
    "mac_copy_from",
    "cloud_init",
    "config_drive",
    "tftp_files",
}


def definitions_of_tables():
    """Return (id, options) of each row of the tables of options, and of two rich VMs."""
    for number, row in enumerate(TABLE):
        option, value = row[:2]
        yield "%s-%d" % (option, number), {**SMALL, **BESIDE.get(option, {}), option: value}
    for option, key, value, *_rest in ITEMS:
        item = {"name": "x", key: value}
        if option == "disks" and key != "path":
            item.setdefault("size", "1G")
        if key == "backing_format":
            item["backing_file"] = "/b"
        yield "%s-%s" % (option, key), {**SMALL, option: [item]}
    yield "rich", RICH
    yield "defaults", {}
    yield "threads", {**SMALL, "vcpus": 1, "smp": {"sockets": 2}}
    for architecture in ("aarch64", "riscv64"):
        yield architecture, {**SMALL, "arch": architecture, "machine": "microvm"}
    yield (
        "secrets",
        {
            **SMALL,
            "display": {"type": "vnc", "host": "0.0.0.0", "password": SECRET[:8]},
            "cloud_init": {"user_data": SECRET},
            "config_drive": {"files": {"a": SECRET}},
        },
    )


CASES = list(definitions_of_tables())
each_definition = pytest.mark.parametrize(
    "options", [case[1] for case in CASES], ids=[case[0] for case in CASES]
)


def parsed(options):
    """Return options as qemu_vm gets them of Ansible."""
    checked = ArgumentSpecValidator(vm_argument_spec()).validate(json.loads(json.dumps(options)))
    assert not checked.error_messages
    return checked.validated_parameters


def comparable(definition):
    """Return what two VMs like each other share."""
    shared = {key: value for key, value in definition.items() if key not in OWN}
    shared["nics"] = [dict(nic, mac=None) for nic in definition["nics"]]
    if definition["display"].get("password"):
        shared["display"] = {"type": "none"}
    return {**shared, "slots": without_seeds(definition["slots"])}


def without_seeds(slots):
    return {key: slot for key, slot in slots.items() if not key.startswith("seeds/")}


@each_definition
def test_a_definition_given_to_its_vm_changes_nothing(options):
    saved = compose(options)
    given = parsed(definitions.written(FakeHost().folder, saved))
    assert definitions.compose(saved, given, FakeHost()) == saved


@each_definition
def test_a_definition_with_another_name_is_an_equal_vm(options):
    saved = compose(options)
    given = parsed({**definitions.written(FakeHost().folder, saved), "name": "copy"})
    other = definitions.compose(None, given, FakeHost(name="copy"))
    assert comparable(other) == comparable(saved)
    assert other["uuid"] != saved["uuid"]
    assert not {nic["mac"] for nic in other["nics"]} & {nic["mac"] for nic in saved["nics"]}


@each_definition
def test_a_definition_has_no_secrets(options):
    text = json.dumps(definitions.written(FakeHost().folder, compose(options)))
    assert SECRET[:8] not in text and '"password"' not in text


def test_a_definition_is_short():
    """Options with their default are left out; these have none."""
    written = definitions.written(FakeHost().folder, compose({"disks": [{"name": "a"}]}))
    assert written == {
        "name": "r1",
        "lab": "lab1",
        "root": FakeHost().folder.root,
        "arch": "x86_64",
        "machine": "pc",
        "vcpus": 1,
        "disks": [{"name": "a", "format": "qcow2"}],
        "nics": [],
    }


def test_sizes_and_the_root_are_written_as_a_user_writes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(definitions, "root_folder", lambda _given: str(tmp_path))
    host = FakeHost(root=tmp_path)
    saved = compose({"memory": "2G", "disks": [{"name": "a", "size": "1.5G"}]}, host=host)
    written = definitions.written(host.folder, saved)
    assert "root" not in written and written["memory"] == 2048
    assert written["disks"][0]["size"] == "1536M"


# The command line of a VM that does not run.


@pytest.fixture(name="vm")
def _vm(tmp_path, monkeypatch):
    """Return a stopped VM; facts are made with the recorded QEMU."""
    host = FakeHost(root=tmp_path)
    saved = granted(compose({**SMALL, "uuid": UUID, "vcpus": 3}, host=host))
    host.folder.make()
    definitions.save(host.folder, saved)
    monkeypatch.setattr(facts, "Host", lambda folder: FakeHost(root=tmp_path, name=folder.name))
    return host


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_the_one_that_a_start_would_use(version):
    host = FakeHost(version)
    definition = granted(compose(RICH, host=host))
    expected = command_line.build(definition, host)
    assert command_line.of_next_start(definition, host) == expected
    # A second time, nothing of the first is left.
    assert command_line.of_next_start(definition, host) == expected


def test_ports_that_a_vm_does_not_hold_are_those_that_are_free(tmp_path):
    host = FakeHost(root=tmp_path)
    definition = compose({**SMALL, "display": {"type": "vnc"}}, host=host)
    words = command_line.of_next_start(definition, host)
    assert words[words.index("-vnc") + 1].startswith("127.0.0.1:")
    assert definition["ports"] == {} and not list(tmp_path.iterdir())


def test_a_vm_that_cannot_start_here_has_none(monkeypatch):
    def no_qemu(self, arch, binary):
        raise HostError("no QEMU")

    definition = compose(SMALL)
    monkeypatch.setattr(FakeHost, "find", no_qemu)
    assert command_line.of_next_start(definition, FakeHost()) is None


def test_facts_have_the_definition_and_the_command_line(vm):
    (found,) = facts.vm_facts(vm.folder.root, with_definition=True)[0]
    assert found["status"] == "stopped" and "cpus=3" in found["command_line"]
    assert found["definition"]["vcpus"] == 3 and "uuid" not in found["definition"]
    (less,) = facts.vm_facts(vm.folder.root)[0]
    assert "definition" not in less and less["command_line"] is None
