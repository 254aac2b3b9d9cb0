# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Appliances of GNS3 as kinds: files as the registry has them, and hostile ones."""

from __future__ import annotations

import copy
import json

import jsonschema
import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import appliance
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, schema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.appliances import needed_images
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.images import apply_images
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import NicNaming
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import (
    Problems,
    TopologyError,
)


def image(name, number, **more):
    return {"filename": name, "md5sum": "%032x" % number, "filesize": 1000 + number, **more}


def version(name, **images):
    return {"name": name, "images": {key + "_image": file for key, file in images.items()}}


# Facts of public appliances, of each shape that the registry has had.
OLD_SWITCH = {
    "name": "Titanium",
    "registry_version": 1,
    "first_port_name": "mgmt0",
    "port_name_format": "Ethernet2/{port1}",
    "qemu": {
        "adapter_type": "e1000",
        "adapters": 5,
        "ram": 3072,
        "arch": "x86_64",
        "console_type": "telnet",
    },
    "images": [image("titanium.qcow2", 1, version="7.2", download_url="http://example.com/")],
    "versions": [version("7.2", hda_disk="titanium.qcow2")],
}
SLOTS = {
    "name": "L2 switch",
    "registry_version": 3,
    "port_name_format": "Gi{segment0}/{port0}",
    "port_segment_size": 4,
    "qemu": {
        "adapter_type": "e1000",
        "adapters": 8,
        "ram": 768,
        "hda_disk_interface": "virtio",
        "arch": "x86_64",
        "console_type": "telnet",
        "kvm": "require",
    },
    "images": [image("l2-2020.qcow2", 2), image("l2-2017.qcow2", 3)],
    "versions": [
        version("15.2(2020)", hda_disk="l2-2020.qcow2"),
        version("15.2(2017)", hda_disk="l2-2017.qcow2"),
    ],
}
CLOUD = {
    "name": "Cloud guest",
    "registry_version": 4,
    "usage": "Username: user",
    "port_name_format": "Eth{0}",
    "qemu": {
        "adapter_type": "virtio",
        "adapters": 1,
        "ram": 1024,
        "cpus": 2,
        "hda_disk_interface": "virtio",
        "arch": "x86_64",
        "console_type": "telnet",
        "boot_priority": "c",
        "kvm": "allow",
        "options": "-nographic -smp 4 -cpu host -device virtio-rng-pci -smbios type=1,serial=ds",
    },
    "images": [
        image("guest.qcow2", 4, direct_download_url="https://example.com/g.xz", compression="xz"),
        image("guest-init.iso", 5, direct_download_url="https://example.com/i.iso"),
    ],
    "versions": [version("38", hda_disk="guest.qcow2", cdrom="guest-init.iso")],
}
INSTALLER = {
    "name": "Installer",
    "registry_version": 6,
    "default_username": "root",
    "default_password": "toor",
    "qemu": {
        "adapter_type": "vmxnet3",
        "adapters": 3,
        "custom_adapters": [
            {"adapter_number": 0, "adapter_type": "e1000", "port_name": "Mgmt 0"},
            {"adapter_number": 2, "mac_address": "52:54:00:00:00:01"},
        ],
        "ram": 4096,
        "hda_disk_interface": "scsi",
        "hdb_disk_interface": "none",
        "hdc_disk_interface": "sata",
        "arch": "i386",
        "console_type": "vnc",
        "boot_priority": "dc",
        "kvm": "disable",
        "cpu_throttling": 50,
        "process_priority": "low",
    },
    "images": [image("setup.iso", 6), image("empty100G.qcow2", 7), image("data.qcow2", 8)],
    "versions": [
        version(
            "1",
            hda_disk="empty100G.qcow2",
            hdb_disk="data.qcow2",
            hdc_disk="data.qcow2",
            cdrom="setup.iso",
        )
    ],
}
KERNEL = {
    "name": "Kernel",
    "registry_version": 7,
    "qemu": {
        "adapter_type": "e1000",
        "adapters": 2,
        "ram": 64,
        "arch": "x86_64",
        "console_type": "spice",
        "kernel_command_line": "console=ttyS0",
        "options": "-vga std -usbdevice tablet -name %vm-name%",
        "uefi": True,
        "tpm": True,
    },
    "images": [image("vmlinuz", 9), image("initrd.gz", 10)],
    "versions": [
        {"name": "1", "images": {"kernel_image": "vmlinuz", "initrd": "initrd.gz"}},
    ],
}
SETTINGS = {
    "name": "Router",
    "registry_version": 8,
    "settings": [
        {
            "name": "base",
            "default": True,
            "template_type": "qemu",
            "template_properties": {
                "adapter_type": "virtio-net-pci",
                "adapters": 10,
                "port_name_format": "eth{0}",
                "ram": 2048,
                "cpus": 4,
                "hda_disk_interface": "nvme",
                "platform": "x86_64",
                "console_type": "telnet",
                "boot_priority": "c",
                "uefi": False,
            },
        },
        {
            "name": "1.5",
            "inherit_default_properties": True,
            "template_type": "qemu",
            "template_properties": {"ram": 8192},
        },
        {
            "name": "alone",
            "inherit_default_properties": False,
            "template_type": "qemu",
            "template_properties": {"ram": 512, "adapters": 2, "adapter_type": "e1000"},
        },
        {"name": "container", "template_type": "docker", "template_properties": {"image": "x"}},
    ],
    "images": [image("r15.qcow2", 11), image("r14.qcow2", 12)],
    "versions": [
        dict(version("1.5", hda_disk="r15.qcow2"), settings="1.5"),
        version("1.4", hda_disk="r14.qcow2"),
        dict(version("old", hda_disk="r14.qcow2"), settings="alone"),
        dict(version("docker"), settings="container"),
        dict(version("lost"), settings="nothing"),
    ],
}
ALL = {
    "old_switch": OLD_SWITCH,
    "slots": SLOTS,
    "cloud": CLOUD,
    "installer": INSTALLER,
    "kernel": KERNEL,
    "settings": SETTINGS,
}


