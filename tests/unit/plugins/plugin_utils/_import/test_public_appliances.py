# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kinds of the facts that appliances of the public registry of GNS3 state."""

from __future__ import annotations

import jsonschema
import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import appliance
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, schema
from ansible_collections.vlab.qemu.tests.unit import public_appliances
from ansible_collections.vlab.qemu.tests.unit.imported_labs import definitions_of
from ansible_collections.vlab.qemu.tests.unit.public_appliances import APPLIANCES, content
from ansible_collections.vlab.qemu.tests.unit.vm_world import VERSIONS

VIRTIO = "virtio-net-pci"
UEFI = "OVMF-edk2-stable202305.fd"
# {file: (first and last port, what vm has besides memory)}
KINDS = {
    "Empty-VM": (
        ("eth0", "eth0"),
        {
            "vcpus": 1,
            "display": {"type": "vnc"},
            "disks": [{"name": "root", "bus": "sata", "size": "8G"}],
        },
    ),
    "Nokia vSIM": (
        ("A/1", "1/1/12"),
        {
            "vcpus": 2,
            "smbios": [
                {
                    "type": 1,
                    "product": "TIMOS:license-file=cf3:license.txt slot=A chassis=SR-1 card=cpm-1 "
                    "mda/1=me12-100gb-qsfp28",
                }
            ],
        },
    ),
    "alcatel-7750": (("A/1", "1/1/5"), {"vcpus": 1}),
    "asterfusion-vAsterNOS-VPP": (("Ethernet0", "Ethernet3"), {"vcpus": 4}),
    "armbian": (
        ("Ethernet0", "Ethernet1"),
        {"vcpus": 1, "bios_image": "OVMF-edk2-stable202305.fd", "display": {"type": "spice"}},
    ),
    "brocade-vadx": (("mgmt1", "Port-7"), {"vcpus": 2, "display": {"type": "vnc"}}),
    "aruba-vgw": (
        ("mgmt", "GE0/0/2"),
        {
            "vcpus": 3,
            "smp": {"cores": 3, "threads": 1, "sockets": 1},
            "priority": "normal",
            "display": {"type": "vnc"},
            "disks": [{"name": "hdb", "bus": "ide", "backing_file": "VGW-disk2.vmdk"}],
        },
    ),
    "cisco-asa": (
        ("Gi0", "Gi3"),
        {
            "vcpus": 1,
            "arch": "i386",
            "accel": "tcg",
            "cpu_limit": 80,
            "priority": "low",
            "cmdline": "auto nousb console=ttyS0,9600 bigphysarea=65536 ide1=noprobe",
            "disks": [{"name": "root", "bus": "ide", "size": "8G"}],
            "extra_args": ["-icount", "auto"],
        },
    ),
    "cisco-ftdv": (("Gigabit0/0-(Mgmt)", "Gigabit0/9"), {"vcpus": 4}),
    "cisco-iosv": (("Gi0/0", "Gi0/3"), {"vcpus": 1, "arch": "i386"}),
    "cisco-iosxrv9k": (
        ("MgmtEth0/0/CPU0/0", "GigabitEthernet0/0/0/2"),
        {"vcpus": 4, "arch": "i386"},
    ),
    "cisco-nxosv9k-lite": (
        ("mgmt0", "Ethernet1/9"),
        {"vcpus": 2, "bios_image": "OVMF-edk2-stable202305.fd"},
    ),
    "clavister-netsheild": (("if0", "if3"), {"vcpus": 1, "cpu": "Nehalem"}),
    "danos": (
        ("dp0p0s0", "dp0p2s2"),
        {
            "vcpus": 2,
            "disks": [{"name": "root", "bus": "ide", "size": "8G", "boot_index": 2}],
            "cdroms": [{"name": "cdrom", "path": "danos-1908-amd64-vrouter.iso", "boot_index": 1}],
        },
    ),
    "extreme-networks-voss": (("Mgmt", "1/8"), {"vcpus": 1}),
    "f5-bigip": (
        ("1.1", "1.8"),
        {"vcpus": 2, "disks": [{"name": "hdb", "bus": "virtio", "size": "100G"}]},
    ),
    "juniper-vmx-vcp": (
        ("fxp0", "em1"),
        {
            "vcpus": 1,
            "disks": [
                {"name": "hdb", "bus": "ide", "backing_file": "vmxhdd.img"},
                {"name": "hdc", "bus": "ide", "backing_file": "metadata-usb-re.img"},
            ],
        },
    ),
    "juniper-vmx-vfp": (("Eth0", "Eth11"), {"vcpus": 3}),
    "windows-11-dev-env": (
        ("Network-Adapter-1", "Network-Adapter-1"),
        {"vcpus": 4, "bios_image": "OVMF-edk2-stable202305.fd", "display": {"type": "spice"}},
    ),
    "windows_server": (
        ("NIC1", "NIC1"),
        {
            "vcpus": 1,
            "display": {"type": "vnc"},
            "disks": [{"name": "root", "bus": "sata", "size": "100G"}],
            "cdroms": [{"name": "cdrom", "path": "Win2k16.ISO"}],
        },
    ),
    "cisco-nxos9k": (
        ("mgmt0", "Ethernet1/9"),
        {"vcpus": 4, "machine": "q35", "firmware": "uefi"},
    ),
    "huawei-ce12800": (("GE1/0/0", "GE1/0/11"), {"vcpus": 2, "machine": "pc"}),
    "internet": (("Ethernet0", "Ethernet0"), {"vcpus": 1, "arch": "i386"}),
    "mikrotik-ccr1036-8g-2s+": (("ether1", "sfp-sfpplus2"), {"vcpus": 36}),
    "openwrt-realview": (
        ("Ethernet0", "Ethernet1"),
        {"vcpus": 1, "arch": "arm", "machine": "realview-eb-mpcore"},
    ),
    "riverbed-steelhead-ng-vcx": (
        ("PRI", "WAN0_0"),
        {"vcpus": 1, "disks": [{"name": "hdb", "bus": "virtio", "size": "100G"}]},
    ),
    "windows-xp+ie": (
        ("Ethernet0", "Ethernet1"),
        {
            "vcpus": 1,
            "arch": "i386",
            "vga": "std",
            "usb_tablet": True,
            "display": {"type": "vnc"},
        },
    ),
}
# Older than QEMU 5.2, of another program, or files of the hypervisor.
REFUSED = {
    "cisco-asa": ["-hdachs"],
    "internet": ["-device", "-netdev"],
    "macos-install": ["-drive", "-device", "-drive", "-device"],
}


