# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import itertools
import random

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import (
    natural_key,
    trailing_number,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

EVERYTHING = {
    "loopback": "10.255.0.0/24",
    "links": "10.0.0.0/16",
    "lans": "10.1.0.0/16",
    "management": "172.16.0.0/24",
    "asn": 65000,
    "ipv6": True,
}


def lab(nodes=("r1", "r2", "r3"), links=(), addressing=None, segments=None, **more):
    return dict(
        {
            "name": "t",
            "defaults": {"kind": "tiny"},
            "nodes": nodes if isinstance(nodes, dict) else {name: {} for name in nodes},
            "links": list(links),
            "segments": segments or {},
            "addressing": EVERYTHING if addressing is None else addressing,
        },
        **more,
    )


def build(*args, **more):
    return builder.build(lab(*args, **more))


def problems(*args, **more):
    with pytest.raises(TopologyError) as caught:
        build(*args, **more)
    return dict(caught.value.problems)


def addresses(topology):
    return {
        "%s:%s" % (node.name, nic.name): nic.addresses
        for node in topology.nodes.values()
        for nic in node.nics.values()
        if nic.addresses
    }


def networks(topology):
    return topology.links + list(topology.segments.values())


MESH = ["%s -- %s" % pair for pair in itertools.combinations(["n%d" % n for n in range(1, 9)], 2)]
LANS = {
    "lan%d" % n: {"members": ["n%d" % n, "n%d" % (n + 1), "n%d" % (n + 2)]} for n in range(1, 7)
}
NODES = ["n%d" % n for n in range(1, 9)]


@pytest.mark.parametrize("length", [24, 29, 30, 31])
def test_every_network_has_its_own_subnets_from_its_pool(length):
    topology = build(NODES, MESH, dict(EVERYTHING, link_length=length), LANS)
    for family in ("prefix", "prefix6"):
        subnets = [ipaddress.ip_network(getattr(network, family)) for network in networks(topology)]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(subnets, 2))
    for link in topology.links:
        assert ipaddress.ip_network(link.prefix).subnet_of(ipaddress.ip_network("10.0.0.0/16"))
        assert (
            ipaddress.ip_network(link.prefix).prefixlen == length
            and ipaddress.ip_network(link.prefix6).prefixlen == 64
        )
    for segment in topology.segments.values():
        assert ipaddress.ip_network(segment.prefix).subnet_of(ipaddress.ip_network("10.1.0.0/16"))
        assert ipaddress.ip_network(segment.prefix).prefixlen == 24


@pytest.mark.parametrize("length", [24, 30, 31])
def test_every_end_has_a_host_address_of_its_subnet(length):
    topology = build(NODES, MESH, dict(EVERYTHING, link_length=length), LANS)
    seen = set()
    for network in networks(topology):
        for end in network.ends:
            four, six = map(
                ipaddress.ip_interface, topology.nodes[end.node].nics[end.nic].addresses
            )
            assert str(four.network) == network.prefix and str(six.network) == network.prefix6
            if length != 31 or network not in topology.links:
                assert four.ip not in (four.network.network_address, four.network.broadcast_address)
            assert not {four.ip, six.ip} & seen
            seen |= {four.ip, six.ip}


def test_numbers_in_names_choose_loopbacks():
    topology = build(["r10", "r2", "r1", "spine"])
    assert {name: node.loopback for name, node in topology.nodes.items() if name != "spine"} == {
        "r1": "10.255.0.1",
        "r2": "10.255.0.2",
        "r10": "10.255.0.10",
    }
    assert len({node.loopback for node in topology.nodes.values()}) == 4
    assert {name: node.asn for name, node in topology.nodes.items()} == {
        "r1": 65000,
        "r2": 65001,
        "r10": 65002,
        "spine": 65003,
    }


def test_settings_of_a_node_take_precedence():
    nodes = {
        "r1": {"loopback": "10.255.0.2", "asn": 65001, "management": False},
        "r2": {},
        "r3": {"loopback": "1.1.1.1"},
        "r4": {"loopback": False},
    }
    topology = build(nodes)
    assert [node.loopback for node in topology.nodes.values()] == [
        "10.255.0.2",
        "10.255.0.3",
        "1.1.1.1",
        None,
    ]
    assert [node.asn for node in topology.nodes.values()] == [65001, 65000, 65002, 65003]
    assert [node.management for node in topology.nodes.values()] == [
        None,
        "172.16.0.2",
        "172.16.0.3",
        "172.16.0.4",
    ]


