# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labs of containerlab."""

from __future__ import annotations

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

LABS = sorted(path.name for path in FILES.glob("containerlab_*"))
# The NIC of each kind that containerlab calls eth1, and how far its number is from that.
FIRST = {
    "nokia_sros": "1/1/{}",
    "vr-sros": "1/1/{}",
    "vr-veos": "Ethernet{}",
    "generic_vm": "eth{}",
    "linux": "eth{}",
}


def _node_kind(topology, name):
    node = topology["nodes"][name] or {}
    group = (topology.get("groups") or {}).get(node.get("group"), {})
    return node.get("kind") or group.get("kind") or topology["defaults"]["kind"]


def _expected(topology, end):
    """Return an end as NODE:NIC by the rules of the launchers, None for a bridge."""
    node, interface = end.split(":") if isinstance(end, str) else (end["node"], end["interface"])
    kind = _node_kind(topology, node)
    if kind == "bridge":
        return None
    number = int(interface[3:]) if interface.startswith("eth") and interface[3:].isdigit() else None
    if number is None:
        nic = interface.replace("Gi", "GigabitEthernet")
    elif "csr" in kind:
        nic = "GigabitEthernet%d" % (number + 1)
    elif "vsrx" in kind:
        nic = "ge-0/0/%d" % (number - 1)
    elif "ros" in kind and "sros" not in kind:
        nic = "ether%d" % (number + 1)
    elif "xrv9k" in kind:
        nic = "GigabitEthernet0/0/0/%d" % (number - 1)
    else:
        nic = FIRST[kind].format(number)
    return "%s:%s" % (node, nic)


@pytest.mark.parametrize("name", LABS)
def test_every_field_is_in_the_report(name):
    data = yaml.safe_load((FILES / name).read_text())
    assert missing_places(imported(name).report, data) == []


@pytest.mark.parametrize("name", LABS)
def test_nodes_links_and_ports_are_those_of_the_file(name):
    topology = yaml.safe_load((FILES / name).read_text())["topology"]
    lab = imported(name)
    vms = {node for node in topology["nodes"] if _node_kind(topology, node) != "bridge"}
    assert set(lab.topology["nodes"]) == vms
    links, members = set(), set()
    for link in topology["links"]:
        if "endpoint" not in link:
            ends = [_expected(topology, end) for end in link["endpoints"]]
            if None in ends:
                members.update(end for end in ends if end)
            else:
                links.add(frozenset(ends))
    found_links, found_segments = cables(lab)
    assert found_links == links
    assert {end for ends in found_segments.values() for end in ends} == members


def test_settings_of_all_levels():
    lab = imported("containerlab_site.clab.yml")
    nodes = lab.topology["nodes"]
    assert lab.topology["name"] == "site-one" and lab.report["renamed"] == [
        {"from": "site one", "to": "site-one"}
    ]
    assert (nodes["e1"]["kind"], nodes["e1"]["memory"]) == ("cisco_csr1000v", 4608)
    assert nodes["c1"]["smp"] == {"sockets": 1, "cores": 2} and nodes["c1"]["cpu"] == "host"
    assert nodes["c1"]["vga"] == "std" and "extra_args" not in nodes["c1"]
    assert nodes["c1"]["after"] == {"e1": "ready", "e2": "started"}
    assert nodes["e1"]["nics"]["GigabitEthernet4"] == {"mac": "02:00:5e:00:00:01"}
    assert nodes["e2"]["nics"]["GigabitEthernet1"] == {"link": {"type": "user"}}
    assert nodes["e1"]["position"] == {"x": -120, "y": 45.3} and "position" not in nodes["e2"]
    assert lab.topology["segments"]["sw1"]["position"] == {"x": 10, "y": 20}
    assert nodes["e1"]["vars"]["imported"]["labels"] == {"tier": "edge", "graph-icon": "router"}
    assert nodes["e1"]["vars"]["imported"]["links"]["GigabitEthernet4"]["vars"]["vlan"] == 10
    assert lab.topology["groups"] == {
        "edge": {"members": ["e1", "e2"]},
        "core": {"members": ["c1"]},
    }
    assert lab.topology["links"][1]["endpoints"][0]["address"] == ["198.51.100.1/30"]
    assert lab.images["juniper_vsrx"] == {"disk": "/srv/images/juniper_vsrx.qcow2"}
    assert lab.report["images"]["juniper_vsrx"]["source"] == "vrnetlab/juniper_vsrx:24.2R1"
    assert "tiny" not in lab.images


