# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.user_link import (
    forwards_ssh,
    user_network,
)


@pytest.mark.parametrize(
    "link, expected",
    [
        ({}, ("10.0.2.15/24", "10.0.2.2", "10.0.2.3", [])),
        ({"network": "192.0.2.0/24"}, ("192.0.2.15/24", "192.0.2.2", "192.0.2.3", [])),
        ({"network": "192.0.2.77/24"}, ("192.0.2.15/24", "192.0.2.2", "192.0.2.3", [])),
        ({"network": "10.0.0.0/16"}, ("10.0.2.15/16", "10.0.2.2", "10.0.2.3", [])),
        ({"network": "10.9.0.0"}, ("10.0.2.15/8", "10.0.2.2", "10.0.2.3", [])),
        ({"network": "192.168.76.0"}, ("192.168.2.15/16", "192.168.2.2", "192.168.2.3", [])),
        (
            {"dhcp_start": "10.0.2.50", "host_address": "10.0.2.1", "dns": "10.0.2.9"},
            ("10.0.2.50/24", "10.0.2.1", "10.0.2.9", []),
        ),
        ({"dns_search": ["a", "b"]}, ("10.0.2.15/24", "10.0.2.2", "10.0.2.3", ["a", "b"])),
    ],
)
def test_the_network_of_a_user_link(link, expected):
    assert user_network({"link": dict(link, type="user")}) == expected


@pytest.mark.parametrize(
    "settings", [{}, {"link": None}, {"link": "user"}, {"link": {"type": "tap"}}]
)
def test_no_user_link(settings):
    assert user_network(settings) is None


@pytest.mark.parametrize(
    "forwards, expected",
    [
        ([{"guest_port": 22}], True),
        ([{"guest_port": 80}, {"guest_port": 22, "protocol": "tcp"}], True),
        ([{"guest_port": 22, "protocol": "udp"}], False),
        ([], False),
        (None, False),
        ("22", False),
        ([22], False),
    ],
)
def test_whether_ssh_is_forwarded(forwards, expected):
    nics = {"eth1": {"link": {"type": "user", "forwards": forwards}}, "eth2": {}, "eth3": None}
    assert forwards_ssh(nics) is expected


def ready(**node):
    link = {"type": "user", "forwards": [{"guest_port": 22}]}
    nodes = {"n1": dict({"nics": {"eth1": {"link": link}}}, **node)}
    return builder.build({"name": "t", "nodes": nodes}).nodes["n1"].settings["ready"]


@pytest.mark.parametrize(
    "node, port",
    [
        ({"kind": "linux", "vars": {"ssh_keys": ["ssh-ed25519 A"]}}, 22),
        ({"kind": "linux", "files": {"authorized_keys": {"src": "a"}}}, 22),
        ({"kind": "linux", "vars": {"ssh_keys": "k"}, "ready": {"port": 80}}, 80),
        ({"kind": "linux", "ready": {"ssh": False}}, None),
        ({"kind": "linux", "nics": {"eth1": {"link": {"type": "user"}}}}, None),
        ({"kind": "cloud"}, 22),
        ({"kind": "frr"}, None),
        ({"kind": "tiny", "ready": {"ssh": True}}, 22),
    ],
)
def test_a_node_with_ssh_is_ready_when_it_answers(node, port):
    found = ready(**node)
    assert found.get("port") == port and "ssh" not in found


def test_ssh_without_a_key():
    with pytest.raises(TopologyError, match="nodes.n1: port 22 is forwarded, .*vars.ssh_keys"):
        ready(kind="linux")


def test_a_second_seed():
    with pytest.raises(TopologyError, match="n1.cloud_init: nodes of kind cloud have a seed"):
        ready(kind="cloud", cloud_init={"user_data": {}})
