# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labs of CML."""

from __future__ import annotations

import copy

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.tests.unit.imported_labs import (
    FILES,
    cables,
    imported,
    imported_text,
    missing_places,
)

LABS = sorted(path.name for path in FILES.glob("cml_*"))
NO_VM = ("unmanaged_switch", "external_connector")
# Names in the topology that differ from the labels of the file.
NICS = {
    "PC-one:eth0": "PC-one:eth1",
    "b:ens3": "b:eth0",
}


@pytest.mark.parametrize("name", LABS)
def test_every_field_is_in_the_report(name):
    data = yaml.safe_load((FILES / name).read_text())
    assert missing_places(imported(name).report, data) == []


def _labels(data):
    """Return {(node, interface): (NODE:LABEL, node definition)} of a lab."""
    found = {}
    for node in data["nodes"]:
        settings = node.get("data") or node
        ports = [
            port
            for port in node.get("interfaces") or data["interfaces"]
            if port.get("node", node["id"]) == node["id"]
        ]
        for port in ports:
            end = "%s:%s" % (settings["label"].replace(" ", "-"), port["label"])
            found[node["id"], port["id"]] = NICS.get(end, end), settings["node_definition"]
    return found


@pytest.mark.parametrize("name", LABS)
def test_nodes_links_and_ports_are_those_of_the_file(name):
    data = yaml.safe_load((FILES / name).read_text())
    labels = _labels(data)
    by_port = {port: value for (_node, port), value in labels.items()}
    links, members = set(), set()
    for link in data["links"]:
        if "i1" in link:
            ends = [labels[link["n1"], link["i1"]], labels[link["n2"], link["i2"]]]
        else:
            ends = [by_port[link["interface_a"]], by_port[link["interface_b"]]]
        vms = [end for end, definition in ends if definition not in NO_VM]
        if len(vms) == 2:
            links.add(frozenset(vms))
        elif "external_connector" not in dict(map(reversed, ends)):
            members.update(vms)
    found_links, found_segments = cables(imported(name))
    assert found_links == links
    assert {end for ends in found_segments.values() for end in ends} == members


def test_settings_of_nodes():
    lab = imported("cml_vlans.yaml")
    nodes = lab.topology["nodes"]
    assert lab.topology["name"] == "VLANs-lesson-1"
    assert nodes["PC-one"]["kind"] == "tiny" and nodes["PC-one"]["memory"] == 512
    assert nodes["SW1"]["kind"] == "cisco_viosl2" and nodes["SW1"]["cpu_limit"] == 80
    assert nodes["SW1"]["disks"] == [{"name": "data", "size": "4G"}]
    assert nodes["SW1"]["nics"] == {"GigabitEthernet0/0": {"mac": "52:54:00:5e:00:01"}}
    assert nodes["SW1"]["vars"]["imported"]["tags"] == ["access"]
    assert nodes["SW1"]["position"] == {"x": 20, "y": 30}
    assert "x" not in nodes["SW1"]["vars"]["imported"]
    assert imported("cml_old.yaml").topology["nodes"]["b"]["position"] == {"x": 3, "y": 4}
    assert lab.report["images"]["cisco_viosl2"]["source"] == "iosvl2-2020"
    assert lab.topology["links"][1]["impair"] == {"delay": "20ms", "rate": "1000kbit"}
    assert lab.topology["vars"]["imported"] == {"notes": "# Configure VLANs"}


def test_configurations_become_files():
    lab = imported("cml_vlans.yaml")
    node = lab.topology["nodes"]["SW1"]
    assert node["config"] == {"src": "VLANs-lesson-1/SW1/ios_config.txt"}
    assert node["files"] == {"vlan.txt": {"src": "VLANs-lesson-1/SW1/vlan.txt"}}
    assert lab.files["VLANs-lesson-1/SW1/ios_config.txt"] == "hostname SW1\nbanner {{ x }}"
    # A kind that reads none from a drive: the text is kept as a file.
    assert "config" not in lab.topology["nodes"]["PC-one"]
    assert "hostname pc" in lab.files["VLANs-lesson-1/PC-one/startup-config"]


def test_an_external_connector_is_a_user_link():
    lab = imported("cml_campus.yaml")
    assert lab.topology["nodes"]["edge-fw"]["nics"] == {
        "GigabitEthernet0/0": {"link": {"type": "user"}}
    }


LAB = {
    "lab": {"title": "x", "version": "0.2.2"},
    "nodes": [
        {
            "id": "n%d" % number,
            "label": "r%d" % number,
            "node_definition": "iosv",
            "interfaces": [{"id": "i%d" % slot, "slot": slot} for slot in range(2)],
        }
        for number in range(2)
    ],
    "links": [{"id": "l0", "n1": "n0", "i1": "i0", "n2": "n1", "i2": "i0"}],
}


def _changed(*path_and_value):
    data = copy.deepcopy(LAB)
    *path, last, value = path_and_value
    part = data
    for key in path:
        part = part[key]
    part[last] = value
    return yaml.safe_dump(data)


@pytest.mark.parametrize(
    "text, message",
    [
        (_changed("lab", "version", "9.9"), "lab.version: the version '9.9' is not supported"),
        (_changed("nodes", 1, "id", "n0"), "nodes[1].id: each node needs an id of its own"),
        (_changed("nodes", 1, "node_definition", "ioll2-xe"), "it is a program for Linux (IOL)"),
        (_changed("nodes", 1, "node_definition", "mystery"), "'r1' (mystery): there is no kind"),
        (_changed("nodes", 1, "ram", "lots"), "nodes[1].ram: 'lots' is not a number from 0"),
        (_changed("nodes", 1, "configuration", 3), "nodes[1].configuration: 3 is neither"),
        (_changed("links", 0, "i1", "i9"), "links[0].i1: node 'n0' has no interface 'i9'"),
        (_changed("nodes", 1, "interfaces", 0, "slot", 99), "is no NIC of kind cisco_vios"),
        (_changed("links", [LAB["links"][0]] * 2), "links[1]: r0:GigabitEthernet0/0 is already"),
        (_changed("nodes", 1, "interfaces", {}), "nodes[1].interfaces: {} is not a list"),
    ],
)
def test_refusals_name_the_file_and_the_place(text, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(text)
    assert message in str(caught.value) and "cannot import lab: " in str(caught.value)
