# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import command_line
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2
from ansible_collections.vlab.qemu.tests.unit.vm_world import (
    VERSIONS,
    FakeHost,
    argv,
    compose,
    granted,
    parsed,
    values,
)

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = "/nowhere/vlab/lab1/r1"
PCI0 = "bus=pci.0,addr=b"
# A definition that uses as much as one VM can.
RICH = {
    "machine": "q35",
    "memory": "1G",
    "memory_backend": {"share": True},
    "vcpus": 2,
    "smp": {"sockets": 1, "cores": 2, "threads": 1},
    "cpu": "max",
    "machine_options": {"hpet": False, "vmport": "off"},
    "uuid": "11111111-2222-3333-4444-555555555555",
    "boot_order": "dc",
    "boot_menu": True,
    "kernel": "/images/k",
    "initrd": "/images/i",
    "cmdline": "console=ttyS0, root=/dev/vda",
    "guest_agent": True,
    "rng": True,
    "balloon": True,
    "smbios": [
        {"type": 1, "manufacturer": "Some, Inc.", "uuid": None},
        {"type": 11, "value": ["a=b", "c,d"]},
    ],
    "watchdog": "i6300esb",
    "watchdog_action": "poweroff",
    "usb_tablet": True,
    "vga": "std",
    "display": {"type": "vnc"},
    "devices": [{"driver": "pvpanic"}, {"driver": "virtio-rng-pci"}],
    "passthrough": ["3b:00.1"],
    "wrapper": ["nice", "-n", "5"],
    "extra_args": ["-icount", "shift=1"],
    "fds": [
        {"set": 1, "path": "/dev/tap5", "mode": "rw"},
        {"set": 7, "path": "/x", "opaque": "a, b"},
    ],
    "consoles": [
        {"name": "main"},
        {"name": "tcp", "type": "tcp"},
        {"name": "tel, net", "type": "telnet", "host": "::1", "port": "5999", "log": False},
    ],
    "monitors": [{"name": "a"}, {"name": "b", "type": "qmp"}],
    "disks": [
        {
            "name": "os",
            "size": "1G",
            "boot_index": 0,
            "serial": "S1",
            "properties": {"num-queues": 2},
        },
        {
            "name": "base",
            "backing_file": "/images/b",
            "bus": "scsi",
            "cache": "none",
            "aio": "native",
        },
        {
            "name": "slow",
            "size": "1G",
            "limits": {"iops_total": "100", "bps_read": "1M"},
            "bus": "sata",
        },
        {"name": "ro", "path": "/images/r", "read_only": True, "bus": "nvme"},
        {"name": "snap", "size": "1G", "snapshot": True, "bus": "usb"},
    ],
    "cdroms": [{"name": "cd", "path": "/images/c.iso"}, {"name": "empty"}],
    "floppies": [{"name": "fd", "path": "/images/f"}],
    "config_drive": {"files": {"a": "b"}},
    "cloud_init": {"user_data": "x", "bus": "scsi"},
    "nics": [
        {
            "name": "eth0",
            "link": {
                "type": "user",
                "forwards": [
                    {
                        "protocol": "tcp",
                        "host_address": "127.0.0.1",
                        "host_port": "auto",
                        "guest_port": 22,
                    }
                ],
            },
        },
        {
            "name": "eth1",
            "link": {"peer": "r2:eth1"},
            "capture": {"enabled": True, "snaplen": 96},
            "mtu": 9000,
        },
        {"name": "eth2"},
        {
            "name": "eth3",
            "model": "e1000",
            "boot_index": 1,
            "mac": "52:54:00:00:00:01",
            "properties": {"autonegotiation": False},
        },
        {"name": "fast", "link": {"type": "tap", "interface": "tap0", "vhost": True, "queues": 2}},
    ],
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_rich_vm(version):
    """Compare the command line of each version with argv.txt, one word a line.

    VLAB_NEW_ARGV=1 writes the file again: read the difference.
    """
    words = argv(RICH, FakeHost(version))
    file = os.path.join(HERE, "argv.txt")
    if os.environ.get("VLAB_NEW_ARGV"):
        with open(file, "w", encoding="utf-8") as stream:
            stream.write("\n".join(words) + "\n")
    with open(file, encoding="utf-8") as stream:
        assert words == stream.read().splitlines()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("machine", ["pc", "q35", "microvm"])
def test_the_least(version, machine):
    host = FakeHost(version)
    words = argv(host=host, machine=machine, disks=[], consoles=[])
    assert words[:5] == [
        "/usr/bin/qemu-system-x86_64",
        "-S",
        "-nodefaults",
        "-no-user-config",
        "-pidfile",
    ]
    fixed = [
        "-qmp",
        "unix:%s/qmp.sock,server=on,wait=off" % FOLDER,
        "-qmp",
        "unix:%s/monitor.sock,server=on,wait=off" % FOLDER,
        "-display",
        "none",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]
    rest = [word for word in words[6:] if not word.startswith("pcie-root-port")]
    rest = rest[:10] + [word for word in rest[10:] if word != "-device"]
    assert (
        rest
        == [
            "-name",
            "guest=r1",
            "-uuid",
            compose(disks=[])["uuid"],
            "-machine",
            machine,
            "-accel",
            "tcg",
            "-smp",
            "cpus=1",
            "-m",
            "256M",
        ]
        + fixed
    )


@pytest.mark.parametrize(
    "given, option, expected",
    [
        ({"vcpus": 3}, "-smp", ["cpus=3"]),
        ({"smp": {"cores": 2, "maxcpus": 4}}, "-smp", ["cpus=1,maxcpus=4,cores=2"]),
        ({"cpu": "max,+x"}, "-cpu", ["max,+x"]),
        ({}, "-cpu", []),
        ({"memory": "2G"}, "-m", ["2048M"]),
        (
            {"memory_backend": {"hugepages": True, "prealloc": True}},
            "-object",
            ["memory-backend-memfd,id=ram,size=268435456,hugetlb=on,prealloc=on,share=off"],
        ),
        (
            {
                "memory_backend": {"share": True},
                "machine_options": {"x": [1, "a,b"], "y": {"z": 1.5}},
            },
            "-machine",
            ["pc,x=1,x=a,,b,y.z=1.5,memory-backend=ram"],
        ),
        ({"bios_image": "/a,b"}, "-bios", ["/a,b"]),
        ({"boot_order": "c"}, "-boot", ["order=c"]),
        ({"boot_menu": True}, "-boot", ["menu=on"]),
        ({}, "-boot", []),
        ({"kernel": "/-k"}, "-kernel", ["/-k"]),
        ({"kernel": "/k", "cmdline": "-S a,b"}, "-append", ["-S a,b"]),
        (
            {"smbios": [{"type": 2, "asset": "a,b=c", "location": True}]},
            "-smbios",
            ["type=2,asset=a,,b=c,location=on"],
        ),
        ({"display": {"type": "none"}}, "-display", ["none"]),
        ({"display": {"type": "gtk"}}, "-display", ["gtk"]),
        ({"display": {"type": "gtk"}}, "-vga", ["std"]),
        (
            {"display": {"type": "vnc", "host": "::1", "port": "5905", "password": "x"}},
            "-vnc",
            ["[::1]:5,password=on"],
        ),
        (
            {"display": {"type": "spice", "port": "5930"}},
            "-spice",
            ["addr=127.0.0.1,port=5930,disable-ticketing=on"],
        ),
        (
            {"display": {"type": "spice", "password": "secret", "port": "5930"}},
            "-spice",
            ["addr=127.0.0.1,port=5930"],
        ),
        ({"display": {"type": "spice"}}, "-vga", ["qxl"]),
        ({"watchdog": "ib700"}, "-watchdog-action", ["reset"]),
        ({"sandbox": False}, "-sandbox", []),
        (
            {"nics": [{"name": "e", "link": {"type": "bridge", "bridge": "b"}}]},
            "-sandbox",
            ["on,obsolete=deny,elevateprivileges=allow,spawn=allow,resourcecontrol=deny"],
        ),
        (
            {"consoles": [{"name": "a,b", "log": False}]},
            "-chardev",
            ["socket,id=console0,server=on,wait=off,path=%s/console.sock" % FOLDER],
        ),
        (
            {"consoles": [{"name": "a,b"}]},
            "-chardev",
            [
                "socket,id=console0,server=on,wait=off,path=%s/console.sock,"
                "logfile=%s/a,,b.log,logappend=on" % (FOLDER, FOLDER)
            ],
        ),
        (
            {"consoles": [{"name": "t", "type": "telnet", "port": "5001", "log": False}]},
            "-chardev",
            ["socket,id=console0,server=on,wait=off,host=127.0.0.1,port=5001,telnet=on"],
        ),
        (
            {"monitors": [{"name": "a"}]},
            "-monitor",
            ["unix:%s/monitor0.sock,server=on,wait=off" % FOLDER],
        ),
        ({"qemu_binary": "/opt/q"}, "-S", ["-nodefaults"]),
    ],
)
def test_options(given, option, expected):
    assert values(argv(dict({"disks": [], "consoles": []}, **given)), option) == expected


# bus, machine -> the device of the first disk there, and the controllers it needs.
BUSES = [
    ("virtio", "pc", "virtio-blk-pci,id=disk-pci0,drive=disk-pci0,write-cache=on," + PCI0, []),
    (
        "virtio",
        "q35",
        "virtio-blk-pci,id=disk-pci0,drive=disk-pci0,write-cache=on,bus=pci-port0,addr=0",
        [],
    ),
    ("virtio", "microvm", "virtio-blk-device,id=disk-pci0,drive=disk-pci0,write-cache=on", []),
    (
        "scsi",
        "pc",
        "scsi-hd,id=disk-scsi0,drive=disk-scsi0,write-cache=on,bus=scsi.0,"
        "channel=0,scsi-id=0,lun=0",
        ["virtio-scsi-pci,id=scsi,bus=pci.0,addr=4"],
    ),
    (
        "scsi",
        "q35",
        "scsi-hd,id=disk-scsi0,drive=disk-scsi0,write-cache=on,bus=scsi.0,"
        "channel=0,scsi-id=0,lun=0",
        ["virtio-scsi-pci,id=scsi,bus=pcie.0,addr=4"],
    ),
    (
        "scsi",
        "microvm",
        "scsi-hd,id=disk-scsi0,drive=disk-scsi0,write-cache=on,bus=scsi.0,"
        "channel=0,scsi-id=0,lun=0",
        ["virtio-scsi-device,id=scsi"],
    ),
    ("ide", "pc", "ide-hd,id=disk-ide0,drive=disk-ide0,write-cache=on,bus=ide.0,unit=0", []),
    ("ide", "q35", "ide-hd,id=disk-sata0,drive=disk-sata0,write-cache=on,bus=ide.0", []),
    ("ide", "microvm", "virtio-blk-device,id=disk-pci0,drive=disk-pci0,write-cache=on", []),
    (
        "sata",
        "pc",
        "ide-hd,id=disk-sata0,drive=disk-sata0,write-cache=on,bus=sata.0",
        ["ahci,id=sata,bus=pci.0,addr=5"],
    ),
    ("sata", "q35", "ide-hd,id=disk-sata0,drive=disk-sata0,write-cache=on,bus=ide.0", []),
    ("nvme", "pc", "nvme,id=disk-pci0,drive=disk-pci0,serial=vlab-disk-pci0," + PCI0, []),
    (
        "usb",
        "pc",
        "usb-storage,id=disk-usb0,drive=disk-usb0,write-cache=on,bus=usb.0,port=1",
        ["qemu-xhci,id=usb,p2=15,p3=15,bus=pci.0,addr=9"],
    ),
    (
        "sd",
        "q35",
        "sd-card,id=disk-sd0,drive=disk-sd0,bus=sd-bus",
        ["sdhci-pci,id=sd,bus=pcie.0,addr=a"],
    ),
    ("floppy", "pc", "floppy,id=disk-floppy0,drive=disk-floppy0,unit=0", []),
    ("floppy", "q35", "floppy,id=disk-floppy0,drive=disk-floppy0,unit=0", ["isa-fdc,id=fdc"]),
    ("pflash", "pc", None, []),
]


@pytest.mark.parametrize(
    "bus, machine, device, controllers", BUSES, ids=["%s-%s" % row[:2] for row in BUSES]
)
def test_buses(bus, machine, device, controllers):
    words = argv(disks=[{"name": "d", "size": "1G", "bus": bus}], machine=machine)
    made = [word for word in values(words, "-device") if not word.startswith("pcie-root-port")]
    assert sorted(made) == sorted(controllers + ([device] if device else []))
    if device:
        assert made.index(device) >= len(
            [name for name in controllers if not name.startswith("qemu-xhci")]
        ), "a controller comes before what sits on it"
    node = json.loads(values(words, "-blockdev")[0])
    assert node["file"]["filename"] == FOLDER + "/d.qcow2" and node["driver"] == "qcow2"
    assert values(words, "-machine") == [machine if device else "pc,pflash0=disk-pflash0"]


@pytest.mark.parametrize(
    "cache, direct, no_flush, write_cache",
    [
        ("writeback", False, False, "on"),
        ("none", True, False, "on"),
        ("writethrough", False, False, "off"),
        ("directsync", True, False, "off"),
        ("unsafe", False, True, "on"),
    ],
)
def test_cache_modes(cache, direct, no_flush, write_cache):
    words = argv(disks=[{"name": "d", "size": "1G", "cache": cache}])
    node = json.loads(values(words, "-blockdev")[0])
    assert node["cache"] == node["file"]["cache"] == {"direct": direct, "no-flush": no_flush}
    assert dict(parsed(values(words, "-device")[0], "driver"))["write-cache"] == write_cache


@pytest.mark.parametrize(
    "more, node",
    [
        ({"read_only": True}, {"read-only": True}),
        ({"discard": False}, {"discard": "ignore"}),
        ({"detect_zeroes": "unmap"}, {"detect-zeroes": "unmap"}),
        ({"format": "raw"}, {"driver": "raw"}),
        ({"snapshot": True, "read_only": True}, {"read-only": False, "driver": "qcow2"}),
        (
            {"limits": {"iops_total": "5"}},
            {"driver": "throttle", "throttle-group": "disk-pci0-limits"},
        ),
    ],
)
def test_block_nodes(more, node):
    words = argv(disks=[dict({"name": "d,=", "size": "1G"}, **more)])
    made = json.loads(values(words, "-blockdev")[0])
    assert made["node-name"] == "disk-pci0" and {key: made[key] for key in node} == node
    file = made["file"]["file"] if "limits" in more else made["file"]
    assert file["filename"] == FOLDER + "/d,=." + (
        "temporary" if "snapshot" in more else more.get("format", "qcow2")
    )
    assert file["aio"] == "threads"
    if "limits" in more:
        assert "throttle-group,id=disk-pci0-limits,x-iops-total=5" in words


def test_the_secret_of_a_disk_is_the_name_of_a_file(tmp_path):
    (tmp_path / "base").write_bytes(b"LUKS\xba\xbe\0\1" + bytes(600))
    (tmp_path / "top").write_bytes(qcow2(encryption=2, backing=b"base", backing_format=b"luks"))
    disk = {"name": "d", "path": str(tmp_path / "top"), "secret_file": "/a,b"}
    words = argv(disks=[disk])
    assert "secret,id=disk-pci0-secret,file=/a,,b" in values(words, "-object")
    node = json.loads(values(words, "-blockdev")[0])
    assert node["encrypt"] == {"format": "luks", "key-secret": "disk-pci0-secret"}
    assert node["backing"]["driver"] == "luks" and node["file"]["aio"] == "threads"
    assert node["backing"]["key-secret"] == "disk-pci0-secret"
    assert words.index("secret,id=disk-pci0-secret,file=/a,,b") < words.index("-blockdev")
    assert "key-secret" not in str(argv(disks=[{"name": "d", "size": "1G"}]))


@pytest.mark.parametrize(
    "nic, device, netdevs",
    [
        (
            {},
            "virtio-net-pci,id=nic0,netdev=port0,mac=M,bus=pci.0,addr=10,romfile=",
            ["hubport,id=port0,hubid=0"],
        ),
        (
            {"boot_rom": True},
            "virtio-net-pci,id=nic0,netdev=port0,mac=M,bus=pci.0,addr=10",
            ["hubport,id=port0,hubid=0"],
        ),
        (
            {"boot_index": 3},
            "virtio-net-pci,id=nic0,netdev=port0,mac=M,bootindex=3,bus=pci.0,addr=10",
            ["hubport,id=port0,hubid=0"],
        ),
        (
            {"mtu": 1400, "properties": {"csum": False, "speed": 1000}},
            "virtio-net-pci,id=nic0,netdev=port0,mac=M,bus=pci.0,addr=10,romfile=,host_mtu=1400,"
            "csum=off,speed=1000",
            ["hubport,id=port0,hubid=0"],
        ),
        (
            {"rx_queue_size": 1024},
            "virtio-net-pci,id=nic0,netdev=port0,mac=M,bus=pci.0,addr=10,romfile=,"
            "rx_queue_size=1024",
            ["hubport,id=port0,hubid=0"],
        ),
        (
            {"model": "e1000", "rx_queue_size": 256},
            "e1000,id=nic0,netdev=port0,mac=M,bus=pci.0,addr=10,romfile=",
            ["hubport,id=port0,hubid=0"],
        ),
        (
            {"model": "e1000-82540em"},
            "e1000-82540em,id=nic0,netdev=port0,mac=M,bus=pci.0,addr=10,romfile=",
            ["hubport,id=port0,hubid=0"],
        ),
        (
            {"model": "ne2k_isa"},
            "ne2k_isa,id=nic0,netdev=port0,mac=M",
            ["hubport,id=port0,hubid=0"],
        ),
        (
            {"link": {"type": "user"}},
            "virtio-net-pci,id=nic0,netdev=port0,mac=M,bus=pci.0,addr=10,romfile=",
            ["hubport,id=port0,hubid=0", "user,id=link0", "hubport,id=plug0,hubid=0,netdev=link0"],
        ),
        (
            {"link": {"type": "tap", "queues": 3}},
            "virtio-net-pci,id=nic0,netdev=port0,mac=M,bus=pci.0,addr=10,romfile=,mq=on,vectors=8",
            ["tap,script=no,downscript=no,queues=3,id=port0"],
        ),
    ],
)
def test_nics(nic, device, netdevs):
    words = argv(disks=[], nics=[dict({"name": "e", "mac": "52:54:00:00:00:01"}, **nic)])
    assert values(words, "-device") == [device.replace("=M", "=52:54:00:00:00:01")]
    assert values(words, "-netdev") == netdevs


@pytest.mark.parametrize("count, vectors", [(24, None), (25, "0"), (255, "0")])
@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_many_nics(machine, count, vectors):
    words = argv(disks=[], machine=machine, nics=[{"name": "eth%d" % n} for n in range(count)])
    made = [dict(parsed(word, "driver")) for word in values(words, "-device")]
    cards = [device for device in made if device["driver"] == "virtio-net-pci"]
    assert len(cards) == count and {card.get("vectors") for card in cards} == {vectors}
    assert (
        len({(card["bus"], card["addr"]) for card in cards})
        == len({card["netdev"] for card in cards})
        == len({card["mac"] for card in cards})
        == count
    )
    order = [device["id"] for device in made]
    assert all(
        card["bus"] == "pci.0" or order.index(card["bus"]) < order.index(card["id"])
        for card in cards
    )


@pytest.mark.parametrize(
    "nic, words",
    [
        (
            {"enabled": True},
            ["filter-dump,id=capture0,netdev=port0,file=%s/captures/e.pcap" % FOLDER],
        ),
        (
            {"enabled": True, "path": "/a,b", "snaplen": 5},
            ["filter-dump,id=capture0,netdev=port0,file=/a,,b,maxlen=5"],
        ),
        (
            {"enabled": True, "size": "1M", "path": "/elsewhere"},
            ["filter-dump,id=capture0,netdev=port0,file=%s/rotations/e.spool" % FOLDER],
        ),
        ({"enabled": False}, []),
    ],
)
def test_captures(nic, words):
    assert (
        values(
            argv(disks=[], nics=[{"name": "e", "link": {"type": "user"}, "capture": nic}]),
            "-object",
        )
        == words
    )


def test_a_nic_model_that_a_version_lacks():
    assert argv(disks=[], nics=[{"name": "e", "model": "igb"}], host=FakeHost("10.0"))
    with pytest.raises(OptionError, match="no NIC model 'igb'; for the machine pc it has .*e1000e"):
        argv(disks=[], nics=[{"name": "e", "model": "igb"}], host=FakeHost("5.2"))


def test_incoming_and_order():
    host = FakeHost()
    host.incoming = "exec:cat, x"
    words = command_line.build(
        granted(compose(host=host, wrapper=["nice"], extra_args=["-x", "y"])), host
    )
    assert (
        words[0] == "nice"
        and words[1].endswith("qemu-system-x86_64")
        and words[-4:] == ["-incoming", "exec:cat, x", "-x", "y"]
    )
    assert "spawn=allow" in values(words, "-sandbox")[0]


def test_kvm_gives_the_hosts_processor():
    host = FakeHost()
    host.accel = "kvm"
    assert values(argv(host=host), "-cpu") == ["host"]
    assert values(argv(host=host, cpu="qemu64"), "-cpu") == ["qemu64"]


def test_no_secret_on_a_command_line():
    text = json.dumps(
        argv(
            display={"type": "vnc", "password": "hunter2"},
            cloud_init={"user_data": "hunter2"},
            config_drive={"files": {"a": "hunter2"}},
        )
    )
    assert "hunter2" not in text


NASTY = [
    "a,b=c",
    "a,,b",
    ",",
    "a b\tc",
    "quote\"'`$(x)",
    "back\\slash",
    "line\nbreak",
    "é日本\U0001f600",
    "%s{{ x }}",
    "-S",
    "..",
    "=",
    "x,server=on,id=nic0",
]
# What a user can call or give, as a definition with the value in it.
PLACES = {
    "disk": lambda v: {
        "disks": [
            {
                "name": v.replace("/", "_")
                .replace("..", "x")
                .replace("\n", " ")
                .replace("\t", " "),
                "size": "1G",
                "serial": v[:9],
            }
        ]
    },
    "disk path": lambda v: {
        "disks": [{"name": "d", "path": "/x/" + v, "format": "raw"}],
        "cdroms": [{"name": "c", "path": "/y/" + v}],
    },
    "base": lambda v: {"disks": [{"name": "d", "backing_file": "/x/" + v}]},
    "nic": lambda v: {
        "nics": [
            {
                "name": "n" + v.replace("\n", " ").replace("\t", " "),
                "link": {"type": "user"},
                "capture": {"enabled": True},
            }
        ]
    },
    "user": lambda v: {
        "nics": [
            {
                "name": "n",
                "link": {
                    "type": "user",
                    "hostname": v,
                    "domain": v,
                    "bootfile": v,
                    "tftp": "/t" + v,
                    "dns_search": [v, v],
                },
            }
        ]
    },
    "tap": lambda v: {
        "nics": [
            {
                "name": "n",
                "link": {
                    "type": "tap",
                    "interface": v[:8] or "t",
                    "script": "/s" + v,
                    "down_script": "/s" + v,
                },
            }
        ]
    },
    "bridge": lambda v: {
        "nics": [{"name": "n", "link": {"type": "bridge", "bridge": v, "helper": "/h" + v}}]
    },
    "vde": lambda v: {
        "nics": [{"name": "n", "link": {"type": "vde", "path": "/p" + v, "vde_group": v}}]
    },
    "unix": lambda v: {
        "nics": [{"name": "n", "link": {"type": "unix", "path": "/p" + v, "remote_path": "/q" + v}}]
    },
    "disk properties": lambda v: {
        "disks": [{"name": "d", "size": "1G", "properties": {"x": v, "y": [v]}}]
    },
    "nic properties": lambda v: {"nics": [{"name": "n", "properties": {"x": v, "y": [v, v]}}]},
    "capture": lambda v: {
        "nics": [
            {"name": "n", "link": {"type": "user"}, "capture": {"enabled": True, "path": "/c/" + v}}
        ]
    },
    "console": lambda v: {"consoles": [{"name": "c" + v.replace("\n", " ").replace("\t", " ")}]},
    "smbios": lambda v: {
        "smbios": [{"type": 1, "manufacturer": v, "serial": v}, {"type": 11, "value": [v, v]}]
    },
    "kernel": lambda v: {"kernel": "/k" + v, "initrd": "/i" + v, "cmdline": v},
    "bios": lambda v: {"bios_image": "/b" + v},
    "cpu": lambda v: {"cpu": v},
    "environment": lambda v: {"environment": {"A": v}},
    "machine options": lambda v: {"machine_options": {"x": v, "y": {"z": v}}},
    "devices": lambda v: {"devices": [{"driver": "pvpanic", "x": v, "y": [v]}]},
    "wrapper": lambda v: {"wrapper": ["nice", v]},
    "fds": lambda v: {"fds": [{"set": 1, "path": "/f" + v, "opaque": v or "x"}]},
    "extra_args": lambda v: {"extra_args": ["-x", v.replace("-S", "-s")]},
}
OPTION_STRINGS = {
    "-name",
    "-machine",
    "-smp",
    "-device",
    "-netdev",
    "-object",
    "-chardev",
    "-smbios",
    "-boot",
    "-qmp",
    "-monitor",
    "-vnc",
    "-spice",
    "-sandbox",
    "-drive",
    "-add-fd",
}


def shape(words):
    """A command line with its values taken out: what QEMU would understand to be asked for."""
    made = []
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        if before in OPTION_STRINGS:
            made.append([key for key, value in parsed(word, "head")])
        elif before == "-blockdev":
            made.append(sorted(json.loads(word)))
        else:
            made.append(
                word
                if word.startswith("-") and before not in ("-append", "-cpu", "-x")
                else "value"
            )
    return made


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("place", PLACES)
def test_a_value_is_never_more_than_a_value(place, version):
    """Any value gives the same options, keys and number of words as a harmless value."""
    if place == "unix" and version == "5.2":
        pytest.skip("no datagram sockets by path")
    harmless = shape(argv(PLACES[place]("value"), FakeHost(version)))
    for value in NASTY:
        words = argv(PLACES[place](value), FakeHost(version))
        if place == "wrapper":
            assert words[1] == value
            words[1] = "value"
        assert shape(words) == harmless, value


@pytest.mark.parametrize("value", NASTY)
def test_a_value_comes_out_as_it_went_in(value):
    def keys(option, key, host=None, **given):
        return [
            dict(parsed(word, "head")).get(key)
            for word in values(argv(dict({"disks": []}, **given), host), option)
        ]

    assert (
        keys(
            "-netdev", "hostname", nics=[{"name": "n", "link": {"type": "user", "hostname": value}}]
        )[1]
        == value
    )
    assert keys("-smbios", "serial", smbios=[{"type": 1, "serial": value}]) == [value]
    assert keys("-machine", "x", machine_options={"x": value}) == [value]
    path = os.path.normpath("/x/" + value)
    assert (
        json.loads(
            values(
                argv(disks=[{"name": "d", "path": "/x/" + value, "format": "raw"}]), "-blockdev"
            )[0]
        )["file"]["filename"]
        == path
    )
    assert keys(
        "-object",
        "file",
        nics=[
            {
                "name": "n",
                "link": {"type": "user"},
                "capture": {"enabled": True, "path": "/x/" + value},
            }
        ],
    ) == [path]
    if "\n" not in value and "\t" not in value and not value.startswith("."):
        assert keys("-name", "guest", host=FakeHost(name=value)) == [value]
