# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex

import pytest

from ansible_collections.vlab.qemu.plugins.plugin_utils import _connection_vars
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.node_facts import node_facts

LOCAL = {"ansible_connection": "local"}
REMOTE = {
    "inventory_hostname": "hv1",
    "ansible_host": "192.0.2.1",
    "ansible_port": 2222,
    "ansible_user": "ops",
    "ansible_ssh_common_args": "-o 'UserKnownHostsFile=/a b'",
}


def forward(address="127.0.0.1", guest_port=22, protocol="tcp"):
    return {
        "forwards": [
            {
                "guest_port": guest_port,
                "host_address": address,
                "host_port": 20001,
                "protocol": protocol,
            }
        ]
    }


@pytest.mark.parametrize(
    "vm, network_os, connection, chosen",
    [
        ({}, None, "auto", "serial"),
        ({}, "cisco.ios.ios", "auto", "cli"),
        ({"agent": "/a/agent.sock"}, None, "auto", "guest_agent"),
        ({"agent": "/a/agent.sock"}, "vyos.vyos.vyos", "auto", "cli"),
        ({"agent": "/a/agent.sock"}, None, "serial", "serial"),
        ({}, None, "guest_agent", "guest_agent"),
        (forward(), None, "auto", "ssh"),
        (forward(), "cisco.ios.ios", "auto", "network_cli"),
        (forward(), None, "serial", "serial"),
        (forward(guest_port=80), None, "auto", "serial"),
        (forward(protocol="udp"), None, "auto", "serial"),
    ],
)
def test_the_chosen_connection(vm, network_os, connection, chosen):
    assert (
        _connection_vars.choose_connection(
            vm, {"network_os": network_os}, connection, lambda: LOCAL
        )[0]
        == chosen
    )


@pytest.mark.parametrize(
    "address, hypervisor, host",
    [
        ("127.0.0.1", LOCAL, "127.0.0.1"),
        ("0.0.0.0", LOCAL, "127.0.0.1"),
        ("0.0.0.0", REMOTE, "192.0.2.1"),
        ("192.0.2.9", REMOTE, "192.0.2.9"),
        ("0.0.0.0", {"inventory_hostname": "hv1"}, "hv1"),
    ],
)
def test_ssh_without_a_jump_host(address, hypervisor, host):
    assert _connection_vars.choose_connection(forward(address), {}, "auto", lambda: hypervisor)[
        1
    ] == {
        "vlab_ssh_host": host,
        "vlab_ssh_port": 20001,
    }


def test_ssh_through_a_jump_host():
    variables = _connection_vars.choose_connection(forward(), {}, "auto", lambda: REMOTE)[1]
    assert (variables["vlab_ssh_host"], variables["vlab_ssh_port"]) == ("127.0.0.1", 20001)
    command = [
        "ssh",
        "-W",
        "%h:%p",
        "-p",
        "2222",
        "-l",
        "ops",
        "-o",
        "UserKnownHostsFile=/a b",
        "192.0.2.1",
    ]
    assert shlex.split(variables["vlab_proxy_command"]) == command
    option, proxy = shlex.split(variables["vlab_ssh_common_args"])
    assert (option, shlex.split(proxy.split("=", 1)[1])) == ("-o", command)


def test_a_jump_host_behind_a_bastion():
    variables = _connection_vars.choose_connection(
        forward(),
        {},
        "auto",
        lambda: dict(REMOTE, ansible_ssh_common_args="-o ProxyCommand='ssh -W %h:%p bastion'"),
    )[1]
    # The outer ssh makes % of %%, and the inner one the jump host's address of %h.
    assert shlex.split(variables["vlab_proxy_command"])[-3:] == [
        "-o",
        "ProxyCommand=ssh -W %%h:%%p bastion",
        "192.0.2.1",
    ]


def test_facts_of_a_topology():
    topology = builder.build(
        {
            "name": "l",
            "nodes": {
                "r1": {
                    "kind": "frr",
                    "nics": {
                        "eth9": {
                            "link": {
                                "type": "user",
                                "forwards": [
                                    {"guest_port": 22, "host_port": 2201},
                                    {"guest_port": 80, "host_port": "auto"},
                                    {"guest_port": 53, "host_port": 5300, "protocol": "udp"},
                                ],
                            }
                        }
                    },
                }
            },
        }
    )
    assert _connection_vars.expected_vm(topology.nodes["r1"]) == {
        "agent": True,
        "forwards": [{"guest_port": 22, "host_address": "127.0.0.1", "host_port": 2201}],
    }


LINUX = {"user": "root", "python": "/usr/bin/python3", "new_host_keys": True, "sftp": False}


@pytest.mark.parametrize(
    "facts, variables",
    [
        ({}, {}),
        ({"network_os": "cisco.ios.ios"}, {"ansible_network_os": "cisco.ios.ios"}),
        (
            {"access": LINUX},
            {
                "ansible_user": "root",
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_ssh_transfer_method": "piped",
            },
        ),
        # What a hypervisor reports is checked.
        ({"access": {"user": "-oProxyCommand=x", "python": "{{ x }}", "sftp": "no"}}, {}),
        ({"access": {"user": "a;b", "python": "python3"}}, {}),
        ({"access": {"user": ["root"], "python": 3}}, {}),
        ({"access": "root"}, {}),
    ],
)
def test_variables_of_a_kind(facts, variables):
    assert _connection_vars.kind_variables(facts) == variables


@pytest.mark.parametrize("hypervisor", [LOCAL, REMOTE])
@pytest.mark.parametrize("access", [LINUX, {}, {"new_host_keys": "yes"}, "text"])
def test_host_keys_that_change_at_each_boot(hypervisor, access):
    _name, variables = _connection_vars.choose_connection(
        forward(), {"access": access}, "auto", lambda: hypervisor
    )
    words = shlex.split(variables.get("vlab_ssh_common_args", ""))
    assert ("StrictHostKeyChecking=no" in words) == (access is LINUX)
    assert any(word.startswith("ProxyCommand=") for word in words) == (hypervisor is REMOTE)


def test_the_facts_of_linux():
    topology = builder.build(
        {
            "name": "t",
            "kinds": {"mine": {"extends": "linux", "facts": {"user": "ann"}}},
            "nodes": {"n1": {"kind": "linux"}, "n2": {"kind": "mine"}, "n3": {"kind": "frr"}},
        }
    )
    found = [
        node_facts(topology, topology.nodes[name]).get("access") for name in ("n1", "n2", "n3")
    ]
    assert found == [LINUX, dict(LINUX, user="ann"), None]
