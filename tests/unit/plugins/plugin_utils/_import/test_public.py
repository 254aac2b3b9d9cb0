# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Round trips: what was imported says the same as the file, read without the importers.

The files in the folder public are rebuilt from public ones, as its README says.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.tests.unit import lab_sources
from ansible_collections.vlab.qemu.tests.unit.imported_labs import (
    LAB_FILES,
    OPTIONS,
    PUBLIC,
    definitions,
    imported_file,
    imported_text,
    missing_places,
    xml_places,
)
from ansible_collections.vlab.qemu.tests.unit.vm_world import VERSIONS

FILES = sorted(path.name for path in LAB_FILES.values())
NETWORKS = [name for name in FILES if name.partition("_")[0] in lab_sources.READERS]
MACHINES = [name for name in FILES if name not in NETWORKS]
# Settings that an element of XML has, whatever its namespace.
NAMESPACE = "{http://libvirt.org/schemas/domain/qemu/1.0}"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_ports_and_addresses_are_those_of_the_file(name):
    options = OPTIONS.get(name, {})
    lab = imported_file(name)
    source = lab_sources.read(
        LAB_FILES[name], options.get("kinds_map", {}), options.get("variables")
    )
    nodes = lab.topology["nodes"]
    assert [node.get("label", name) for name, node in nodes.items()] == source.nodes
    networks, addresses = lab_sources.expected(source, lab)
    found = lab_sources.found(lab)
    assert found[0] == networks
    assert found[1] == addresses


@pytest.mark.parametrize("name", [name for name in MACHINES if name.endswith(".xml")])
def test_domains_are_those_of_the_file(name):
    root = xml.etree.ElementTree.parse(LAB_FILES[name]).getroot()
    domains = [root] if root.tag == "domain" else root.findall("domain")
    nodes = imported_file(name).topology["nodes"]
    assert len(nodes) == len(domains)
    for domain, node in zip(domains, nodes.values()):
        interfaces = domain.findall("devices/interface")
        cards = [card for card in (each.find("mac") for each in interfaces) if card is not None]
        macs = [card.get("address") for card in cards]
        assert [nic["mac"] for nic in node.get("nics", {}).values() if "mac" in nic] == macs
        paths = {"disk": [], "cdrom": [], "floppy": []}
        for disk in domain.findall("devices/disk"):
            source = disk.find("source")
            given = source.attrib if source is not None else {}
            path = given.get("file") or given.get("dev") or ""
            if disk.get("device", "disk") != "disk" or path.startswith("/"):
                paths[disk.get("device", "disk")].append(path)
        assert [disk["backing_file"] for disk in node["disks"]] == paths["disk"]
        assert [drive.get("path", "") for drive in node.get("cdroms", [])] == paths["cdrom"]


@pytest.mark.parametrize("name", [name for name in MACHINES if name.endswith(".conf")])
def test_machines_are_those_of_the_file(name):
    lines = _lines(name)
    lab = imported_file(name)
    (node,) = lab.topology["nodes"].values()
    (built,) = builder.build(lab.topology).nodes.values()
    nets = {key: value for key, value in lines.items() if key.startswith("net")}
    assert set(nets) <= set(built.nics)
    for key, value in nets.items():
        assert node["nics"][key]["mac"] in value
        if "bridge=" in value:
            assert node["nics"][key]["link"]["bridge"] in value
    assert str(node["memory"]) == lines["memory"].rpartition("=")[2]
    assert node["vcpus"] == int(lines.get("cores", 1)) * int(lines.get("sockets", 1))
    drives = [key for key in lines if key[:-1] in ("ide", "sata", "scsi", "virtio")]
    drives = {key for key in drives if "cloudinit" not in lines[key]}
    assert {drive["name"] for drive in node["disks"] + node.get("cdroms", [])} == drives


def _lines(name):
    """Return the keys and values of the current configuration."""
    text = LAB_FILES[name].read_text().partition("\n[")[0]
    pairs = [line.partition(":") for line in text.splitlines() if line and line[0] != "#"]
    return {key: value.strip() for key, _colon, value in pairs}


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_in_the_report(name):
    path = LAB_FILES[name]
    if path.suffix in (".xml", ".unl"):
        root = xml.etree.ElementTree.parse(path).getroot()
        data = [place.replace(NAMESPACE, "qemu:") for place in xml_places(root)]
        # Elements of other programs are dropped with the metadata that they are in.
        data = [place for place in data if "{" not in place]
    elif path.suffix == ".conf":
        data = _lines(name)
    else:
        data = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert missing_places(imported_file(name).report, data) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FILES)
def test_qemu_gets_a_command_line_for_every_vm(name, version):
    lab = imported_file(name)
    found = definitions(lab, version)
    others = [
        node
        for node, settings in builder.build(lab.topology).nodes.items()
        if settings.settings.get("arch", "x86_64") != "x86_64"
    ]
    assert sorted([*found, *others]) == sorted(lab.topology["nodes"])


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".gns3")])
def test_a_project_of_version_3_has_the_same_form(name):
    data = json.loads(LAB_FILES[name].read_text())
    old = imported_text(json.dumps(data), **OPTIONS.get(name, {}))
    data["revision"] = 10
    assert imported_text(json.dumps(data), **OPTIONS.get(name, {})).topology == old.topology


def test_there_are_five_files_of_each_format_with_their_source():
    readme = (PUBLIC / "README.md").read_text()
    names = [path.name for path in PUBLIC.iterdir() if path.name != "README.md"]
    assert sorted(name for name in names if "`%s`" % name not in readme) == []
    formats = [name.partition("_")[0] for name in names]
    assert {each for each in formats if formats.count(each) >= 5} == {
        "containerlab",
        "gns3",
        "cml",
        "eve",
        "netlab",
        "libvirt",
        "proxmox",
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("hostname: gw\nostype: debian\nrootfs: local:100/disk.raw\n", "rootfs: it is a container"),
        (
            "cores: 1\nmemory: 256\nrootfs: local:1/d.raw\nlxc.cgroup2.devices.allow: c 1:3 rwm\n",
            "rootfs: it is a container",
        ),
        ("cores: 1\nnet0: virtio,bridge=a\nnet0: virtio,bridge=b\n", "found duplicate key net0"),
    ],
)
def test_other_public_files_are_refused(text, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(text)
    assert message in str(caught.value)
