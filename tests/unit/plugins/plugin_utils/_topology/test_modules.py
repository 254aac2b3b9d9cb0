# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Systems of several VMs: one node, whose modules are VMs with links between them."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.running_configs import (
    config_requests,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    endpoints,
    host_shares,
    kinds,
    placement,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.allocations import allocations
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.images import apply_images
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import Kept
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.modules import with_modules
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.node_facts import node_facts
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import (
    Problems,
    TopologyError,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.template_variables import (
    template_variables,
)

# A control card, and two line cards, which share a segment with it.
BOX = {
    "extends": "tiny",
    "nic": {"management": ["ctl", "bus"], "max": 0, "fill_slots": True},
    "modules": {
        "c1": {
            "extends": "tiny",
            "nic": {"name": "p1-{n}", "management": ["bus"], "max": 4, "fill_slots": True},
            "ready": {"console": "card is up"},
        },
        "c2": {
            "image": "card",
            "vm": {"memory": 256},
            "nic": {"name": "p2-{n}", "management": ["bus"], "max": 2, "fill_slots": True},
        },
    },
    "internal": ["bus -- c1:bus -- c2:bus"],
}
PAIR = {
    "extends": "box",
    "modules": {},
    "internal": ["bus -- c1:bus"],
}


def build(nodes=None, links=(), kept=None, **more):
    data = {
        "name": "t",
        "kinds": {"box": BOX, "pair": PAIR},
        "defaults": {"kind": "box"},
        "nodes": nodes if nodes is not None else {"a": {}, "b": {}},
        "links": list(links),
        "addressing": {"loopback": "10.255.0.0/24", "links": "10.0.0.0/16", "asn": 65000},
        **more,
    }
    return builder.build(copy.deepcopy(data), kept)


def ends(topology):
    return [[str(end) for end in link.ends] for link in topology.links if not link.internal]


def test_a_node_is_all_its_vms():
    topology = build({"a": {}, "r": {"kind": "tiny"}})
    assert set(topology.nodes) == {"a", "a-c1", "a-c2", "r"}
    assert [node.name for node in topology.systems] == ["a", "r"]
    assert [vm.name for vm in topology.nodes["a"].vms] == ["a", "a-c1", "a-c2"]
    assert [topology.nodes[name].part_of for name in ("a", "a-c1", "a-c2")] == [None, "a", "a"]
    assert topology.nodes["a-c1"].settings["ready"]["console"] == "card is up"
    assert topology.nodes["a-c2"].settings["memory"] == 256
    assert with_modules(topology, ["r", "a"]) == ["r", "a", "a-c1", "a-c2"]
    assert with_modules(topology, ["a-c2", "a"]) == ["a-c2", "a", "a-c1"]


def test_internal_links_have_no_addresses_and_names_that_no_user_gives():
    topology = build({"a": {}, "p": {"kind": "pair"}})
    segment, link = topology.segments["a.internal0"], topology.links[0]
    assert list(map(str, segment.ends)) == ["a:bus", "a-c1:bus", "a-c2:bus"] and segment.internal
    assert list(map(str, link.ends)) == ["p:bus", "p-c1:bus"] and link.internal
    assert (segment.prefix, link.prefix) == (None, None)


def endpoints_of(topology, hosts=("h1",)):
    placed = placement.place(topology, hosts)
    addresses = {host: "192.0.2.%d" % number for number, host in enumerate(hosts, 1)}
    return endpoints.UdpEndpoints(topology, placed, addresses)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("a:p1-3 -- b:p2-1", ["a-c1:p1-3", "b-c2:p2-1"]),
        ("a -- b", ["a-c1:p1-1", "b-c1:p1-1"]),
        # As containerlab numbers them: eth0 is for management, the others are those of all cards.
        ("a:eth4 -- b:eth5", ["a-c1:p1-4", "b-c2:p2-1"]),
        ("a:ctl -- b:eth0", ["a:ctl", "b:ctl"]),
        ("a-c2 -- a:p1-2", ["a-c2:p2-1", "a-c1:p1-2"]),
    ],
)
def test_links_of_the_node_lead_to_the_module_with_the_nic(link, expected):
    assert ends(build(links=[link])) == [expected]


