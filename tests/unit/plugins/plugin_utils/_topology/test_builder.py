# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import datetime
import random

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import macs
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

# Every feature of the language.
WHOLE = {
    "name": "whole",
    "defaults": {"kind": "tiny", "memory": "64M", "vars": {"a": 1}, "ready": {"timeout": 5}},
    "kinds": {
        "mine": {
            "extends": "frr",
            "image": "other",
            "vm": {
                "memory": "1G",
                "smbios": [{"type": 1, "serial": "{name}"}],
                "disks": [{"name": "d", "size": "1G"}],
            },
            "disk": {"bus": "sata"},
            "vars": {"x": 1},
            "files": {"a": "b", "t": {"template": "x"}},
            "ready": {"console": "x"},
            "nic": {
                "name": "ge{n}",
                "first": 0,
                "management": ["m0", "m1"],
                "max": 4,
                "min": 2,
                "fill_slots": True,
                "block_size": 2,
            },
            "config": {
                "file": "c",
                "label": "x",
                "addresses": "shell",
                "format": "fat",
                "bus": "ide",
            },
        }
    },
    "groups": {"g": {"members": ["r1", "r2"], "vcpus": 2, "asn": 5}, "h": {"memory": 128}},
    "nodes": {
        "r1": {"groups": ["h"], "loopback": "10.9.9.9", "after": ["r2"]},
        "r2": None,
        "r3": {
            "kind": "mine",
            "config": "hello",
            "asn": 65001,
            "after": {"r1": "ready"},
            "nics": {
                "ge0": {"mac": "52:54:00:00:00:01", "address": "10.5.0.1/24"},
                "ge1": {"link": {"type": "user"}},
            },
        },
        "r4": {
            "state": "stopped",
            "disks": [{"name": "root", "size": "1G"}],
            "smp": {"sockets": 1},
            "management": False,
        },
    },
    "links": [
        "r1:eth1 -- r2:eth1",
        "r2 <-> r4",
        {
            "endpoints": ["r1", {"node": "r3", "nic": "ge2", "address": ["10.7.0.1/30"]}],
            "name": "l",
            "prefix": "10.7.0.0/30",
            "capture": True,
        },
    ],
    "segments": {
        "lan": {
            "members": ["r1", "r2", {"node": "r4", "address": "192.168.0.4"}],
            "prefix": "192.168.0.0/24",
            "type": "hub",
        },
        "b": {"members": ["r1"], "type": "bridge"},
    },
    "addressing": {
        "loopback": "10.255.0.0/24",
        "loopback6": "fd01::/64",
        "links": "10.0.0.0/16",
        "links6": "fd02::/48",
        "lans": "10.1.0.0/16",
        "link_length": 31,
        "lan_length": 24,
        "management": "10.2.0.0/24",
        "ipv6": True,
        "asn": 65000,
    },
    "placement": {"policy": "spread", "hypervisors": ["a"]},
    "limits": {"booting": 3, "memory_overcommit": 1.5, "vcpu_ratio": 2},
    "vars": {"q": [1]},
}


def lab(links=(), nodes=("r1", "r2", "r3"), kind="tiny", **more):
    return dict(
        {
            "name": "t",
            "defaults": {"kind": kind},
            "nodes": nodes if isinstance(nodes, dict) else {name: {} for name in nodes},
            "links": list(links),
        },
        **more,
    )


def problems(data):
    with pytest.raises(TopologyError) as caught:
        builder.build(data)
    for path, message in caught.value.problems:
        assert "  %s: %s" % (path, message) in str(caught.value)
    return dict(caught.value.problems)


def ends(topology):
    return [tuple(map(str, link.ends)) for link in topology.links]


@pytest.mark.parametrize(
    "link",
    [
        "r1:eth2 -- r2:eth3",
        "r1:eth2<->r2:eth3",
        "  r1:eth2   --   r2:eth3 ",
        {"endpoints": ["r1:eth2", "r2:eth3"]},
        {"endpoints": [{"node": "r1", "nic": "eth2"}, {"node": "r2", "nic": "eth3"}]},
    ],
)
def test_forms_of_a_link(link):
    assert ends(builder.build(lab([link]))) == [("r1:eth2", "r2:eth3")]


