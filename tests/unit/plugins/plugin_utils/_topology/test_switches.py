# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Switches in a topology: VLANs of ports, cables between switches, uplinks, and where they run."""

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    allocations,
    builder,
    endpoints,
    host_shares,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import Kept
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

ADDRESSES = {"hv1": "192.0.2.1", "hv2": "192.0.2.2", "hv3": "192.0.2.3"}
NODES = {name: {} for name in "abcd"}


def build(segments, kept=None, **more):
    data = {"name": "t", "defaults": {"kind": "tiny"}, "nodes": NODES, "segments": segments, **more}
    return builder.build(data, **({"kept": kept} if kept else {}))


def segments_of(topology, **placed):
    """Return {host: {segment: as in the share}}. placed: {node: host}; hv1 for the others."""
    places = {name: placed.get(name, "hv1") for name in topology.nodes}
    udp = endpoints.UdpEndpoints(topology, places, ADDRESSES)
    states = {name: "started" for name in topology.nodes}
    runs = {name: True for name in topology.nodes}
    found = {}
    for host in ADDRESSES:
        share = host_shares.share_for(
            topology, places, host, udp, states, runs, lambda _node, text: text
        )
        found[host] = {entry["name"]: entry for entry in share["segments"]}
    return found


def vlans(entry):
    return {name: port["vlans"] for name, port in entry["ports"].items()}


def switch(*members, **more):
    return {"type": "switch", "members": list(members), **more}


def node(name, **more):
    return {"node": name, "nic": "eth1", **more}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        # Without VLANs, everything passes.
        (["a:eth1", "b:eth1"], {"a:eth1": {}, "b:eth1": {}}),
        # If one port has VLANs, the others are in VLAN 1.
        ([node("a", access=10), "b:eth1"], {"a:eth1": {"access": 10}, "b:eth1": {"access": 1}}),
        (
            [node("a", trunk=[20, "30-39", 10, 11, 12, "38-45"], native=5, tag="802.1ad")],
            {"a:eth1": {"trunk": "10-12,20,30-45", "native": 5, "tag": "802.1ad"}},
        ),
        (
            [node("a", trunk="all"), node("b", qinq=7)],
            {"a:eth1": {"trunk": "all"}, "b:eth1": {"qinq": 7}},
        ),
    ],
)
def test_vlans_of_ports(members, expected):
    entry = segments_of(build({"s": switch(*members)}))["hv1"]["s"]
    assert vlans(entry) == expected and entry["ageing"] == 300


def test_what_members_receive_is_impaired():
    impair = {"delay": "20ms", "loss": "1%"}
    members = [node("a", impair_received=impair), node("b", impair_received={"seed": 5}), "c:eth1"]
    ports = segments_of(build({"s": switch(*members)}))["hv1"]["s"]["ports"]
    assert {name: port.get("impair") for name, port in ports.items()} == {
        "a:eth1": {"delay": 20, "loss": 1},
        "b:eth1": None,
        "c:eth1": None,
    }


def test_a_cable_between_switches_on_two_hosts():
    first = switch(node("a", access=10), node("b", access=20), {"segment": "s2", "trunk": [10, 20]})
    topology = build({"s1": first, "s2": switch(node("c", access=10), "d:eth1", ageing=60)})
    found = segments_of(topology, c="hv2", d="hv2")
    one, two = found["hv1"]["s1"], found["hv2"]["s2"]
    assert vlans(one)["switch s2"] == vlans(two)["switch s1"] == {"trunk": "10,20"}
    assert vlans(two)["d:eth1"] == {"access": 1} and two["ageing"] == 60
    here, there = one["ports"]["switch s2"], two["ports"]["switch s1"]
    assert (here["local_address"], here["remote_address"]) == ("192.0.2.1", "192.0.2.2")
    assert here["local_port"] == there["remote_port"] and here["remote_port"] == there["local_port"]
    # On one host, nothing is reachable from others.
    found = segments_of(topology)["hv1"]
    assert all(
        port["local_address"].startswith("127.")
        for name in ("s1", "s2")
        for port in found[name]["ports"].values()
    )
    assert endpoints.hosts_with_addresses(topology, dict(zip("abcd", ["hv1"] * 4))) == set()
    assert endpoints.hosts_with_addresses(
        topology, {"a": "hv1", "b": "hv1", "c": "hv2", "d": "hv2"}
    ) == {"hv1", "hv2"}


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ({}, {}, ({}, {})),
        ({"access": 5}, {}, ({"trunk": "all", "native": 1}, {})),
        ({"access": 5}, {"access": 5}, ({"trunk": "all", "native": 1},) * 2),
    ],
)
def test_a_cable_without_vlans_carries_all(one, two, expected):
    segments = {"s1": switch(node("a", **one)), "s2": switch(node("b", **two), {"segment": "s1"})}
    found = segments_of(build(segments))["hv1"]
    assert vlans(found["s1"])["switch s2"] == expected[0]
    assert vlans(found["s2"])["switch s1"] == expected[1]