def test_without_pools_there_are_no_addresses():
    topology = build(links=["r1 -- r2"], addressing={})
    assert (
        addresses(topology) == {}
        and topology.nodes["r1"].loopback is None
        and topology.links[0].prefix is None
    )


def test_ipv6_only_and_ipv6_derived_from_the_name():
    topology = build(
        links=["r1 -- r2"], addressing={"links6": "fd00:1::/48", "loopback6": "fd00:2::/64"}
    )
    assert all(
        len(found) == 1 and found[0].startswith("fd00:1:") and found[0].endswith("/64")
        for found in addresses(topology).values()
    )
    assert topology.nodes["r1"].loopback6 == "fd00:2::1" and topology.nodes["r1"].loopback is None
    one, other = (builder.build(lab(links=["r1 -- r2"], name=name)) for name in ("one", "other"))
    assert one.links[0].prefix6 != other.links[0].prefix6, "labs have different networks"
    assert ipaddress.ip_address(one.nodes["r1"].loopback6) in ipaddress.ip_network("fd00::/8")


def shuffled(seed):
    chance = random.Random(seed)
    links = [
        link if chance.random() < 0.5 else " -- ".join(reversed(link.split(" -- ")))
        for link in TRIANGLE
    ]
    nodes = list(NODES)
    chance.shuffle(links)
    chance.shuffle(nodes)
    return build(
        nodes, links, None, dict(sorted(LANS_WITH_NICS.items(), key=lambda entry: chance.random()))
    )


TRIANGLE = ["n1:eth1 -- n2:eth1", "n2:eth2 -- n3:eth1", "n3:eth2 -- n1:eth2", "n4:eth1 -- n1:eth3"]
LANS_WITH_NICS = {
    "a": {"members": ["n1:eth5", "n2:eth5", "n3:eth5"]},
    "b": {"members": ["n4:eth5", "n5:eth5"]},
}


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_the_file_does_not_matter(seed):
    expected = build(NODES, TRIANGLE, None, LANS_WITH_NICS)
    found = shuffled(seed)
    assert addresses(found) == addresses(expected)
    for name in NODES:
        for key in ("loopback", "loopback6", "management", "asn"):
            assert getattr(found.nodes[name], key) == getattr(expected.nodes[name], key)


def test_a_new_link_does_not_change_others():
    before = addresses(build(NODES, TRIANGLE, None, LANS_WITH_NICS))
    added = ["n5:eth1 -- n6:eth1", "n6:eth2 -- n7:eth2", "n7:eth3 -- n8:eth3"]
    after = addresses(build(NODES, added + TRIANGLE, None, LANS_WITH_NICS))
    assert before == {key: after[key] for key in before} and len(after) == len(before) + 6
    fewer = addresses(build(NODES, TRIANGLE[1:], None, LANS_WITH_NICS))
    assert fewer == {key: before[key] for key in fewer}


def test_a_new_node_keeps_the_loopbacks_of_the_others():
    before = {name: (node.loopback, node.management) for name, node in build(NODES).nodes.items()}
    after = build(NODES + ["n9", "n10", "zz"]).nodes
    assert {name: (after[name].loopback, after[name].management) for name in NODES} == before


def test_a_pool_can_be_used_up_to_its_last_network():
    topology = build(NODES, MESH[:16], {"links": "10.0.0.0/27", "link_length": 31})
    assert len({link.prefix for link in topology.links}) == 16
    found = problems(NODES, MESH[:17], {"links": "10.0.0.0/27", "link_length": 31})
    assert list(found) == ["addressing.links"] and "too small" in found["addressing.links"]


@pytest.mark.parametrize("pool, fits", [("10.0.0.0/29", 6), ("10.0.0.0/31", 2), ("10.0.0.0/32", 1)])
def test_a_pool_of_loopbacks_can_be_used_up(pool, fits):
    topology = build(NODES[:fits], addressing={"loopback": pool})
    assert len({node.loopback for node in topology.nodes.values()}) == fits
    assert list(problems(NODES[: fits + 1], addressing={"loopback": pool})) == [
        "addressing.loopback"
    ]


