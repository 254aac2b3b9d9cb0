# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""is_surely_valid and jsonschema agree on every document."""

from __future__ import annotations

import copy

import jsonschema
import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import schema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.fast_validation import (
    is_surely_valid,
)

WHOLE = {
    "name": "lab",
    "vars": {"a": [1, {"b": None}]},
    "defaults": {"kind": "plain", "memory": 128, "disks": [{"name": "d", "size": "1G"}]},
    "kinds": {
        "plain": {
            "vm": {"memory": "1G", "rng": True},
            "nic": {"name": "e{n}", "first": 0, "management": ["m"]},
            "config": {"format": "iso"},
            "ready": {"port": 22, "console": "x"},
            "files": {"f": {"template": "t.j2"}},
        }
    },
    "groups": {"g": {"members": ["r1"], "loopback": False, "asn": 5}},
    "nodes": {
        "r1": {
            "after": {"r2": "ready"},
            "nics": {"eth/1": {"address": ["10.0.0.1/24"], "capture": True, "mtu": 1500}},
            "asn": 1,
        },
        "r2": None,
        "r3": {"after": ["r1"], "state": "paused", "files": {"f": "text"}, "hypervisor": "h"},
    },
    "links": [
        "r1:eth1 -- r2:eth1",
        {"endpoints": ["r1", {"node": "r3", "nic": "e2", "address": "10.0.0.2/24"}], "down": True},
    ],
    "segments": {"s": {"members": ["r1:e5", "r2"], "type": "hub"}},
    "addressing": {"links": "10.0.0.0/16", "link_length": 31, "ipv6": True},
    "placement": {"policy": "pack", "hypervisors": ["h"]},
    "limits": {"booting": 2, "memory_overcommit": 1.5},
}
ODD = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.0,
    2.5,
    70000,
    "",
    "x",
    "no name!",
    "line\n",
    "y" * 70,
    [],
    ["x"],
    [1],
    ["x", "y", "z"],
    {},
    {"x": 1},
    {"name": "x"},
    {1: 2},
]
VALIDATOR = jsonschema.Draft202012Validator(schema.topology_schema())


def paths(data, here=()):
    for key, value in (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    ):
        yield here + (key,)
        yield from paths(value, here + (key,))


def agrees(data):
    return is_surely_valid(data, schema.topology_schema()) == VALIDATOR.is_valid(data)


def test_a_complete_document_is_valid():
    assert is_surely_valid(WHOLE, schema.topology_schema()) and agrees(WHOLE)


@pytest.mark.parametrize("path", list(paths(WHOLE)), ids=str)
def test_an_invalid_document(path):
    for odd in [*ODD, KeyError]:
        broken = copy.deepcopy(WHOLE)
        place = broken
        for key in path[:-1]:
            place = place[key]
        if odd is KeyError:
            del place[path[-1]]
        else:
            place[path[-1]] = odd
        assert agrees(broken), odd
        if isinstance(place, dict) and odd is not KeyError:
            broken = copy.deepcopy(WHOLE)
            place = broken
            for key in path[:-1]:
                place = place[key]
            if isinstance(odd, (str, int, float, type(None))):
                place[odd] = place.pop(path[-1])
                assert agrees(broken), odd


def test_an_unsupported_keyword_is_left_to_jsonschema():
    assert not is_surely_valid("x", {"const": "x"})
