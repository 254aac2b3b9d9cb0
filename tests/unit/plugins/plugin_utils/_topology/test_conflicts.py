# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.conflicts import check_conflicts
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems


def conflicts(first, second, kinds=None, placed=None, runs=None):
    """Return the conflicts of two nodes: [(option path, message)]."""
    topology = builder.build(
        {
            "name": "t",
            "kinds": kinds or {},
            "defaults": {"kind": "tiny"},
            "nodes": {"r1": first, "r2": second},
        }
    )
    problems = Problems()
    placed = placed or {"r1": "hv1", "r2": "hv1"}
    check_conflicts(topology, placed, runs or {"r1": True, "r2": True}, problems, "/i")
    return problems.found


def forward(port, address="127.0.0.1", **more):
    forwards = [{"host_address": address, "host_port": port, "guest_port": 22, **more}]
    return {"nics": {"eth1": {"link": {"type": "user", "forwards": forwards}}}}


def console(port, host="127.0.0.1", kind="tcp"):
    return {"consoles": [{"name": "a", "type": kind, "host": host, "port": port}]}


def display(port, kind="vnc"):
    return {"display": {"type": kind, "port": str(port)}}


def disk(**options):
    return {"disks": [{"name": "data", **options}]}


def nic(**link):
    return {"nics": {"eth1": {"link": link}}}


FORWARD = "nodes.r2.nics.eth1.link.forwards[0].host_port"


@pytest.mark.parametrize(
    "first, second, option, thing",
    [
        (forward("8080"), forward("8080"), FORWARD, "port tcp/8080"),
        (forward("80", "0.0.0.0"), forward("80", "127.0.0.3"), FORWARD, "port tcp/80"),
        (forward("80", "127.0.0.2"), forward("80", ""), FORWARD, "port tcp/80"),
        (forward("53", protocol="udp"), forward("53", protocol="udp"), FORWARD, "port udp/53"),
        (console("80", "::"), forward("80", "127.0.0.3"), FORWARD, "port tcp/80"),
        (console("5001"), console("5001"), "nodes.r2.consoles[0].port", "port tcp/5001"),
        (console("5001"), console("5001", "localhost", "telnet"), "nodes.r2.consoles[0].port", ""),
        (forward("5001"), console("5001"), "nodes.r2.consoles[0].port", "port tcp/5001"),
        (display(5901), display(5901), "nodes.r2.display.port", "port tcp/5901"),
        (display(5901), display(5901, "spice"), "nodes.r2.display.port", "port tcp/5901"),
        (
            disk(path="/i/a.qcow2"),
            disk(path="/i/../i/a.qcow2"),
            "nodes.r2.disks[data].path",
            "the image /i/a.qcow2",
        ),
        (
            disk(path="/i/a.qcow2"),
            disk(backing_file="/i/a.qcow2"),
            "nodes.r2.disks[data].backing_file",
            "the image /i/a.qcow2",
        ),
        (
            disk(path="a.qcow2"),
            disk(path="/i/a.qcow2"),
            "nodes.r2.disks[data].path",
            "the image /i/a.qcow2",
        ),
        (
            disk(backing_store="/i/a.qcow2"),
            disk(path="/i/a.qcow2"),
            "nodes.r2.disks[data].path",
            "the image /i/a.qcow2",
        ),
        (
            nic(type="tap", interface="tap0"),
            nic(type="tap", interface="tap0"),
            "nodes.r2.nics.eth1.link.interface",
            "the interface tap0",
        ),
        (
            nic(type="stream", path="/run/s"),
            nic(type="stream", path="/run/s"),
            "nodes.r2.nics.eth1.link.path",
            "the socket /run/s",
        ),
        (
            {"passthrough": ["3b:00.1"]},
            {"passthrough": ["0000:3B:00.1"]},
            "nodes.r2.passthrough",
            "the device 0000:3b:00.1",
        ),
    ],
)
def test_what_two_nodes_of_a_hypervisor_cannot_both_have(first, second, option, thing):
    ((path, message),) = conflicts(first, second)
    assert path == option and message.startswith(thing)
    assert "is also used by the node r1 (nodes.r1." in message and "hypervisor, hv1" in message
    assert not conflicts(first, second, placed={"r1": "hv1", "r2": "hv2"})


@pytest.mark.parametrize(
    "first, second",
    [
        (forward("80", "127.0.0.2"), forward("80", "127.0.0.3")),
        (console("80", "::1"), forward("80", "0.0.0.0")),
        (forward("auto"), forward("auto")),
        (forward("53", protocol="tcp"), forward("53", protocol="udp")),
        (forward("80"), forward("81")),
        (console("auto"), console("auto")),
        (disk(path="/a", snapshot=True), disk(path="/a", snapshot=True)),
        (disk(path="/a", read_only=True), disk(path="/a", read_only=True)),
        (disk(backing_file="/a"), disk(backing_file="/a")),
        (disk(path="/a/{name}"), disk(path="/a/{name}")),
        (disk(size="1G"), disk(size="1G")),
        (nic(type="tap"), nic(type="tap")),
        (nic(type="stream", path="/run/s"), nic(type="stream", path="/run/s", reconnect=1)),
        (nic(type="vde", path="/run/s"), nic(type="vde", path="/run/s")),
    ],
)
def test_what_two_nodes_of_a_hypervisor_can_both_have(first, second):
    assert conflicts(first, second) == []


def test_ports_of_one_node():
    one = {**forward("80", "127.0.0.2"), **console("80", "127.0.0.3")}
    assert not conflicts(one, {})
    both = {**forward("80", "0.0.0.0"), **console("80", "127.0.0.3")}
    ((path, message),) = conflicts(both, {})
    assert path == "nodes.r1.nics.eth1.link.forwards[0].host_port"
    assert "nodes.r1.consoles[0].port" in message


def test_a_setting_of_the_kind_is_used_by_each_of_its_nodes():
    kinds = {"k": {"extends": "tiny", "vm": console("5001")}}
    ((path, _message),) = conflicts({"kind": "k"}, {"kind": "k"}, kinds)
    assert path == "nodes.r2.consoles[0].port"
    kinds["k"]["vm"] = disk(path="/i/{name}.raw")
    assert not conflicts({"kind": "k"}, {"kind": "k"}, kinds)


def test_devices_conflict_between_running_nodes_only():
    device, runs = {"passthrough": ["3b:00.1"]}, {"r1": True, "r2": False}
    assert conflicts(device, device) and not conflicts(device, device, runs=runs)
    assert conflicts(console("5001"), console("5001"), runs=runs), "ports belong to definitions"
