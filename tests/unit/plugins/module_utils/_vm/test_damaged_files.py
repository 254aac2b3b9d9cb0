# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saved files of another shape: the damage is the one VM's, and its removal works."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import boot_id
from ansible_collections.vlab.qemu.plugins.module_utils._lab.hub import Hub
from ansible_collections.vlab.qemu.plugins.module_utils._vm import converge, ports, settings
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vm_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.node_facts import read_node_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import open_console
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    users_of,
)
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted

SETTINGS = {name: option.get("default") for name, option in settings.SETTINGS_SPEC.items()}
VALUES = (
    None, True, 0, -1, 1.5, 1e308, 10**19, 10**400, "", "x", "\0", "\ud800", "a/b", "..", "auto",
    [], [0], [None], ["x"], {}, {"x": 1}, {"name": 1}, [{"name": "x"}], [[]],
)  # fmt: skip
MUTATIONS = 300


def nested(depth=900):
    value = []
    for _level in range(depth):
        value = [value]
    return value


def places(value, path=()):
    """The path of each value in a document."""
    yield path
    if not isinstance(value, (dict, list)):
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from places(item, (*path, key))


def mutated(document, seed):
    """The bytes of a document with one mutation."""
    chance = random.Random(seed)
    text = json.dumps(document)
    if seed % 10 == 0:
        return text[: chance.randrange(len(text))].encode()
    if seed % 10 == 1:
        spot = chance.randrange(len(text))
        return text[:spot].encode() + b"\xff\xfe" + text[spot:].encode()
    if seed % 50 == 2:
        return b"[" * 100000
    *parents, last = chance.choice([path for path in places(document) if path] or [(0,)])
    changed = copy.deepcopy(document)
    parent = changed
    for key in parents:
        parent = parent[key]
    choice = chance.randrange(len(VALUES) + 2)
    if choice == len(VALUES):
        del parent[last]
    else:
        parent[last] = nested() if choice > len(VALUES) else VALUES[choice]
    return json.dumps(changed).encode()


@pytest.fixture(name="vm")
def fixture_vm(tmp_path, monkeypatch):
    """A VM that ran, beside one that is well."""
    monkeypatch.setattr(
        converge,
        "Host",
        lambda folder, **_more: FakeHost(name=folder.name, lab=folder.lab, root=folder.root),
    )
    for name in ("good", "r1"):
        host = FakeHost(name=name, root=tmp_path)
        host.folder.make()
        definition = granted(
            compose(
                disks=[{"name": "d", "size": "1G", "limits": {"iops_total": 5}}],
                nics=[{"name": "e", "link": {"type": "user"}}, {"name": "f"}],
                cdroms=[{"name": "c", "path": "/a.iso"}],
                floppies=[{"name": "f"}],
                consoles=[{"name": "a", "type": "tcp"}, {"name": "b"}],
                smp={"cores": 2},
                environment={"A": "1"},
                smbios=[{"type": "11", "value": ["x"]}],
                host=host,
            )
        )
        definitions.save(host.folder, definition)
    write_json(
        host.folder.run,
        {
            "pid": (1 << 31) - 2,
            "start": 5,
            "boot_id": boot_id(),
            "uuid": definition["uuid"],
            "argv": ["qemu"],
            "definition": definition,
        },
    )
    return host.folder


def converge_vm(folder, state, check_mode=True, **more):
    return converge.converge_vm(
        dict(SETTINGS, root=folder.root, lab=folder.lab, name=folder.name, state=state,
             allow_restart=True, keep_disks=False, **more),
        check_mode,
    )  # fmt: skip


def use(folder):
    """Do everything that reads the files of a VM, as a user does."""
    with contextlib.suppress(VlabError):
        converge_vm(folder, "stopped", memory="64")
    with contextlib.suppress(VlabError):
        converge_vm(folder, "present")
    with contextlib.suppress(VlabError):
        open_console(folder)
    users_of(folder.root, "/a.iso")
    facts = {vm["name"]: vm for vm in vm_facts(folder.root)[0]}
    assert facts["good"]["status"] == "stopped"
    converge_vm(folder, "absent")
    return facts.get("r1", {})


