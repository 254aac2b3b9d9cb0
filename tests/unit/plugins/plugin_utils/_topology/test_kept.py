# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a lab has given before never moves: addresses, NICs, MACs, AS numbers and UDP ports."""

from __future__ import annotations

import copy
import json
import random
import re

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, endpoints
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.allocations import allocations
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import Kept
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError
from ansible_collections.vlab.qemu.tests.unit import documents

HOSTS = ["hv%d" % number for number in range(1, 6)]
ADDRESSES = {host: "192.0.2.%d" % number for number, host in enumerate(HOSTS, 1)}
POOLS = {
    "loopback": "10.255.0.0/22",
    "links": "10.0.0.0/16",
    "lans": "10.1.0.0/16",
    "management": "172.16.0.0/20",
    "asn": 65000,
    "ipv6": True,
}


class Lab:
    """A lab over several runs, each with the record that the one before has left."""

    def __init__(self, data, hosts=1, existing=None):
        self.data, self.hosts, self.existing = copy.deepcopy(data), HOSTS[:hosts], existing
        self.record, self.placed = {}, {}
        self.run()

    def changed(self, data, hosts=None):
        """Return the same lab with another topology."""
        other = copy.copy(self)
        other.data, other.placed = copy.deepcopy(data), dict(self.placed)
        other.hosts = HOSTS[: hosts or len(self.hosts)]
        return other

    def run(self, kept=True):
        """Derive the lab, and keep what it gives as a record does."""
        record = json.loads(json.dumps(self.record)) if kept else {}
        topology = builder.build(copy.deepcopy(self.data), Kept(record), self.existing)
        for node in topology.nodes.values():
            pin = node.settings.get("hypervisor")
            if node.name not in self.placed or pin in self.hosts:
                self.placed[node.name] = (
                    pin if pin in self.hosts else self.hosts[len(self.placed) % len(self.hosts)]
                )
        self.udp = endpoints.UdpEndpoints(topology, self.placed, ADDRESSES)
        self.record = allocations(topology, self.udp)
        self.topology = topology
        return self.given()

    def given(self):
        """Return all that nodes and links have: {what: value}."""
        found = {}
        for node in self.topology.nodes.values():
            for key in ("loopback", "loopback6", "management", "asn"):
                found[node.name, key] = getattr(node, key)
            for nic in node.nics.values():
                if nic.network is not None:
                    found[node.name, nic.name, "mac"] = nic.mac
        for number, network in self._networks():
            ends = sorted(network.ends)
            found[number, "ends"] = ends
            found[number, "prefixes"] = network.prefix, network.prefix6
            if number[0] == "segment":
                found[number, "home"] = self.udp.home(network)
                found.pop((number, "ends"))
            for end in network.ends:
                nic = self.topology.nodes[end.node].nics[end.nic]
                found[number, str(end), "addresses"] = nic.addresses
                found[number, str(end), "port"] = self.udp.nic(end)
                if number[0] == "segment":
                    found[number, str(end), "hub"] = self.udp.hub_port(network, end)
        return found

    def _networks(self):
        """Yield the links, by the mark in their vars, and the segments."""
        for link in self.topology.links:
            yield ("link", link.settings["vars"]["mark"]), link
        for name, segment in self.topology.segments.items():
            yield ("segment", name), segment


def marked(data):
    """Return a topology whose links are mappings that can be distinguished."""
    data = copy.deepcopy(data)
    for number, link in enumerate(data.get("links", ())):
        if isinstance(link, str):
            link = {"endpoints": re.split(r"\s*(?:--|<->)\s*", link.strip())}
        data["links"][number] = dict(link, vars=dict(link.get("vars") or {}, mark=number))
    return data


def documented():
    """Return the topologies in docs/topology.md that derive something."""
    text = (documents.ROOT / "docs/topology.md").read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        data = yaml.safe_load(block)
        data.setdefault("addressing", POOLS)
        yield marked(data)


