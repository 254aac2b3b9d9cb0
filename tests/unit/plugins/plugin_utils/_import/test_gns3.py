# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Projects of GNS3, and archives of them."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import Source, import_lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.gns3_ports import port_names
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.tests.unit.imported_labs import (
    FILES,
    cables,
    imported,
    imported_text,
    missing_places,
)

LABS = sorted(path.name for path in FILES.glob("gns3_*.gns3"))
MAP = {"vpcs": "tiny"}
# The ports by hand: {node: names in the order of the adapters}.
PORTS = {
    "gns3_routers.gns3": {name: ["Gi1", "Gi2", "Gi3", "Gi4"] for name in ("R1", "R2", "R3")},
    "gns3_firewall.gns3": {
        "sw1": ["Gi0/0", "Gi0/1", "Gi0/2", "Gi0/3", "Gi1/0", "Gi1/1", "Gi1/2", "Gi1/3"],
        "fw1": ["MGMT", "port1", "wan-one"],
        "pc": ["eth1"],
    },
    "gns3_media.gns3": {
        "pa": ["Ethernet0", "Ethernet1"],
        "installer": ["ens3"],
        "arm1": ["Ethernet0"],
    },
}


def _data(name):
    return json.loads((FILES / name).read_text())


@pytest.mark.parametrize("name", LABS)
def test_every_field_is_in_the_report(name):
    assert missing_places(imported(name, kinds_map=MAP).report, _data(name)) == []


@pytest.mark.parametrize("name", LABS)
def test_nodes_links_and_ports_are_those_of_the_file(name):
    topology = _data(name)["topology"]
    lab = imported(name, kinds_map=MAP)
    names = {node["node_id"]: node["name"] for node in topology["nodes"]}
    links, members = set(), set()
    for link in topology["links"]:
        ends = [(names[end["node_id"]], end["adapter_number"]) for end in link["nodes"]]
        ports = [
            "%s:%s" % (node, PORTS[name][node][adapter])
            for node, adapter in ends
            if node in PORTS[name]
        ]
        if len(ports) == 2:
            links.add(frozenset(ports))
        elif "Internet" not in dict(ends):
            members.update(ports)
    found_links, found_segments = cables(lab)
    assert found_links == links
    assert {end for ends in found_segments.values() for end in ends} == members
    for node, ports in PORTS[name].items():
        built = builder.build(lab.topology).nodes[node]
        if node != "pc":
            assert list(built.nics) == ports


def test_a_node_with_everything():
    lab = imported("gns3_media.gns3")
    nodes, kinds = lab.topology["nodes"], lab.topology["kinds"]
    assert kinds["PA-VM"] == {
        "image": "PA-VM",
        "vm": {"memory": 6144, "vcpus": 4, "boot_order": "c", "priority": "normal"},
        "disk": {"bus": "virtio"},
        "nic": {
            "model": "e1000",
            "name": "Ethernet{n}",
            "first": 0,
            "max": 2,
            "min": 2,
            "fill_slots": True,
        },
    }
    assert nodes["pa"]["disks"] == [
        {"name": "hdb", "backing_file": "/srv/images/data-disk.img", "bus": "sata"}
    ]
    assert nodes["pa"]["cpu"] == "host" and nodes["pa"]["mac_base"] == "0c:00:5e:03:00:00"
    assert nodes["pa"]["smbios"] == [{"type": 1, "serial": "A1"}]
    assert "extra_args" not in nodes["pa"]
    assert nodes["pa"]["vars"]["imported"]["properties"]["on_close"] == "shutdown_signal"
    vm = kinds["installer"]["vm"]
    assert (vm["firmware"], vm["tpm"], vm["display"]) == ("uefi", True, {"type": "vnc"})
    assert (vm["boot_order"], vm["priority"], vm["cpu_limit"]) == ("dc", "low", 80)
    assert nodes["installer"]["cdroms"] == [{"name": "cdrom", "path": "/srv/images/debian.iso"}]
    assert nodes["installer"]["disks"] == []
    assert kinds["cloud-arm"]["vm"]["arch"] == "aarch64"
    assert nodes["arm1"]["kernel"] == "/srv/images/vmlinuz"
    assert nodes["arm1"]["cmdline"] == "console=ttyAMA0"
    assert lab.images["PA-VM"] == {"disk": "/srv/images/PA-VM.qcow2"}
    assert lab.report["images"]["PA-VM"]["md5"] == "0123456789abcdef0123456789abcdef"


