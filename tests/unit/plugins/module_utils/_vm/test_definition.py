# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import itertools
import json

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    ImageError,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2
from ansible_collections.vlab.qemu.tests.unit.vm_world import VERSIONS, FakeHost, compose

UUID = "11111111-2222-3333-4444-555555555555"
CONSOLE = {"name": "console", "type": "unix", "log": True, "host": None, "port": None}
SMALL = {"memory": "64", "disks": []}

# option, what a user says, what the definition keeps, how it is taken back, what is there then.
TABLE = [
    ("uuid", UUID.upper(), UUID, None, UUID),
    ("arch", "x86_64", "x86_64", "", "x86_64"),
    ("qemu_binary", "/opt/q", "/opt/q", "", None),
    ("qemu_binary", ["/opt/q"], "/opt/q", "", None),
    ("qemu_binary", ["/opt/q", "kvm"], ["/opt/q", "kvm"], [], None),
    ("machine", "q35", "q35", "", "pc"),
    ("machine_options", {"hpet": False, "x": None}, {"hpet": False}, {}, {}),
    ("accel", "tcg", "tcg", "auto", "auto"),
    ("cpu", "max", "max", "", None),
    ("vcpus", 4, 4, 1, 1),
    ("smp", {"sockets": 2, "cores": None}, {"sockets": 2}, {}, None),
    ("extra_args", ["-icount", "shift=1"], ["-icount", "shift=1"], [], []),
    ("wrapper", ["nice", "-n5"], ["nice", "-n5"], [], []),
    (
        "fds",
        [{"set": 1, "path": "/a//f", "opaque": ""}, {"set": 1, "path": "/dev/x", "mode": "rw"}],
        [
            {"set": 1, "path": "/a/f", "mode": "r", "opaque": None},
            {"set": 1, "path": "/dev/x", "mode": "rw", "opaque": None},
        ],
        [],
        [],
    ),
    ("environment", {"A": 5, "B": "x y", "C": None}, {"A": "5", "B": "x y"}, {}, {}),
    ("description", "a, b\nü", "a, b\nü", "", ""),
    ("memory", "1.5G", 1536, "", 256),
    ("memory", "64", 64, "256 MiB", 256),
    ("memory_backend", {"share": True, "prealloc": False}, {"share": True}, {}, None),
    (
        "memory_backend",
        {"hugepages": True, "prealloc": True},
        {"hugepages": True, "prealloc": True},
        {"hugepages": False},
        None,
    ),
    ("check_host_memory", False, False, True, True),
    ("firmware", "uefi", "uefi", "bios", "bios"),
    ("bios_image", "/x/../bios", "/bios", "", None),
    ("boot_order", "dn", "dn", "", ""),
    ("boot_menu", True, True, False, False),
    ("kernel", "/a//k", "/a/k", "", None),
    ("initrd", "/a/i", "/a/i", "", None),
    ("cmdline", "a=b, c", "a=b, c", "", ""),
    (
        "smbios",
        [{"type": 1, "serial": "a,b", "uuid": None}, {"type": "11", "value": ["x", "y"]}],
        [{"type": "1", "serial": "a,b"}, {"type": "11", "value": ["x", "y"]}],
        [],
        [],
    ),
    ("tpm", True, True, False, False),
    (
        "consoles",
        [{"name": "a"}, {"type": "tcp", "port": "5000"}],
        [
            dict(CONSOLE, name="a"),
            {"name": "console1", "type": "tcp", "log": True, "host": "127.0.0.1", "port": 5000},
        ],
        [{}],
        [CONSOLE],
    ),
    (
        "consoles",
        [{"type": "telnet", "host": "::1", "log": False}],
        [{"name": "console", "type": "telnet", "log": False, "host": "::1", "port": "auto"}],
        [],
        [],
    ),
    (
        "monitors",
        [{"name": "m"}, {"name": "q", "type": "qmp"}],
        [{"name": "m", "type": "hmp"}, {"name": "q", "type": "qmp"}],
        [],
        [],
    ),
    ("guest_agent", True, True, False, False),
    (
        "display",
        {"type": "vnc"},
        {"type": "vnc", "host": "127.0.0.1", "port": "auto", "password": False},
        {"type": "none"},
        {"type": "none"},
    ),
    (
        "display",
        {"type": "spice", "host": "0.0.0.0", "port": "6000", "password": "x"},
        {"type": "spice", "host": "0.0.0.0", "port": 6000, "password": True},
        {},
        {"type": "none"},
    ),
    ("vga", "cirrus", "cirrus", "none", "none"),
    ("rng", True, True, False, False),
    ("balloon", True, True, False, False),
    ("watchdog", "i6300esb", "i6300esb", "none", "none"),
    ("watchdog_action", "none", "none", "reset", "reset"),
    ("scsi_controller", "pvscsi", "pvscsi", "virtio", "virtio"),
    ("usb_tablet", True, True, False, False),
    ("autostart", True, True, False, False),
    (
        "devices",
        [{"driver": "pvpanic", "ioport": 1285}],
        [{"driver": "pvpanic", "ioport": 1285}],
        [],
        [],
    ),
    ("passthrough", ["3B:00.1"], ["0000:3b:00.1"], [], []),
    ("cloud_init", {"user_data": {"a": 1}}, None, {}, None),
    ("config_drive", {"files": {"a": "b"}}, None, {}, None),
    ("tftp_files", {"files": {"a": "b"}, "nic": "n"}, None, {}, None),
    ("mac_base", "52-54-00-aa-BB-00", "52:54:00:aa:bb:00", "", None),
    ("sandbox", False, False, True, True),
    ("priority", "low", "low", "normal", "normal"),
    ("cpu_limit", 50, 50, 0, 0),
]
# What another option needs to be there.
BESIDE = {
    "initrd": {"kernel": "/k"},
    "cmdline": {"kernel": "/k"},
    "watchdog_action": {"watchdog": "ib700"},
    "tftp_files": {"nics": [{"name": "n", "link": {"type": "user"}}]},
}
ELSEWHERE = {"disks", "nics", "cdroms", "floppies", "mac_copy_from"}

