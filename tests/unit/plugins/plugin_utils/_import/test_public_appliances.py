# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kinds of the facts that appliances of the public registry of GNS3 state.

They are from https://github.com/GNS3/gns3-registry, folder appliances, at the commits given.
"""

from __future__ import annotations

import json

import jsonschema
import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import appliance
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, schema
from ansible_collections.vlab.qemu.tests.unit.imported_labs import definitions_of
from ansible_collections.vlab.qemu.tests.unit.vm_world import VERSIONS

E1000, VIRTIO = "e1000", "virtio-net-pci"
UEFI = "OVMF-edk2-stable202305.fd"


def qemu(model, adapters, ram, console="telnet", arch="x86_64", **more):
    """The block for QEMU of registry versions below 8."""
    return {
        "adapter_type": model,
        "adapters": adapters,
        "ram": ram,
        "console_type": console,
        "arch": arch,
        **more,
    }


# {file: (commit, registry version, names of ports, block for QEMU, images of the first version,
#         first and last port, what vm has besides memory)}
APPLIANCES = {
    "Empty-VM": (
        "4d54dc8ee519c7d8b8205bd0b28dc268c21f4649",
        3,
        ("", "eth{0}"),
        qemu(E1000, 1, 1024, "vnc", hda_disk_interface="sata", boot_priority="d", kvm="allow"),
        {"hda_disk": "empty8G.qcow2"},
        ("eth0", "eth0"),
        {
            "vcpus": 1,
            "display": {"type": "vnc"},
            "disks": [{"name": "root", "bus": "sata", "size": "8G"}],
        },
    ),
    "Nokia vSIM": (
        "f8d2d5f2e7a878116828b39184d6ba4007935dda",
        1,
        ("A/1", "1/1/{port1}"),
        qemu(
            VIRTIO,
            13,
            4096,
            cpus=2,
            hda_disk_interface="virtio",
            kvm="require",
            options="-nographic -smbios type=1,product=TIMOS:license-file=cf3:license.txt\\ "
            "slot=A\\ chassis=SR-1\\ card=cpm-1\\ mda/1=me12-100gb-qsfp28",
        ),
        {"hda_disk": "sros-vsr-21.7.R1.qcow2"},
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
    "alcatel-7750": (
        "2aa64ed73f8f07f28b204510f0d94993683779e6",
        4,
        ("A/1", "1/1/{port1}"),
        qemu(E1000, 6, 2048, kvm="require", options=""),
        {"hda_disk": "TiMOS-SR-13.0.R4-vm.qcow2"},
        ("A/1", "1/1/5"),
        {"vcpus": 1},
    ),
    "asterfusion-vAsterNOS-VPP": (
        "0776b260fe0dc84571d8971a3aaabd128aba749d",
        6,
        ("", ""),
        qemu(VIRTIO, 4, 8192, cpus=4, kvm="require"),
        {"hda_disk": "AsterNOS-VPP_NEW_VERSION_x86.img"},
        ("Ethernet0", "Ethernet3"),
        {"vcpus": 4},
    ),
    "armbian": (
        "d34ee483b6276efa2370525f91d9c680b9b1489f",
        4,
        ("", "Ethernet{0}"),
        qemu(
            VIRTIO,
            2,
            256,
            "spice+agent",
            hda_disk_interface="virtio",
            uefi=False,
            boot_priority="c",
            kvm="require",
            options="-nographic",
        ),
        {"bios": UEFI, "hda_disk": "Armbian_minimal.img.qcow2"},
        ("Ethernet0", "Ethernet1"),
        {"vcpus": 1, "bios_image": UEFI, "display": {"type": "spice"}},
    ),
    "brocade-vadx": (
        "b1e93c4accdb6ca7544f09103fa026d2e83114fb",
        3,
        ("mgmt1", "Port {port1}"),
        qemu(VIRTIO, 8, 2048, "vnc", hda_disk_interface="ide", kvm="require", options="-smp 2"),
        {"hda_disk": "SSR03100KVM.qcow2"},
        ("mgmt1", "Port-7"),
        {"vcpus": 2, "display": {"type": "vnc"}},
    ),
    "aruba-vgw": (
        "43db51ce90724d600e05d1afea7aa0521ec0c288",
        4,
        ("mgmt", "GE0/0/{0}"),
        qemu(
            E1000,
            4,
            4096,
            "vnc",
            cpus=3,
            hda_disk_interface="ide",
            hdb_disk_interface="ide",
            hdc_disk_interface="ide",
            kernel_command_line="",
            kvm="require",
            options="-smp cores=3,threads=1,sockets=1 -cpu host",
            process_priority="normal",
        ),
        {"hda_disk": "VGW-disk1.vmdk", "hdb_disk": "VGW-disk2.vmdk"},
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
        "1421ea01e34fc7fe36a7d38e58e60e6bebda02ea",
        1,
        ("", "Gi{0}"),
        qemu(
            "i82559er",
            4,
            512,
            arch="i386",
            kernel_command_line="auto nousb console=ttyS0,9600 bigphysarea=65536 ide1=noprobe",
            options="-no-kvm -icount auto -hdachs 980,16,32",
            cpu_throttling=80,
            process_priority="low",
        ),
        {"kernel": "asa-vmlinuz", "initrd": "asa-initrd.gz", "hda_disk": "empty8G.qcow2"},
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
    "cisco-ftdv": (
        "5ec1f1ede9962ac5433a8d3ca412231171f9ee44",
        4,
        ("Gigabit0/0 (Mgmt)", "Gigabit0/{port1}"),
        qemu(E1000, 10, 8192, cpus=4, hda_disk_interface="ide", kvm="require"),
        {"hda_disk": "FTDv-6.3.0-83.qcow2"},
        ("Gigabit0/0-(Mgmt)", "Gigabit0/9"),
        {"vcpus": 4},
    ),
    "cisco-iosv": (
        "01edb14a73397afeb901526fa8388047a0602c44",
        1,
        ("", "Gi0/{0}"),
        qemu(E1000, 4, 512, arch="i386", kvm="require"),
        {"hda_disk": "vios-adventerprisek9-m.vmdk.SPA.156-2.T"},
        ("Gi0/0", "Gi0/3"),
        {"vcpus": 1, "arch": "i386"},
    ),
    "cisco-iosxrv9k": (
        "2d404864815f7af7b7c2e71382ec83e6c2231fe1",
        4,
        ("MgmtEth0/0/CPU0/0", "GigabitEthernet0/0/0/{0}"),
        qemu(E1000, 4, 16384, arch="i386", kvm="require", options="-smp 4"),
        {"hda_disk": "xrv9k-fullk9-x.qcow2-6.0.0"},
        ("MgmtEth0/0/CPU0/0", "GigabitEthernet0/0/0/2"),
        {"vcpus": 4, "arch": "i386"},
    ),
    "cisco-nxosv9k-lite": (
        "0e29a6660d595ba5bbac93b6328f33b51bc76c8d",
        4,
        ("mgmt0", "Ethernet1/{port1}"),
        qemu(E1000, 10, 6144, cpus=2, hda_disk_interface="sata", kvm="require"),
        {"bios": UEFI, "hda_disk": "nexus9500v64-lite.10.5.5.M.qcow2"},
        ("mgmt0", "Ethernet1/9"),
        {"vcpus": 2, "bios_image": UEFI},
    ),
    "clavister-netsheild": (
        "4cff08b14c4061f65284de1544d0bc4df6377cb9",
        4,
        ("", "if{0}"),
        qemu(
            VIRTIO,
            4,
            1024,
            hda_disk_interface="virtio",
            boot_priority="c",
            kvm="allow",
            options="-cpu Nehalem",
        ),
        {"hda_disk": "clavister-cos-stream.qcow2"},
        ("if0", "if3"),
        {"vcpus": 1, "cpu": "Nehalem"},
    ),
    "danos": (
        "27dceb68a189758d20c9b6aaad3bf5e25a2e7cc9",
        4,
        ("", "dp0p{1}s{0}"),
        qemu(
            VIRTIO,
            3,
            4096,
            cpus=2,
            hda_disk_interface="ide",
            boot_priority="dc",
            kvm="allow",
            options="-cpu host",
        ),
        {"hda_disk": "empty8G.qcow2", "cdrom": "danos-1908-amd64-vrouter.iso"},
        ("dp0p0s0", "dp0p2s2"),
        {
            "vcpus": 2,
            "disks": [{"name": "root", "bus": "ide", "size": "8G", "boot_index": 2}],
            "cdroms": [{"name": "cdrom", "path": "danos-1908-amd64-vrouter.iso", "boot_index": 1}],
        },
    ),
    "extreme-networks-voss": (
        "0f4d4ec5c6f5bcc5163572736ad27c562eb4f60a",
        3,
        ("Mgmt", "1/{port1}"),
        qemu(
            E1000,
            9,
            2048,
            hda_disk_interface="ide",
            boot_priority="dc",
            kvm="allow",
            options="-nographic",
        ),
        {"hda_disk": "VOSSGNS3.8.4.0.0.qcow2"},
        ("Mgmt", "1/8"),
        {"vcpus": 1},
    ),
    "f5-bigip": (
        "fecc08655979b387bf11577dfa261c9eef148e80",
        4,
        ("", "1.{port1}"),
        qemu(
            VIRTIO,
            8,
            4096,
            hda_disk_interface="virtio",
            hdb_disk_interface="virtio",
            boot_priority="c",
            kvm="allow",
            options="-smp 2",
        ),
        {"hda_disk": "BIGIP-12.1.0.1.0.1447.qcow2", "hdb_disk": "empty100G.qcow2"},
        ("1.1", "1.8"),
        {"vcpus": 2, "disks": [{"name": "hdb", "bus": "virtio", "size": "100G"}]},
    ),
    "juniper-vmx-vcp": (
        "064ed66987d6d923f64629ac58a27b9708dde190",
        3,
        ("fxp0", "em{port1}"),
        qemu(
            E1000,
            2,
            1024,
            hda_disk_interface="ide",
            hdb_disk_interface="ide",
            hdc_disk_interface="ide",
            kvm="require",
            options="-nographic -enable-kvm",
        ),
        {"hda_disk": "vmx.qcow2", "hdb_disk": "vmxhdd.img", "hdc_disk": "metadata-usb-re.img"},
        ("fxp0", "em1"),
        {
            "vcpus": 1,
            "disks": [
                {"name": "hdb", "bus": "ide", "backing_file": "vmxhdd.img"},
                {"name": "hdc", "bus": "ide", "backing_file": "metadata-usb-re.img"},
            ],
        },
    ),
    "juniper-vmx-vfp": (
        "1b7aec9791ebe9e8ba64e6c84e6d6c68b73f0c84",
        3,
        ("Eth0", "Eth{port1}"),
        qemu(
            VIRTIO,
            12,
            4096,
            hda_disk_interface="ide",
            kvm="require",
            options="-nographic -enable-kvm -smp cpus=3",
        ),
        {"hda_disk": "vFPC-20200526.img"},
        ("Eth0", "Eth11"),
        {"vcpus": 3},
    ),
    "windows-11-dev-env": (
        "051644d56778bc8393b077d1b9ce681576fb5861",
        5,
        ("Network Adapter 1", "Network Adapter {0}"),
        qemu(
            E1000,
            1,
            4096,
            "spice",
            cpus=4,
            hda_disk_interface="sata",
            boot_priority="c",
            kvm="require",
        ),
        {"bios": UEFI, "hda_disk": "WinDev2308Eval-disk1.vmdk"},
        ("Network-Adapter-1", "Network-Adapter-1"),
        {"vcpus": 4, "bios_image": UEFI, "display": {"type": "spice"}},
    ),
    "windows_server": (
        "220b8e8eb17e2aea6a5633f1bdb1db0d9736daf7",
        4,
        ("", "NIC{port1}"),
        qemu(E1000, 1, 2048, "vnc", hda_disk_interface="sata", boot_priority="c", kvm="require"),
        {"hda_disk": "empty100G.qcow2", "cdrom": "Win2k16.ISO"},
        ("NIC1", "NIC1"),
        {
            "vcpus": 1,
            "display": {"type": "vnc"},
            "disks": [{"name": "root", "bus": "sata", "size": "100G"}],
            "cdroms": [{"name": "cdrom", "path": "Win2k16.ISO"}],
        },
    ),
}
# Older than QEMU 5.2, or of another program.
REFUSED = {"cisco-asa": ["-hdachs", "980,16,32"]}


def content(name):
    """The file of an appliance, as GNS3 reads it."""
    _commit, registry, (first, pattern), block, images, _ports, _vm = APPLIANCES[name]
    data = {
        "name": name,
        "registry_version": registry,
        "port_name_format": pattern,
        "first_port_name": first,
        "qemu": block,
        "images": [
            {"filename": file, "md5sum": "0" * 32, "filesize": 1} for file in images.values()
        ],
        "versions": [{"name": "1", "images": image_keys(images)}],
    }
    text = json.dumps({key: value for key, value in data.items() if value})
    # One of them has a key twice.
    return text.replace("{", '{"maintainer": "a", "maintainer": "b", ', 1).encode()


def image_keys(images):
    return {key if key == "initrd" else key + "_image": file for key, file in images.items()}


@pytest.mark.parametrize("name", APPLIANCES)
def test_what_a_public_appliance_becomes(name):
    _commit, _registry, _names, block, images, ports, vm = APPLIANCES[name]
    kind = appliance.kind_of(name, content(name), None)
    needs = kind.pop("needs")
    jsonschema.Draft202012Validator(schema.kind_schema()).validate(kind)
    assert kind["vm"] == {"memory": block["ram"], **vm}
    assert kind["nic"]["model"] == block["adapter_type"]
    assert needs["arguments"] == REFUSED.get(name, [])
    assert {file["file"] for file in needs["files"]} == {
        file for file in images.values() if not file.startswith("empty")
    }
    nics = list(built(name, {}).nodes["r"].nics)
    assert (len(nics), nics[0], nics[-1]) == (block["adapters"], *ports)


def built(name, vm):
    """A topology of one node of the kind."""
    kind = {"appliance": name, "vm": {"extra_args": [], **vm} if name in REFUSED else vm}
    data = {"name": "t", "kinds": {"k": kind}, "nodes": {"r": {"kind": "k"}}}
    return builder.build(
        data,
        read_appliance=lambda file, version: appliance.kind_of(file, content(file), version),
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", APPLIANCES)
def test_qemu_gets_a_command_line_for_it(name, version):
    # QEMU for i386 and x86_64 have the same devices.
    found = definitions_of(built(name, {"arch": "x86_64"}), {}, version)
    assert list(found) == ["r"]
    assert len(found["r"]["nics"]) == APPLIANCES[name][3]["adapters"]


@pytest.mark.parametrize(
    "text", ['{"usage": "default password" "symbol": "rpi.png"}', '{"usage": "a command\' \n}']
)
def test_files_of_the_registry_that_are_no_json(text):
    # Raspian at f406c3388da5e2173c383c0218504cf983213184 and aruba-vgw at the commit above.
    with pytest.raises(OptionError, match="it is not JSON"):
        appliance.kind_of("a.gns3a", text.encode(), None)