def test_configurations_become_files():
    lab = imported(
        "containerlab_site.clab.yml",
        attachment=lambda path: b"hostname e2\n" if path == "configs/e2.cfg" else None,
    )
    path = "site-one/e1/iosxe_config.txt"
    assert lab.topology["nodes"]["e1"]["config"] == {"src": path}
    # The text itself is not changed: it is in a file that is no template.
    assert lab.files[path] == "hostname e1\nbanner motd {{ not a template }}\n"
    assert lab.files["site-one/e2/iosxe_config.txt"] == "hostname e2\n"


def test_a_missing_configuration_is_reported():
    lab = imported("containerlab_site.clab.yml")
    assert "config" not in lab.topology["nodes"]["e2"]
    assert any("configs/e2.cfg" in warning for warning in lab.report["warnings"])


def test_arguments_are_taken_over_on_request():
    lab = imported("containerlab_site.clab.yml", arguments=True)
    assert lab.topology["nodes"]["c1"]["extra_args"] == ["-object", "rng-random,id=r"]


def test_two_versions_of_an_image():
    text = (
        "name: x\ntopology:\n nodes:\n"
        "  a: {kind: cisco_vios, image: 'vios:1'}\n  b: {kind: cisco_vios, image: 'vios:2'}\n"
    )
    lab = imported_text(text)
    assert "image" not in lab.topology["nodes"]["a"]
    assert lab.topology["nodes"]["b"]["image"] == "cisco_vios-2"
    assert set(lab.images) == {"cisco_vios", "cisco_vios-2"}


def test_systems_of_several_vms_are_one_node():
    text = (
        'name: x\ntopology:\n nodes:\n  a: {kind: vr-vmx, startup-config: "set a\\n"}\n'
        "  b: {kind: juniper_vqfx}\n links:\n"
        "  - endpoints: ['a:eth1', 'b:eth2']\n  - endpoints: ['a:ge-0/0/4', 'b:xe-0/0/0']\n"
    )
    lab = imported_text(text)
    assert {name: node["kind"] for name, node in lab.topology["nodes"].items()} == {
        "a": "juniper_vmx",
        "b": "juniper_vqfx",
    }
    assert lab.topology["links"] == ["a:ge-0/0/0 -- b:xe-0/0/1", "a:ge-0/0/4 -- b:xe-0/0/0"]
    assert {"juniper_vmx", "juniper_vmx_vfp", "juniper_vqfx", "juniper_vqfx_pfe"} == set(lab.images)
    builder.build(lab.topology)


NODES = "name: x\ntopology:\n nodes: {a: {kind: cisco_vios}, b: {kind: %s}}\n links: %s\n"