def test_a_switch_without_nics_runs_where_those_behind_it_are():
    segments = {
        "core": switch({"segment": "s1"}, {"segment": "s2"}),
        "s1": switch("a:eth1", "b:eth1"),
        "s2": switch("c:eth1"),
        "far": switch({"segment": "core"}, hypervisor="hv3"),
    }
    topology = build(segments)
    found = segments_of(topology, a="hv2", b="hv2")
    assert {host: sorted(found[host]) for host in found} == {
        "hv1": ["s2"],
        "hv2": ["core", "s1"],
        "hv3": ["far"],
    }
    placed = {"a": "hv2", "b": "hv2", "c": "hv1", "d": "hv1"}
    assert endpoints.hosts_with_addresses(topology, placed) == set(ADDRESSES)


def test_ports_between_hosts_are_kept():
    segments = {"s1": switch("a:eth1", {"segment": "s2"}), "s2": switch("b:eth1")}
    topology = build(segments)
    udp = endpoints.UdpEndpoints(topology, {**dict.fromkeys("acd", "hv1"), "b": "hv2"}, ADDRESSES)
    saved = allocations.allocations(topology, udp)
    assert set(saved["ports"]["hv1"]) == {"hub s1 .s2"}
    assert saved["segments"]["s2"]["home"] == "hv2"
    saved["ports"]["hv1"]["hub s1 .s2"] = 19999
    again = segments_of(build(segments, Kept(saved)), b="hv2")
    assert again["hv1"]["s1"]["ports"]["switch s2"]["local_port"] == 19999
    assert again["hv2"]["s2"]["ports"]["switch s1"]["remote_port"] == 19999


def test_the_uplink_of_a_switch_is_a_hub_of_its_own():
    uplink = {"type": "user", "network": "10.9.0.0/24", "access": 20}
    found = segments_of(build({"s": switch(node("a", access=20), uplink=uplink)}))["hv1"]
    port, other = found["s"]["ports"]["uplink"], found["s.uplink"]["ports"]["switch"]
    assert port["vlans"] == {"access": 20} and "ageing" not in found["s.uplink"]
    assert found["s.uplink"]["uplink"] == {"type": "user", "network": "10.9.0.0/24"}
    for side in ("address", "port"):
        assert port["local_" + side] == other["remote_" + side]
        assert port["remote_" + side] == other["local_" + side]


@pytest.mark.parametrize(
    ("uplink", "expected"),
    [
        (None, None),
        ({}, {"type": "user"}),
        ({"restrict": True}, {"type": "user", "restrict": True}),
        ({"type": "tap", "interface": "tap0"}, {"type": "tap", "interface": "tap0"}),
        ({"type": "bridge", "bridge": "br0"}, {"type": "bridge", "bridge": "br0"}),
    ],
)
def test_the_uplink_of_a_hub(uplink, expected):
    given = {} if uplink is None else {"uplink": uplink}
    entry = segments_of(build({"s": {"members": ["a", "b"], **given}}))["hv1"]["s"]
    assert entry.get("uplink") == expected


def test_addresses():
    pools = {"lans": "10.0.0.0/8"}
    segments = {
        "plain": switch("a:eth1", "b:eth1"),
        "vlans": switch(
            {"node": "a", "nic": "eth2", "access": 10, "address": "192.0.2.1/24"},
            {"node": "b", "nic": "eth2", "access": 10},
        ),
        "one": switch({"segment": "two"}, "a:eth3", network="red"),
        "two": switch("b:eth3", network="red"),
    }
    topology = build(segments, addressing=pools)
    assert topology.segments["plain"].prefix and topology.segments["vlans"].prefix is None
    assert topology.nodes["a"].nics["eth2"].addresses == ["192.0.2.1/24"]
    assert topology.nodes["b"].nics["eth2"].addresses == []
    assert topology.segments["one"].prefix == topology.segments["two"].prefix