def test_all_of_them_are_there():
    assert len(APPLIANCES) >= 182 and set(KINDS) < set(APPLIANCES)


@pytest.mark.parametrize("name", APPLIANCES)
def test_a_public_appliance_is_a_kind(name):
    kind = appliance.kind_of(name, content(name), None)
    needs = kind.pop("needs")
    jsonschema.Draft202012Validator(schema.kind_schema()).validate(kind)
    block = APPLIANCES[name]["qemu"]
    assert kind["vm"]["memory"] == block["ram"]
    assert kind["nic"]["model"] == block["adapter_type"].replace(
        "virtio-net-pci", "virtio"
    ).replace("virtio", "virtio-net-pci")
    assert needs["arguments"][::2] == REFUSED.get(name, [])
    # Only with arguments that the user must allow.
    assert ("extra_args" in APPLIANCES[name]) == (name in REFUSED)
    assert {file["file"] for file in needs["files"]} == public_appliances.needed(name)
    assert len(built(name).nodes["r"].nics) == block["adapters"]


@pytest.mark.parametrize("name", KINDS)
def test_what_a_public_appliance_becomes(name):
    ports, vm = KINDS[name]
    kind = appliance.kind_of(name, content(name), None)
    assert kind["vm"] == {"memory": APPLIANCES[name]["qemu"]["ram"], **vm}
    nics = list(built(name).nodes["r"].nics)
    assert (nics[0], nics[-1]) == ports


def built(name, **settings):
    """Return a topology of one node of the kind."""
    kind = public_appliances.kind(name, name)
    data = {"name": "t", "kinds": {"k": kind}, "nodes": {"r": {"kind": "k", **settings}}}
    return builder.build(
        data,
        read_appliance=lambda file, version: appliance.kind_of(file, content(file), version),
    )


@pytest.mark.parametrize("name", APPLIANCES)
def test_qemu_gets_a_command_line_for_it(name):
    block = APPLIANCES[name]["qemu"]
    # QEMU for i386 and x86_64 have the same devices. The others are not recorded.
    topology = built(name, arch="x86_64" if block["arch"] == "i386" else block["arch"])
    expected = [] if block["arch"] == "arm" else [block["adapters"]]
    for version in VERSIONS:
        found = definitions_of(topology, {}, version)
        assert [len(vm["nics"]) for vm in found.values()] == expected, version


@pytest.mark.parametrize(
    "text",
    [
        '{"usage": "default password" "symbol": "rpi.png"}',
        '{"usage": "a command\' \n}',
        '{"description": "one line\nand another"}',
        '{"version": "1", ."filesize": 1}',
    ],
)
def test_files_of_the_registry_that_are_no_json(text):
    # Raspian at f406c3388da5e2173c383c0218504cf983213184, aruba-vgw at the commit of its facts,
    # asterfusion-vAsterNOS-campus at 74c26395a2306b1a946e198d9fcec501b1c100c5 and opnsense at
    # 8ff3004e76c1036f013c3840762cf80ed243855b.
    with pytest.raises(OptionError, match="it is not JSON"):
        appliance.kind_of("a.gns3a", text.encode(), None)