@pytest.mark.parametrize("pool, fits", [("fd00::/126", 3), ("fd00::/127", 2), ("fd00::/128", 1)])
def test_a_pool_of_ipv6_loopbacks_can_be_used_up(pool, fits):
    nodes = build(NODES[:fits], addressing={"loopback6": pool}).nodes
    found = {ipaddress.ip_address(node.loopback6) for node in nodes.values()}
    assert len(found) == fits and all(one in ipaddress.ip_network(pool) for one in found)
    assert list(problems(NODES[: fits + 1], addressing={"loopback6": pool})) == [
        "addressing.loopback6"
    ]


def test_a_pool_smaller_than_one_network():
    assert list(problems(links=["r1 -- r2"], addressing={"links": "10.0.0.0/31"})) == [
        "addressing.links"
    ]


def test_a_segment_larger_than_its_network():
    found = problems(segments={"lan": {"members": ["r1", "r2", "r3"], "prefix": "10.1.0.0/30"}})
    assert found == {"segments.lan": "10.1.0.0/30 is too small for 3 NICs"}


def test_given_prefixes():
    links = [
        "r1:eth1 -- r2:eth1",
        {
            "endpoints": ["r2:eth2", "r3:eth2"],
            "prefix": "192.0.2.0/31",
            "prefix6": "2001:db8::/127",
        },
    ]
    topology = build(links=links)
    assert (topology.links[1].prefix, topology.links[1].prefix6) == (
        "192.0.2.0/31",
        "2001:db8::/127",
    )
    assert addresses(topology)["r2:eth2"] == ["192.0.2.0/31", "2001:db8::/127"]
    assert addresses(topology)["r3:eth2"] == ["192.0.2.1/31", "2001:db8::1/127"]


def test_a_given_prefix_of_the_pool_is_not_assigned_again():
    free = build(NODES, MESH[:8], {"links": "10.0.0.0/27", "link_length": 30})
    taken = free.links[3].prefix
    links = MESH[:8]
    links[0] = {"endpoints": links[0].split(" -- "), "prefix": taken}
    topology = build(NODES, links, {"links": "10.0.0.0/27", "link_length": 30})
    assert topology.links[0].prefix == taken and len({link.prefix for link in topology.links}) == 8


def test_overlapping_prefixes():
    links = [
        {"endpoints": ["r1", "r2"], "prefix": "10.9.0.0/24"},
        {"endpoints": ["r1", "r3"], "prefix": "10.9.0.128/30"},
    ]
    assert problems(links=links) == {
        "links[1].prefix": "10.9.0.128/30 overlaps with 10.9.0.0/24 of links[0].prefix"
    }


SHARED = [
    {"endpoints": ["r1:eth1", "r2:eth1"], "network": "red", "prefix": "10.9.0.0/24"},
    {"endpoints": ["r2:eth2", "r3:eth2"], "network": "red"},
    {"endpoints": ["r1:eth3", "r3:eth3"]},
]


def test_links_and_segments_share_a_network():
    segments = {"lan": {"members": ["r1:eth4"], "network": "red", "prefix": "10.9.0.0/24"}}
    topology = build(links=SHARED, segments=segments)
    first, second, other = topology.links
    assert first.prefix == second.prefix == topology.segments["lan"].prefix == "10.9.0.0/24"
    assert first.prefix6 == second.prefix6 == topology.segments["lan"].prefix6
    assert other.prefix not in (None, first.prefix)
    found = addresses(topology)
    shared = [found[end][0] for end in ("r1:eth1", "r2:eth1", "r2:eth2", "r3:eth2", "r1:eth4")]
    assert len(set(shared)) == 5 and all(one.startswith("10.9.0.") for one in shared)


def test_a_shared_network_comes_from_the_pool_of_segments():
    links = [dict(link) for link in SHARED]
    del links[0]["prefix"]
    topology = build(links=links)
    prefix = ipaddress.ip_network(topology.links[0].prefix)
    assert prefix.prefixlen == 24 and prefix.subnet_of(ipaddress.ip_network("10.1.0.0/16"))
    assert topology.links[1].prefix == str(prefix)


def test_prefixes_of_a_shared_network_that_differ():
    links = [SHARED[0], dict(SHARED[1], prefix="10.8.0.0/24")]
    assert problems(links=links) == {
        "links[1].prefix": "10.8.0.0/24 is not the prefix of the network red, which is "
        "10.9.0.0/24 of links[0]"
    }