def made_up(seed):
    """Return a topology of random nodes, links and segments."""
    chance = random.Random(seed)
    names = chance.sample(
        ["r%d" % n for n in range(1, 9)] + ["leaf", "spine", "zeta", "B", "a-1", "core2"],
        chance.randrange(2, 12),
    )

    def end():
        name = chance.choice(names)
        return name if chance.random() < 0.8 else "%s:eth%d" % (name, chance.randrange(20, 200))

    links, used = [], set()
    for _number in range(chance.randrange(0, 25)):
        ends = [end(), end()]
        if ends[0] == ends[1] and ":" in ends[0] or used & set(ends):
            continue
        used |= {one for one in ends if ":" in one}
        links.append({"endpoints": ends})
        if chance.random() < 0.2:
            links[-1]["name"] = "link %d" % len(links)
    segments = {
        "lan%d" % number: {"members": [chance.choice(names) for _member in range(4)]}
        for number in range(chance.randrange(0, 4))
    }
    nodes = {
        name: {"mac_base": "52:54:%02x:00:00:00" % number} if number % 3 == 0 else {}
        for number, name in enumerate(names)
    }
    data = {"name": "t%d" % seed, "defaults": {"kind": "tiny"}, "nodes": nodes}
    pools = dict(POOLS, loopback=chance.choice(["10.255.0.0/28", "10.255.0.0/24"]))
    return marked(dict(data, links=links, segments=segments, addressing=pools))


TOPOLOGIES = [*documented(), *map(made_up, range(7)), made_up(28)]
NEWCOMERS = ["0", "m3", "r0", "zz"]


def moved(before, after):
    """Return what has another value than before, or none any more."""
    return {
        key: (value, after.get(key)) for key, value in before.items() if after.get(key) != value
    }