def test_open_ends_take_the_next_free_nic():
    topology = builder.build(lab(["r1 -- r2", "r1 -- r2:eth1", "r3 -- r1:eth1"]))
    assert ends(topology) == [
        ("r1:eth2", "r2:eth2"),
        ("r1:eth3", "r2:eth1"),
        ("r3:eth1", "r1:eth1"),
    ]
    own = lab(["r1 -- r2"], {"r1": {"nics": {"eth1": {"link": {"type": "user"}}}}, "r2": {}})
    assert ends(builder.build(own)) == [("r1:eth2", "r2:eth1")], (
        "a NIC with a link of its own is not free"
    )


def test_a_link_between_a_node_and_itself_takes_two_nics():
    assert ends(builder.build(lab(["r1 -- r1"]))) == [("r1:eth1", "r1:eth2")]


def test_members_of_segments():
    topology = builder.build(
        lab(segments={"lan": {"members": ["r1", "r2:eth3", {"node": "r3", "nic": "eth2"}]}})
    )
    assert list(map(str, topology.segments["lan"].ends)) == ["r1:eth1", "r2:eth3", "r3:eth2"]
    assert topology.segments["lan"].kind == "hub"
    assert topology.nodes["r1"].nics["eth1"].network is topology.segments["lan"]


def test_the_other_end():
    link = builder.build(lab(["r1:eth1 -- r1:eth2"])).links[0]
    assert str(link.other("r1", "eth1")) == "r1:eth2" and str(link.other("r1", "eth2")) == "r1:eth1"
    assert link.name == "r1:eth1--r1:eth2"


def test_the_order_of_ends_does_not_change_the_name():
    one, other = (
        builder.build(lab([text])).links[0].name
        for text in ("r1:eth1 -- r2:eth1", "r2:eth1 -- r1:eth1")
    )
    assert one == other


def test_macs_are_derived_or_given():
    nodes = {"r1": {"nics": {"eth1": {"mac": "52-54-00-AA-00-01"}}}, "r2": {}}
    topology = builder.build(lab(["r1:eth1 -- r2:eth1"], nodes))
    assert topology.nodes["r1"].nics["eth1"].mac == "52:54:00:aa:00:01"
    assert topology.nodes["r2"].nics["eth1"].mac == macs.derived("t", "r2", "eth1")


def test_mac_base_counts_the_macs_of_a_node():
    own = {"mac_base": "52:54:00:00:00:00", "nics": {"eth2": {"mac": "52:54:00:11:11:11"}}}
    nodes = {"r1": own, "r2": {"mac_base": "52:54:00:00:01:00"}, "r3": {}}
    links = ["r1:eth1 -- r2:eth3", "r1:eth2 -- r3:eth1"]
    made = builder.build(lab(links, nodes)).nodes
    assert {name: made["r1"].nics[name].mac for name in ("eth1", "eth2", "eth4")} == {
        "eth1": "52:54:00:00:00:01",
        "eth2": "52:54:00:11:11:11",
        "eth4": "52:54:00:00:00:04",
    }
    assert made["r2"].nics["eth3"].mac == "52:54:00:00:01:03"
    assert made["r3"].nics["eth1"].mac == macs.derived("t", "r3", "eth1")


def test_a_mac_base_that_gives_one_mac_to_two_nodes():
    data = lab(["r1:eth1 -- r2:eth1"], defaults={"kind": "tiny", "mac_base": "52:54:00:00:00:00"})
    found = dict(problems(data))
    assert set(found) == {"nodes.r2.mac_base", "nodes.r3.mac_base"}
    assert "the node r1 also has: set a mac_base of its own" in found["nodes.r2.mac_base"]