@pytest.mark.parametrize(
    "kind, links, message",
    [
        ("linux", "[]", "topology.nodes.b: 'b' (linux): it is a container, and only VMs"),
        ("vr-nonsense", "[]", "there is no kind for it"),
        ("", "[]", "topology.nodes.b.kind: the node has no kind"),
        (
            "bridge",
            "[{endpoints: [a:eth1, c:eth1]}]",
            "links[0].endpoints[1]: there is no node 'c'",
        ),
        (
            "bridge",
            "[{endpoints: [a:eth1]}]",
            "links[0].endpoints: a link has two endpoints, not 1",
        ),
        ("bridge", "[{endpoints: [a:eth99, b:x]}]", "has no NIC 'eth99'; its NICs are Gig"),
        (
            "bridge",
            "[{endpoints: [a:eth1, b:x]}, {endpoints: [a:Gi0/1, b:y]}]",
            "topology.links[1]: a:GigabitEthernet0/1 is already connected by topology.links[0]",
        ),
        ("bridge", "[{endpoints: [a:eth1, host:br]}]", "it is an interface of the host"),
        ("bridge", "[{type: vxlan, endpoint: {node: a, interface: eth1}}]", "a tunnel of the host"),
        (
            "bridge",
            "[{endpoints: [{node: a, interface: eth1, mac: x}, {node: b, interface: x}]}]",
            "topology.nodes.a: nodes.a.nics",
        ),
        ("bridge", "[3]", "topology.links[0]: 3 is not a mapping"),
        ("'${KIND}'", "[]", "topology.nodes.b.kind: the variable KIND has no value"),
    ],
)
def test_refusals_name_the_file_and_the_place(kind, links, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(NODES % (kind, links))
    assert message in str(caught.value) and "cannot import lab: " in str(caught.value)


def test_impossible_addresses_are_kept():
    links = (
        "[{endpoints: [a:eth1, b:eth1], ipv4: [192.0.2.1/24, 192.0.2.1/24]},"
        " {endpoints: [a:eth2, b:eth2]}]"
    )
    lab = imported_text(NODES % ("cisco_vios", links))
    (link, _other) = lab.topology["links"]
    assert link["endpoints"] == ["a:GigabitEthernet0/1", "b:GigabitEthernet0/1"]
    assert link["vars"]["imported"]["addresses"]["a:GigabitEthernet0/1"] == ["192.0.2.1/24"]
    assert any("are kept in vars.imported only" in text for text in lab.report["warnings"])


@pytest.mark.parametrize(
    "kinds_map, found",
    [
        ({"linux": "segment"}, {"b": {"a:GigabitEthernet0/1"}}),
        ({"b": "segment", "linux": "tiny"}, {"b": {"a:GigabitEthernet0/1"}}),
        ({"linux": "drop"}, {}),
        ({"linux": "user"}, {}),
    ],
)
def test_the_map_of_kinds(kinds_map, found):
    lab = imported_text(NODES % ("linux", "[{endpoints: [a:eth1, b:eth1]}]"), kinds_map=kinds_map)
    assert cables(lab)[1] == found
    is_user = "user" in kinds_map.values()
    assert ("nics" in lab.topology["nodes"]["a"]) == is_user


def test_an_unknown_kind_in_the_map():
    with pytest.raises(LabFileError, match="kinds_map: there is no kind 'tinny'"):
        imported_text(NODES % ("cisco_vios", "[]"), kinds_map={"linux": "tinny"})


def test_connected_bridges_are_one_segment():
    text = (
        "name: x\ntopology:\n"
        " nodes: {a: {kind: cisco_vios}, s: {kind: bridge}, t: {kind: bridge}}\n"
        " links:\n - endpoints: [a:eth1, s:1]\n - endpoints: [s:2, t:1]\n"
        " - endpoints: [a:eth2, t:2]\n - endpoints: [s:3, t:3]\n"
    )
    assert cables(imported_text(text))[1] == {"s": {"a:GigabitEthernet0/1", "a:GigabitEthernet0/2"}}


EXEC = """
name: x
topology:
  defaults: {exec: [hostname]}
  kinds: {linux: {exec: [ip link set eth1 up, hostname]}}
  nodes:
    a: {kind: linux, exec: ["sh -c 'echo $HOME >/x'", "echo $HOME", 'echo "open']}
    b: {kind: cisco_vios, exec: [cat /proc/version]}
    c: {kind: linux, exec: []}
"""


def test_commands_of_containers_are_run_in_the_guest():
    """As containerlab runs them: of all levels, once each, and without a shell."""
    lab = imported_text(EXEC, kinds_map={"linux": "tiny"})
    assert lab.topology["nodes"]["a"]["exec"] == [
        "hostname",
        "ip link set eth1 up",
        "sh -c 'echo $HOME >/x'",
        "echo '$HOME'",
        'echo "open',
    ]
    assert lab.topology["nodes"]["c"]["exec"] == ["hostname", "ip link set eth1 up"]
    assert "exec" not in lab.topology["nodes"]["b"]
    notes = {field["place"]: field["note"] for field in lab.report["fields"]}
    assert notes["topology.nodes.a.exec"] == "exec"
    assert notes["topology.nodes.b.exec"] == (
        "containerlab runs it in the container, not in the guest"
    )
    assert missing_places(lab.report, yaml.safe_load(EXEC)) == []


@pytest.mark.parametrize("given", ["[1]", "['']", "hostname"])
def test_commands_that_are_none(given):
    text = NODES.replace("{kind: %s}", "{kind: linux, exec: %s}") % (given, "[]")
    with pytest.raises(LabFileError, match=r"topology.nodes.b.exec.*is not a (command|list)"):
        imported_text(text, kinds_map={"linux": "tiny"})