def kind_of(data, version_name=None):
    return appliance.kind_of("a.gns3a", json.dumps(data).encode("utf-8"), version_name)


def changed(data, *path, to):
    data = copy.deepcopy(data)
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return data


def names(kind):
    naming = NicNaming(kind["nic"])
    data = [] if naming.prefix == "spare" else list(naming.names())
    return naming.management + data


@pytest.mark.parametrize("name", ALL)
def test_an_appliance_matches_the_schema_of_kinds(name):
    kind = kind_of(ALL[name])
    del kind["needs"]
    jsonschema.Draft202012Validator(schema.kind_schema()).validate(kind)


@pytest.mark.parametrize(
    "name, options, disk, model, nics",
    [
        (
            "old_switch",
            {"memory": 3072, "vcpus": 1},
            {"bus": "ide"},
            "e1000",
            ["mgmt0", "Ethernet2/1", "Ethernet2/2", "Ethernet2/3", "Ethernet2/4"],
        ),
        (
            "slots",
            {"memory": 768, "vcpus": 1},
            {"bus": "virtio"},
            "e1000",
            ["Gi%d/%d" % (slot, port) for slot in (0, 1) for port in range(4)],
        ),
        (
            "cloud",
            {
                "memory": 1024,
                "vcpus": 4,
                "cdroms": [{"name": "cdrom", "path": "guest-init.iso"}],
                "smbios": [{"type": 1, "serial": "ds"}],
                "extra_args": ["-device", "virtio-rng-pci"],
            },
            {"bus": "virtio"},
            "virtio-net-pci",
            ["Eth0"],
        ),
        (
            "installer",
            {
                "memory": 4096,
                "vcpus": 1,
                "arch": "i386",
                "accel": "tcg",
                "cpu_limit": 50,
                "priority": "low",
                "display": {"type": "vnc"},
                "disks": [
                    {"name": "root", "bus": "scsi", "size": "100G", "boot_index": 2},
                    {"name": "hdc", "bus": "sata", "backing_file": "data.qcow2"},
                ],
                "cdroms": [{"name": "cdrom", "path": "setup.iso", "boot_index": 1}],
            },
            {"bus": "scsi", "boot_index": 2},
            "vmxnet3",
            ["Mgmt-0", "Ethernet1", "Ethernet2"],
        ),
        (
            "kernel",
            {
                "memory": 64,
                "vcpus": 1,
                "cmdline": "console=ttyS0",
                "display": {"type": "spice"},
                "firmware": "uefi",
                "tpm": True,
                "usb_tablet": True,
                "vga": "std",
            },
            {},
            "e1000",
            ["Ethernet0", "Ethernet1"],
        ),
        (
            "settings",
            {"memory": 8192, "vcpus": 4},
            {"bus": "nvme"},
            "virtio-net-pci",
            ["eth%d" % number for number in range(10)],
        ),
    ],
)
def test_what_an_appliance_becomes(name, options, disk, model, nics):
    kind = kind_of(ALL[name])
    assert kind["vm"] == options
    assert kind["disk"] == disk
    assert kind["nic"]["model"] == model and names(kind) == nics
    assert kind["needs"]["arguments"] == []