# The same for the items of lists: list, suboption, the value given, the value kept, the value that
# restores the default, the default.
ITEMS = [
    ("disks", "path", "/x//d", "/x/d", None, "/x/d"),
    ("disks", "size", "1.5G", 3 << 29, None, 3 << 29),
    ("disks", "format", "raw", "raw", None, "raw"),
    (
        "disks",
        "format_options",
        {"preallocation": "off", "lazy_refcounts": True, "x": None},
        {"preallocation": "off", "lazy_refcounts": "true"},
        {},
        {},
    ),
    ("disks", "backing_file", "/b", "/b", None, "/b"),
    ("disks", "backing_format", "raw", "raw", None, "raw"),
    ("disks", "checksum", " SHA256:" + "A" * 64, "sha256:" + "a" * 64, "", None),
    ("disks", "checksum_first_mib", "sha512:" + "0" * 128, "sha512:" + "0" * 128, "", None),
    ("disks", "secret_file", "/s/../x", "/x", "", None),
    ("disks", "any_content", True, True, False, False),
    ("disks", "bus", "scsi", "scsi", "virtio", "virtio"),
    ("disks", "index", 3, 3, -1, None),
    ("disks", "cache", "none", "none", "writeback", "writeback"),
    ("disks", "aio", "io_uring", "io_uring", "threads", "threads"),
    ("disks", "discard", False, False, True, True),
    ("disks", "detect_zeroes", "unmap", "unmap", "off", "off"),
    ("disks", "werror", "stop", "stop", "enospc", "enospc"),
    ("disks", "rerror", "ignore", "ignore", "report", "report"),
    ("disks", "serial", "a,b", "a,b", "", None),
    ("disks", "boot_index", 0, 0, -1, None),
    ("disks", "read_only", True, True, False, False),
    ("disks", "properties", {"wwn": 5, "x": None}, {"wwn": 5}, {}, {}),
    ("disks", "snapshot", True, True, False, False),
    (
        "disks",
        "limits",
        {"iops_total": "100", "bps_read": "1M", "bps_write": "0", "iops_read": None},
        {"iops_total": 100, "bps_read": 1 << 20},
        {},
        {},
    ),
    ("nics", "model", "e1000", "e1000", "", "virtio-net-pci"),
    ("nics", "mac", "5254.0012.3456", "52:54:00:12:34:56", None, "52:54:00:12:34:56"),
    ("nics", "link", {"type": "user"}, {"type": "user"}, {}, {"type": "none"}),
    (
        "nics",
        "link",
        {"peer": "r2:e"},
        {"type": "udp", "peer": "r2:e"},
        {"type": "none"},
        {"type": "none"},
    ),
    ("nics", "link_down", True, True, False, False),
    ("nics", "mtu", 9000, 9000, 0, 0),
    ("nics", "rx_queue_size", 1024, 1024, 256, 256),
    ("nics", "index", 5, 5, -1, None),
    ("nics", "boot_index", 1, 1, -1, None),
    ("nics", "boot_rom", True, True, False, False),
    ("nics", "properties", {"csum": False, "x": None}, {"csum": False}, {}, {}),
    ("cdroms", "path", "/a/../b.iso", "/b.iso", "", None),
    ("cdroms", "bus", "scsi", "scsi", "ide", "ide"),
    ("cdroms", "index", 1, 1, -1, None),
    ("cdroms", "boot_index", 2, 2, -1, None),
    ("cdroms", "checksum", "md5:" + "0" * 32, "md5:" + "0" * 32, "", None),
    ("cdroms", "checksum_first_mib", "md5:" + "0" * 32, "md5:" + "0" * 32, "", None),
    ("floppies", "path", "/f", "/f", "", None),
    ("floppies", "index", 1, 1, -1, None),
    ("floppies", "read_only", True, True, False, False),
]
NEEDED = {"capture": {"link": {"type": "user"}}}


def row_id(row):
    return "-".join(map(str, row[:2])) if isinstance(row, tuple) else None