HUB = {"members": ["d:eth9"]}


@pytest.mark.parametrize(
    ("segments", "path", "says"),
    [
        ({"s": {"members": [node("a", access=1)]}}, "s.members[0]", "a port of a hub has no VLANs"),
        ({"s": {"members": [node("a", impair_received="dsl")]}}, "s.members[0].impair_received",
         "only what a switch sends can be impaired: use type: switch"),
        ({"s": switch(node("a", impair_received={"delay": "x"}))},
         "s.members[0].impair_received.delay", "'x'"),
        ({"s": switch({"segment": "t", "impair_received": "dsl"}), "t": switch("a")},
         "s.members[0]", "a cable between switches has VLANs only"),
        ({"s": switch(node("a", access=0))}, "s.members[0].access", "less than the minimum"),
        ({"s": switch(node("a", access=1, trunk=[1]))}, "s.members[0]", "access, qinq, or trunk"),
        ({"s": switch(node("a", native=1))}, "s.members[0]", "access, qinq, or trunk"),
        ({"s": switch(node("a", trunk=["9-1"]))}, "s.members[0]", "'9-1' is not within 1 and 4094"),
        ({"s": switch(node("a", trunk=["x"]))}, "s.members[0]", "is not a VLAN or a range"),
        ({"s": switch(node("a", trunk=[-5]))}, "s.members[0]", "is not a VLAN or a range"),
        ({"s": switch(node("a", trunk="x"))}, "s.members[0].trunk", ""),
        ({"s": switch(node("a", segment="s"))}, "s.members[0]", "either node or segment"),
        ({"s": switch({"access": 1})}, "s.members[0]", "either node or segment"),
        ({"s": switch({"segment": "t"})}, "s.members[0]", "there is no segment t"),
        ({"s": switch({"segment": "s"})}, "s.members[0]", "s and s are already connected"),
        ({"s": switch({"segment": "h"}), "h": HUB}, "s.members[0]", "only switches can be"),
        ({"s": {"members": [{"segment": "h"}]}, "h": HUB}, "s.members[0]", "only switches can be"),
        ({"s": switch({"segment": "t"}), "t": switch({"segment": "s"})}, "t.members[0]",
         "already connected"),
        ({"s": switch({"segment": "t", "nic": "x"}), "t": switch("a")}, "s.members[0]",
         "a cable between switches has VLANs only"),
        ({"r": switch({"segment": "s"}), "s": switch({"segment": "t"}),
          "t": switch({"segment": "r"})}, "s", "makes a loop of switches"),
        ({"s": {"members": ["a"], "ageing": 5}}, "s.ageing", "only a segment of type switch"),
        ({"s": switch("a", ageing=0)}, "s.ageing", "less than the minimum"),
        ({"s": {"type": "bridge", "members": ["a"], "uplink": {"type": "user"}}}, "s.uplink",
         "a bridge has none"),
        ({"s": {"members": ["a"], "uplink": {"type": "tap"}}}, "s.uplink.interface", "requires it"),
        ({"s": {"members": ["a"], "uplink": {"type": "bridge"}}}, "s.uplink.bridge", "requires it"),
        ({"s": {"members": ["a"], "uplink": {"interface": "x"}}}, "s.uplink.interface",
         "of type user does not support it"),
        ({"s": {"members": ["a"], "uplink": {"network": "x"}}}, "s.uplink.network",
         "'x' is not a network"),
        ({"s": {"members": ["a"], "uplink": {"access": 5}}}, "s.uplink", "a hub has no VLANs"),
        ({"s": {"members": ["a"], "uplink": {"type": "mcast"}}}, "s.uplink.type", "is not one of"),
    ],
)  # fmt: skip
def test_mistakes(segments, path, says):
    with pytest.raises(TopologyError) as raised:
        build(segments)
    found = dict(raised.value.problems)
    assert says in found.get("segments." + path, ""), found
