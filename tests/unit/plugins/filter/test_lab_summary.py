# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of the role lab: nodes of a lab, and all labs."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.vlab.qemu.plugins.filter.lab_summary import lab_summary

TOPOLOGY = {
    "name": "pair",
    "kinds": {"blank": {"vm": {"memory": 32}}},
    "defaults": {"kind": "blank", "disks": []},
    "nodes": {"r1": {}, "r2": {"management": "192.0.2.9/24"}, "r10": {}},
    "links": [{"endpoints": ["r1:eth1", "r2:eth1"], "prefix": "10.0.0.0/30"}],
}
HERE = {"inventory_hostname": "hv1", "ansible_connection": "local"}
THERE = {"inventory_hostname": "hv2", "ansible_host": "192.0.2.2", "ansible_user": "me"}


def vm(name, status="running", lab="pair", forward=None, **more):
    """Return a VM as qemu_vm_info does. forward: the host's address and port of port 22."""
    forwards = []
    if forward:
        address, port = forward
        forwards = [
            {"protocol": "tcp", "host_address": address, "host_port": port, "guest_port": 22}
        ]
    return {
        "name": name,
        "lab": lab,
        "status": status,
        "memory_mb": 32,
        "consoles": [{"name": "console", "command": "socat - " + name}],
        "forwards": forwards,
        "nics": [],
        **more,
    }


def test_the_nodes_of_a_lab():
    vms = {
        "hv1": [vm("r1", forward=("127.0.0.1", 20000))],
        "hv2": [vm("r2", "stopped")],
    }
    assert lab_summary(vms, TOPOLOGY, {"hv1": HERE, "hv2": THERE}) == [
        "NODE  STATE    HYPERVISOR  ADDRESSES    SSH",
        "r1    running  hv1         10.0.0.1/30  ssh -p 20000 127.0.0.1",
        "r2    stopped  hv2         192.0.2.9",
        "r10   absent",
        "CONSOLE  COMMAND",
        "r1       socat - r1",
    ]


def test_a_node_is_unknown_when_a_hypervisor_does_not_answer():
    lines = lab_summary({"hv1": [vm("r1")]}, TOPOLOGY, unreachable=["hv2"])
    assert lines[3].split() == ["r10", "unknown"] and lines[-1] == "no answer from hv2"


def test_without_a_topology_there_are_the_vms():
    lines = lab_summary({"hv1": [vm("b"), vm("a", "crashed")], "hv2": []})
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["a", "crashed", "hv1"],
        ["b", "running", "hv1"],
    ]
    assert lab_summary({}) == ["NODE  STATE  HYPERVISOR  ADDRESSES  SSH"]


@pytest.mark.parametrize(
    "forward, hypervisor, command",
    [
        (("127.0.0.1", 1), HERE, "ssh -p 1 127.0.0.1"),
        (("0.0.0.0", 1), HERE, "ssh -p 1 127.0.0.1"),
        (("127.0.0.1", 1), THERE, "ssh -J me@192.0.2.2 -p 1 127.0.0.1"),
        (("127.0.0.1", 1), dict(THERE, ansible_port=2), "ssh -J me@192.0.2.2:2 -p 1 127.0.0.1"),
        (("0.0.0.0", 1), THERE, "ssh -p 1 192.0.2.2"),
        (("192.0.2.7", 1), THERE, "ssh -p 1 192.0.2.7"),
        (("127.0.0.1", None), HERE, ""),
    ],
)
def test_ssh_jumps_over_another_host(forward, hypervisor, command):
    lines = lab_summary({"hv": [vm("r1", forward=forward)]}, None, {"hv": hypervisor})
    assert command in lines[1] and ("ssh" in lines[1]) == bool(command)


def test_reported_addresses_are_added():
    addresses = [
        {"address": "10.0.0.1", "source": "agent"},
        {"address": "fe80::1", "source": "agent"},
        {"address": "127.0.0.1", "source": "forward"},
        *({"address": "10.1.0.%d" % number, "source": "agent"} for number in range(3)),
    ]
    nics = [{"name": "eth1", "addresses": addresses}]
    line = lab_summary({"hv1": [vm("r1", nics=nics)]}, TOPOLOGY)[1]
    assert "10.0.0.1/30, fe80::1, 10.1.0.0 +2" in line


def test_commands_for_consoles_can_be_given():
    lines = lab_summary({"hv1": [vm("r1"), vm("r2")]}, consoles={"r1": "ssh -t hv1 x"})
    assert lines[-2:] == ["r1       ssh -t hv1 x", "r2       socat - r2"]


def test_all_labs():
    vms = {
        "hv2": [vm("a", lab="b2"), vm("b", "stopped", lab="b2"), vm("c", "paused", lab="b10")],
        "hv1": [vm("d", lab="b2")],
        "hv3": [],
    }
    assert lab_summary(vms, labs=True, unreachable=["hv4"]) == [
        "LAB  HYPERVISOR  VMS  STATES                MEMORY IN USE",
        "b2   hv1         1    1 running             32 MiB",
        "b2   hv2         2    1 running, 1 stopped  32 MiB",
        "b10  hv2         1    1 paused              32 MiB",
        "no answer from hv4",
    ]
    assert lab_summary({}, labs=True) == ["LAB  HYPERVISOR  VMS  STATES  MEMORY IN USE"]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (([],), "must be a dictionary"),
        (({}, {"name": "x", "nodes": 1}), "lab_summary: the topology"),
    ],
)
def test_what_is_refused(arguments, says):
    with pytest.raises(AnsibleFilterError, match=says):
        lab_summary(*arguments)
