# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import compile_pattern
from ansible_collections.vlab.qemu.plugins.module_utils._lab.commands import Commands
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, commands, kinds
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError


def commands_of(node, **more):
    """Return the commands of a node as its hypervisor gets them."""
    data = {"name": "t", "nodes": {"n": node}, **more}
    topology = builder.build(data)
    return commands.commands_of(topology, topology.nodes["n"])


@pytest.mark.parametrize(
    "more, node, expected",
    [
        ({}, {}, ["of defaults"]),
        ({"groups": {"g": {"exec": ["of g"], "members": ["n"]}}}, {}, ["of g"]),
        ({}, {"exec": ["of n"]}, ["of n"]),
        ({}, {"exec": []}, None),
        ({"defaults": {}}, {"kind": "k"}, ["of k"]),
        ({"defaults": {}}, {"kind": "k", "exec": []}, None),
    ],
)
def test_where_commands_come_from(more, node, expected):
    given = {
        "kinds": {"k": {"extends": "tiny", "exec": ["of k"]}},
        "defaults": {"exec": ["of defaults"]},
    }
    found = commands_of({"kind": "tiny", **node}, **{**given, **more})
    assert found.get("commands") == expected


def test_the_values_of_a_node_and_what_is_shown():
    node = {
        "kind": "linux",
        "exec": ["echo {name} {lab} {loopback} {unknown}", "echo root:{vars.key} | chpasswd"],
        "vars": {"key": "Open-Sesame-1", "other": "x"},
    }
    found = commands_of(node, addressing={"loopback": "10.255.0.0/24"})
    first, second = found["commands"]
    assert re.fullmatch(r"echo n t 10\.255\.0\.\d+ \{unknown\}", first)
    assert second == "echo root:Open-Sesame-1 | chpasswd"
    assert found["shown"] == node["exec"] and found["secrets"] == ["Open-Sesame-1"]


@pytest.mark.parametrize(
    "node, agent, cli, login",
    [
        ({"kind": "linux"}, True, False, {"user": "root"}),
        ({"kind": "linux", "guest_agent": False}, False, False, {"user": "root"}),
        (
            {"kind": "cloud", "vars": {"password": "p"}},
            False,
            False,
            {"user": "lab", "password": "p"},
        ),
        (
            {"kind": "sonic", "guest_agent": True},
            False,
            True,
            {"user": "admin", "password": "YourPaSsWoRd", "prompt": r"^admin@[\w.-]+:~\$ *"},
        ),
        (
            {"kind": "vyos", "vars": {"user": "vyos", "password": "vyos"}},
            False,
            True,
            {"user": "vyos", "password": "vyos"},
        ),
        (
            {"kind": "cisco_vios"},
            False,
            True,
            {"user": "root", "prompt": r"^[\w.-]+(\([\w-]+\))?[>#] *"},
        ),
    ],
)
def test_how_a_system_takes_commands(node, agent, cli, login):
    found = commands_of(dict(node, exec=["true"]))
    assert (found["agent"], found["cli"], found["login"]) == (agent, cli, login)
    assert found["secrets"] == ([login["password"]] if "password" in login else [])


def test_a_changed_password_of_a_kind():
    node = {"kind": "mikrotik_ros", "vars": {"password": "new"}, "exec": ["/ip address print"]}
    found = commands_of(node)
    assert found["login"]["new_password"] == "new" and found["login"]["user"] == "admin+ct"
    assert found["secrets"] == ["new"]


@pytest.mark.parametrize("kind", sorted(kinds.shipped()))
def test_all_kinds(kind, tmp_path):
    """What a hypervisor gets can be used."""
    extended = {"extends": kind, "vars": {"password": "p"}, "image": "/srv/images/x.qcow2"}
    found = commands_of({"kind": "k", "exec": ["true"]}, kinds={"k": extended})
    Commands(Folder(str(tmp_path), "t", "n"), found)
    compile_pattern("errors", found["errors"])


@pytest.mark.parametrize(
    "given, message",
    [
        (["echo {vars.b} {vars.a} {vars.c}"], r"nodes\.n\.exec: the commands need vars\.a, vars.b"),
        ([""], r"nodes\.n\.exec\[0\]"),
        ("true", r"nodes\.n\.exec"),
        ([1], r"nodes\.n\.exec\[0\]"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(TopologyError, match=message):
        commands_of({"kind": "tiny", "exec": given, "vars": {"c": 1}})