def test_members_of_segments_and_settings_of_nics_do_too():
    nics = {"p2-2": {"address": "192.0.2.1/24"}, "eth1": {"mac": "52:54:00:00:00:01"}, "ctl": {}}
    topology = build({"a": {"nics": nics}, "b": {}}, segments={"lan": {"members": ["a:p1-2", "b"]}})
    assert list(map(str, topology.segments["lan"].ends)) == ["a-c1:p1-2", "b-c1:p1-1"]
    assert topology.nodes["a-c2"].nics["p2-2"].addresses == ["192.0.2.1/24"]
    assert topology.nodes["a-c1"].nics["p1-1"].mac == "52:54:00:00:00:01"
    assert list(topology.nodes["a"].nics) == ["ctl", "bus"]
    assert list(topology.nodes["a-c2"].nics) == ["bus", "p2-1", "p2-2"], "gaps are filled"


@pytest.mark.parametrize(
    ("nodes", "links", "message"),
    [
        (None, ["a:bus -- b"], r"links\[0\].endpoints\[0\]: a:bus is already connected by kinds.b"),
        (None, ["a:p1-9 -- b"], "node a of kind box has no NIC p1-9; its NICs are ctl, bus, p1-1 "),
        (None, ["a -- b"] * 5, "node a-c1 has no free NIC"),
        (
            {"a": {}, "a-c1": {}},
            [],
            "nodes.a: one of its modules is the VM a-c1, which is also a VM of the node a-c1: ren",
        ),
        ({"a" * 62: {}}, [], "give the node a shorter name"),
        ({"a": {"modules": {"c3": {}}}}, [], r"nodes.a.modules.c3: the kind box has no such modul"),
        ({"a": {"modules": {"c1": {"memry": 1}}}}, [], "memry"),
        ({"a": {"kind": "tiny", "modules": {"c1": {}}}}, [], "such module: it has none"),
        ({"a": {"nics": {"eth1": {}, "p1-1": {}}}}, [], "p1-1 is given by two names"),
    ],
)
def test_wrong_nodes_and_links(nodes, links, message):
    with pytest.raises(TopologyError, match=message):
        build(nodes, links)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"internal": ["bus -- c9:bus"]}, r"kinds.x.internal\[0\]: there is no module c9"),
        ({"internal": ["bus"]}, r"'bus' is not an internal link: use the form NIC -- MODULE:NIC"),
        ({"internal": ["bus -- c1:"]}, "is not an internal link"),
        ({"internal": ["bus -- c1:nic9"]}, "has no NIC nic9"),
        ({"internal": ["bus -- c1:bus", "bus -- c2:bus"]}, "a:bus is already connected"),
        ({"modules": {"c2": {"nic": {"name": "p1-{n}"}}}}, "x.modules.c2.nic: the module c1 al"),
        ({"modules": {"c1": {"extends": "nothing"}}}, "kinds.x.modules.c1.extends: there is no ki"),
        ({"modules": {"c1": {"extends": "x"}}}, "the kind 'x' extends itself"),
        ({"modules": {"c1": {"modules": {}}}}, "modules"),
        ({"modules": {"c1": {"vm": {"machine": 5, "memory": "x"}}}}, "kinds.x.modules.c1.vm"),
    ],
)
def test_wrong_kinds(change, message):
    with pytest.raises(TopologyError, match=message):
        build({"a": {"kind": "x"}}, kinds={"box": BOX, "x": {"extends": "box", **change}})


