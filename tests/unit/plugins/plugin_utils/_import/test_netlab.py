# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Topologies that netlab created."""

from __future__ import annotations

import copy
import re

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.tests.unit.imported_labs import (
    FILES,
    cables,
    imported,
    imported_text,
    missing_places,
)

LABS = sorted(path.name for path in FILES.glob("netlab_*"))
NICS = {"b:Ethernet0": "b:eth1", "b:Ethernet4": "b:eth2"}


def _data(name):
    return yaml.safe_load((FILES / name).read_text())


@pytest.mark.parametrize("name", LABS)
def test_every_field_is_in_the_report(name):
    assert missing_places(imported(name).report, _data(name)) == []


@pytest.mark.parametrize("name", LABS)
def test_nodes_links_and_ports_are_those_of_the_file(name):
    links, segments = set(), set()
    for link in _data(name)["links"]:
        ends = ["%s:%s" % (end["node"], end["ifname"]) for end in link["interfaces"]]
        ends = frozenset(re.sub(r"\.0$", "", NICS.get(end, end)) for end in ends)
        if link["type"] == "p2p":
            links.add(ends)
        elif link["type"] in ("lan", "stub"):
            segments.add(ends)
    lab = imported(name)
    found_links, found_segments = cables(lab)
    assert found_links == links
    assert {frozenset(ends) for ends in found_segments.values()} == segments
    assert set(lab.topology["nodes"]) == set(_data(name)["nodes"])


def test_addresses_are_those_of_the_file():
    lab = imported("netlab_ospf.yml")
    topology = builder.build(lab.topology)
    assert topology.links[0].prefix == "10.1.0.0/30"
    assert topology.nodes["r2"].nics["GigabitEthernet0/1"].addresses == ["10.1.0.2/30"]
    assert topology.nodes["h1"].nics["eth1"].addresses == ["172.16.0.3/24"]
    assert topology.nodes["r1"].loopback == "10.0.0.1"
    assert lab.topology["segments"]["lan-2"]["prefix"] == "172.16.0.0/24"
    assert lab.topology["links"][0]["impair"] == {"delay": "10ms", "loss": "1%"}
    assert lab.topology["nodes"]["r1"]["vars"]["imported"]["ospf"]["area"] == "0.0.0.0"
    assert lab.topology["groups"] == {"routers": {"members": ["r1", "r2"]}}
    nodes = imported("netlab_bgp.yml").topology["nodes"]
    assert (nodes["srx"]["asn"], nodes["sw"]["asn"]) == (65001, 65002)
    assert nodes["sw"]["loopback6"] == "2001:db8::2"
    assert nodes["srx"]["nics"]["fxp0"] == {"mac": "08:4f:a9:00:00:0a"}


def _changed(*path_and_value):
    data = copy.deepcopy(_data("netlab_ospf.yml"))
    *path, last, value = path_and_value
    part = data
    for key in path:
        part = part[key]
    part[last] = value
    return yaml.safe_dump(data)


@pytest.mark.parametrize(
    "text, message",
    [
        (_changed("nodes", "r1", "device", "srlinux"), "nodes.r1: 'r1' (srlinux): it is a cont"),
        (_changed("nodes", "r1", "interfaces", 0, "ifindex", "x"), "interfaces[0].ifindex: 'x'"),
        (_changed("links", 0, "interfaces", 0, "node", "r9"), "interfaces[0].node: there is no n"),
        (_changed("links", 0, "interfaces", 0, "ifindex", 9), "node 'r1' has no interface 9"),
        (
            _changed("nodes", "r1", "loopback", "ipv4", "x/32"),
            "nodes.r1: nodes.r1.loopback",
        ),
        (_changed("nodes", "r1", "memory", -1), "nodes.r1.memory: -1 is not a number"),
    ],
)
def test_refusals_name_the_file_and_the_place(text, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(text)
    assert message in str(caught.value)


def test_links_with_the_same_prefix_share_a_network():
    data = _data("netlab_ospf.yml")
    data["links"][0]["prefix"]["ipv4"] = data["links"][1]["prefix"]["ipv4"] = "172.16.0.0/16"
    for number, link in enumerate(data["links"][:2]):
        for place, end in enumerate(link["interfaces"]):
            end["ipv4"] = "172.16.%d.%d/16" % (number, place + 1)
    lab = imported_text(yaml.safe_dump(data))
    networks = [*lab.topology["links"], *lab.topology["segments"].values()]
    shared = [network["network"] for network in networks if "network" in network]
    assert shared == ["shared-1", "shared-1"]
    builder.build(lab.topology)
    assert not any("are kept in vars.imported only" in text for text in lab.report["warnings"])