def test_nics_are_checked_like_those_of_qemu_vm():
    nics = {
        "eth1": {"link": {"type": "usr"}},
        "eth2": {"link": {"type": "user", "forwards": [{}]}},
        "eth3": {"mtu": 5},
        "eth4": {"link": {"type": "udp"}},
        "eth5": {"capture": {"snap": 1}},
    }
    assert problems(
        lab(
            [{"endpoints": ["r1:eth8", "r2:eth8"], "capture": {"snap": 1}}],
            {"r1": {"nics": nics}, "r2": {}},
        )
    ) == {
        "nodes.r1.nics.eth1.link.type": "'usr' is not one of none, user, udp, unix, stream, mcast, "
        "tap, bridge, vde, passt; did you mean user?",
        "nodes.r1.nics.eth2.link.forwards[0]": "guest_port is missing",
        "nodes.r1.nics.eth3.mtu": "5 is not an MTU: 68 to 65535, or 0 for none",
        "nodes.r1.nics.eth4.link.local_port": "a link of type udp requires it",
        "nodes.r1.nics.eth5.capture.snap": "there is no such setting; did you mean snaplen?",
        "links[0].capture.snap": "there is no such setting; did you mean snaplen?",
    }


def test_settings_come_from_defaults_kind_groups_and_node():
    topology = builder.build(
        {
            "name": "t",
            "defaults": {
                "kind": "k",
                "memory": "1",
                "vcpus": 1,
                "vars": {"a": 1, "b": 1},
                "ready": {"timeout": 1},
            },
            "kinds": {
                "k": {
                    "vm": {"memory": "9", "vcpus": 9, "rng": True},
                    "vars": {"a": 9, "z": 9},
                    "files": {"f": "kind", "g": "kind"},
                    "ready": {"console": "c", "timeout": 9},
                }
            },
            "groups": {
                "g": {"vcpus": 2, "memory": "2", "members": ["n"]},
                "h": {"vcpus": 3, "files": {"f": "group"}},
            },
            "nodes": {"n": {"memory": "4", "groups": ["h"], "vars": {"b": 4}}, "m": {}},
        }
    )
    n, m = topology.nodes["n"], topology.nodes["m"]
    assert (n.settings["memory"], n.settings["vcpus"], n.settings["rng"]) == ("4", 2, True)
    assert n.settings["vars"] == {"a": 1, "b": 4, "z": 9} and n.settings["files"] == {
        "f": "group",
        "g": "kind",
    }
    assert n.settings["ready"] == {"console": "c", "timeout": 1}
    assert n.groups == ["h", "g"] and (m.groups, m.settings["vcpus"]) == ([], 1)


def test_config_becomes_the_file_of_the_kind():
    topology = builder.build(
        lab(nodes={"r1": {"kind": "juniper_vsrx", "config": {"template": "a.j2"}}})
    )
    assert topology.nodes["r1"].settings["files"] == {"juniper.conf": {"template": "a.j2"}}
    assert problems(lab(nodes={"r1": {"config": "x"}})) == {
        "nodes.r1.config": "nodes of kind tiny do not accept a configuration from a drive"
    }


FILLED = {
    "c": {
        "nic": {
            "name": "ge-0/0/{n}",
            "first": 0,
            "management": ["fxp0"],
            "max": 9,
            "fill_slots": True,
        }
    }
}


def nics(topology, node):
    return {nic.name: nic.position for nic in topology.nodes[node].nics.values()}


def test_nics_fill_slots_up_to_their_numbers():
    topology = builder.build(
        lab(["r1:ge-0/0/3 -- r2", "r1 -- r2"], nodes=("r1", "r2"), kind="c", kinds=FILLED)
    )
    assert list(nics(topology, "r1").items()) == [
        ("fxp0", 0),
        ("ge-0/0/0", 1),
        ("ge-0/0/1", 2),
        ("ge-0/0/2", 3),
        ("ge-0/0/3", 4),
    ]
    assert list(nics(topology, "r2").items()) == [("fxp0", 0), ("ge-0/0/0", 1), ("ge-0/0/1", 2)]