def test_links_and_nodes_of_other_types():
    lab = imported("gns3_routers.gns3")
    assert lab.topology["name"] == "Three-routers-mgmt"
    assert len(lab.topology["kinds"]) == 1
    assert lab.topology["nodes"]["R1"]["position"] == {"x": -100, "y": 20}
    assert lab.topology["segments"]["mgmt-sw"]["position"] == {"x": -100, "y": 20}
    notes = {field["place"]: field["note"] for field in lab.report["fields"]}
    assert notes["topology.nodes[0].x"] == "position"
    assert lab.topology["links"][2] == {"endpoints": ["R1:Gi4", "R3:Gi3"], "down": True}
    assert lab.topology["nodes"]["R3"]["nics"] == {"Gi4": {"link": {"type": "user"}}}
    assert lab.topology["vars"]["imported"]["variables"] == [{"name": "SITE", "value": "x"}]
    lab = imported("gns3_firewall.gns3", kinds_map=MAP)
    assert lab.topology["links"][0]["impair"] == {"delay": "10ms", "jitter": "2ms", "loss": "1%"}
    # A suspended NIC of a segment has no carrier; delay there is that of what the node sends.
    assert lab.topology["nodes"]["sw1"]["nics"]["Gi1/3"] == {"link_down": True}
    data = _data("gns3_firewall.gns3")
    data["topology"]["links"][1]["filters"] = {"delay": [5]}
    members = imported_text(json.dumps(data), kinds_map=MAP).topology["segments"]["hub"]["members"]
    assert members[0] == {"node": "fw1", "nic": "MGMT", "impair": {"delay": "5ms"}}
    assert lab.topology["nodes"]["fw1"]["nics"]["wan-one"] == {
        "mac": "0c:00:5e:ff:00:01",
        "model": "e1000",
    }


@pytest.mark.parametrize(
    "given, names",
    [
        ((3, "", "", 0, {}), ["Ethernet0", "Ethernet1", "Ethernet2"]),
        ((3, "", "eth{adapter}", 0, {1: "x"}), ["eth0", "x", "eth2"]),
        ((3, "mgmt", "ge-0/0/{0}", 0, {}), ["mgmt", "ge-0/0/0", "ge-0/0/1"]),
        ((5, "", "s{segment1}p{port1}", 2, {}), ["s1p1", "s1p2", "s2p1", "s2p2", "s3p1"]),
        ((1, "", "{0.__class__}", 0, {}), None),
        ((1, "", "{0:99999999}", 0, {}), None),
        ((1, "", "x}", 0, {}), None),
    ],
)
def test_port_names(given, names):
    assert port_names(*given) == names


def _project(**change):
    data = _data("gns3_firewall.gns3")
    data.update(change)
    return data


def _node(**change):
    data = _data("gns3_firewall.gns3")
    data["topology"]["nodes"][1].update(change)
    return data


def _link(**change):
    data = _data("gns3_firewall.gns3")
    data["topology"]["links"][0].update(change)
    return data


