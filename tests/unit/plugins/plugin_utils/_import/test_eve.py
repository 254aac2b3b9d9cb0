# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labs of EVE-NG and PNETLab, and the parser of XML."""

from __future__ import annotations

import xml.etree.ElementTree

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.tests.unit.imported_labs import (
    FILES,
    cables,
    imported,
    imported_text,
    missing_places,
    xml_places,
)

LABS = sorted(path.name for path in FILES.glob("eve_*"))
# The NICs by hand: {node id: {interface id: NODE:NIC}}.
NICS = {
    "eve_pair.unl": {
        "1": {"0": "R1:GigabitEthernet0/0", "1": "R1:GigabitEthernet0/1"},
        "2": {"0": "R2:GigabitEthernet0/0"},
    },
    "eve_lan.unl": {
        "10": {"0": "fw-1:fxp0", "1": "fw-1:ge-0/0/0"},
        "11": {"0": "sw:GigabitEthernet0/0", "4": "sw:GigabitEthernet1/0"},
        "12": {"0": "sw-2:GigabitEthernet0/0"},
        "13": {"2": "box:p2"},
        "14": {"0": "pc:eth1"},
    },
    "eve_types.unl": {
        "1": {"0": "n9k:mgmt0", "1": "n9k:Ethernet1/1"},
        "2": {"0": "srv:eth0"},
        "3": {"0": "ros:ether1", "1": "ros:ether2"},
    },
}


@pytest.mark.parametrize("name", LABS)
def test_every_field_is_in_the_report(name):
    root = xml.etree.ElementTree.parse(FILES / name).getroot()
    assert missing_places(imported(name).report, list(xml_places(root))) == []


@pytest.mark.parametrize("name", LABS)
def test_nodes_links_and_ports_are_those_of_the_file(name):
    root = xml.etree.ElementTree.parse(FILES / name).getroot()
    members = {}
    for node in root.iter("node"):
        for interface in node.iter("interface"):
            nic = NICS[name][node.get("id")].get(interface.get("id"))
            members.setdefault(interface.get("network_id"), set()).add(nic)
    links, segments = set(), set()
    for network in root.iter("network"):
        ends = frozenset(members.get(network.get("id"), ()))
        if network.get("type") in ("bridge", "ovs") and len(ends) == 2:
            links.add(ends)
        elif network.get("type") in ("bridge", "ovs") and ends:
            segments.add(ends)
    found_links, found_segments = cables(imported(name))
    assert found_links == links
    assert {frozenset(ends) for ends in found_segments.values()} == segments


def test_settings_of_nodes():
    lab = imported("eve_pair.unl")
    nodes = lab.topology["nodes"]
    assert (nodes["R1"]["memory"], nodes["R1"]["vcpus"], nodes["R1"]["cpu"]) == (512, 1, "host")
    assert nodes["R1"]["machine"] == "pc" and nodes["R1"]["position"] == {"x": 100, "y": 200}
    assert imported("eve_lan.unl").topology["segments"]["lan"]["position"] == {"x": 1, "y": 2}
    assert nodes["R1"]["uuid"] == "0a0b0c0d-0000-4000-8000-000000000011"
    assert "memory" not in nodes["R2"] and nodes["R2"]["vars"]["imported"]["delay"] == "5"
    assert nodes["R1"]["nics"] == {"GigabitEthernet0/1": {"link": {"type": "user"}}}
    assert nodes["R1"]["config"] == {"src": "pair-of-routers/R1/ios_config.txt"}
    assert lab.files["pair-of-routers/R1/ios_config.txt"] == "hostname R1\nbanner {{ x }}\n"
    disk = "/srv/images/vios-adventerprisek9-m-15.6/virtioa.qcow2"
    assert lab.images["cisco_vios"] == {"disk": disk}
    lab = imported("eve_lan.unl")
    nodes, kinds = lab.topology["nodes"], lab.topology["kinds"]
    assert nodes["fw-1"]["mac_base"] == "50:00:00:0a:00:00"
    assert nodes["fw-1"]["display"] == {"type": "vnc"}
    assert kinds["mystery"]["nic"]["management"] == ["mgmt", "e1", "p2"]
    assert kinds["mystery"]["nic"]["model"] == "e1000" and nodes["box"]["memory"] == 256
    assert lab.files["lan/sw/ios_config.txt"] == "hostname sw\n"
    assert set(lab.images) == {"cisco_viosl2", "cisco_viosl2-2", "juniper_vsrx", "mystery"}


NODE = '<node id="1" name="a" type="%s" template="vios"%s>%s</node>'
LAB = (
    "<lab name='x'>\n<topology><nodes>" + NODE + "</nodes><networks>%s</networks></topology></lab>"
)


@pytest.mark.parametrize(
    "kind, attributes, inner, networks, message",
    [
        ("iol", "", "", "", "lab.topology[0].nodes[0].node[0]: 'a' (iol): it is a program for"),
        ("docker", "", "", "", "it is a container, and only VMs can be nodes"),
        ("qemu", " ram='x'", "", "", "node[0].ram: 'x' is not a number from 0 to"),
        (
            "qemu",
            "",
            "<interface id='0' type='ethernet' network_id='9'/>",
            "",
            "node[0].interface[0]: there is no network '9'",
        ),
        (
            "qemu",
            "",
            "<interface id='99' name='Gi9' type='ethernet' network_id='1'/>",
            "<network id='1' type='bridge'/>",
            "interface[0].id: node a of kind cisco_vios has no NIC 99 ('Gi9')",
        ),
        ("qemu", "", "<config>%%%%</config>", "", "config[0]: the configuration is not UTF-8 text"),
    ],
)
def test_refusals_name_the_file_and_the_place(kind, attributes, inner, networks, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(LAB % (kind, attributes, inner, networks))
    assert message in str(caught.value)


BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE lab [<!ENTITY a "xxxxxxxxxx">'
    + "".join('<!ENTITY a%d "%s">' % (n, "&a%s;" % (n - 1 or "") * 10) for n in range(1, 9))
    + "]>\n<lab name='&a8;'/>"
)


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB, "it has a document type or an entity"),
        ("<!DOCTYPE lab SYSTEM 'file:///etc/passwd'>\n<lab/>", "it has a document type"),
        ("<lab name='&x;'/>\n", "it is not XML: "),
        ("<lab>\n" * 100, "it has more than 300000 elements, or 40 levels"),
        ("<lab>\n", "it is not XML: "),
        ("<lab/>\n<lab/>", "it is not XML: "),
        ("<lab/>\n", "it has no node that is a VM"),
        ("<other/>\n", "its format is not recognised"),
    ],
)
def test_hostile_documents_are_refused(text, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(text)
    assert message in str(caught.value)