@pytest.mark.parametrize("name", ["vm.json", "run.json"])
def test_no_mutation_of_a_file_of_a_vm_is_a_traceback(vm, name):
    path, damaged = vm.file(name), 0
    with open(path, encoding="utf-8") as stream:
        document = json.load(stream)
    for seed in range(MUTATIONS):
        with open(path, "wb") as stream:
            stream.write(mutated(document, seed))
        try:
            facts = use(vm)
        except Exception as error:
            raise AssertionError("seed %d: %r" % (seed, error)) from error
        damaged += facts.get("status") == "damaged"
        assert facts.get("status") != "damaged" or "is damaged" in facts["error"]
    assert damaged > MUTATIONS // 3


@pytest.mark.parametrize("name", ["vm.json", "run.json"])
@pytest.mark.parametrize("content", ["null", "[]", '{"format": 2}', '{"pid": "x"}', "{"])
def test_a_damaged_vm_can_only_be_removed(vm, name, content):
    with open(vm.file(name), "w", encoding="utf-8") as stream:
        stream.write(content)
    if (name, content) == ("run.json", '{"format": 2}'):
        return  # a record without a process is that of a VM that does not run
    facts = {entry["name"]: entry for entry in vm_facts(vm.root)[0]}
    assert (facts["r1"]["status"], facts["good"]["status"]) == ("damaged", "stopped")
    assert name in facts["r1"]["error"]
    for state in ("started", "present", "stopped", "paused", "restarted", "reset"):
        with pytest.raises(HostError, match="is damaged.* The state absent removes the VM"):
            converge_vm(vm, state)
    assert converge_vm(vm, "absent", check_mode=False)["changed"]
    assert not os.path.exists(vm.path)
    assert [entry["name"] for entry in vm_facts(vm.root)[0]] == ["good"]


def test_no_mutation_of_the_registry_of_ports_is_a_traceback(vm):
    path = os.path.join(vm.host, "ports.json")
    ask = [ports.PortRequest("console/a", "tcp", "127.0.0.1", "auto", "consoles[a].port")]
    ports.claim(vm, ask)
    with open(path, encoding="utf-8") as stream:
        document = json.load(stream)
    refused = 0
    for seed in range(MUTATIONS):
        os.makedirs(vm.host, exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(mutated(document, seed))
        try:
            ports.claim(vm, ask)
        except HostError as error:
            refused += "is damaged" in error.message
        ports.release(vm)
    assert refused > MUTATIONS // 3


def test_no_mutation_of_the_file_of_a_hub_is_a_traceback(tmp_path):
    hub = Hub(str(tmp_path), "lab1", "s", {"ports": {}})
    hub.folder.make()
    end = {"local_address": "127.0.0.1", "local_port": 26000}
    end.update(remote_address="127.0.0.1", remote_port=26001, id=0)
    document = {"pid": 1, "start": 1, "boot_id": boot_id(), "ports": {"r1/e": end}}
    damaged = 0
    for seed in range(MUTATIONS):
        with open(hub.folder.run, "wb") as stream:
            stream.write(mutated(document, seed))
        with contextlib.suppress(HostError):
            hub.observe()
            hub.plan()
            continue
        damaged += 1
        removal = Hub(str(tmp_path), "lab1", "s", None)
        removal.observe()
        removal.plan()
        assert removal.changes
    assert damaged > MUTATIONS // 3


def test_no_mutation_of_the_facts_of_nodes_is_a_traceback(tmp_path):
    (tmp_path / "lab1").mkdir()
    for seed in range(MUTATIONS):
        content = mutated({"format": 1, "nodes": {"r1": {"kind": "x"}}}, seed)
        (tmp_path / "lab1" / ".nodes.json").write_bytes(content)
        assert all(isinstance(f, dict) for f in read_node_facts(str(tmp_path), "lab1").values())