@pytest.mark.parametrize(
    "data, message",
    [
        (_project(revision=8), "revision: the revision 8 is not supported, only 9 and 10"),
        (_project(revision="x"), "revision: 'x' is not a number"),
        (_project(topology=[]), "topology: [] is not a mapping"),
        (_node(node_type="docker"), "topology.nodes[1]: 'fw1' (docker): it is not a QEMU node"),
        (_node(node_type="cloud"), "'fw1' (cloud): it is a network of the host"),
        (
            _node(
                node_type="ethernet_switch",
                properties={"ports_mapping": [{"type": "qinq", "vlan": 1, "ethertype": "0x9100"}]},
            ),
            "a port of it has VLANs that a switch does not have: ",
        ),
        (_node(node_id=""), "topology.nodes[1].node_id: node_type and a node_id"),
        (_node(port_name_format="{9}"), "nodes[1].port_name_format: it has unknown fields"),
        (_link(nodes=[]), "topology.links[0].nodes: a link has two nodes, not 0"),
        (_link(nodes=[{"node_id": "x"}] * 2), "links[0].nodes[0].node_id: there is no node 'x'"),
    ],
)
def test_refusals_name_the_file_and_the_place(data, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(json.dumps(data), kinds_map=MAP)
    assert message in str(caught.value)


def _switch_ports(*ports):
    keys = ("type", "vlan")
    mapping = [dict(zip(keys, port), port_number=number) for number, port in enumerate(ports)]
    return {"ports_mapping": mapping}


def _switched(first, second, links):
    """A project with two switches, and PCs a, b and c."""
    properties = {"sw1": _switch_ports(*first), "sw2": _switch_ports(*second)}
    nodes = [
        {"node_id": name, "name": name, "node_type": "ethernet_switch", "properties": given}
        for name, given in properties.items()
    ] + [{"node_id": name, "name": name, "node_type": "vpcs", "properties": {}} for name in "abc"]
    given = [
        {
            "nodes": [
                {"node_id": name, "adapter_number": 0, "port_number": port}
                for name, port in link.items()
            ]
        }
        for link in links
    ]
    data = {"revision": 9, "name": "x", "topology": {"nodes": nodes, "links": given}}
    return imported_text(json.dumps(data), kinds_map=MAP)


LINKS = [{"sw1": 0, "a": 0}, {"b": 0, "sw1": 1}, {"sw1": 2, "sw2": 0}, {"sw2": 1, "c": 0}]


def test_vlans_of_switches():
    ports = [("access", 10), ("access", 20), ("dot1q", 1)]
    lab = _switched(ports, [("dot1q", 1), ("qinq", 100)], LINKS)
    assert lab.topology["segments"] == {
        "sw1": {
            "type": "switch",
            "members": [
                {"node": "a", "nic": "eth1", "access": 10},
                {"node": "b", "nic": "eth1", "access": 20},
                {"segment": "sw2", "trunk": "all", "native": 1},
            ],
        },
        "sw2": {"type": "switch", "members": [{"node": "c", "nic": "eth1", "qinq": 100}]},
    }
    built = builder.build(lab.topology)
    assert built.segments["sw2"].cables == {"sw1": {"trunk": "all", "native": 1}}


def test_a_cable_whose_ends_have_other_vlans_is_dropped():
    lab = _switched([("access", 1), ("access", 2), ("dot1q", 1)], [("access", 1)] * 2, LINKS)
    assert all("segment" not in member for member in lab.topology["segments"]["sw1"]["members"])
    assert any("must have the same VLANs" in warning for warning in lab.report["warnings"])


def test_switches_with_one_vlan_are_one_segment():
    lab = _switched([("access", 1)] * 3, [("access", 1)] * 2, LINKS)
    assert lab.topology["segments"] == {"sw1": {"members": ["a:eth1", "b:eth1", "c:eth1"]}}


def _archive(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    stream.seek(0)
    return stream


PROJECT = {"project.gns3": (FILES / "gns3_routers.gns3").read_text()}


def test_an_archive():
    overlay = "project-files/qemu/6f1d2c3b-0000-4000-8000-000000000001/hda_disk.qcow2"
    stream = _archive({**PROJECT, overlay: "x", "images/QEMU/csr.qcow2": "x", "README.txt": "x"})
    lab = import_lab([Source("lab.gns3project", archive=stream)], Options())
    assert lab.topology == imported("gns3_routers.gns3").topology
    fates = {field["place"]: field["note"] for field in lab.report["fields"]}
    assert "qemu-img rebase -u" in fates["archive/" + overlay]
    assert "folder of images" in fates["archive/images/QEMU/csr.qcow2"]
    assert any("1 nodes have written" in warning for warning in lab.report["warnings"])


def _symlink():
    stream = _archive(PROJECT)
    with zipfile.ZipFile(stream, "a") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    stream.seek(0)
    return stream


@pytest.mark.parametrize(
    "stream, message",
    [
        (_archive({**PROJECT, "../x": ""}), "'../x': the path leads out of the archive"),
        (_archive({**PROJECT, "/etc/x": ""}), "'/etc/x': the path leads out of the archive"),
        (_archive({**PROJECT, "a\\..\\x": ""}), "the path leads out of the archive"),
        (_archive({**PROJECT, "C:/x": ""}), "the path leads out of the archive"),
        (_symlink(), "'link': it is a symbolic link"),
        (_archive({"x": ""}), "it has 0 projects, not one"),
        (_archive({"a.gns3": "", "b.gns3": ""}), "it has 2 projects, not one"),
        (_archive({"project.gns3": b" " * (40 << 20)}), "it has 40 MiB; the maximum is 32 MiB"),
        (io.BytesIO(b"PK\x03\x04" + b"x" * 100), "the archive cannot be read: "),
    ],
)
def test_hostile_archives_are_refused(stream, message):
    with pytest.raises(LabFileError) as caught:
        import_lab([Source("lab.gns3project", archive=stream)], Options())
    assert message in str(caught.value) and "lab.gns3project" in str(caught.value)


def test_damaged_archives():
    whole = _archive(PROJECT).getvalue()
    for position in range(0, len(whole), max(1, len(whole) // 60)):
        content = bytearray(whole)
        content[position] ^= 0xFF
        for damaged in (bytes(content), whole[:position]):
            try:
                import_lab([Source("lab", archive=io.BytesIO(damaged))], Options())
            except LabFileError as error:
                assert "cannot import lab" in str(error)