def test_single_nics_have_their_models_and_no_address():
    assert kind_of(INSTALLER)["nic"]["models"] == {"Mgmt-0": "e1000"}
    assert "52:54:00" not in json.dumps(kind_of(INSTALLER))


def test_the_last_of_duplicate_keys_counts():
    content = json.dumps(CLOUD).replace("{", '{"name": "other", ', 1).encode()
    assert appliance.kind_of("a.gns3a", content, None)["description"] == "Cloud guest 38"


def test_an_argument_sets_the_order_of_booting():
    data = changed(INSTALLER, "qemu", "options", to="-boot order=c")
    vm = kind_of(data)["vm"]
    assert "extra_args" not in vm and "boot_index" not in vm["cdroms"][0]


def test_facts():
    assert kind_of(INSTALLER)["facts"] == {"credentials": "root, toor"}
    assert kind_of(CLOUD)["facts"] == {"notes": "Username: user"}
    assert kind_of(CLOUD)["description"] == "Cloud guest 38"


def test_needed_files():
    needed = kind_of(CLOUD)["needs"]
    assert needed["image"] == {"disk": "guest.qcow2"}
    assert needed["files"] == [
        {
            "file": "guest.qcow2",
            "md5": "%032x" % 4,
            "size": 1004,
            "url": "https://example.com/g.xz",
            "compression": "xz",
        },
        {
            "file": "guest-init.iso",
            "md5": "%032x" % 5,
            "size": 1005,
            "url": "https://example.com/i.iso",
        },
    ]
    assert kind_of(KERNEL)["needs"]["image"] == {"kernel": "vmlinuz", "initrd": "initrd.gz"}
    # An empty disk is made, not looked for.
    assert [f["file"] for f in kind_of(INSTALLER)["needs"]["files"]] == ["data.qcow2", "setup.iso"]
    assert kind_of(INSTALLER)["needs"]["image"] == {}


def test_the_version_selects_images_and_settings():
    assert kind_of(SLOTS)["needs"]["image"] == {"disk": "l2-2020.qcow2"}
    assert kind_of(SLOTS, "15.2(2017)")["needs"]["image"] == {"disk": "l2-2017.qcow2"}
    assert kind_of(SETTINGS, "1.4")["vm"] == {"memory": 2048, "vcpus": 4}
    alone = kind_of(SETTINGS, "old")
    assert alone["vm"] == {"memory": 512, "vcpus": 1} and names(alone) == ["Ethernet0", "Ethernet1"]


def test_the_only_settings_are_the_default():
    data = changed(SETTINGS, "settings", to=[dict(SETTINGS["settings"][0], default=False)])
    assert kind_of(data, "1.4")["vm"]["memory"] == 2048


