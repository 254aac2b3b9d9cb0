# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that have a VM on another hypervisor: which are errors, and what moves with the others."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import address_of_root
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, moves
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.endpoints import UdpEndpoints
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

ADDRESSES = {"hv1": "192.0.2.1", "hv2": "192.0.2.2"}


def lab(**more):
    nodes = {name: {"kind": "tiny"} for name in "abc"}
    links = ["a:eth1 -- b:eth1", {"endpoints": ["a:eth2", "c:eth1"], "impair": {"delay": 5}}]
    return builder.build(dict({"name": "t", "nodes": nodes, "links": links}, **more))


def facts(**vms):
    """{host: facts}. vms: {host: {node: its status}}."""
    return {
        host: {
            "root": "/labs/%s" % host,
            "vms": {name: {"status": status} for name, status in vms.get(host, {}).items()},
        }
        for host in ADDRESSES
    }


ON_HV1 = dict.fromkeys("abc", "running")


@pytest.mark.parametrize(
    "placed, found",
    [
        ({"a": "hv1", "b": "hv1"}, []),
        ({"a": "hv2", "b": "hv1"}, [("a", "hv1", "hv2", "running", False)]),
        ({"b": "hv2"}, [("b", "hv1", "hv2", "running", True)]),
        ({}, []),  # nodes that the topology does not name
    ],
)
def test_vms_on_another_hypervisor_than_their_nodes(placed, found):
    known = facts(hv1={"a": "running", "b": "running"}, hv2={"b": "stopped"})
    known["hv2"]["vms"]["b"]["has_state"] = False
    assert [tuple(move)[:5] for move in moves.find_moves(placed, known)] == found


def test_a_vm_with_nothing_to_lose_is_created_again():
    known = facts(hv1={"a": "stopped"})
    known["hv1"]["vms"]["a"]["has_state"] = False
    assert moves.find_moves({"a": "hv2"}, known) == []
    known["hv1"]["vms"]["a"]["has_state"] = True
    assert len(moves.find_moves({"a": "hv2"}, known)) == 1


BRIDGE = {"segments": {"lan": {"type": "bridge", "members": ["a:eth3"]}}}
CHANGED = "nodes.a.hypervisor: its VM is %s on hv1, and the topology places it on hv2"


@pytest.mark.parametrize(
    "status, has_both, allowed, more, says",
    [
        ("running", False, True, {}, None),
        ("paused", False, True, {}, None),
        ("running", False, False, {}, "Set hypervisor to hv1, or set allow_migration"),
        ("running", True, False, {}, "which has one as well. Set hypervisor to hv1"),
        ("stopped", False, False, {}, "Only a running or a paused VM can be migrated"),
        ("stopped", False, True, {}, "Only a running or a paused VM can be migrated"),
        ("suspended", False, True, {}, "Only a running or a paused VM can be migrated"),
        ("damaged", False, True, {}, "Only a running or a paused VM can be migrated"),
        # qemu_migrate completes what was cut off, or refuses it.
        ("stopped", True, True, {}, None),
        ("postmigrate", True, True, {}, None),
        ("running", False, True, BRIDGE, "its NIC eth3 is in the bridge lan"),
    ],
)
def test_what_is_an_error(status, has_both, allowed, more, says):
    problems, topology = Problems(), lab(**more)
    move = moves.Move("a", "hv1", "hv2", status, has_both)
    moves.check_moves([move], allowed, topology, facts(), problems)
    if says is None:
        assert problems.found == []
    else:
        ((path, message),) = problems.found
        assert (path + ": " + message).startswith(CHANGED % status) and says in message


def test_a_target_that_was_not_queried():
    problems = Problems()
    move = moves.Move("a", "hv1", "hv3", "running", False)
    moves.check_moves([move], True, lab(), facts(), problems)
    assert "run qemu_lab_info on hv3 as well" in problems.found[0][1]


def planned(placed, vms, *names):
    topology = lab()
    known = facts(**vms)
    udp = UdpEndpoints(topology, placed, ADDRESSES)
    found = [move for move in moves.find_moves(placed, known) if move.node in names]
    return moves.planned_moves(found, topology, udp, dict.fromkeys("abc", True), known)


def test_links_follow_to_the_addresses_of_the_topology():
    (move,) = planned({"a": "hv2", "b": "hv1", "c": "hv1"}, {"hv1": ON_HV1}, "a")
    assert (move.root, move.to_root) == ("/labs/hv1", "/labs/hv2")
    links = {nic["name"]: nic["link"] for nic in move.nics}
    assert set(links) == {"eth1", "eth2"}, "spare NICs stay as they are"
    (one, two) = move.neighbours
    assert [tuple(end)[:4] for end in (one, two)] == [
        ("hv1", "/labs/hv1", "b", "eth1"),
        ("hv1", "/labs/hv1", "c", "eth1"),
    ]
    assert links["eth1"]["local_address"] == "192.0.2.2" == one.link["remote_address"]
    assert links["eth1"]["remote_port"] == one.link["local_port"]
    assert links["eth2"]["impair"] == {"delay": 5} == two.link["impair"]


def test_a_link_that_becomes_local_has_the_addresses_of_the_root():
    placed = dict.fromkeys("abc", "hv2")
    (move,) = planned(placed, {"hv1": {"a": "running"}, "hv2": {"b": "running"}}, "a")
    udp = UdpEndpoints(lab(), placed, ADDRESSES)
    own = udp.nic(lab().links[0].ends[0]).address
    link = next(nic["link"] for nic in move.nics if nic["name"] == "eth1")
    assert link["local_address"] == address_of_root("/labs/hv2", own) != own
    assert [end.node for end in move.neighbours] == ["b"], "c does not run"
    assert move.neighbours[0].link["remote_address"] == link["local_address"]


def test_a_neighbour_that_moves_as_well_gets_its_links_there():
    found = planned(dict.fromkeys("abc", "hv2"), {"hv1": ON_HV1}, "a", "b", "c")
    assert [(move.node, move.neighbours) for move in found] == [("a", ()), ("b", ()), ("c", ())]