def changes(data):
    """Yield (what, topology): one with another node, link or member in every position."""
    names = list(data["nodes"])
    for name in NEWCOMERS:
        for at in sorted({0, len(names) // 2, len(names)}):
            changed = copy.deepcopy(data)
            kind = {} if data.get("defaults", {}).get("kind") else {"kind": "tiny"}
            nodes = [*names[:at], name, *names[at:]]
            changed["nodes"] = {node: data["nodes"].get(node, kind) for node in nodes}
            yield "node %s at %d" % (name, at), changed
            if at == 0:
                linked = copy.deepcopy(changed)
                linked.setdefault("links", []).insert(0, new_link(name, names[-1]))
                for segment in linked.get("segments", {}).values():
                    segment["members"] = [name, *segment["members"]]
                yield "node %s with links" % name, linked
    for at in range(len(data.get("links", ())) + 1):
        changed = copy.deepcopy(data)
        link = new_link(names[0], names[at % len(names)])
        # One of several links between the same nodes needs a name or NICs to be distinguished.
        changed.setdefault("links", []).insert(at, dict(link, name="new"))
        yield "link at %d" % at, changed
    for name, segment in data.get("segments", {}).items():
        for at in range(len(segment["members"]) + 1):
            changed = copy.deepcopy(data)
            changed["segments"][name]["members"].insert(at, names[-1])
            yield "member of %s at %d" % (name, at), changed


def new_link(*ends):
    return {"endpoints": list(ends), "vars": {"mark": "new"}}


@pytest.mark.parametrize("data", TOPOLOGIES, ids=lambda data: data["name"])
def test_nothing_that_is_given_moves_when_something_is_added(data):
    count = 0
    first = Lab(data, hosts=3)
    before = first.given()
    for what, changed in changes(data):
        lab = first.changed(changed, hosts=5)
        try:
            after = lab.run()
        except TopologyError as error:
            # A kind has no more NICs, or a pool of 14 addresses is used up.
            assert "no free NIC" in str(error) or "too small" in str(error), what
            continue
        assert not moved(before, after), what
        count += 1
    assert count
    again = lab.record
    lab.run()
    assert lab.record == again, "a run without a change derives the same"


@pytest.mark.parametrize("data", TOPOLOGIES, ids=lambda data: data["name"])
def test_a_lab_without_a_change_needs_no_record(data):
    lab = Lab(data, hosts=3)
    record, before = lab.record, lab.given()
    assert lab.run() == before and lab.record == record
    assert lab.run(kept=False) == before and lab.record == record


@pytest.mark.parametrize("data", TOPOLOGIES, ids=lambda data: data["name"])
def test_the_order_in_the_file_does_not_matter_to_a_lab(data):
    lab = Lab(data, hosts=3)
    before, record = lab.given(), lab.record
    lab.data["nodes"] = dict(reversed(list(data["nodes"].items())))
    lab.data["segments"] = dict(reversed(list(data.get("segments", {}).items())))
    links = lab.data.get("links", [])
    # Two links between the same nodes are distinguished by their order.
    links.sort(key=lambda link: sorted(map(str, link["endpoints"])))
    assert not moved(before, lab.run())
    for entries in [*record["links"].values(), *lab.record["links"].values()]:
        entries.sort(key=lambda entry: entry["nics"])
    assert lab.record == record


def test_the_derivation_without_a_record_moves_what_these_tests_guard():
    """The tables above would fail without a record."""
    count = 0
    for data in TOPOLOGIES[-3:]:
        first = Lab(data, hosts=3)
        before = first.given()
        for _what, changed in changes(data):
            lab = first.changed(changed)
            try:
                count += bool(moved(before, lab.run(kept=False)))
            except TopologyError:
                continue
    assert count > 10


def large(count, links):
    chance = random.Random(7)
    names = ["n%03d" % number for number in range(count)]
    ends = [chance.sample(names, 2) for _link in range(links)]
    return marked(
        {
            "name": "large",
            "defaults": {"kind": "tiny"},
            "nodes": {name: {} for name in names},
            "links": [{"endpoints": pair} for pair in ends],
        }
    )


def test_one_more_link_of_a_large_lab_moves_no_port():
    lab = Lab(large(300, 600), hosts=3)
    before = lab.given()
    assert sum(map(len, lab.record["ports"].values())) > 600
    moves = []
    for number in range(2):
        ends = ["n%03d" % (number * 7 % 300), "n%03d" % (299 - number)]
        lab.data["links"].insert(
            number * 300, {"endpoints": ends, "vars": {"mark": "new%d" % number}}
        )
        assert not moved(before, lab.run())
        pure = Lab(lab.data, hosts=3)
        moves.append(len(moved(before, pure.given())))
    assert any(moves), "the derivation alone does move some"


def test_another_host_moves_no_port_and_no_hub():
    data = marked(
        {
            "name": "t",
            "defaults": {"kind": "tiny"},
            "nodes": {"a": {}, "b": {}, "c": {}},
            "segments": {"lan": {"members": ["a", "b", "c"]}},
            "links": ["a -- b", "b -- c"],
        }
    )
    lab = Lab(data, hosts=2)
    before = lab.given()
    lab.hosts = HOSTS[:4]
    for name in ("d", "e", "f", "g"):
        lab.data["nodes"][name] = {"hypervisor": "hv4"}
        lab.data["segments"]["lan"]["members"].insert(0, name)
        lab.data["links"].insert(0, new_link(name, "a"))
        lab.data["links"][0]["vars"]["mark"] = name
    after = lab.run()
    assert not moved(before, after)
    assert lab.udp.home(lab.topology.segments["lan"]) == "hv1"
    pure = Lab(lab.data, hosts=4)
    assert pure.udp.home(pure.topology.segments["lan"]) == "hv4", "most members are there"


@pytest.mark.parametrize(
    "nodes, later, expected",
    [
        # Kept values come first, then numbers of names, then what is free.
        (["r1"], ["r1", "r2"], {"r1": 1, "r2": 2}),
        (["r2"], ["r1", "r2"], {"r1": 1, "r2": 2}),
        (["b1", "r1"], ["a1", "b1", "r1"], {"b1": 1, "r1": 2, "a1": 3}),
        (["r1"], ["r1", "x", "r12"], {"r1": 1, "r12": 12}),
    ],
)
def test_what_newcomers_get(nodes, later, expected):
    data = {"name": "t", "defaults": {"kind": "tiny"}, "addressing": {"loopback": "10.0.0.0/28"}}
    lab = Lab(dict(data, nodes={name: {} for name in nodes}))
    lab.data["nodes"] = {name: {} for name in later}
    lab.run()
    found = {name: int(node.loopback.split(".")[-1]) for name, node in lab.topology.nodes.items()}
    assert {name: found[name] for name in expected} == expected


def simple(links=(), **more):
    data = {
        "name": "t",
        "defaults": {"kind": "tiny"},
        "addressing": POOLS,
        "links": list(links),
        "nodes": {"r1": {}, "r2": {}, "r3": {}},
    }
    return marked(dict(data, **more))


def ends(lab):
    return {number[1]: list(map(str, network.ends)) for number, network in lab._networks()}


def test_a_link_is_recognised_when_its_form_changes():
    lab = Lab(simple(["r1 -- r3", "r1 -- r2"]))
    before = lab.given()
    for form in (
        {"endpoints": ["r1:eth2", "r2"]},
        {"endpoints": ["r2:eth1", "r1:eth2"]},
        {"endpoints": ["r2", "r1"], "name": "backbone"},
        {"endpoints": ["r1", "r2"], "name": "spare"},
        {"endpoints": ["r1", "r2"]},
    ):
        lab.data["links"] = [
            dict(form, vars={"mark": 1}),
            {"endpoints": ["r1", "r3"], "vars": {"mark": 0}},
        ]
        assert not moved(before, lab.run()), form


def test_links_between_the_same_nodes_are_distinguished_by_their_names_and_nics():
    links = [{"endpoints": ["r1", "r2"], "name": name} for name in ("a", "b", "c")]
    lab = Lab(simple([*links, "r1:eth9 -- r2:eth9"]))
    before = lab.given()
    lab.data["links"].reverse()
    assert not moved(before, lab.run())
    lab.data["links"] = [link for link in lab.data["links"] if link.get("name") != "a"]
    after = lab.run()
    assert not moved(dict(after), before)
    assert ends(lab) == {
        1: ["r1:eth2", "r2:eth2"],
        2: ["r1:eth3", "r2:eth3"],
        3: ["r1:eth9", "r2:eth9"],
    }


def test_what_the_user_sets_takes_precedence():
    lab = Lab(simple(["r1 -- r2", "r1 -- r3"]))
    assert lab.topology.nodes["r1"].loopback == "10.255.0.1"
    lab.data["nodes"]["r3"] = {"loopback": "10.255.0.1", "asn": 65000}
    lab.data["links"][1] = {"endpoints": ["r1:eth1", "r3"], "vars": {"mark": 1}}
    lab.run()
    nodes = lab.topology.nodes
    assert nodes["r3"].loopback == "10.255.0.1" and nodes["r1"].loopback == "10.255.0.3"
    assert nodes["r3"].asn == 65000 and nodes["r1"].asn not in (65000, 65001)
    assert ends(lab) == {0: ["r1:eth2", "r2:eth1"], 1: ["r1:eth1", "r3:eth1"]}


@pytest.mark.parametrize(
    "pools, key",
    [
        ({"loopback": "10.254.0.0/24"}, "loopback"),
        ({"management": "172.17.0.0/24"}, "management"),
        ({"asn": 64512}, "asn"),
        ({"links": "10.99.0.0/16"}, "prefixes"),
        ({"link_length": 31}, "prefixes"),
    ],
)
def test_another_pool_gives_other_values_and_leaves_the_rest(pools, key):
    lab = Lab(simple(["r1 -- r2"]))
    before = lab.given()
    lab.data["addressing"] = dict(POOLS, **pools)
    keys = {part[-1] for part in moved(before, lab.run())}
    assert keys == ({key, "addresses"} if key == "prefixes" else {key})


def test_what_leaves_the_file_is_reserved_while_its_vm_is_there():
    lab = Lab(simple(["r1 -- r3", "r2 -- r3", "r1 -- r2"]))
    before = lab.given()
    lab.data = simple(["r1 -- r2"], nodes={"r1": {}, "r2": {}, "b3": {}})
    lab.data["links"] = [dict(lab.data["links"][0], vars={"mark": 2}), new_link("b3", "r1")]
    lab.run()
    assert lab.topology.nodes["b3"].loopback == "10.255.0.4", "r3 has 10.255.0.3"
    assert ends(lab)["new"] == ["b3:eth1", "r1:eth3"], "r1:eth1 was on the link to r3"
    lab.data = simple(["r1 -- r3", "r2 -- r3", "r1 -- r2"])
    assert not moved(before, lab.run())
    lab.data = simple(["r1 -- r2"], nodes={"r1": {}, "r2": {}, "c3": {}})
    lab.existing = set()
    lab.run()
    assert lab.topology.nodes["c3"].loopback == "10.255.0.3", "the VM of r3 is removed"
    assert set(lab.record["nodes"]) == {"r1", "r2", "c3"}


def test_a_pool_that_is_used_up_gives_what_is_reserved():
    data = {"name": "t", "defaults": {"kind": "tiny"}, "addressing": {"loopback": "10.0.0.0/30"}}
    lab = Lab(dict(data, nodes={"r1": {}, "r2": {}}))
    lab.data["nodes"] = {"r1": {}, "x": {}}
    lab.run()
    assert lab.topology.nodes["x"].loopback == "10.0.0.2"


HOSTILE = [
    None,
    True,
    0,
    -1,
    1 << 70,
    "",
    "x",
    "10.255.0.1",
    [],
    ["x"],
    [1],
    {},
    {"x": "y"},
    [{}],
    [{"nics": [1, 2]}],
    [{"nics": ["eth1"]}],
    {"prefix": 5},
    {"loopback": []},
]


def test_a_record_of_another_shape_is_as_good_as_none():
    data = simple(["r1 -- r2", "r2:eth5 -- r3"], segments={"lan": {"members": ["r1", "r2"]}})
    lab = Lab(data, hosts=2)
    right = lab.record
    pure = lab.given()
    for value in HOSTILE:
        for kind, entries in right.items():
            for damaged in ({kind: value}, {kind: {key: value for key in entries}}):
                lab.record = damaged
                lab.run()
            for key, entry in entries.items():
                if isinstance(entry, dict):
                    for name in entry:
                        lab.record = {**right, kind: {**entries, key: {**entry, name: value}}}
                        lab.run()
    lab.record = {}
    assert lab.run() == pure
    assert not Kept(None) and not Kept({"nodes": []})


def test_a_new_link_of_a_shared_network_changes_no_address():
    ends = (["r1:eth1", "r2:eth1"], ["r2:eth2", "r3:eth2"], ["r1:eth7", "r3:eth7"])
    links = [{"endpoints": pair, "network": "red", "vars": {"mark": str(pair)}} for pair in ends]
    data = {
        "name": "t",
        "defaults": {"kind": "tiny"},
        "nodes": {"r1": {}, "r2": {}, "r3": {}},
        "links": links[:2],
        "addressing": POOLS,
    }
    before = Lab(data)
    after = before.changed(dict(data, links=[links[2], *links[:2]]))
    given = after.run()
    prefixes = {link.prefix for link in after.topology.links}
    assert prefixes == {before.topology.links[0].prefix}
    for name in ("r1", "r2", "r3"):
        for nic in before.topology.nodes[name].nics.values():
            assert after.topology.nodes[name].nics[nic.name].addresses == nic.addresses
    assert given == after.run()