@pytest.mark.parametrize(
    "options, extra, refused",
    [
        ("-device pcie-root-port,id=p -icount 1", "-device pcie-root-port,id=p -icount 1", ""),
        ("-usb -no-hpet -global kvm-pit.x=y", "-usb -no-hpet -global kvm-pit.x=y", ""),
        ("--usb -m 5", "--usb", ""),
        ("-drive file=x", "", "-drive file=x"),
        ("-device loader,file=/etc/shadow", "", "-device loader,file=/etc/shadow"),
        ("-usb -incoming exec:id", "-usb", "-incoming exec:id"),
        ("-netdev user,id=a -usb", "-usb", "-netdev user,id=a"),
        ("stray -usb", "-usb", "stray"),
        ("-device", "", "-device"),
        ("-smbios type=1,file=x", "", "-smbios type=1,file=x"),
        # Without the other argument it is nothing.
        ("-netdev vde,id=a -device e1000,netdev=a", "", "-netdev vde,id=a -device e1000,netdev=a"),
        ("-device ide-hd,drive=d,id=x -usb", "-usb", "-device ide-hd,drive=d,id=x"),
        ("-bios /etc/shadow", "", "-bios /etc/shadow"),
    ],
)
def test_arguments(options, extra, refused):
    kind = kind_of(changed(CLOUD, "qemu", "options", to=options))
    assert " ".join(kind["vm"].get("extra_args", [])) == extra
    assert " ".join(kind["needs"]["arguments"]) == refused


@pytest.mark.parametrize(
    "options, settings",
    [
        ("-machine type=pc-1.0,accel=kvm", {"machine": "pc"}),
        ("-M pc-i440fx-2.12", {"machine": "pc"}),
        ("-machine pc-q35-4.0.1", {"machine": "q35"}),
        ("-machine realview-eb-mpcore", {"machine": "realview-eb-mpcore"}),
        ("-bios /usr/share/ovmf/OVMF.fd", {"firmware": "uefi"}),
        ("-bios /usr/share/OVMF/OVMF_CODE_4M.fd", {"firmware": "uefi"}),
        ("-soundhw es1370 -vga std", {"vga": "std"}),
    ],
)
def test_arguments_of_older_or_other_hosts(options, settings):
    before = kind_of(changed(CLOUD, "qemu", "options", to=""))
    kind = kind_of(changed(CLOUD, "qemu", "options", to=options))
    assert kind["vm"] == {**before["vm"], **settings} and not kind["needs"]["arguments"]


def test_an_image_of_the_firmware_is_the_firmware():
    data = changed(CLOUD, "qemu", "options", to="-bios /usr/share/ovmf/OVMF.fd")
    data["versions"][0]["images"]["bios_image"] = "OVMF-2016.fd"
    vm = kind_of(data)["vm"]
    assert vm["bios_image"] == "OVMF-2016.fd" and "firmware" not in vm