def test_spare_nics():
    def count(**settings):
        kinds = {"c": {"nic": dict({"name": "e{n}"}, **settings)}}
        return list(
            builder.build(lab(["r1:e2 -- r2:e1"], nodes=("r1", "r2"), kind="c", kinds=kinds))
            .nodes["r1"]
            .nics
        )

    assert count() == ["e2"]
    assert count(fill_slots=True) == ["e1", "e2"]
    assert count(block_size=4) == ["e1", "e2", "e3", "e4"]
    assert count(block_size=2) == ["e1", "e2", "e3", "e4"], "one is spare"
    assert count(block_size=4, max=3) == ["e1", "e2", "e3"]
    assert count(min=5) == ["e1", "e2", "e3", "e4", "e5"]
    assert count(management="m") == ["m", "e2"]


@pytest.mark.parametrize(
    "link, place",
    [
        ("r1:ge-0/0/9 -- r2", 0),
        ("r1:ge-0/0/03 -- r2", 0),
        ("r2 -- r1:eth99", 1),
        ("r1:ge-0/0/ -- r2", 0),
    ],
)
def test_a_nic_that_the_kind_does_not_support(link, place):
    found = problems(lab([link], nodes=("r1", "r2"), kind="c", kinds=FILLED))
    assert list(found) == ["links[0].endpoints[%d]" % place]


def test_no_free_nic():
    kinds = {"c": {"nic": {"max": 1}}}
    assert problems(lab(["r1 -- r2", "r1 -- r3"], kind="c", kinds=kinds)) == {
        "links[1].endpoints[0]": "node r1 has no free NIC: kind c supports 1"
    }


# Each mistake, its option path, and a part of its message.
MISTAKES = [
    ({"nme": "x"}, "nme", "did you mean name?"),
    ({"defaults": {"memry": "1G"}}, "defaults.memry", "did you mean memory?"),
    ({"kinds": {"k": {"vm": {"vcpu": 1}}}}, "kinds.k.vm.vcpu", "did you mean vcpus?"),
    ({"kinds": {"loop": {"extends": "loop"}}}, "kinds.loop.extends", "extends itself"),
    ({"groups": {"g": {"members": ["r1", "nobody"]}}}, "groups.g.members[1]", "no node nobody"),
    ({"nodes": {"a b": {}}}, "nodes.a b", "not a valid name"),
    ({"nodes": {"n1": {"vcpus": "two"}}}, "nodes.n1.vcpus", "not an integer"),
    ({"nodes": {"n2": {"kind": "tinny"}}}, "nodes.n2.kind", "no kind 'tinny'"),
    ({"nodes": {"n10": {"kind": "linus"}}}, "nodes.n10.kind", "did you mean linux?"),
    ({"nodes": {"n3": {"groups": ["none"]}}}, "nodes.n3.groups", "no group none"),
    ({"nodes": {"n4": {"after": ["n4"]}}}, "nodes.n4.after", "wait for each other: n4 -> n4"),
    ({"nodes": {"n5": {"memory": "lots"}}}, "nodes.n5", "memory: "),
    (
        {"nodes": {"n6": {"nics": {"eth1": {"mac": "01:00:00:00:00:00"}}}}},
        "nodes.n6.nics.eth1.mac",
        "group address",
    ),
    (
        {"nodes": {"n7": {"ready": {"console": "("}}}},
        "nodes.n7.ready.console",
        "not a regular expression",
    ),
    ({"nodes": {"n8": {"loopback": "10.0.0.300"}}}, "nodes.n8.loopback", "not an IP address"),
    ({"nodes": {"n9": {"state": "runing"}}}, "nodes.n9.state", "not one of started"),
    ({"links": ["r1:eth1 to r2:eth1"]}, "links[0]", "not a link"),
    ({"links": ["r1:eth9 -- ghost:eth1"]}, "links[1].endpoints[1]", "no node ghost"),
    ({"links": [{"endpoints": ["r1"]}]}, "links[2].endpoints", "at least 2 entries"),
    (
        {"links": ["r1:eth1 -- r2:eth1", "r1:eth1 -- r3:eth1"]},
        "links[4].endpoints[0]",
        "already connected by links[3]",
    ),
    (
        {"segments": {"lan": {"members": ["r1", {"node": "r2", "adress": "x"}]}}},
        "segments.lan.members[1].adress",
        "did you mean address?",
    ),
    ({"segments": {"s": {"prefix": "10.0.0.0/24"}}}, "segments.s", "members is missing"),
    ({"addressing": {"links": "10.0.0.0/33"}}, "addressing.links", "not a network"),
    ({"placement": {"policy": "best"}}, "placement.policy", "not one of pack"),
    ({"limits": {"booting": 0}}, "limits.booting", "less than the minimum"),
]


