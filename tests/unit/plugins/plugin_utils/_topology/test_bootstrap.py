# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import bootstrap, builder
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

PROMPT = r"^[\w.-]+# *"
TYPED = {
    "extends": "hp_vsr1000",
    "vars": {"password": "open"},
    "bootstrap": {
        "prompt": PROMPT,
        "steps": [
            {"login": {"user": "admin", "password": "{vars.password}"}},
            {"send": "hostname {name} of {lab} {unknown}"},
            {"lines": "{config}"},
        ],
    },
}
NAMED = {"extends": "hp_vsr1000", "bootstrap": {"steps": [{"send": "hostname {name}"}]}}
DRIVE = {"extends": "cisco_vios", "bootstrap": TYPED["bootstrap"], "vars": {"password": "open"}}
BOTH = {"extends": "cisco_vios", "bootstrap": NAMED["bootstrap"]}
KINDS = {"typed": TYPED, "named": NAMED, "drive": DRIVE, "both": BOTH}


def script(node, kinds=None, render=lambda node, content: content):
    """Return the script of a node, and the files of its drive."""
    data = {"name": "t", "kinds": copy.deepcopy(kinds or KINDS), "nodes": {"n": node}}
    topology = builder.build(data)
    made = bootstrap.script_of(topology, topology.nodes["n"], render)
    return made, topology.nodes["n"].settings["files"]


@pytest.mark.parametrize(
    "node, is_typed, files",
    [
        ({"kind": "typed", "config": "x"}, True, {}),
        ({"kind": "typed"}, False, {}),
        ({"kind": "typed", "bootstrap": True}, True, {}),
        ({"kind": "typed", "bootstrap": False}, False, {}),
        ({"kind": "named"}, True, {}),
        ({"kind": "drive", "config": "x"}, False, {"ios_config.txt": "x"}),
        ({"kind": "drive", "config": "x", "bootstrap": True}, True, {}),
        ({"kind": "drive"}, False, {}),
        ({"kind": "both", "config": "x"}, True, {"ios_config.txt": "x"}),
        ({"kind": "both"}, True, {}),
        ({"kind": "both", "bootstrap": False}, False, {}),
        ({"kind": "tiny"}, False, {}),
    ],
)
def test_where_a_config_goes(node, is_typed, files):
    made, on_drive = script(node)
    assert (bool(made), on_drive) == (is_typed, files)


def test_the_values_of_a_node():
    made, _files = script({"kind": "typed", "config": "{name}\nline"})
    assert made["prompt"] == PROMPT
    assert made["steps"] == [
        {"login": {"user": "admin", "password": "open"}},
        {"send": "hostname n of t {unknown}"},
        {"lines": "{name}\nline"},
    ]
    made, _files = script(
        {"kind": "typed", "config": {"src": "f"}}, render=lambda *_: {"base64": "w6QKYg=="}
    )
    assert made["steps"][2] == {"lines": "ä\nb"}


def kind(**changes):
    return {"k": dict(TYPED, **changes)}


@pytest.mark.parametrize(
    "kinds, node, message",
    [
        (
            kind(vars={}),
            {"config": "x"},
            "nodes.n: the bootstrap of the kind k needs vars.password",
        ),
        (kind(), {"config": "x", "bootstrap": False}, "nodes.n.bootstrap: false: nothing types"),
        (kind(bootstrap={}), {"bootstrap": True}, "nodes.n.bootstrap: the kind k has no bootstrap"),
        (kind(bootstrap={}), {"config": "x"}, "nodes.n.config: nodes of kind k do not accept"),
        (
            {"k": dict(NAMED, extends="hp_vsr1000")},
            {"config": "x"},
            "nodes.n.config: nodes of kind k do not accept",
        ),
        (kind(bootstrap={"timeout": 3}), {}, "kinds.k.bootstrap: it needs steps"),
        (kind(bootstrap={"steps": [{}]}), {}, r"kinds.k.bootstrap.steps\[0\]: a step needs"),
        (kind(bootstrap={"steps": [{"expect": "("}]}), {}, r"kinds.k.bootstrap.steps\[0\].expect"),
        (kind(bootstrap={"steps": [{"sent": "a"}]}), {}, r"kinds.k.bootstrap.steps\[0\]"),
        (kind(bootstrap={"steps": [{"send": False}]}), {}, r"kinds.k.bootstrap.steps\[0\].send"),
        (kind(bootstrap={"steps": [{"send": "a"}], "again": "x"}), {}, "kinds.k.bootstrap.again"),
    ],
)
def test_mistakes(kinds, node, message):
    for spec in kinds.values():
        spec.setdefault("extends", "hp_vsr1000")
    with pytest.raises(TopologyError, match=message):
        script(dict(node, kind="k"), kinds)


def test_a_config_that_is_no_text():
    with pytest.raises(TopologyError, match="nodes.n.config: it is not UTF-8 text"):
        script({"kind": "typed", "config": {"src": "f"}}, render=lambda *_: {"base64": "/////w=="})


def test_a_kind_inherits_a_script_and_changes_it():
    own = {**KINDS, "k": {"extends": "typed", "bootstrap": {"timeout": 7}}}
    made, _files = script({"kind": "k", "config": "x"}, own)
    assert made["timeout"] == 7 and len(made["steps"]) == 3