@pytest.mark.parametrize(
    "data, message",
    [
        ([], "is not a mapping"),
        ({}, "registry_version: it is missing"),
        (changed(CLOUD, "registry_version", to=9), "registry_version: 9 is newer than 8"),
        (changed(CLOUD, "registry_version", to="x"), "registry_version: 'x' is not a number"),
        ({"registry_version": 4, "docker": {}}, "qemu: it is missing"),
        (changed(CLOUD, "qemu", to=[]), r"qemu: \[\] is not a mapping"),
        (changed(CLOUD, "qemu", "ram", to="much"), "qemu.ram: 'much' is not a number"),
        (changed(CLOUD, "qemu", "ram", to=-1), "qemu.ram: -1 is not a number"),
        (changed(CLOUD, "qemu", "adapters", to=10**9), "qemu.adapters: 1000000000 is not a num"),
        (changed(CLOUD, "qemu", "adapter_type", to="a b"), "qemu.adapter_type: 'a b' is not a mod"),
        (changed(CLOUD, "qemu", "hda_disk_interface", to="mtd"), "hda_disk_interface: 'mtd' is no"),
        (changed(CLOUD, "qemu", "boot_priority", to="x"), "boot_priority: 'x' is not a boot order"),
        (changed(CLOUD, "qemu", "options", to='-smp "2'), "qemu.options: it cannot be split"),
        (changed(CLOUD, "qemu", "options", to=["-usb"]), "qemu.options: .* is not a text"),
        (
            changed(CLOUD, "port_name_format", to="{boom}"),
            "port_name_format: it has unknown fields",
        ),
        (changed(CLOUD, "versions", to={}), "versions: {} is not a list"),
        (changed(CLOUD, "versions", 0, to="38"), r"versions\[0\]: '38' is not a mapping"),
        (changed(CLOUD, "images", to="x"), "images: 'x' is not a list"),
        (changed(CLOUD, "images", 0, "filesize", to=[1]), r"images\[0\].filesize: \[1\] is not"),
        (
            changed(CLOUD, "versions", 0, "images", "hda_disk_image", to="../../etc/shadow"),
            r"versions\[0\].images.hda_disk_image: .* is not the name of a file",
        ),
        *[
            (
                changed(CLOUD, "versions", 0, "images", "cdrom_image", to=name),
                r"versions\[0\].images.cdrom_image: .* is not the name of a file",
            )
            for name in ("..", "~root", "$HOME", "a\\b", "x" * 256, "a.ova/..", "a.ova/b/c")
        ],
        ({"registry_version": 8}, "settings: none of them is the default"),
        (changed(SETTINGS, "settings", to=7), "settings: 7 is not a list"),
        (
            changed(SETTINGS, "settings", 1, "template_properties", to=3),
            r"settings\[1\].template_properties: 3 is not a mapping",
        ),
    ],
)
def test_errors_name_the_file_and_the_key(data, message):
    with pytest.raises(OptionError, match=message) as caught:
        kind_of(data)
    assert caught.value.option == "appliance" and caught.value.reason.startswith("a.gns3a: ")


@pytest.mark.parametrize(
    "needed, message",
    [
        ("docker", "only an appliance for QEMU can be a kind"),
        ("lost", r"versions\[4\].settings: there are no settings 'nothing'"),
    ],
)
def test_versions_that_cannot_be_kinds(needed, message):
    with pytest.raises(OptionError, match=message):
        kind_of(SETTINGS, needed)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\xff", "it is not UTF-8"),
        (b"{", "it is not JSON"),
        (b"[" * 100000, "it is nested too deeply"),
        (b'{"registry_version": 1e400}', "is no number"),
        (b" " * (5 << 20), "has more than 4 MiB"),
    ],
)
def test_hostile_files(content, message):
    with pytest.raises(OptionError, match=message):
        appliance.kind_of("a.gns3a", content, None)


def test_an_unknown_version_lists_those_that_exist():
    with pytest.raises(OptionError) as caught:
        kind_of(SLOTS, "16")
    assert caught.value.option == "version"
    assert caught.value.reason == (
        "a.gns3a has no version '16'; its versions are 15.2(2020), 15.2(2017)"
    )
    many = changed(SLOTS, "versions", to=[{"name": "v%d" % n} for n in range(60)])
    with pytest.raises(OptionError, match="v49, 10 more$"):
        kind_of(many, "16")
    with pytest.raises(OptionError, match="its versions are none"):
        kind_of({"registry_version": 3, "qemu": {}}, "1")


def write(folder, data):
    path = folder / "a.gns3a"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path.name


def topology(kind, folder, nodes=("r1", "r2")):
    data = {
        "name": "t",
        "kinds": {"iosv": kind},
        "nodes": {name: {"kind": "iosv"} for name in nodes},
        "links": ["r1:Ethernet2/1 -- r2:Ethernet2/2"],
    }
    return builder.build(data, read_appliance=folder and appliance.reader(str(folder)))