def same(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_the_tables_have_every_option():
    assert {row[0] for row in TABLE} | ELSEWHERE == set(OPTIONS)
    for option in ("disks", "nics", "cdroms", "floppies"):
        suboptions = set(OPTIONS[option].spec["options"]) - {"name"}
        assert {row[1] for row in ITEMS if row[0] == option} | (
            {"capture"} if option == "nics" else set()
        ) == suboptions


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_option(row):
    option, value, kept, back, default = row
    beside = dict(SMALL, **BESIDE.get(option, {}))
    plain = compose(beside)
    made = compose(dict(beside, **{option: value}))
    if option not in ("cloud_init", "config_drive", "tftp_files"):
        assert made[option] == kept
    assert same(made, compose(dict(beside, **{option: value}), saved=made)), (
        "the same again is no change"
    )
    assert same(made, compose({}, saved=made)), "what is not value stays"
    if back is not None:
        again = compose({option: back}, saved=made)
        assert again[option] == default
        assert same(again, compose({option: back}, saved=again))
        assert same(compose(dict(beside, **{option: back}))[option], default)
        if option not in ("display", "memory", "smp", "consoles"):
            assert same(again, plain), "taken back, nothing of it is left"


@pytest.mark.parametrize("row", ITEMS, ids=row_id)
def test_option_of_an_item(row):
    option, key, value, kept, back, default = row
    base = {"name": "x", **({"size": "1G"} if option == "disks" and key != "path" else {})}
    if key == "backing_format":
        base["backing_file"] = "/b"
    given = dict(SMALL, **{option: [dict(base, **{key: value})]})
    plain, made = compose(dict(SMALL, **{option: [base]})), compose(given)
    assert made[option][0][key] == kept
    assert same(made, compose(given, saved=made))
    assert same(made, compose({option: [{"name": "x"}]}, saved=made)), (
        "a suboption that is not value stays"
    )
    assert same(made, compose({option: []}, saved=made))
    if back is not None:
        again = compose({option: [{"name": "x", key: back}]}, saved=made)
        assert again[option][0][key] == default
        assert same(again, compose({option: [{"name": "x", key: back}]}, saved=again))
        if key not in ("index", "werror", "rerror", "mtu"):
            assert same(again, plain), "taken back, nothing of it is left"


def test_a_capture_comes_and_goes():
    link = {"type": "user"}
    made = compose(
        SMALL,
        nics=[
            {"name": "e", "link": link, "capture": {"enabled": True, "path": None, "snaplen": 96}}
        ],
    )
    assert made["nics"][0]["capture"] == {"path": None, "snaplen": 96}
    size = {"enabled": True, "size": "1.5M"}
    ring = compose({"nics": [{"name": "e", "capture": size}]}, saved=made)
    assert ring["nics"][0]["capture"] == {
        "path": None,
        "snaplen": None,
        "size": 3 << 19,
        "count": 10,
    }
    gone = compose({"nics": [{"name": "e", "capture": {"enabled": False}}]}, saved=ring)
    assert gone["nics"][0]["capture"] is None
    assert same(gone, compose(SMALL, nics=[{"name": "e", "link": link}]))


@pytest.mark.parametrize("option", ["disks", "nics", "cdroms"])
def test_lists_are_merged_by_name(option):
    more = {"size": "1G"} if option == "disks" else {}
    made = compose(SMALL, **{option: [dict(more, name="a"), dict(more, name="b")]})
    purge = "purge_nics" if option == "nics" else "purge_disks"

    def names(**given):
        return [item["name"] for item in compose(given, saved=made)[option]]

    assert names() == ["a", "b"]
    assert names(**{option: [{"name": "b"}]}) == ["a", "b"]
    assert names(**{option: [dict(more, name="c")]}) == ["a", "b", "c"]
    assert names(**{purge: True}) == ["a", "b"], "purge without a list removes nothing"
    assert names(**{purge: True, option: [{"name": "b"}]}) == ["b"]
    assert names(**{purge: True, option: []}) == []
    if option in ("disks", "nics"):
        assert names(**{"remove_" + option: ["a", "nothing"]}) == ["b"]


def test_a_purge_keeps_what_a_named_item_has():
    made = compose(
        SMALL, disks=[{"name": "a", "size": "1G", "serial": "s"}, {"name": "b", "size": "1G"}]
    )
    kept = compose({"disks": [{"name": "a", "cache": "none"}], "purge_disks": True}, saved=made)[
        "disks"
    ]
    assert [(disk["name"], disk["serial"], disk["cache"], disk["size"]) for disk in kept] == [
        ("a", "s", "none", 1 << 30)
    ]


@pytest.mark.parametrize(
    "given, disks",
    [
        ({}, ["disk0"]),
        ({"disks": []}, ["disk0"]),
        ({"cdroms": [{"name": "c"}]}, []),
        ({"floppies": [{"name": "f"}]}, []),
        ({"kernel": "/k"}, []),
        ({"bios_image": "/b"}, []),
        ({"disks": [{"name": "x", "size": "1M"}]}, ["x"]),
    ],
)
def test_a_new_vm_gets_a_blank_disk_when_it_has_nothing_to_boot_from(given, disks):
    given = {key: value for key, value in given.items() if value != []}
    assert [disk["name"] for disk in compose(given)["disks"]] == disks
    assert compose(disks=[])["disks"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_defaults_of_a_new_vm(version):
    made = compose(host=FakeHost(version))
    assert {
        key: made[key]
        for key in (
            "format",
            "lab",
            "name",
            "arch",
            "machine",
            "family",
            "memory",
            "vcpus",
            "accel",
            "firmware",
            "ports",
        )
    } == {
        "format": 2,
        "lab": "lab1",
        "name": "r1",
        "arch": "x86_64",
        "machine": "pc",
        "family": "i440fx",
        "memory": 256,
        "vcpus": 1,
        "accel": "auto",
        "firmware": "bios",
        "ports": {},
    }
    assert made["disks"][0]["size"] == 8 << 30 and made["disks"][0]["format"] == "qcow2"
    assert made["slots"] == {"disks/disk0": {"kind": "pci", "index": 0}}
    assert set(made) == set(OPTIONS) | {
        "format",
        "lab",
        "name",
        "ports",
        "family",
        "slots",
        "pci_devices",
        "usb_devices",
        "usb_nics",
        "bases",
    }


def test_uuids():
    one, other = compose(SMALL), compose(SMALL, host=FakeHost(name="r2"))
    assert one["uuid"] == compose(SMALL)["uuid"] != other["uuid"]
    random = compose(SMALL, uuid="random")
    assert random["uuid"] != compose(SMALL, uuid="random")["uuid"]
    assert compose({"uuid": "random"}, saved=random)["uuid"] == random["uuid"]
    assert compose({"uuid": ""}, saved=random)["uuid"] == random["uuid"], (
        "a UUID is never derived again for a VM that has one"
    )


@pytest.mark.parametrize(
    "given, vcpus",
    [
        ({"smp": {"sockets": 2, "cores": 3}}, 6),
        ({"smp": {"cores": 2}, "vcpus": 2}, 2),
        ({"smp": {"sockets": 2, "maxcpus": 8}}, 1),
        ({"smp": {"threads": 2, "cores": 2, "sockets": 1}}, 4),
        ({}, 1),
    ],
)
def test_topologies(given, vcpus):
    assert compose(SMALL, **given)["vcpus"] == vcpus


@pytest.mark.parametrize(
    "machine, family",
    [
        ("pc", "i440fx"),
        ("q35", "q35"),
        ("microvm", "none"),
        ("isapc", "none"),
        ("pc-i440fx-7.2", "i440fx"),
    ],
)
def test_families(machine, family):
    assert compose(SMALL, machine=machine)["family"] == family


DISK, NIC = {"name": "d", "size": "1G"}, {"name": "e"}
LONG = "n" * 201


@pytest.mark.parametrize(
    "given, option",
    [
        ({"uuid": "x"}, "uuid"),
        ({"machine": "none-such"}, "machine"),
        ({"vcpus": 0}, "vcpus"),
        ({"vcpus": 4097}, "vcpus"),
        ({"smp": {"cores": 0}}, "smp.cores"),
        ({"smp": {"maxcpus": 2}, "vcpus": 3}, "smp.maxcpus"),
        ({"smp": {"sockets": 2, "cores": 2, "threads": 2}, "vcpus": 3}, "smp"),
        ({"machine_options": {"a,b": 1}}, "machine_options"),
        ({"machine_options": {"accel": "kvm"}}, "machine_options.accel"),
        ({"machine_options": {"a": [{}]}}, "machine_options.a"),
        ({"machine_options": {"a": {"b=c": 1}}}, "machine_options.a"),
        ({"extra_args": ["-daemonize"]}, "extra_args"),
        ({"extra_args": ["--daemonize"]}, "extra_args"),
        ({"extra_args": ["--S"]}, "extra_args"),
        ({"environment": {"a=b": "c"}}, "environment"),
        ({"environment": {"": "c"}}, "environment"),
        ({"environment": {"a-b": "c"}}, "environment"),
        ({"environment": {"A": ["c"]}}, "environment.A"),
        ({"memory": "x"}, "memory"),
        ({"memory": "0"}, "memory"),
        ({"memory": "1.5M"}, "memory"),
        ({"memory": "9" * 5000}, "memory"),
        ({"memory": "1.5" + "0" * 400}, "memory"),
        ({"memory": "99999999999E"}, "memory"),
        ({"memory": "-1"}, "memory"),
        ({"bios_image": "/b", "firmware": "uefi"}, "bios_image"),
        ({"boot_order": "cc"}, "boot_order"),
        ({"boot_order": "cz"}, "boot_order"),
        ({"initrd": "/i"}, "initrd"),
        ({"cmdline": "x"}, "cmdline"),
        ({"smbios": [{}]}, "smbios[0].type"),
        ({"smbios": [{"type": "²"}]}, "smbios[0].type"),
        ({"smbios": [{"type": 99}]}, "smbios[0].type"),
        ({"smbios": [{"type": [1]}]}, "smbios[0].type"),
        ({"smbios": [{"type": 1, "a=b": "c"}]}, "smbios[0]"),
        ({"smbios": [{"type": 1}, {"type": 1, "serial": [[]]}]}, "smbios[1].serial"),
        ({"consoles": [{}, {"name": "console"}]}, "consoles[1].name"),
        ({"consoles": [{"name": "qemu"}]}, "consoles[0].name"),
        ({"consoles": [{"name": "a/b"}]}, "consoles[0].name"),
        ({"consoles": [{"port": "5"}]}, "consoles[0].type"),
        ({"consoles": [{"type": "tcp", "port": "0"}]}, "consoles[0].port"),
        ({"consoles": [{"type": "tcp", "port": "²"}]}, "consoles[0].port"),
        ({"consoles": [{"type": "tcp", "port": "9" * 5000}]}, "consoles[0].port"),
        ({"consoles": [{"type": "tcp", "host": "a,b"}]}, "consoles[0].host"),
        ({"consoles": [{"name": str(n)} for n in range(5)]}, "consoles"),
        ({"monitors": [{"name": "qmp"}]}, "monitors[0].name"),
        ({"monitors": [{"name": "a"}, {"name": "a"}]}, "monitors[1].name"),
        ({"display": {"port": "5900"}}, "display.type"),
        ({"display": {"type": "vnc", "port": "5899"}}, "display.port"),
        ({"display": {"type": "vnc", "host": "0.0.0.0"}}, "display.password"),
        ({"display": {"type": "vnc", "host": "x.example"}}, "display.host"),
        ({"display": {"type": "vnc", "password": "é" * 5}}, "display.password"),
        ({"display": {"type": "vnc"}, "vga": "none"}, "vga"),
        ({"devices": [{}]}, "devices[0].driver"),
        ({"devices": [{"driver": 5}]}, "devices[0].driver"),
        ({"devices": [{"driver": "no"}]}, "devices[0].driver"),
        ({"devices": [{"driver": "pvpanic", "id": "5"}]}, "devices[0].id"),
        ({"devices": [{"driver": "pvpanic", "a,b": 1}]}, "devices[0]"),
        (
            {"devices": [{"driver": "pvpanic", "id": "a"}, {"driver": "pvpanic", "id": "a"}]},
            "devices[1].id",
        ),
        ({"fds": [{"set": -1, "path": "/f"}]}, "fds[0].set"),
        ({"fds": [{"set": 1 << 31, "path": "/f"}]}, "fds[0].set"),
        ({"fds": [{"set": 1, "path": "f"}]}, "fds[0].path"),
        ({"fds": [{"set": 1, "path": ""}]}, "fds[0].path"),
        ({"fds": [{"set": 1, "path": "/f"}, {"set": 1, "path": "/g"}]}, "fds[1].set"),
        ({"passthrough": ["x:y"]}, "passthrough[0]"),
        ({"qemu_binary": ["/opt/q", ""]}, "qemu_binary"),
        ({"qemu_binary": {"a": 1}}, "qemu_binary"),
        ({"passthrough": ["3b:00.1", "0000:3B:00.1"]}, "passthrough"),
        ({"cpu_limit": -1}, "cpu_limit"),
        ({"mac_base": "x"}, "mac_base"),
        ({"mac_base": "01:00:00:00:00:00"}, "mac_base"),
        ({"mac_copy_from": "../x"}, "mac_copy_from"),
        ({"mac_copy_from": "none"}, "mac_copy_from"),
        ({"disks": [{"size": "1G"}]}, "disks[0].name"),
        ({"disks": [DISK, DISK]}, "disks[1].name"),
        ({"disks": [dict(DISK, name=LONG)]}, "disks[0].name"),
        ({"disks": [dict(DISK, name="../x")]}, "disks[0].name"),
        ({"disks": [dict(DISK, name="")]}, "disks[0].name"),
        ({"disks": [dict(DISK, size="100")]}, "disks[d].size"),
        ({"disks": [dict(DISK, size="1000")]}, "disks[d].size"),
        ({"disks": [dict(DISK, index=-2)]}, "disks[d].index"),
        ({"disks": [dict(DISK, index=99, bus="ide")]}, "disks[d].index"),
        (
            {"disks": [dict(DISK, index=1, bus="scsi"), dict(DISK, name="e", index=1, bus="scsi")]},
            "disks[e].index",
        ),
        ({"disks": [dict(DISK, boot_index=1 << 31)]}, "disks[d].boot_index"),
        ({"disks": [dict(DISK, boot_index=-2)]}, "disks[d].boot_index"),
        ({"disks": [dict(DISK, checksum="sha256:1")]}, "disks[d].checksum"),
        ({"disks": [dict(DISK, checksum="crc:1")]}, "disks[d].checksum"),
        ({"disks": [dict(DISK, format_options={"a": {"b": 1}})]}, "disks[d].format_options.a"),
        ({"disks": [dict(DISK, format_options={"a,b": 1})]}, "disks[d].format_options"),
        (
            {"disks": [dict(DISK, limits={"bps_total": "1", "bps_read": "1"})]},
            "disks[d].limits.bps_total",
        ),
        ({"disks": [dict(DISK, limits={"bps_total": "1P"})]}, "disks[d].limits.bps_total"),
        ({"disks": [dict(DISK, aio="native")]}, "disks[d].aio"),
        ({"disks": [dict(DISK, bus="usb", werror="stop")]}, "disks[d].werror"),
        ({"disks": [dict(DISK, serial="s" * 21)]}, "disks[d].serial"),
        ({"disks": [dict(DISK, serial="é" * 11)]}, "disks[d].serial"),
        ({"disks": [dict(DISK, bus="usb", serial="s")]}, "disks[d].serial"),
        ({"disks": [dict(DISK, properties={"drive": "x"})]}, "disks[d].properties.drive"),
        ({"disks": [dict(DISK, properties={"a,b": 1})]}, "disks[d].properties"),
        ({"disks": [dict(DISK, bus="pflash", properties={"a": 1})]}, "disks[d].properties"),
        ({"disks": [dict(DISK, bus="sata")], "machine": "microvm"}, "disks[d].bus"),
        ({"disks": [dict(DISK, bus="floppy")], "machine": "microvm"}, "disks[d].bus"),
        ({"disks": [dict(DISK, bus="pflash")], "firmware": "uefi"}, "disks[d].bus"),
        ({"disks": [dict(DISK, backing_file="/b", format="raw")]}, "disks[d].format"),
        ({"disks": [dict(DISK, path="/b", backing_file="/b")]}, "disks[d].backing_file"),
        ({"disks": [dict(DISK, path="/b"), dict(DISK, name="e", path="/x/../b")]}, "disks[e].path"),
        ({"disks": [dict(DISK, name=str(n)) for n in range(37)]}, "disks[36].index"),
        ({"cdroms": [{"name": "c", "bus": "ide"}], "machine": "microvm"}, "cdroms[c].bus"),
        ({"cdroms": [{"name": "c", "bus": "sata"}], "machine": "microvm"}, "cdroms[c].bus"),
        ({"cdroms": [{"name": "c", "checksum": "x"}]}, "cdroms[c].checksum"),
        ({"cdroms": [{"name": "c", "index": 4}]}, "cdroms[c].index"),
        ({"floppies": [{"name": "f"}], "machine": "microvm"}, "floppies"),
        ({"floppies": [{"name": str(n)} for n in range(3)]}, "floppies[2].index"),
        ({"cloud_init": {"user_data": "x", "bus": "ide"}, "machine": "microvm"}, "cloud_init.bus"),
        ({"config_drive": {"files": {"../a": "x"}}}, "config_drive.files"),
        ({"config_drive": {"files": {"/a": "x"}}}, "config_drive.files"),
        ({"config_drive": {"files": {"": "x"}}}, "config_drive.files"),
        ({"config_drive": {"files": {"a" * 300: "x"}}}, "config_drive.files"),
        ({"config_drive": {"files": {"a": "x", "A": "x"}}}, "config_drive.files"),
        ({"config_drive": {"files": {"a": "1"}, "label": "x" * 33}}, "config_drive.label"),
        ({"nics": [NIC, NIC]}, "nics[1].name"),
        ({"nics": [dict(NIC, mac="x")]}, "nics[e].mac"),
        ({"nics": [dict(NIC, model="x,y")]}, "nics[e].model"),
        ({"nics": [dict(NIC, mtu=67)]}, "nics[e].mtu"),
        ({"nics": [dict(NIC, mtu=65536)]}, "nics[e].mtu"),
        ({"nics": [dict(NIC, model="e1000", rx_queue_size=512)]}, "nics[e].rx_queue_size"),
        (
            {
                "nics": [
                    dict(NIC, mac="52:54:00:00:00:01"),
                    dict(NIC, name="f", mac="52:54:00:00:00:01"),
                ]
            },
            "nics[f].mac",
        ),
        ({"nics": [dict(NIC, properties={"netdev": "x"})]}, "nics[e].properties.netdev"),
        ({"nics": [dict(NIC, properties={"a=b": "x"})]}, "nics[e].properties"),
        ({"nics": [dict(NIC, capture={"enabled": True})]}, "nics[e].capture"),
        (
            {"nics": [dict(NIC, link={"type": "user"}, capture={"enabled": True, "snaplen": 0})]},
            "nics[e].capture.snaplen",
        ),
        *(
            (
                {"nics": [dict(NIC, link={"type": "user"}, capture=dict(enabled=True, **wrong))]},
                "nics[e].capture." + option,
            )
            for option, wrong in (
                ("size", {"size": "x"}),
                ("size", {"size": "255K"}),
                ("size", {"size": "0"}),
                ("count", {"count": 3}),
                ("count", {"size": "", "count": 3}),
                ("count", {"size": "1M", "count": 0}),
                ("count", {"size": "1M", "count": 10001}),
            )
        ),
        ({"nics": [dict(NIC, link={"peer": "r1:e"})]}, "nics[e].link.peer"),
        (
            {"nics": [dict(NIC, model="e1000", link={"type": "tap", "queues": 2})]},
            "nics[e].link.queues",
        ),
        (
            {"nics": [dict(NIC, link={"type": "tap", "vhost": True}, capture={"enabled": True})]},
            "nics[e].capture",
        ),
        ({"nics": [dict(NIC, boot_index=-5)]}, "nics[e].boot_index"),
        ({"nics": [{"name": "e%d" % n} for n in range(256)]}, "nics"),
    ],
)
def test_what_is_refused(given, option):
    with pytest.raises(OptionError) as caught:
        compose(dict({"disks": []}, **given))
    assert caught.value.facts["option"] == option
    assert caught.value.message.startswith(option + ": ") and len(caught.value.message) < 12000


@pytest.mark.parametrize(
    "old, new, option",
    [
        ({"path": "/a"}, {"path": "/b"}, "path"),
        ({"format": "raw"}, {"format": "qcow2"}, "format"),
        ({}, {"backing_file": "/b"}, "backing_file"),
        ({"backing_file": "/b"}, {"backing_file": ""}, "backing_file"),
        ({"size": "2G"}, {"size": "1G"}, "size"),
        ({"path": "/a"}, {"path": ""}, "path"),
    ],
)
def test_what_a_disk_cannot_become(old, new, option):
    saved = compose(SMALL, disks=[dict(DISK, **old)])
    host = FakeHost()
    with pytest.raises(OptionError, match="disks.d.*%s" % option):
        compose({"disks": [dict({"name": "d"}, **new)]}, saved=saved, host=host)
    if option == "size":
        host.allow_shrink = True
        assert (
            compose({"disks": [dict({"name": "d"}, **new)]}, saved=saved, host=host)["disks"][0][
                "size"
            ]
            == 1 << 30
        )


def test_seeds_keep_digests_only():
    secret = "hunter2-and-more"
    given = {
        "cloud_init": {"user_data": {"password": secret}, "meta_data": None},
        "config_drive": {"files": {"a": secret, "n": 5, "none": None}},
    }
    host = FakeHost()
    made = compose(SMALL, host=host, **given)
    assert secret not in json.dumps(made)
    assert set(made["cloud_init"]["files"]) == {"user-data", "meta-data"} and set(
        made["config_drive"]["files"]
    ) == {"a", "n"}
    assert (
        secret.encode() in host.secrets["cloud_init"]
        and secret.encode() in host.secrets["config_drive"]
    )
    assert same(made, compose(given, saved=made))
    given["cloud_init"]["user_data"]["password"] = "other"
    assert compose(given, saved=made)["cloud_init"]["files"] != made["cloud_init"]["files"]


def test_macs_are_copied_from_another_vm(tmp_path):
    other = compose(
        SMALL,
        nics=[{"name": "a", "mac": "52:54:00:00:00:01"}, {"name": "b"}],
        host=FakeHost(name="old", root=tmp_path),
    )
    host = FakeHost(name="new", root=tmp_path)
    folder = FakeHost(name="old", root=tmp_path).folder
    folder.make()
    definitions.save(folder, other)
    made = compose(SMALL, nics=[{"name": "a"}, {"name": "c"}], mac_copy_from="old", host=host)
    assert made["nics"][0]["mac"] == "52:54:00:00:00:01" and made["nics"][1]["mac"] not in (
        "52:54:00:00:00:01",
        other["nics"][1]["mac"],
    )


@pytest.mark.parametrize(
    "before, after",
    [
        (None, "52:54:00:00:00:00"),
        ("52:54:00:00:00:00", "52:54:00:00:01:00"),
        ("52:54:00:00:00:00", ""),
    ],
)
def test_derived_macs_follow_a_changed_mac_base(before, after):
    nics = [{"name": "eth1"}, {"name": "eth2", "mac": "52:54:00:11:11:11"}, {"name": "x"}]
    saved = compose(SMALL, nics=nics, mac_base=before)
    changed = compose({"mac_base": after}, saved=saved)
    assert changed["nics"] == compose(SMALL, nics=nics, mac_base=after)["nics"] != saved["nics"]
    assert changed["nics"][1]["mac"] == "52:54:00:11:11:11"
    assert compose({"mac_base": after}, saved=changed) == changed, "it is idempotent"
    kept = [{"name": "eth1", "mac": saved["nics"][0]["mac"]}]
    named = compose({"mac_base": after, "nics": kept}, saved=saved)
    assert named["nics"][0]["mac"] == saved["nics"][0]["mac"], "an explicit MAC stays"


@pytest.mark.parametrize(
    "given, hint",
    [
        ({"machine": "q36"}, "did you mean q35?"),
        ({"nics": [dict(NIC, model="e1000f")]}, "did you mean e1000"),
        ({"nics": [dict(NIC, model="virtio-net-pcie")]}, "did you mean virtio-net-pci?"),
    ],
)
def test_a_similar_name_is_suggested(given, hint):
    with pytest.raises(OptionError) as caught:
        compose(SMALL, **given)
    assert hint in caught.value.message


def test_one_writer_for_an_image(tmp_path):
    host = FakeHost(name="old", root=tmp_path)
    host.folder.make()
    definitions.save(host.folder, compose(SMALL, disks=[dict(DISK, path="/images/d")], host=host))
    for more, fits in (({}, False), ({"read_only": True}, True), ({"snapshot": True}, True)):
        try:
            compose(
                SMALL,
                disks=[dict(DISK, path="/images/../images/d", **more)],
                host=FakeHost(name="new", root=tmp_path),
            )
            assert fits
        except OptionError as error:
            assert not fits and "lab1/old" in error.message


@pytest.mark.parametrize("name", ["bottom", "link", "../images/bottom"])
def test_no_vm_writes_to_a_base_of_a_base(tmp_path, name):
    images = tmp_path / "images"
    images.mkdir()
    (images / "bottom").write_bytes(bytes(1024))
    (images / "link").symlink_to("bottom")
    (images / "middle").write_bytes(qcow2(backing=name.encode(), backing_format=b"raw"))
    host, new = (FakeHost(name=vm, root=tmp_path / "root") for vm in ("old", "new"))
    host.folder.make()
    over = dict(DISK, size=None, backing_file=str(images / "middle"))
    definitions.save(host.folder, compose(SMALL, disks=[over], host=host))
    writer = dict(DISK, path=str(images / "bottom"))
    with pytest.raises(OptionError, match=r"^disks\[d\]\.path: .*base image of the VM lab1/old"):
        compose(SMALL, disks=[writer], host=new)
    compose(SMALL, disks=[dict(writer, read_only=True)], host=new)
    # The reverse: an overlay over what a VM writes to.
    definitions.save(host.folder, compose(SMALL, disks=[writer], host=host))
    for disk in (over, dict(DISK, path=str(images / "middle"))):
        with pytest.raises(OptionError, match=r"^disks\[d\]\..* belongs to the VM lab1/old"):
            compose(SMALL, disks=[disk], host=new)


def test_a_disk_is_not_the_base_of_another_one_of_its_vm(tmp_path):
    (tmp_path / "base").write_bytes(bytes(1024))
    (tmp_path / "link").symlink_to("base")
    over = {"name": "over", "backing_file": str(tmp_path / "link")}
    under = {"name": "under", "path": str(tmp_path / "base")}
    with pytest.raises(OptionError, match=r"^disks\[over\]\.backing_file: .* of the disk 'under'"):
        compose(SMALL, disks=[over, under])
    compose(SMALL, disks=[over, dict(under, snapshot=True)])
    with pytest.raises(OptionError, match="is also the image of the disk 'under'"):
        compose(SMALL, disks=[under, {"name": "d", "path": str(tmp_path / "link")}])


def test_an_overlay_is_not_smaller_than_its_base(tmp_path):
    (tmp_path / "base").write_bytes(qcow2(size=8 << 30))
    over = {"name": "d", "backing_file": str(tmp_path / "base")}
    host = FakeHost()
    host.__dict__["qemu_img"] = QemuImg("qemu-img")
    with pytest.raises(
        OptionError, match=r"^disks\[d\]\.size: 4G is smaller than the base image .*/base of 8G"
    ):
        compose(SMALL, disks=[dict(over, size="4G")], host=host)
    for size in ("8G", "9G", None):
        compose(SMALL, disks=[dict(over, size=size)], host=host)


@pytest.mark.parametrize("option", ["path", "backing_file"])
def test_what_is_no_image_is_not_taken_for_a_raw_disk(tmp_path, option):
    path = tmp_path / "disk.img.xz"
    path.write_bytes(b"\xfd7zXZ\0" + bytes(600))
    disk = {"name": "d", option: str(path)}
    stated = {"format": "raw"} if option == "path" else {"backing_format": "raw"}
    for more in ({}, stated):
        with pytest.raises(ImageError, match=r"^disks\[d\]\.%s: .*unxz.*any_content" % option):
            compose(SMALL, disks=[dict(disk, **more)])
    saved = compose(SMALL, disks=[dict(disk, any_content=True)])
    # The guest may write what it wants to its disk.
    saved["disks"][0]["any_content"] = False
    compose({}, saved=saved)


@pytest.mark.parametrize(
    "disk, option",
    [
        ({"format": "luks", "size": "1G"}, "secret_file"),
        ({"format": "raw", "size": "1G", "secret_file": "/s"}, "secret_file"),
        ({"format_options": {"encrypt.key-secret": "x"}, "size": "1G"}, "format_options"),
        ({"path": "LUKS"}, "path"),
        ({"backing_file": "LUKS"}, "backing_file"),
        ({"path": "PLAIN", "secret_file": "/s"}, "secret_file"),
    ],
)
def test_secrets_of_disks(tmp_path, disk, option):
    (tmp_path / "luks").write_bytes(b"LUKS\xba\xbe\0\1" + bytes(600))
    (tmp_path / "plain").write_bytes(qcow2())
    given = {
        key: str(tmp_path / value.lower()) if value in ("LUKS", "PLAIN") else value
        for key, value in disk.items()
    }
    with pytest.raises(VlabError, match=r"^disks\[d\]\." + option):
        compose(SMALL, disks=[dict(given, name="d")])
    if "LUKS" in disk.values():
        made = compose(SMALL, disks=[dict(given, name="d", secret_file="/s")])
        assert made["disks"][0]["secret_file"] == "/s"


def test_inputs_are_left_alone():
    given = {
        "memory": "64",
        "disks": [dict(DISK, limits={"iops_total": "1"})],
        "nics": [
            dict(
                NIC,
                link={
                    "type": "user",
                    "forwards": [
                        {
                            "guest_port": 22,
                            "host_port": "auto",
                            "protocol": "tcp",
                            "host_address": "*",
                        }
                    ],
                },
            )
        ],
        "smbios": [{"type": 1}],
        "environment": {"A": 1},
    }
    saved = compose(given)
    before = copy.deepcopy((given, saved))
    compose(given, saved=saved)
    made = compose(given)
    made["nics"][0]["link"]["x"] = made["disks"][0]["limits"]["x"] = 1
    assert (given, saved) == before


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_the_order_of_runs_does_not_matter(order):
    value = [
        {"vcpus": 2},
        {"memory": "128"},
        {"disks": [dict(DISK, name="a")]},
        {"nics": [dict(NIC, name="b")]},
    ]
    made = compose({"disks": []})
    for number in order:
        made = compose(value[number], saved=made)
    assert same(
        made,
        compose(
            {
                "vcpus": 2,
                "memory": "128",
                "disks": [dict(DISK, name="a")],
                "nics": [dict(NIC, name="b")],
            }
        ),
    )


def test_load_and_save(tmp_path):
    host = FakeHost(root=tmp_path)
    folder = host.folder
    assert definitions.load(folder) is None
    folder.make()
    made = compose(SMALL, host=host)
    definitions.save(folder, made)
    assert definitions.load(folder) == json.loads(json.dumps(made))
    older = {key: value for key, value in made.items() if key not in ("tpm", "cpu_limit")}
    definitions.save(folder, older)
    assert definitions.load(folder) == json.loads(json.dumps(made)), (
        "options that came later have their defaults"
    )
    for damaged in (
        [],
        {},
        "x",
        {"format": "1"},
        dict(made, format=None),
        {key: value for key, value in made.items() if key != "slots"},
    ):
        definitions.save(folder, damaged)
        with pytest.raises(HostError, match="damaged"):
            definitions.load(folder)
    definitions.save(folder, dict(made, format=3))
    with pytest.raises(HostError, match="newer"):
        definitions.load(folder)


def test_a_definition_of_format_1_is_migrated(tmp_path):
    host = FakeHost(root=tmp_path)
    host.folder.make()
    given = dict(SMALL, nics=[{"name": "eth3"}], disks=[{"name": "root", "size": "1G"}])
    made = json.loads(json.dumps(compose(given, host=host)))
    old = {key: value for key, value in made.items() if key != "slots"}
    old.update(format=1, places=made["slots"])
    definitions.save(host.folder, old)
    assert definitions.load(host.folder) == made
    assert compose({}, saved=definitions.load(host.folder), host=host) == made
    del old["places"]
    definitions.save(host.folder, old)
    with pytest.raises(HostError, match="damaged"):
        definitions.load(host.folder)


def test_a_definition_of_before_an_option_gets_its_default(tmp_path):
    host = FakeHost(root=tmp_path)
    host.folder.make()
    given = dict(SMALL, nics=[{"name": "eth3"}], disks=[{"name": "root", "size": "1G"}])
    made = json.loads(json.dumps(compose(given, host=host)))
    old = json.loads(json.dumps(made))
    del old["tpm"], old["nics"][0]["boot_rom"], old["disks"][0]["discard"]
    definitions.save(host.folder, old)
    assert definitions.load(host.folder) == made


@pytest.mark.parametrize(
    "given, keys",
    [
        ({}, set()),
        ({"consoles": [{"type": "tcp"}]}, {"console/console"}),
        ({"display": {"type": "vnc"}}, {"display"}),
        ({"nics": [dict(NIC, link={"peer": "r2:a"})]}, {"/lab1/r1/e", "/lab1/r2/a"}),
        (
            {
                "nics": [
                    dict(
                        NIC,
                        link={
                            "type": "user",
                            "forwards": [
                                {
                                    "guest_port": 22,
                                    "protocol": "tcp",
                                    "host_address": "*",
                                    "host_port": "2222",
                                }
                            ],
                        },
                    )
                ]
            },
            {"nics/e/tcp/22"},
        ),
    ],
)
def test_ports_that_are_still_to_be_claimed(given, keys):
    made = compose(SMALL, **given)
    assert {request.key for request in definitions.port_requests(made)} == keys
    assert definitions.lacks_ports(made) == bool(keys)
    held = dict(made, ports=dict.fromkeys(keys, 2222))
    assert not definitions.lacks_ports(held)
    assert definitions.lacks_ports(dict(made, ports=dict(held["ports"], more=1)))
    if "nics/e/tcp/22" in keys:
        assert definitions.lacks_ports(dict(made, ports={"nics/e/tcp/22": 2223})), (
            "another number was asked for"
        )


IMPAIRED = {"type": "udp", "peer": "r2:eth0", "impair": {"delay": 20}}


@pytest.mark.parametrize(
    "link, expected",
    [
        ({"impair": {"loss": "1%"}}, dict(IMPAIRED, impair={"loss": 1})),
        ({"impair": {"loss": 1}, "type": None, "peer": ""}, dict(IMPAIRED, impair={"loss": 1})),
        ({"impair": {}}, {"type": "udp", "peer": "r2:eth0"}),
        ({"peer": "r2:eth0"}, {"type": "udp", "peer": "r2:eth0"}),
        (
            {"peer": "r3:eth0", "impair": {"loss": 1}},
            dict(IMPAIRED, peer="r3:eth0", impair={"loss": 1}),
        ),
    ],
)
def test_a_link_with_only_an_impairment_is_the_one_that_was(link, expected):
    saved = compose({"nics": [{"name": "eth0", "link": IMPAIRED}]})
    changed = compose({"nics": [{"name": "eth0", "link": link}]}, saved=saved)
    assert changed["nics"][0]["link"] == expected


def test_a_new_nic_needs_a_link_to_impair():
    with pytest.raises(OptionError, match="only a link of type udp can be impaired"):
        compose({"nics": [{"name": "eth0", "link": {"impair": {"loss": 1}}}]})
