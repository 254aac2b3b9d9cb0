# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The management network of a lab."""

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils import _connection_vars
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    endpoints,
    host_shares,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

KEYS = {"vars": {"ssh_keys": ["ssh-ed25519 AAAA"]}}


def build(management, node, links=(), **more):
    nodes = {"n": node, "other": {"kind": "tiny"}}
    data = {"name": "t", "management": management, "nodes": nodes, "links": list(links), **more}
    return builder.build(data)


def shares(topology):
    """Return what qemu_vm gets as the NICs of the node n, by name."""
    placed = dict.fromkeys(topology.nodes, "hv1")
    runs = dict.fromkeys(topology.nodes, True)
    states = dict.fromkeys(topology.nodes, "started")
    udp = endpoints.UdpEndpoints(topology, placed, {})

    def render(_node, content):
        return content

    share = host_shares.share_for(topology, placed, "hv1", udp, states, runs, render)
    return {nic["name"]: nic for nic in share["vms"][0]["options"]["nics"]}


def link(topology, nic):
    return shares(topology)[nic]["link"]


def forwards(*ports):
    return [{"guest_port": port} for port in ports]


USER = {"type": "user", "forwards": forwards(22)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (True, USER),
        ({}, USER),
        ({"type": "user"}, USER),
        ({"forwards": [22, 830]}, {"type": "user", "forwards": forwards(22, 830)}),
        (
            {"forwards": [{"guest_port": 161, "protocol": "udp"}], "network": "192.0.2.0/24"},
            {
                "type": "user",
                "network": "192.0.2.0/24",
                "forwards": [{"guest_port": 161, "protocol": "udp"}],
            },
        ),
        ({"type": "bridge", "bridge": "br0"}, {"type": "bridge", "bridge": "br0"}),
    ],
)
def test_management_nics_have_the_link_of_the_lab(given, expected):
    assert link(build(given, {"kind": "juniper_vsrx"}), "fxp0") == expected


@pytest.mark.parametrize("given", [False])
def test_nothing_changes_without_it(given):
    assert link(build(given, {"kind": "juniper_vsrx"}), "fxp0") == {"type": "none"}
    assert "mgmt" not in shares(build(given, {"kind": "frr"}))


@pytest.mark.parametrize(
    ("node", "nic"),
    [
        ({"kind": "frr"}, "mgmt"),
        ({"kind": "arista_veos"}, "Management1"),
        # Only the first of several.
        ({"kind": "cisco_xrv9k"}, "MgmtEth0_RP0_CPU0_0"),
    ],
)
def test_each_kind_has_one(node, nic):
    nics = shares(build(True, node))
    assert [name for name in nics if nics[name]["link"]["type"] == "user"] == [nic]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        # The NICs of its slots are for data.
        ({"kind": "cisco_vios"}, {}),
        # It has a way to the outside.
        ({"kind": "frr", "nics": {"eth1": {"link": {"type": "user"}}}}, {"eth1": {"type": "user"}}),
        ({"kind": "frr", "nics": {"mgmt": {"link": {"type": "none"}}}}, {}),
        ({"kind": "juniper_vsrx", "nics": {"fxp0": {"link": {"type": "none"}}}}, {}),
        ({"kind": "juniper_vsrx", "nics": {"fxp0": {"mtu": 9000}}}, {"fxp0": USER}),
    ],
)
def test_a_node_can_differ(node, expected):
    nics = shares(build(True, node))
    found = {name: nic["link"] for name, nic in nics.items() if nic["link"]["type"] != "none"}
    assert found == expected


@pytest.mark.parametrize("nic", ["fxp0", "ge-0/0/0"])
def test_a_cable_takes_its_place(nic):
    topology = build(True, {"kind": "juniper_vsrx"}, ["n:%s -- other" % nic])
    assert link(topology, nic.replace("/", "_"))["type"] == "udp"
    assert link(topology, "fxp0")["type"] == ("udp" if nic == "fxp0" else "user")


def test_a_node_is_ready_when_its_forwarded_port_of_ssh_answers():
    assert build(True, {"kind": "linux", **KEYS}).nodes["n"].settings["ready"]["port"] == 22
    without = build({"forwards": [80]}, {"kind": "linux", **KEYS})
    assert "port" not in without.nodes["n"].settings["ready"]
    cable = build(True, {"kind": "linux", **KEYS}, ["n:mgmt -- other"])
    assert "port" not in cable.nodes["n"].settings["ready"]


def test_the_inventory_knows_the_ports():
    given = {"forwards": [{"guest_port": 22, "host_port": 2222}]}
    node = build(given, {"kind": "arista_veos"}).nodes["n"]
    (forward,) = _connection_vars.expected_vm(node)["forwards"]
    assert (forward["guest_port"], forward["host_port"]) == (22, 2222)


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"type": "usr"}, "management.type", "did you mean user?"),
        ({"forward": [22]}, "management.forward", "did you mean forwards?"),
        ({"forwards": [0]}, "management.forwards[0].guest_port", "0"),
        ({"forwards": ["x"]}, "management.forwards[0]", "not valid here"),
        ({"forwards": [{"guest_prt": 1}]}, "management.forwards[0].guest_prt", "guest_port?"),
        ({"type": "bridge"}, "management.bridge", "requires it"),
        (
            {"type": "bridge", "bridge": "b", "forwards": [22]},
            "management.forwards",
            "does not support it",
        ),
        ({"network": "here"}, "management.network", "here"),
        ("yes", "management", "must be true or false or a mapping"),
    ],
)
def test_what_is_wrong_is_named(given, path, message):
    with pytest.raises(TopologyError) as caught:
        build(given, {"kind": "frr"})
    problems = dict(caught.value.problems)
    assert message in problems[path]


def test_a_node_without_a_key_is_named():
    with pytest.raises(TopologyError, match="nodes.n: port 22 is forwarded, but the node has no"):
        build(True, {"kind": "linux"})