def test_a_topology_with_an_appliance(tmp_path):
    kind = {"appliance": write(tmp_path, OLD_SWITCH), "vm": {"memory": 4096}}
    built = topology(kind, tmp_path)
    problems = Problems()
    apply_images(built, {}, problems)
    assert not problems.found
    node = built.nodes["r1"]
    assert list(node.nics) == names(kind_of(OLD_SWITCH))
    assert node.settings["memory"] == 4096 and node.settings["disks"] == [
        {"name": "root", "backing_file": "titanium.qcow2", "boot_index": 1, "bus": "ide"}
    ]


def test_images_give_other_paths(tmp_path):
    built = topology({"appliance": write(tmp_path, OLD_SWITCH), "image": "nx"}, tmp_path)
    problems = Problems()
    apply_images(built, {"nx": {"disk": "/srv/nx.qcow2"}}, problems)
    assert not problems.found
    assert built.nodes["r1"].settings["disks"][0]["backing_file"] == "/srv/nx.qcow2"


def test_an_error_about_a_missing_file_says_where_it_comes_from(tmp_path):
    built = topology({"appliance": write(tmp_path, OLD_SWITCH)}, tmp_path)
    assert needed_images(built, "/images/titanium.qcow2 does not exist") == (
        "\nIts appliance needs these files, in image_dir of the hypervisor:\n"
        "  titanium.qcow2: md5 %032x, 1001 bytes, from the page http://example.com/" % 1
    )
    assert needed_images(built, "no memory") == ""


def test_a_disk_in_an_archive(tmp_path):
    packed = changed(OLD_SWITCH, "images", 0, "filename", to="nx.ova")
    packed = changed(packed, "versions", 0, "images", "hda_disk_image", to="nx.ova/nx-disk1.vmdk")
    assert kind_of(packed)["needs"]["image"] == {"disk": "nx-disk1.vmdk"}
    built = topology({"appliance": write(tmp_path, packed)}, tmp_path)
    assert needed_images(built, "/images/nx-disk1.vmdk does not exist").endswith(
        "\n  nx-disk1.vmdk: in nx.ova, md5 %032x, 1001 bytes, from the page http://example.com/" % 1
    )


def test_the_file_is_only_needed_where_it_can_be_read():
    assert list(topology({"appliance": "nowhere.gns3a"}, None).nodes["r1"].nics) == ["Ethernet2/1"]


@pytest.mark.parametrize(
    "kind, path, message",
    [
        ({"appliance": "no.gns3a"}, "kinds.iosv.appliance", "cannot read .*: No such file"),
        ({"appliance": "no\0.gns3a"}, "kinds.iosv.appliance", "cannot read .*: embedded null"),
        ({"appliance": "."}, "kinds.iosv.appliance", "cannot read .*: Is a directory"),
        ({"appliance": "a.gns3a", "version": "9"}, "kinds.iosv.version", "its versions are 7.2"),
        ({"version": "9"}, "kinds.iosv.version", "give appliance"),
        ({"appliance": "a.gns3a", "extends": "tiny"}, "kinds.iosv.extends", "not both"),
        ({"appliance": 7}, "kinds.iosv.appliance", "string"),
    ],
)
def test_errors_of_a_topology(kind, path, message, tmp_path):
    write(tmp_path, OLD_SWITCH)
    with pytest.raises(TopologyError, match=message) as caught:
        topology(kind, tmp_path)
    assert path in dict(caught.value.problems)


def test_arguments_need_the_word_of_the_user(tmp_path):
    kind = {
        "appliance": write(tmp_path, changed(OLD_SWITCH, "qemu", "options", to="-usb -loadvm x"))
    }
    with pytest.raises(TopologyError, match="-loadvm x can read files or run programs"):
        topology(kind, tmp_path)
    built = topology({**kind, "vm": {"extra_args": []}}, tmp_path)
    assert built.nodes["r1"].settings["extra_args"] == []