def test_modules_of_a_kind_that_extends_another():
    own = {
        "box": BOX,
        "big": {
            "extends": "box",
            "modules": {
                "c1": {"vm": {"memory": 512}},
                "c2": {"extends": "frr", "nic": {"name": "q{n}"}},
                "c3": {"nic": {"name": "r{n}"}},
            },
        },
    }
    problems = Problems()
    spec = kinds.resolve("big", own, problems, "here")
    assert not problems.found
    c1, c2, c3 = (spec["modules"][name] for name in ("c1", "c2", "c3"))
    assert (c1["vm"]["memory"], c1["nic"]["name"], c1["image"]) == (512, "p1-{n}", "tiny")
    assert (c2["nic"]["name"], c2["image"], c3["image"]) == ("q{n}", "frr", "big_c3")
    assert spec["internal"] == BOX["internal"] and not c1["modules"]
    assert BOX["modules"]["c1"].get("vm") is None


def test_settings_of_modules():
    topology = build(
        {
            "a": {
                "groups": ["g"],
                "memory": 96,
                "state": "stopped",
                "hypervisor": "h1",
                "shutdown": {"timeout": 7},
                "vars": {"x": 1},
                "files": {"f": "text"},
                "modules": {"c2": {"memory": 333, "ready": {"timeout": 9}, "vars": {"y": 2}}},
            }
        },
        groups={"g": {"cpu": "max"}},
        defaults={"kind": "box", "check_host_memory": False, "vars": {"z": 3}},
    )
    own, card, other = (topology.nodes[name].settings for name in ("a", "a-c2", "a-c1"))
    assert (own["memory"], card["memory"], other["memory"]) == (96, 333, 128)
    for settings in (own, card, other):
        assert (settings["cpu"], settings["check_host_memory"]) == ("max", False)
        assert (settings["state"], settings["hypervisor"]) == ("stopped", "h1")
        assert settings["shutdown"] == {"timeout": 7}
    assert (card["ready"], card["vars"], card["files"]) == ({"timeout": 9}, {"y": 2}, {})


def test_what_waits_for_a_node_waits_for_all_its_vms():
    nodes = {
        "a": {"after": ["r"]},
        "r": {"kind": "tiny"},
        "s": {"kind": "tiny", "after": {"a": "ready"}},
    }
    topology = build(nodes)
    after = {name: node.after for name, node in topology.nodes.items()}
    assert after == {
        "r": {},
        "a": {"r": "started"},
        "a-c1": {"r": "started"},
        "a-c2": {"r": "started"},
        "s": {"a": "ready", "a-c1": "ready", "a-c2": "ready"},
    }
    with pytest.raises(TopologyError, match="the nodes wait for each other"):
        build(dict(nodes, r={"kind": "tiny", "after": ["s"]}))


def test_only_the_node_has_addresses_of_its_own():
    topology = build(links=["a:p1-1 -- b:p2-1"], management=True)
    for name in ("a-c1", "a-c2"):
        vm = topology.nodes[name]
        assert (vm.loopback, vm.asn, vm.management) == (None, None, None)
        assert not vm.nics["bus"].settings.get("link")
    node = topology.nodes["a"]
    assert (node.loopback is not None, node.asn) == (True, 65000)
    assert node.nics["ctl"].settings["link"]["type"] == "user"
    facts = node_facts(topology, node)
    nics = {nic["name"]: nic for nic in facts["nics"]}
    assert list(nics)[:3] == ["ctl", "bus", "p1-1"] and "part_of" not in facts
    address = topology.nodes["a-c1"].nics["p1-1"].addresses
    assert (nics["p1-1"]["vm"], nics["p1-1"]["addresses"]) == ("a-c1", address) and address
    assert "vm" not in nics["ctl"]
    assert node_facts(topology, topology.nodes["a-c1"]) == {
        "kind": "box",
        "part_of": "a",
        "nics": [],
    }
    variables = template_variables(topology, node)
    (shown,) = [nic for nic in variables["nics"] if nic["name"] == "p1-1"]
    assert shown["addresses"] == address
    peer = shown["peer"]
    assert (peer["node"], peer["nic"], peer["asn"]) == ("b", "p2-1", 65001)
    assert peer["loopback"] == topology.nodes["b"].loopback