def test_a_prefix_twice_says_what_to_do():
    links = [SHARED[0], dict(SHARED[1], prefix="10.9.0.0/24", network="blue")]
    assert problems(links=links) == {
        "links[1].prefix": "10.9.0.0/24 overlaps with 10.9.0.0/24 of links[0].prefix: give both "
        "the same network if they are one"
    }


@pytest.mark.parametrize(
    ("settings", "versions"),
    [
        ({}, {4, 6}),
        ({"prefix": True}, {4, 6}),
        ({"prefix": False}, {6}),
        ({"prefix6": False}, {4}),
        ({"prefix": False, "prefix6": False}, set()),
    ],
)
@pytest.mark.parametrize("network", [None, "red"])
def test_networks_without_a_prefix(settings, versions, network):
    more = {"network": network} if network else {}
    links = [{"endpoints": ["r1:eth1", "r2:eth1"], **settings, **more}, "r2:eth2 -- r3:eth2"]
    segments = {"lan": {"members": ["r1:eth4", "r2:eth4"], **settings}}
    found = addresses(build(links=links, segments=segments))
    for end in ("r1:eth1", "r2:eth1", "r1:eth4"):
        given = {6 if ":" in address else 4 for address in found.get(end, ())}
        assert given == versions, end
    assert len(found["r3:eth2"]) == 2, "other links have theirs"


def test_given_addresses():
    nodes = {
        "r1": {"nics": {"eth1": {"address": "10.9.0.2"}}},
        "r2": {},
        "r3": {"nics": {"eth9": {"address": ["10.8.0.1/24", "fd08::1/64"]}}},
    }
    links = [{"endpoints": ["r1:eth1", "r2:eth1"], "prefix": "10.9.0.0/29"}]
    found = addresses(build(nodes, links, {}))
    assert found["r1:eth1"] == ["10.9.0.2/29"] and found["r2:eth1"] == ["10.9.0.1/29"]
    assert found["r3:eth9"] == ["10.8.0.1/24", "fd08::1/64"], "also of a NIC that is not connected"
    ends = [
        {
            "endpoints": [
                {"node": "r1", "address": "10.9.0.1/29"},
                {"node": "r2", "address": ["10.9.0.6/29", "fd09::6/64"]},
            ],
            "prefix": "10.9.0.0/29",
        }
    ]
    assert addresses(build(links=ends, addressing={})) == {
        "r1:eth1": ["10.9.0.1/29"],
        "r2:eth1": ["10.9.0.6/29", "fd09::6/64"],
    }


@pytest.mark.parametrize(
    "first, second, message",
    [
        ("10.9.0.1", "10.9.0.1", "is the address of both r1:eth1 and r2:eth1"),
        ("10.8.0.1", "10.9.0.2", "is not in 10.9.0.0/24"),
        ("here", "10.9.0.2", "is not an IP address"),
    ],
)
def test_invalid_addresses(first, second, message):
    ends = [{"node": "r1", "address": first}, {"node": "r2", "address": second}]
    found = problems(links=[{"endpoints": ends, "prefix": "10.9.0.0/24"}], addressing={})
    assert list(found) == ["links[0]"] and message in found["links[0]"]


@pytest.mark.parametrize(
    "addressing, place",
    [
        ({"links": "fd00::/48"}, "addressing.links"),
        ({"links6": "10.0.0.0/8"}, "addressing.links6"),
        ({"lans": "x"}, "addressing.lans"),
        ({"loopback": "10.0.0.0/40"}, "addressing.loopback"),
    ],
)
def test_invalid_pools(addressing, place):
    assert list(problems(addressing=addressing)) == [place]


def test_two_nodes_with_one_loopback():
    nodes = {"r1": {"loopback": "10.0.0.1"}, "r2": {"loopback": "10.0.0.1"}}
    assert problems(nodes, addressing={}) == {
        "nodes.r2.loopback": "10.0.0.1 is also the address of r1"
    }


def test_natural_order():
    assert sorted(["r10", "r2", "a10b2", "a2b10", "r"], key=natural_key) == [
        "a2b10",
        "a10b2",
        "r",
        "r2",
        "r10",
    ]


@pytest.mark.parametrize(
    "name, number", [("r1", 1), ("r010", 10), ("r", None), ("10", 10), ("r2d", None)]
)
def test_trailing_number(name, number):
    assert trailing_number(name) == number
