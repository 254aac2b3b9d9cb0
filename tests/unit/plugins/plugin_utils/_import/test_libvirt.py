# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domains of libvirt."""

from __future__ import annotations

import xml.etree.ElementTree

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import Source, import_lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.tests.unit.imported_labs import (
    FILES,
    cables,
    imported,
    imported_text,
    missing_places,
    xml_places,
)

LABS = sorted(path.name for path in FILES.glob("libvirt_*"))


@pytest.mark.parametrize("name", LABS)
def test_every_field_is_in_the_report(name):
    root = xml.etree.ElementTree.parse(FILES / name).getroot()
    found = [
        place.replace("{http://libvirt.org/schemas/domain/qemu/1.0}", "qemu:")
        for place in xml_places(root)
    ]
    found = [place for place in found if "{urn:app}" not in place]
    assert missing_places(imported(name).report, found) == []


@pytest.mark.parametrize("name", LABS)
def test_nics_are_those_of_the_file(name):
    root = xml.etree.ElementTree.parse(FILES / name).getroot()
    domains = [root] if root.tag == "domain" else root.findall("domain")
    topology = builder.build(imported(name).topology)
    networks = {}
    for domain, node in zip(domains, topology.nodes.values()):
        interfaces = domain.findall("devices/interface")
        assert list(node.nics) == ["eth%d" % number for number in range(len(interfaces))]
        for interface, nic in zip(interfaces, node.nics.values()):
            mac = interface.find("mac")
            assert mac is None or nic.mac == mac.get("address")
            source = interface.find("source")
            network = source.get("network") if source is not None else None
            if network not in (None, "default"):
                networks.setdefault(network, set()).add("%s:%s" % (node.name, nic.name))
    assert cables(imported(name))[1] == networks


def test_a_domain_with_everything():
    lab = imported("libvirt_router.xml")
    node = lab.topology["nodes"]["core-router"]
    kept = node.pop("vars")["imported"]
    assert node == {
        "kind": "machine",
        "description": "Core of the lab",
        "memory": 2048,
        "vcpus": 4,
        "machine": "q35",
        "boot_order": "cn",
        "boot_menu": True,
        "cpu": "host",
        "smp": {"sockets": 1, "cores": 2, "threads": 2},
        "disks": [
            {
                "name": "vda",
                "boot_index": 1,
                "backing_file": "/var/lib/libvirt/images/core.qcow2",
                "bus": "virtio",
                "backing_format": "qcow2",
                "cache": "none",
                "aio": "native",
                "discard": True,
                "serial": "DISK1",
                "limits": {"bps_total": "1048576"},
            }
        ],
        "nics": {
            "eth0": {
                "mac": "52:54:00:5e:00:01",
                "model": "virtio-net-pci",
                "link_down": True,
                "mtu": 9000,
                "link": {"type": "user"},
            },
            "eth1": {"mac": "52:54:00:5e:00:02", "model": "e1000"},
            "eth2": {
                "mac": "52:54:00:5e:00:03",
                "model": "virtio-net-pci",
                "link": {
                    "type": "udp",
                    "local_address": "127.0.0.1",
                    "local_port": "10002",
                    "remote_address": "127.0.0.1",
                    "remote_port": "10001",
                },
            },
            "eth3": {"mac": "52:54:00:5e:00:04", "model": "virtio-net-pci"},
        },
        "cdroms": [{"name": "sda", "bus": "sata"}],
        "guest_agent": True,
        "usb_tablet": True,
        "display": {"type": "vnc"},
        "vga": "qxl",
        "balloon": True,
        "rng": True,
        "watchdog": "i6300esb",
        "watchdog_action": "reset",
        "tpm": True,
        "uuid": "0a0b0c0d-0000-4000-8000-000000000021",
        "label": "core router",
    }
    assert kept["devices"]["hostdev"] and kept["nics"]["eth3"]["source"]["type"] == "direct"
    # A password is in no output.
    assert "hunter2" not in lab.topology_yaml() + lab.report_json() + lab.report_text
    assert any("the disk vdb is left out" in warning for warning in lab.report["warnings"])