@pytest.mark.parametrize("policy", ["spread", "pack", "memory"])
def test_the_vms_of_a_node_are_on_one_host(policy):
    nodes = {"a": {}, "b": {}, "c": {"kind": "tiny"}, "d": {"hypervisor": "h2"}}
    topology = build(nodes, placement={"policy": policy})
    facts = {host: {"memory_available_mb": 4000, "vms": {}} for host in ("h1", "h2")}
    placed = placement.place(topology, ["h1", "h2"], facts)
    for node in topology.systems:
        assert {placed[vm.name] for vm in node.vms} == {placed[node.name]}
    if policy == "spread":
        # d has three VMs.
        assert (placed["a"], placed["b"], placed["c"]) == ("h1", "h1", "h2")


def test_all_vms_count_for_the_memory_of_a_host():
    topology = build({"a": {}, "b": {}}, placement={"policy": "pack"})
    need = sum(placement.memory_of(vm) for vm in topology.nodes["a"].vms)
    facts = {"h1": {"memory_available_mb": 2 * need - 1, "vms": {}}}
    facts["h2"] = {"memory_available_mb": need, "vms": {}}
    placed = placement.place(topology, ["h1", "h2"], facts)
    assert (placed["a"], placed["b"]) == ("h1", "h2")


def test_a_lab_keeps_what_its_modules_have():
    links = ["a -- b", "a:p2-1 -- b"]
    first = build(links=links)
    kept = Kept(allocations(first, endpoints_of(first)))
    again = build(links=["b -- a:p1-4", *links], kept=kept)
    assert ends(again)[1:] == ends(first) and not again.reserved.allocations["nodes"]
    macs = [topology.nodes["a-c1"].nics["p1-1"].mac for topology in (first, again)]
    assert macs[0] == macs[1]


def test_the_share_of_a_host_has_all_vms():
    topology = build(links=["a:p1-1 -- b:p1-1"])
    problems = Problems()
    apply_images(topology, {"tiny": {"kernel": "/k"}}, problems)
    assert [path for path, _text in problems.found] == ["nodes.a-c2.image", "nodes.b-c2.image"]
    udp = endpoints_of(topology)
    states = dict.fromkeys(topology.nodes, "started")
    runs = dict.fromkeys(topology.nodes, True)
    share = host_shares.share_for(
        topology, udp.placed, "h1", udp, states, runs, lambda _node, content: content
    )
    options = {vm["name"]: vm["options"] for vm in share["vms"]}
    assert set(options) == set(topology.nodes)
    nics = {nic["name"]: nic for nic in options["a-c1"]["nics"]}
    assert nics["p1-1"]["peer"] == "b-c1" and nics["bus"]["link"]["type"] == "udp"
    assert sorted(entry["name"] for entry in share["segments"]) == ["a.internal0", "b.internal0"]
    hostname = options["a-c1"]["config_drive"]["files"]["hostname"]
    assert hostname == "a-c1\n"


def test_configurations_are_those_of_nodes():
    requests = config_requests(build(), [])
    assert [request["node"] for request in requests] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "link", "vm", "nic"),
    [
        ("juniper_vmx", "eth1", "n-fpc0", "ge-0/0/0"),
        ("vr-vmx", "ge-0/0/95", "n-fpc0", "ge-0/0/95"),
        ("juniper_vqfx", "eth1", "n", "xe-0/0/0"),
        ("nokia_sros_chassis", "1/1/40", "n-iom1", "1/1/40"),
    ],
)
def test_the_systems_of_the_collection(kind, link, vm, nic):
    topology = build({"n": {"kind": kind}, "t": {"kind": "tiny"}}, ["n:%s -- t" % link])
    assert ends(topology)[0][0] == "%s:%s" % (vm, nic)
    (internal,) = [each for each in topology.links if each.internal]
    assert {end.node for end in internal.ends} == {each.name for each in topology.nodes["n"].vms}