def test_all_mistakes_are_reported_at_once_with_their_paths():
    data = lab()
    for mistake, _path, _message in MISTAKES:
        for key, value in copy.deepcopy(mistake).items():
            if isinstance(value, list):
                data[key] += value
            elif isinstance(value, dict):
                data.setdefault(key, {}).update(value)
            else:
                data[key] = value
    found = problems(data)
    assert set(found) == {place for _mistake, place, _message in MISTAKES}
    for _mistake, path, message in MISTAKES:
        assert message in found[path], path


@pytest.mark.parametrize(
    "data, path, message",
    [
        (None, "the topology", "mapping"),
        ([], "the topology", "mapping"),
        ({}, "the topology", "missing"),
        (lab(nodes={5: {}}), "nodes[5]", "put it in quotes"),
        (lab(nodes={"r1": {"kind": ""}}), "nodes.r1.kind", "no kind"),
        ({"name": "t", "nodes": {"r1": None}}, "nodes.r1.kind", "no kind"),
        (lab(nodes={"r1": 7}), "nodes.r1", "empty or a mapping"),
        (lab(["r1:eth1 -- r1:eth1"]), "links[0]", "both ends"),
        (
            lab(
                [{"endpoints": ["r1", "r2"], "name": "x"}, {"endpoints": ["r1", "r2"], "name": "x"}]
            ),
            "links[1].name",
            "also the name of links[0]",
        ),
        (lab(["r1:a,b -- r2"]), "links[0].endpoints[0]", "not a valid name of a NIC"),
        (
            lab(
                ["r1:eth1 -- r2"], {"r1": {"nics": {"eth1": {"link": {"type": "user"}}}}, "r2": {}}
            ),
            "links[0].endpoints[0]",
            "link of its own",
        ),
        (
            lab(
                nodes={
                    "r1": {
                        "nics": {
                            "a": {"mac": "52:54:00:00:00:01"},
                            "b": {"mac": "52:54:00:00:00:01"},
                        }
                    }
                }
            ),
            "nodes.r1.nics.b.mac",
            "also the MAC address of a",
        ),
        (lab(nodes={"r1": {"after": ["x"]}}), "nodes.r1.after", "no node x"),
        (
            lab(nodes={"r1": {"after": ["r2"]}, "r2": {"after": {"r1": "ready"}}}),
            "nodes.r1.after",
            "r1 -> r2 -> r1",
        ),
        (lab(kinds={"k": {"nic": {"name": "eth"}}}), "kinds.k.nic.name", "{n}"),
        (lab(kinds={"k": {"vm": {"smbios": [{"type": 99}]}}}), "kinds.k.vm", "SMBIOS"),
        (
            lab(segments={"lan": {"members": ["r1", 5]}}),
            "segments.lan.members[1]",
            "5 is not valid here: it must be a string or a mapping",
        ),
    ],
)
def test_mistake(data, path, message):
    found = problems(data)
    assert list(found) == [path] and message in found[path]


def test_an_invalid_node_does_not_invalidate_its_links():
    assert list(problems(lab(["r1 -- r2"], {"r1": "x", "r2": {"kind": "none"}}))) == [
        "nodes.r1",
        "nodes.r2.kind",
    ]


def test_a_structure_that_contains_itself():
    data = lab()
    data["vars"] = {"me": data}
    assert list(problems(data)) == ["the topology"]


def test_the_order_of_nodes_does_not_matter():
    def plain(topology):
        return {
            name: [(nic.name, nic.mac, nic.addresses) for nic in node.nics.values()]
            + [node.loopback, node.asn, node.groups]
            for name, node in topology.nodes.items()
        }

    data = copy.deepcopy(WHOLE)
    data["nodes"] = dict(reversed(list(data["nodes"].items())))
    assert plain(builder.build(data)) == plain(builder.build(copy.deepcopy(WHOLE)))