def test_arguments_are_not_taken_over():
    lab = imported("libvirt_arguments.xml")
    node = lab.topology["nodes"]["switch"]
    assert (node["vga"], node["firmware"], node["arch"]) == ("std", "uefi", "aarch64")
    assert "extra_args" not in node and node["accel"] == "tcg" and node["machine"] == "virt"
    assert node["nics"]["eth0"]["link"] == {"type": "bridge", "bridge": "br-lan"}
    kept = node["vars"]["imported"]["qemu:commandline"]
    assert kept[:2] == ["-drive", "file=/etc/shadow"]
    lab = imported("libvirt_arguments.xml", arguments=True, kinds_map={"br-lan": "segment"})
    node = lab.topology["nodes"]["switch"]
    assert node["extra_args"] == ["-drive", "file=/etc/shadow"]
    assert lab.topology["segments"] == {"br-lan": {"members": ["switch:eth0"]}}


@pytest.mark.parametrize(
    "machine, expected",
    [
        ("pc-1.0", "pc"),
        ("pc-i440fx-focal", "pc"),
        ("pc-q35-rhel7.6.0", "q35"),
        ("virt-7.2", "virt"),
        ("microvm", "microvm"),
    ],
)
def test_a_machine_has_no_version(machine, expected):
    text = '<domain><name>a</name><os><type machine="%s">hvm</type></os></domain>' % machine
    assert imported_text(text).topology["nodes"]["a"]["machine"] == expected


def test_several_files_are_one_lab():
    sources = [Source(name, (FILES / name).read_bytes()) for name in LABS]
    lab = import_lab(sources, Options())
    assert list(lab.topology["nodes"]) == ["switch", "core-router", "a", "b", "a-2"]
    assert lab.topology["name"] == "domains"
    places = {field["place"] for field in lab.report["fields"]}
    assert "file[0].domain.name[0]" in places and "file[2].domains.domain[2].vcpu[0]" in places


DOMAIN = (
    "<domain type='%s'>\n<name>x</name><memory%s</memory><vcpu>%s</vcpu>"
    "<os><type>%s</type></os></domain>"
)


@pytest.mark.parametrize(
    "values, message",
    [
        (("xen", ">1024", 1, "hvm"), "domain.type: 'xen' is no QEMU"),
        (("kvm", ">lots", 1, "hvm"), "domain.memory[0]: 'lots' 'kib' is not an amount of memory"),
        (("kvm", " unit='x'>1", 1, "hvm"), "domain.memory[0]: '1' 'x' is not an amount"),
        (("kvm", ">1024", "-1", "hvm"), "domain.vcpu[0]: '-1' is not a number of CPUs"),
        (("kvm", ">1024", 1, "exe"), "domain.os[0].type[0]: 'exe' is no full virtualization"),
    ],
)
def test_refusals_name_the_file_and_the_place(values, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(DOMAIN % values)
    assert message in str(caught.value) and "cannot import lab: " in str(caught.value)


def test_what_is_no_domain():
    with pytest.raises(LabFileError, match="the root is 'x', not domain"):
        import_lab([Source("f", b"<x/>")], Options(), "libvirt")
    with pytest.raises(LabFileError, match="the domain has no name"):
        imported_text("<domain type='kvm'>\n<memory>1</memory></domain>")


@pytest.mark.parametrize(
    "models, expected, warns",
    [
        (["vmpvscsi"], "pvscsi", False),
        (["lsilogic", "virtio-scsi"], "lsilogic", False),
        (["lsisas1068"], "mptsas1068", False),
        (["lsisas1078"], "megasas", False),
        (["virtio-scsi", "lsilogic"], None, False),
        (["buslogic"], None, True),
        (["auto"], None, False),
    ],
)
def test_scsi_controllers(models, expected, warns):
    controllers = "".join('<controller type="scsi" model="%s"/>' % model for model in models)
    disk = '<disk><source file="/a.img"/><target dev="sda" bus="scsi"/></disk>'
    usb = '<controller type="usb" model="qemu-xhci"/>'
    text = "<domain><name>a</name><devices>%s%s%s</devices></domain>" % (usb, controllers, disk)
    lab = imported_text(text)
    assert lab.topology["nodes"]["a"].get("scsi_controller") == expected
    assert any("there is no SCSI controller" in text for text in lab.report["warnings"]) == warns
    states = {field["place"]: field["state"] for field in lab.report["fields"]}
    states = {place.rpartition(".")[2]: state for place, state in states.items()}
    assert states["controller[0]"] == "dropped"
    is_known = models[0] not in ("auto", "buslogic")
    assert states["controller[1]"] == ("mapped" if is_known else "dropped")
