# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import jsonschema
import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    kinds,
    schema,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import (
    Problems,
    TopologyError,
)
from ansible_collections.vlab.qemu.tests.unit.imported_labs import share_of
from ansible_collections.vlab.qemu.tests.unit.vm_world import VERSIONS, FakeHost, compose

NAMES = sorted(kinds.shipped())
OURS = ("tiny", "frr", "linux")


def resolve(name, own=None):
    problems = Problems()
    return kinds.resolve(name, own or {}, problems, "here"), problems.found


def test_there_are_many():
    assert len(set(NAMES) - {"tiny", "frr", "cloud", "freebsd", "openbsd"}) >= 14


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_matches_the_schema(name):
    errors = list(
        jsonschema.Draft202012Validator(schema.kind_schema()).iter_errors(kinds.shipped()[name])
    )
    assert not errors, errors


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_is_complete(name):
    spec, found = resolve(name)
    assert not found and spec["description"] and spec["vm"]["memory"]
    re.compile(spec["ready"]["console"])
    assert spec["ready"]["timeout"] >= 120
    if name not in OURS:
        assert spec["image"] == name, "images have the name of the kind"
        assert (
            spec["ready"]["hint"]
            and spec["facts"]["credentials"]
            and "ansible_network_os" in spec["facts"]
        )
        assert kinds.shipped()[name]["facts"]["source"], "each kind names its source"
        assert spec["vm"].get("cpu") != "host", "that would require KVM"


def test_kinds_say_how_they_show_their_configuration():
    shown = {name: resolve(name)[0]["running_config"] for name in NAMES}
    assert len([name for name in NAMES if shown[name]]) >= 25
    for name, spec in shown.items():
        assert not spec or spec["command"] and spec["source"], name
        for pattern in [*spec.get("omit", ()), *spec.get("volatile", ())]:
            re.compile(pattern)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_qemu_accepts_a_kind(name, version):
    links = min(3, kinds.shipped()[name].get("nic", {}).get("max", 3))
    least = {
        "nodes": {"n": {"kind": name, "cpu": "max"}, "m": {"kind": name, "cpu": "max"}},
        "links": ["n -- m"] * links,
    }
    topology = builder.build(dict(least, name="t"))
    image = {"kernel": "/k"} if name in OURS else {"disk": "/base"}
    images = {node.kind_spec["image"]: image for node in topology.nodes.values()}
    for vm in share_of(topology, images)["vms"]:
        for nic in vm["options"]["nics"]:
            nic.pop("peer", None)
        definition = compose(vm["options"], host=FakeHost(version))
        slots = definition["slots"]
        order = [
            nic["name"]
            for nic in sorted(
                definition["nics"], key=lambda nic: slots["nics/" + nic["name"]]["index"]
            )
        ]
        assert order == [nic.vm_name for nic in topology.nodes[vm["name"]].nics.values()]


def test_extends():
    own = {
        "a": {"extends": "b", "vm": {"memory": "1"}},
        "b": {"extends": "cisco_vios", "vm": {"memory": "2", "vcpus": 2}, "nic": {"most": 2}},
    }
    spec, found = resolve("a", own)
    assert not found and (spec["vm"]["memory"], spec["vm"]["vcpus"]) == ("1", 2)
    assert (
        spec["nic"]["most"],
        spec["nic"]["model"],
        spec["image"],
        spec["config"]["file"],
    ) == (2, "e1000", "cisco_vios", "ios_config.txt")
    assert (
        resolve("x", {"x": {}})[0]["image"] == "x"
        and resolve("x", {"x": {"extends": "tiny", "image": "y"}})[0]["image"] == "y"
    )


CHAIN = {
    "k%d" % number: {"extends": "k%d" % (number + 1)} if number < 1999 else {}
    for number in range(2000)
}


def test_a_topology_may_change_a_kind_of_the_collection():
    assert resolve("tiny", {"tiny": {"vm": {"memory": "5"}}})[0]["vm"] == {"memory": "5"}


@pytest.mark.parametrize(
    "own, message",
    [
        ({"a": {"extends": "a"}}, "extends itself"),
        ({"a": {"extends": "b"}, "b": {"extends": "c"}, "c": {"extends": "a"}}, "extends itself"),
        ({"a": {"extends": "nothing"}}, "there is no kind 'nothing'"),
        ({"a": {"extends": "k0"}, **CHAIN}, "more than 20 kinds extend each other"),
    ],
)
def test_invalid_extends(own, message):
    _spec, found = resolve("a", own)
    assert len(found) == 1 and message in found[0][1] and found[0][0].startswith("kinds.")
    with pytest.raises(TopologyError, match=message):
        builder.build({"name": "t", "kinds": own, "nodes": {"n": {"kind": "a"}}})


def test_merge_does_not_change_its_arguments():
    under, over = {"a": {"b": 1, "c": 2}, "l": [1]}, {"a": {"b": 3}, "l": [2]}
    assert kinds.merge(under, over) == {"a": {"b": 3, "c": 2}, "l": [2]}
    assert (under, over) == ({"a": {"b": 1, "c": 2}, "l": [1]}, {"a": {"b": 3}, "l": [2]})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vr-sros", "nokia_sros"),
        ("vr-nokia_sros", "nokia_sros"),
        ("sonic-vm", "sonic"),
        ("f5_bigip-ve", "f5_bigip_ve"),
        ("iosv", "cisco_vios"),
        ("cisco_vios", "cisco_vios"),
        ("frr", "frr"),
        ("vr-own", "vr-own"),
        ("chr", "chr"),
    ],
)
def test_kinds_have_other_names(name, kind):
    own = {"chr": {"extends": "mikrotik_ros"}, "vr-own": {"extends": "timos"}}
    assert kinds.canonical(name, own) == kind
    assert resolve(name, own)[0] == resolve(kind, own)[0]
    assert resolve(name, own)[0] is not None
    topology = builder.build({"name": "t", "nodes": {"n": {"kind": name}}, "kinds": own})
    assert topology.nodes["n"].kind == kind, "groups and pictures have the same name"


def test_other_names_are_unique_and_not_inherited():
    aliases = [alias for name in NAMES for alias in kinds.shipped()[name].get("aliases", ())]
    assert len(aliases) >= 40 and len({*aliases, *NAMES}) == len(aliases) + len(NAMES)
    assert "aliases" not in resolve("cisco_viosl2")[0]


@pytest.mark.parametrize("name", ["vr-nothing", "iosvv", "x" * 80])
def test_names_that_no_kind_has(name):
    assert resolve(name)[0] is None
    if name == "iosvv":
        assert "did you mean iosv?" in resolve(name)[1][0][1]
