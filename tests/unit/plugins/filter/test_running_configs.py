# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How running configurations are read, and what of them is saved."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.vlab.qemu.plugins.filter.running_configs import running_configs
from ansible_collections.vlab.qemu.plugins.filter.saved_config import saved_config

TOPOLOGY = {
    "name": "mixed",
    "nodes": {
        "r1": {"kind": "frr"},
        "r2": {"kind": "cisco_vios"},
        "r10": {"kind": "openwrt"},
        "t1": {"kind": "tiny"},
    },
}
VMS = [
    {"name": "r1", "hypervisor": "hv1", "status": "running", "agent": "/run/agent.sock"},
    {"name": "r2", "hypervisor": "hv2", "status": "running", "agent": None},
    {"name": "r10", "hypervisor": "hv1", "status": "running", "agent": None},
]
NODE = {"vlab_lab": "mixed", "inventory_hostname": "mixed-r2", "vlab_vm": "r2"}


def request(node, vms=None, hosts=()):
    found = running_configs(TOPOLOGY, VMS if vms is None else vms, hosts)
    return {request["node"]: request for request in found}[node]


def test_nodes_are_in_the_order_of_their_numbers():
    found = running_configs(TOPOLOGY, VMS)
    assert [request["node"] for request in found] == ["r1", "r2", "r10", "t1"]
    assert [request["node"] for request in running_configs(TOPOLOGY, VMS, (), ["r2"])] == ["r2"]


@pytest.mark.parametrize(
    ("node", "connection", "shell", "command"),
    [
        ("r1", "vlab.qemu.guest_agent", "posix", 'vtysh -c "show running-config no-header"'),
        (
            "r2",
            "vlab.qemu.serial",
            "cli",
            "terminal length 0\nterminal width 0\nshow running-config",
        ),
        ("r10", "vlab.qemu.serial", "posix", "uci export"),
    ],
)
def test_a_node_is_reached_by_its_agent_or_its_console(node, connection, shell, command):
    found = request(node)
    assert found["connection"] == connection and found["host"] is None
    assert (found["shell"], found["command"], found["user"]) == (shell, command, "root")


@pytest.mark.parametrize(
    ("connection", "used", "command"),
    [
        ("ansible.netcommon.network_cli", "ansible.builtin.ssh", "show running-config"),
        ("ssh", "ssh", "show running-config"),
        (
            "vlab.qemu.serial",
            "vlab.qemu.serial",
            "terminal length 0\nterminal width 0\nshow running-config",
        ),
    ],
)
def test_a_host_of_the_inventory_is_reached_as_it_says(connection, used, command):
    found = request("r2", hosts=[dict(NODE, ansible_connection=connection)])
    assert (found["host"], found["connection"], found["command"]) == ("mixed-r2", used, command)


def test_a_host_of_another_lab_is_another_one():
    other = dict(NODE, vlab_lab="other", ansible_connection="ssh")
    assert request("r2", hosts=[other])["host"] is None


@pytest.mark.parametrize(
    ("node", "vms", "reason"),
    [
        ("t1", VMS, "its kind tiny has no command that shows the running configuration"),
        ("r1", VMS[1:], "the node is on no hypervisor"),
        ("r1", [dict(VMS[0], status="paused")], "the node is paused"),
    ],
)
def test_other_nodes_have_a_reason(node, vms, reason):
    found = request(node, vms)
    assert found["reason"] == reason and "command" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TOPOLOGY, "r1"), "vms must be a list"),
        (({"name": "x"}, []), "nodes is missing"),
        ((TOPOLOGY, VMS, (), ["r11"]), "the topology has no node r11; did you mean r1?"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(AnsibleFilterError, match="running_configs|nodes") as caught:
        running_configs(*arguments)
    assert message in str(caught.value)


IOS = (
    "Building configuration...\r\n\r\nCurrent configuration : 900 bytes\r\n!\r\n"
    "! Last configuration change at 10:00:0%d UTC\r\n!\r\nhostname %s\r\nend\r\n\r\n"
)
OMIT = ["^Building configuration", "^Current configuration : "]
VOLATILE = ["^! Last configuration change at"]


def test_only_the_configuration_is_saved():
    text = saved_config(IOS % (1, "r1"), "", OMIT, VOLATILE)
    assert text == "!\n! Last configuration change at 10:00:01 UTC\n!\nhostname r1\nend\n"


@pytest.mark.parametrize(
    ("second", "name", "is_kept"), [(2, "r1", True), (2, "r2", False), (1, "r1", True)]
)
def test_volatile_lines_do_not_change_what_is_saved(second, name, is_kept):
    saved = saved_config(IOS % (1, "r1"), "", OMIT, VOLATILE)
    text = saved_config(IOS % (second, name), saved, OMIT, VOLATILE)
    assert (text == saved) == is_kept
    assert "hostname %s\n" % name in text


def test_terminal_codes_are_removed():
    assert saved_config("\x1b[9999B\x1b[m/ip address\r\n  add\x1b[K\r\n") == "/ip address\n  add\n"


@pytest.mark.parametrize(
    "output",
    [
        "",
        " \r\n",
        "                ^\r\n% Invalid input detected at '^' marker.\r\n",
        "show running-config\n^\nsyntax error, expecting <command>.\n",
        "sh: vtysh: command not found",
        "% Unknown command: show running-config no-header",
    ],
)
def test_what_is_no_configuration_is_refused(output):
    with pytest.raises(AnsibleFilterError, match="has shown no configuration: it printed"):
        saved_config(output)


def test_a_short_configuration_is_one():
    assert saved_config("hostname r1\nend\n") == "hostname r1\nend\n"