def test_data_is_not_changed():
    data = copy.deepcopy(WHOLE)
    builder.build(data)
    assert data == WHOLE


GARBAGE = [
    None,
    True,
    False,
    0,
    -1,
    1,
    5,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    " ",
    "r1",
    "r1:eth1",
    "r1:eth1 -- r1:eth1",
    "::",
    "a" * 300,
    "\0",
    "\n",
    "10.0.0.0/8",
    "::/0",
    "0.0.0.0/0",
    "1.2.3.4/99",
    "fd00::/129",
    "{name}",
    "{",
    "[",
    "(",
    [],
    {},
    [[]],
    [None],
    {"a": None},
    {1: 2},
    {None: None},
    {"node": "r1"},
    ["r1", "r1"],
    datetime.date(2020, 1, 1),
    "\u00e9\ud800",
    "r1\n",
    "-1",
    "1e999",
    {"template": 5},
    (1, 2),
    b"x",
    {"type": "none"},
    "%s",
    "10.0.0.0/31",
    "52:54:00:00:00:01",
]


def spots(data, path=()):
    found = [path] if path else []
    for key, value in (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    ):
        found += spots(value, path + (key,))
    return found


def spoil(data, chance):
    path = chance.choice(spots(data))
    inside = data
    for key in path[:-1]:
        inside = inside[key]
    how, value, name = (
        chance.choice(("set", "set", "set", "drop", "add", "rename")),
        copy.deepcopy(chance.choice(GARBAGE)),
        chance.choice(GARBAGE),
    )
    if how == "set":
        inside[path[-1]] = value
    elif how == "drop":
        inside.pop(path[-1])
    elif isinstance(inside, list):
        inside.append(value)
    elif isinstance(name, (str, int, float, tuple, bytes, type(None))):
        inside[name] = value if how == "add" else inside.pop(path[-1])


@pytest.mark.parametrize("seed", range(12))
def test_garbage_anywhere_is_valid_or_a_topology_error(seed):
    chance = random.Random(seed)
    outcomes = {True: 0, False: 0}
    for _number in range(40):
        data = copy.deepcopy(WHOLE)
        for _place in range(chance.choice((1, 1, 2, 5))):
            spoil(data, chance)
        try:
            builder.build(data)
            outcomes[True] += 1
        except TopologyError as error:
            assert error.problems and all(path and message for path, message in error.problems)
            str(error).encode("utf-8")
            outcomes[False] += 1
    assert all(outcomes.values()), "some of it is valid, and some is not"


@pytest.mark.parametrize(
    "kind, own, smp",
    [
        ("juniper_vsrx", {"vcpus": 4}, {"sockets": 1, "cores": 4, "threads": 1}),
        ("arista_veos", {"vcpus": 4}, {"sockets": 1, "cores": 2, "threads": 2}),
        # Half a core: QEMU chooses.
        ("arista_veos", {"vcpus": 1}, None),
        ("arista_veos", {"memory": 1024}, {"sockets": 1, "cores": 1, "threads": 2}),
        (
            "juniper_vsrx",
            {"vcpus": 4, "smp": {"cores": 4}},
            {"sockets": 1, "cores": 4, "threads": 1},
        ),
        ("tiny", {"vcpus": 4}, None),
    ],
)
def test_the_cores_of_a_kind_fit_the_vcpus_of_a_node(kind, own, smp):
    topology = builder.build({"name": "t", "nodes": {"a": {"kind": kind, **own}}})
    assert topology.nodes["a"].settings.get("smp") == smp


def test_images_of_nodes_and_kinds_can_be_relative():
    own = {"bios_image": "b.fd", "kernel": "k", "cdroms": [{"name": "c", "path": "c.iso"}]}
    data = {
        "name": "t",
        "kinds": {"mine": {"extends": "tiny", "vm": own}},
        "nodes": {"a": {"kind": "mine"}, "b": {"kind": "tiny", **own}},
    }
    for node in builder.build(data).nodes.values():
        assert {name: node.settings[name] for name in own} == own
