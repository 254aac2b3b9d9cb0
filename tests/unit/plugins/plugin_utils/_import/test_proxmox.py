# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs of Proxmox VE."""

from __future__ import annotations

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
)

LABS = sorted(path.name for path in FILES.glob("proxmox_*"))


def _lines(name):
    """Return the keys and values of the current configuration."""
    text = (FILES / name).read_text().partition("\n[")[0]
    return dict(line.split(": ", 1) for line in text.splitlines() if line and line[0] != "#")


@pytest.mark.parametrize("name", LABS)
def test_every_field_is_in_the_report(name):
    assert missing_places(imported(name).report, _lines(name)) == []


@pytest.mark.parametrize("name", LABS)
def test_nics_and_disks_are_those_of_the_file(name):
    lab = imported(name)
    (node,) = builder.build(lab.topology).nodes.values()
    lines = _lines(name)
    nets = {key: value for key, value in lines.items() if key.startswith("net")}
    for key, value in nets.items():
        assert node.nics[key].mac in value.lower()
    assert set(node.nics) >= set(nets)
    buses = ("ide", "sata", "scsi", "virtio")
    drives = {key for key in lines if key[:-1] in buses and "cloudinit" not in lines[key]}
    (settings,) = lab.topology["nodes"].values()
    found = settings["disks"] + settings.get("cdroms", [])
    assert {drive["name"] for drive in found} == drives


def test_a_vm_with_everything():
    lab = imported("proxmox_web.conf")
    node = lab.topology["nodes"]["web"]
    kept = node.pop("vars")["imported"]
    assert node == {
        "kind": "machine",
        "memory": 4096,
        "vcpus": 4,
        "smp": {"sockets": 2, "cores": 2},
        "cpu": "host,+aes",
        "description": "A web server",
        "smbios": [{"serial": "A1", "type": 1}],
        "disks": [
            {
                "name": "scsi0",
                "bus": "scsi",
                "boot_index": 1,
                "backing_file": "/dev/pve/vm-100-disk-0",
                "backing_format": "raw",
                "cache": "writeback",
                "discard": True,
            },
            {
                "name": "scsi1",
                "bus": "scsi",
                "backing_file": "/var/lib/vz/images/100/vm-100-disk-1.qcow2",
                "backing_format": "qcow2",
            },
            {
                "name": "scsi2",
                "bus": "scsi",
                "backing_file": "/srv/images/vm-100-disk-2",
                "backing_format": "raw",
            },
        ],
        "cdroms": [
            {
                "name": "ide2",
                "bus": "ide",
                "boot_index": 2,
                "path": "/var/lib/vz/template/iso/debian-12.iso",
            }
        ],
        "nics": {
            "net0": {
                "model": "virtio-net-pci",
                "mac": "BC:24:11:00:00:01",
                "boot_index": 3,
                "link": {"type": "bridge", "bridge": "vmbr0"},
            },
            "net1": {
                "model": "e1000",
                "mac": "BC:24:11:00:00:02",
                "link_down": True,
                "link": {"type": "bridge", "bridge": "vmbr1"},
            },
        },
        "uuid": "0a0b0c0d-0000-4000-8000-000000000031",
        "guest_agent": True,
    }
    assert kept["nics"]["net0"] == {"firewall": "1", "tag": "20"} and kept["ide3"]
    assert "secret" not in lab.topology_yaml()
    assert any("the storage 'ceph' is unknown" in warning for warning in lab.report["warnings"])


def test_other_settings():
    lab = imported("proxmox_desktop.conf")
    node = lab.topology["nodes"]["desktop-1"]
    assert (node["firmware"], node["machine"], node["accel"]) == ("uefi", "q35", "tcg")
    assert "cpu" not in node and node["boot_order"] == "cdn" and node["balloon"] is False
    assert node["smbios"] == [{"type": 2, "serial": "X"}] and "extra_args" not in node
    assert node["vars"]["imported"]["args"] == "-device vfio-pci,host=01:00.0"
    assert (node["vga"], node["display"], node["tpm"]) == ("qxl", {"type": "spice"}, True)
    assert node["nics"]["net0"]["model"] == "vmxnet3"
    node = imported("proxmox_plain.conf").topology["nodes"]["proxmox_plain"]
    assert (node["memory"], node["cpu_limit"], node["vga"]) == (1024, 50, "std")
    assert node["nics"]["net0"]["mtu"] == 9000 and node["nics"]["net3"]["link"]["type"] == "user"


def test_several_files_are_one_lab_with_bridges_as_segments():
    sources = [Source(name, (FILES / name).read_bytes()) for name in LABS]
    lab = import_lab(sources, Options(kinds_map={"vmbr1": "segment", "vmbr0": "user"}))
    assert list(lab.topology["nodes"]) == ["desktop-1", "proxmox_plain", "web"]
    assert cables(lab)[1] == {"vmbr1": {"proxmox_plain:net0", "web:net1"}}
    assert lab.topology["nodes"]["web"]["nics"]["net0"]["link"] == {"type": "user"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("ostype: l26\nmemory: lots\n", "memory: 'lots' is not a number from 16"),
        ("ostype: l26\ncores: -1\n", "cores: '-1' is not a number from 1 to 512"),
        ("ostype: l26\ncores: 1\ncores: 2\n", "line 3: found duplicate key cores"),
    ],
)
def test_refusals_name_the_file_and_the_place(text, message):
    with pytest.raises(LabFileError) as caught:
        imported_text(text)
    assert message in str(caught.value) and "cannot import lab: " in str(caught.value)


def test_a_line_that_is_none():
    with pytest.raises(LabFileError, match="f: line 2: 'x' is no line with a key and a value"):
        import_lab([Source("f", b"cores: 1\nx\n")], Options(), "proxmox")


@pytest.mark.parametrize(
    "line, expected",
    [
        ("scsihw: pvscsi\n", "pvscsi"),
        ("scsihw: lsi53c810\n", "lsi53c810"),
        ("scsihw: megasas\n", "megasas"),
        ("scsihw: virtio-scsi-pci\n", None),
        ("scsihw: new\n", None),
        ("", "lsilogic"),
    ],
)
def test_scsi_controllers(line, expected):
    text = "cores: 1\nname: a\n%sscsi0: local-lvm:vm-1-disk-0\n" % line
    lab = imported_text(text)
    assert lab.topology["nodes"]["a"].get("scsi_controller") == expected
    without = imported_text(text.replace("scsi0", "sata0"))
    assert "scsi_controller" not in without.topology["nodes"]["a"]
