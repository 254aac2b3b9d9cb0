# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import itertools
import json

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.module_utils._wire.parameters import PRESETS
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    endpoints,
    host_shares,
    placeholders,
    placement,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.images import apply_images
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import (
    Problems,
    TopologyError,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.template_variables import (
    template_variables,
)

ADDRESSES = {"hv1": "192.0.2.1", "hv2": "192.0.2.2", "hv3": "192.0.2.3"}
NODES = ["n%d" % n for n in range(1, 7)]
MESH = ["%s -- %s" % pair for pair in itertools.combinations(NODES, 2)]
SEGMENTS = {
    "lan": {"members": NODES},
    "pair": {"members": ["n1", "n2"]},
    "far": {"members": ["n3", "n4"], "hypervisor": "hv3"},
}


def build(nodes=NODES, links=(), segments=None, kind="tiny", **more):
    return builder.build(
        dict(
            {
                "name": "t",
                "defaults": {"kind": kind},
                "nodes": nodes if isinstance(nodes, dict) else {name: {} for name in nodes},
                "links": list(links),
                "segments": segments or {},
            },
            **more,
        )
    )


def spread(topology, hosts):
    return {name: hosts[number % len(hosts)] for number, name in enumerate(sorted(topology.nodes))}


def share(topology, placed=None, states=None, render=lambda node, content: content):
    """Return the shares of all hosts: {host: share}."""
    placed = placed or {name: "hv1" for name in topology.nodes}
    udp_endpoints = endpoints.UdpEndpoints(topology, placed, ADDRESSES)
    states = dict({name: "started" for name in topology.nodes}, **states or {})
    runs = placement.will_run(topology, states, {})
    return {
        host: host_shares.share_for(topology, placed, host, udp_endpoints, states, runs, render)
        for host in sorted(set(placed.values()) | {"hv3"})
    }


def nics(shares):
    return {
        "%s:%s" % (vm["name"], nic["name"]): dict(nic, host=host)
        for host, part in shares.items()
        for vm in part["vms"]
        for nic in vm["options"]["nics"]
    }


def sockets(shares):
    """Return all sockets: {(host, address, port): (name, remote address and port)}."""
    found = {}
    for host, part in shares.items():
        ends = {
            "%s:%s" % (vm["name"], nic["name"]): nic["link"]
            for vm in part["vms"]
            for nic in vm["options"]["nics"]
            if nic["link"]["type"] == "udp"
        }
        ends.update(
            {
                "%s %s" % (hub["name"], end): port
                for hub in part["segments"]
                for end, port in hub.get("ports", {}).items()
            }
        )
        for name, link in ends.items():
            key = host, link["local_address"], int(link["local_port"])
            assert key not in found, "%s:%d of %s is used by both %s and %s" % (
                key[1],
                key[2],
                host,
                found[key][0],
                name,
            )
            found[key] = name, (link["remote_address"], int(link["remote_port"]))
    return found


@pytest.mark.parametrize("hosts", [["hv1"], ["hv1", "hv2"], ["hv1", "hv2", "hv3"]])
def test_both_ends_of_every_link_match(hosts):
    topology = build(links=MESH, segments=SEGMENTS)
    placed = spread(topology, hosts)
    found = sockets(share(topology, placed))
    at = {
        (host if address.startswith("127.") else None, address, port): (host, name, to)
        for (host, address, port), (name, to) in found.items()
    }
    for (host, address, port), (name, to) in found.items():
        other_host, other, back = at[host if to[0].startswith("127.") else None, to[0], to[1]]
        assert back == (address, port), "%s and %s do not agree" % (name, other)
        assert address.startswith("127.") == (other_host == host), (
            "a link within a host stays there"
        )
        if not address.startswith("127."):
            assert address == ADDRESSES[host]
    assert len(found) == 2 * len(MESH) + 2 * (6 + 2 + 2)


def test_the_ends_of_a_link():
    found = nics(share(build(links=["n1:eth1 -- n2:eth3"])))
    one, other = found["n1:eth1"], found["n2:eth3"]
    assert (one["link"]["remote_address"], one["link"]["remote_port"]) == (
        other["link"]["local_address"],
        other["link"]["local_port"],
    )
    assert (one["peer"], other["peer"]) == ("n2", "n1")
    assert found["n1:eth2"]["link"] == {"type": "none"}


def test_ports_stay_when_links_come_and_go():
    def ends(links):
        topology = build(links=links)
        return {
            key: nic["link"]
            for key, nic in nics(share(topology, spread(topology, ["hv1", "hv2"]))).items()
            if nic["link"]["type"] == "udp"
        }

    links = ["n1:eth1 -- n2:eth1", "n3:eth1 -- n4:eth1", "n1:eth5 -- n3:eth5"]
    before, after = (
        ends(links),
        ends(list(reversed(links)) + ["n5:eth1 -- n6:eth1", "n5:eth2 -- n1:eth2"]),
    )
    assert before == {key: after[key] for key in before}


def test_local_endpoints_are_loopback_below_the_ports_of_connections():
    for lab, node, nic in itertools.product(("a", "b"), NODES, ("eth1", "ge-0/0/0")):
        address, port = endpoints.local_endpoint(lab, node, nic)
        assert ipaddress.ip_address(address).is_loopback and 10000 <= port < 20000


def test_two_labs_do_not_share_addresses():
    one, other = (
        share(
            builder.build(
                {
                    "name": name,
                    "defaults": {"kind": "tiny"},
                    "nodes": {"a": {}, "b": {}},
                    "links": ["a -- b"],
                }
            )
        )
        for name in ("x", "y")
    )
    assert not set(sockets(one)) & set(sockets(other))


def test_hosts_with_addresses():
    topology = build(
        links=["n1 -- n2", "n3 -- n4"],
        segments={"lan": {"members": ["n5", "n6"], "hypervisor": "hv3"}},
    )
    placed = {"n1": "hv1", "n2": "hv2", "n3": "hv1", "n4": "hv1", "n5": "hv1", "n6": "hv1"}
    assert endpoints.hosts_with_addresses(topology, placed) == {"hv1", "hv2", "hv3"}
    assert endpoints.hosts_with_addresses(topology, {name: "hv1" for name in NODES}) == {
        "hv1",
        "hv3",
    }
    assert (
        endpoints.hosts_with_addresses(build(links=["n1 -- n2"]), {name: "hv1" for name in NODES})
        == set()
    )


def test_a_hub_runs_where_most_members_are():
    topology = build(
        segments={"lan": {"members": NODES}, "far": {"members": ["n1"], "hypervisor": "hv3"}}
    )
    placed = dict({name: "hv2" for name in NODES}, n1="hv1")
    shares = share(topology, placed)
    assert {host: [hub["name"] for hub in part["segments"]] for host, part in shares.items()} == {
        "hv1": [],
        "hv2": ["lan"],
        "hv3": ["far"],
    }
    assert len(shares["hv2"]["segments"][0]["ports"]) == 6


def test_a_bridge_has_a_valid_interface_name():
    topology = build(
        segments={
            "a-segment-with-a-long-name": {"members": ["n1", "n2"], "type": "bridge"},
            "own": {"members": ["n1"], "type": "bridge", "bridge": "br9"},
        }
    )
    made = share(topology)
    found = nics(made)
    assert (
        found["n1:eth1"]["segment"] == found["n2:eth1"]["segment"] == "a-segment-with-a-long-name"
        and "link" not in found["n1:eth1"]
    )
    bridges = {segment["name"]: segment["bridge"] for segment in made["hv1"]["segments"]}
    shared = [entry["name"] for entry in made["hv1"]["segments"] if entry.get("is_shared")]
    assert shared == ["own"]
    assert bridges["own"] == "br9" and len(bridges["a-segment-with-a-long-name"]) <= 15


@pytest.mark.parametrize(
    "link, states, same_host, expected",
    [
        ({}, {}, True, (False, False)),
        ({}, {}, False, (False, False)),
        ({"down": True}, {}, True, (True, True)),
        ({"down": True}, {}, False, (True, True)),
        ({}, {"n2": "stopped"}, False, (True, False)),
        ({}, {"n2": "absent"}, False, (True, False)),
        ({}, {"n2": "paused"}, False, (False, False)),
        # The hypervisor knows whether a neighbour on the same host runs.
        ({}, {"n2": "stopped"}, True, (False, False)),
    ],
)
def test_carriers(link, states, same_host, expected):
    topology = build(["n1", "n2"], [dict(link, endpoints=["n1:eth1", "n2:eth1"])])
    found = nics(share(topology, {"n1": "hv1", "n2": "hv1" if same_host else "hv2"}, states))
    assert (found["n1:eth1"]["link_down"], found["n2:eth1"]["link_down"]) == expected
    assert ("peer" in found["n1:eth1"]) == same_host


def test_one_end_can_be_down():
    found = nics(
        share(
            build({"n1": {"nics": {"eth1": {"link_down": True}}}, "n2": {}}, ["n1:eth1 -- n2:eth1"])
        )
    )
    assert (found["n1:eth1"]["link_down"], found["n2:eth1"]["link_down"]) == (True, False)


def impairments(**given):
    """Return the impairment of each NIC."""
    found = nics(share(build(**given)))
    return {name: nic["link"]["impair"] for name, nic in found.items() if "impair" in nic["link"]}


@pytest.mark.parametrize(
    "link, expected",
    [
        ({}, {}),
        ({"impair": {}}, {}),
        ({"impair": {"delay": 0}}, {}),
        (
            {"impair": {"delay": "20ms", "loss": 1.5}},
            {name: {"delay": 20, "loss": 1.5} for name in ("n1:eth1", "n2:eth1")},
        ),
        ({"impair": "edge"}, {name: PRESETS["edge"] for name in ("n1:eth1", "n2:eth1")}),
        (
            {"endpoints": [{"node": "n1", "impair": {"rate": "1Mbit"}}, "n2"]},
            {"n1:eth1": {"rate": 1000}},
        ),
        (
            {"endpoints": [{"node": "n1", "impair": "dsl"}, "n2"], "impair": {"delay": 5}},
            {"n1:eth1": PRESETS["dsl"], "n2:eth1": {"delay": 5}},
        ),
        (
            {"endpoints": [{"node": "n1", "impair": {}}, "n2"], "impair": {"delay": 5}},
            {"n2:eth1": {"delay": 5}},
        ),
    ],
)
def test_impaired_links(link, expected):
    link = {"endpoints": ["n1", "n2"], **link}
    assert impairments(nodes=["n1", "n2"], links=[link]) == expected


def test_an_impaired_member_of_a_hub():
    members = [{"node": "n1", "impair": {"loss": "2%"}}, "n2"]
    found = impairments(nodes=["n1", "n2"], segments={"lan": {"members": members}})
    assert found == {"n1:eth1": {"loss": 2}}


@pytest.mark.parametrize(
    "given, option",
    [
        (
            {"links": [{"endpoints": ["n1", "n2"], "impair": {"delay": "1h"}}]},
            "links[0].impair.delay",
        ),
        ({"links": [{"endpoints": ["n1", "n2"], "impair": "dsl9"}]}, "links[0]"),
        ({"links": [{"endpoints": ["n1", "n2"], "impair": {"lag": 1}}]}, "links[0]"),
        (
            {"links": [{"endpoints": ["n1", {"node": "n2", "impair": {"loss": 101}}]}]},
            "links[0].endpoints[1].impair.loss",
        ),
        (
            {
                "segments": {
                    "lan": {"type": "bridge", "members": ["n1", {"node": "n2", "impair": "dsl"}]}
                }
            },
            "segments.lan.members[1].impair",
        ),
    ],
)
def test_an_impairment_that_cannot_be(given, option):
    with pytest.raises(TopologyError) as caught:
        build(nodes=["n1", "n2"], **given)
    assert option in str(caught.value)


def test_captures():
    topology = build(
        {"n1": {"nics": {"eth1": {"capture": {"snaplen": 96}}}}, "n2": {}, "n3": {}},
        [
            "n1:eth1 -- n2:eth1",
            {"endpoints": ["n3:eth1", "n2:eth2"], "capture": True},
            {"endpoints": ["n3:eth2", "n1:eth2"], "capture": {"size": "10M", "count": 5}},
        ],
    )
    found = {key: nic["capture"] for key, nic in nics(share(topology)).items()}
    assert found["n1:eth1"] == {"enabled": True, "snaplen": 96} and found["n2:eth1"] == {
        "enabled": False
    }
    assert found["n3:eth2"] == {"enabled": True, "size": "10M", "count": 5}
    assert found["n3:eth1"] == {"enabled": True} and found["n2:eth2"] == {"enabled": False}, (
        "the capture is at one end"
    )


def test_names_and_indexes_of_nics():
    topology = build(["n1", "n2"], ["n1:ge-0/0/2 -- n2:ge-0/0/0"], kind="juniper_vsrx")
    found = share(topology)["hv1"]["vms"][0]["options"]["nics"]
    assert [(nic["name"], nic["index"]) for nic in found][:4] == [
        ("fxp0", 0),
        ("ge-0_0_0", 1),
        ("ge-0_0_1", 2),
        ("ge-0_0_2", 3),
    ]
    assert (
        found[3]["link"]["type"] == "udp"
        and found[3]["mac"] == topology.nodes["n1"].nics["ge-0/0/2"].mac
    )
    assert "index" not in nics(share(build(links=["n1 -- n2"])))["n1:eth1"]


def test_models():
    topology = build(
        {
            "n1": {"nic_model": "e1000", "nics": {"eth2": {"model": "rtl8139"}}},
            "n2": {},
            "n3": {"kind": "cisco_vios"},
        },
        ["n1 -- n2", "n3 -- n1:eth2"],
    )
    found = {key: nic["model"] for key, nic in nics(share(topology)).items()}
    assert [found[key] for key in ("n1:eth1", "n1:eth2", "n2:eth1", "n3:GigabitEthernet0_0")] == [
        "e1000",
        "rtl8139",
        "virtio-net-pci",
        "e1000",
    ]


IMAGES = {
    "tiny": {"kernel": "/k", "initrd": "/i", "cmdline": "quiet"},
    "cisco_n9kv": {"disk": "/n9k.qcow2", "format": "qcow2"},
    "fortinet_fortigate": {"disk": "/f"},
    "other": {"disk": "/o"},
}


def settings(node, images=None, kinds=None):
    topology, problems = build({"n1": node}, kinds=kinds or {}), Problems()
    apply_images(topology, IMAGES if images is None else images, problems)
    return topology.nodes["n1"].settings, problems.found


def test_images():
    found, wrong = settings({"cmdline": "more"})
    assert not wrong and (
        found["kernel"],
        found["initrd"],
        found["cmdline"],
        found.get("disks"),
    ) == ("/k", "/i", "quiet more", None)
    assert settings({"kernel": "/mine"}, {})[0]["kernel"] == "/mine"
    found, wrong = settings({"kind": "cisco_n9kv"})
    assert not wrong and found["disks"] == [
        {
            "name": "root",
            "backing_file": "/n9k.qcow2",
            "backing_format": "qcow2",
            "boot_index": 1,
            "bus": "sata",
        }
    ]
    assert (
        settings({"kind": "cisco_n9kv", "image": "/mine.qcow2"})[0]["disks"][0]["backing_file"]
        == "/mine.qcow2"
    )
    own = [{"name": "data", "size": "1G"}, {"name": "root", "size": "20G", "bus": "ide"}]
    assert settings({"kind": "cisco_n9kv", "image": "other", "disks": own})[0]["disks"] == [
        {"name": "root", "backing_file": "/o", "boot_index": 1, "bus": "ide", "size": "20G"},
        {"name": "data", "size": "1G"},
    ]
    assert [disk["name"] for disk in settings({"kind": "fortinet_fortigate"})[0]["disks"]] == [
        "root",
        "log",
    ], "the root disk comes first"


@pytest.mark.parametrize(
    ("kind", "node", "disks"),
    [
        ({"image": "/k.qcow2"}, {}, [("root", "/k.qcow2")]),
        ({"image": "/k.qcow2", "disk": {"bus": "ide"}}, {}, [("root", "/k.qcow2")]),
        ({"image": "/k.qcow2"}, {"image": "/own"}, [("root", "/own")]),
        ({"image": "/k.qcow2"}, {"image": "other"}, [("root", "/o")]),
        ({"vm": {"disks": [{"name": "root", "path": "/p"}]}}, {}, [("root", None)]),
        ({"vm": {"disks": [{"name": "root", "size": "1G"}, {"name": "b"}]}}, {}, None),
    ],
)
def test_a_kind_has_its_own_image(kind, node, disks):
    found, wrong = settings({"kind": "k", **node}, kinds={"k": kind})
    assert not wrong
    if disks is not None:
        shown = [(disk["name"], disk.get("backing_file")) for disk in found["disks"]]
        assert shown == disks
        assert found["disks"][0].get("bus") == kind.get("disk", {}).get("bus")


@pytest.mark.parametrize(
    "node, images",
    [
        ({}, {}),
        ({"kind": "fortinet_fortigate"}, {}),
        ({"image": "none"}, IMAGES),
        ({"image": "none", "kernel": "/k"}, IMAGES),
    ],
)
def test_a_missing_image(node, images):
    found = settings(node, images)[1]
    assert [place for place, _message in found] == [
        "nodes.n1.image"
    ] and "there is no image" in found[0][1]


@pytest.mark.parametrize(
    "images, path, words",
    [
        ({"tiny": {"disc": "/d"}}, "images.tiny.disc", "did you mean disk"),
        ({"tiny": {"kernel": "/k", "memroy": 64}}, "images.tiny.memroy", "did you mean memory"),
        ({"tiny": "/d"}, "images.tiny", "'/d' is not a mapping"),
        ({"tiny": ["/d"]}, "images.tiny", '["/d"] is not a mapping'),
        ({"tiny": None}, "images.tiny", "null is not a mapping"),
        ("/d", "images", "'/d' is not a mapping"),
        (["/d"], "images", '["/d"] is not a mapping'),
        ({1: {"disk": "/d"}}, "images[1]", "put it in quotes"),
        ({"tiny": {"disk": ["/d"]}}, "images.tiny.disk", "is not a string"),
        ({"tiny": {"kernel": "/k", "cmdline": 1}}, "images.tiny.cmdline", "is not a string"),
        ({"tiny": {"disk": "/d", "format": "qcow22"}}, "images.tiny.format", "did you mean qcow2"),
        ({"tiny": {"kernel": "/k", "memory": "much"}}, "images.tiny.memory", "is not a size"),
        ({"tiny": {"kernel": "/k", "memory": [1]}}, "images.tiny.memory", "is not an integer or"),
        ({"tiny": {"cmdline": "quiet"}}, "images.tiny", "give kernel or disk: n1 boots it"),
        ({"tiny": {"kernel": "/k"}, "x": {"disc": "/d"}}, "images.x.disc", "did you mean disk"),
        ({"tinny": {"kernel": "/k"}}, "nodes.n1.image", "did you mean tinny?"),
    ],
)
def test_an_invalid_image_is_an_error_with_its_path(images, path, words):
    found = settings({}, images)[1]
    assert [where for where, _message in found] == [path] and words in found[0][1], found


@pytest.mark.parametrize("memory, result", [(300, 300), ("300", 300), ("1G", 1024), (1, 128)])
def test_memory_of_an_image(memory, result):
    image = {"kernel": "/k", "initrd": None, "memory": memory}
    found, wrong = settings({"kind": "k"}, {"tiny": image}, {"k": {"extends": "tiny"}})
    assert not wrong and found["memory"] == result and "initrd" not in found


def test_the_config_drive_names_the_nics_of_mac_base():
    topology = build({"n1": {"mac_base": "52:54:00:00:00:00"}})
    (vm,) = share(topology)["hv1"]["vms"]
    interfaces = vm["options"]["config_drive"]["files"]["interfaces"].splitlines()
    macs = {nic["name"]: nic["mac"] for nic in vm["options"]["nics"]}
    assert macs["eth1"] == "52:54:00:00:00:01"
    assert "eth1 52:54:00:00:00:01" in interfaces and "eth9 52:54:00:00:00:09" in interfaces


def test_placeholders():
    topology = build(
        {"n1": {"kind": "k", "vars": {"serial": 7}}},
        kinds={
            "k": {
                "vm": {
                    "smbios": [
                        {
                            "type": 1,
                            "serial": "{vars.serial}-{name}",
                            "product": "{lab} {none} {vars.none}|{loopback}|{management}|{uuid}",
                        }
                    ]
                }
            }
        },
        addressing={"loopback": "10.0.0.0/24"},
    )
    options = share(topology)["hv1"]["vms"][0]["options"]
    assert options["smbios"] == [
        {
            "type": 1,
            "serial": "7-n1",
            "product": "t {none} |10.0.0.1||%s" % placeholders.derived_uuid("t", "n1"),
        }
    ]


def drive(topology, **more):
    return share(topology, **more)["hv1"]["vms"][0]["options"].get("config_drive")


def test_addresses_by_shell():
    files = drive(
        build(
            ["n1", "n2"],
            ["n1 -- n2"],
            addressing={"links": "10.0.0.0/30", "loopback": "10.9.0.0/24"},
        )
    )["files"]
    topology = build(["n1"])
    assert files["hostname"] == "n1\n" and files["interfaces"].splitlines()[0].split()[0] == "eth1"
    assert files["addresses.sh"] == ADDRESSES_OF_N1
    assert set(drive(topology)["files"]) == {"hostname", "interfaces"}


ADDRESSES_OF_N1 = "ip address add 10.0.0.1/30 dev eth1\nip address add 10.9.0.1 dev lo\n"


@pytest.mark.parametrize(
    "node, addresses",
    [
        ({}, True),
        ({"config": "hostname n1\n"}, True),
        ({"files": {"start.sh": "ip route add default via 10.0.0.2\n"}}, True),
        ({"set_addresses": False, "config": "hostname n1\n"}, False),
        ({"set_addresses": True}, True),
    ],
)
def test_own_files_keep_the_addresses(node, addresses):
    files = drive(
        build(
            {"n1": node, "n2": {}},
            ["n1 -- n2"],
            kind="frr",
            addressing={"links": "10.0.0.0/30", "loopback": "10.9.0.0/24"},
        )
    )["files"]
    assert files.get("addresses.sh") == (ADDRESSES_OF_N1 if addresses else None)
    assert files.get("frr.conf") == node.get("config")


OUTSIDE = (
    "ip address add 10.0.2.15/24 dev eth1\n"
    "ip route add default via 10.0.2.2 dev eth1 metric 4261412864\n"
    "printf '%s\\n' 'nameserver 10.0.2.3' >/etc/resolv.conf\n"
)


@pytest.mark.parametrize("kind", ["tiny", "frr", "linux"])
@pytest.mark.parametrize(
    "nics, script",
    [
        ({"eth1": {"link": {"type": "user"}}}, OUTSIDE),
        (
            {"eth1": {"address": "10.0.2.20/24", "link": {"type": "user"}}},
            OUTSIDE.replace("2.15", "2.20"),
        ),
        (
            {"eth1": {"link": {"type": "user", "dns_search": ["a.b", "x;y"]}}},
            OUTSIDE.replace("3' >", "3' 'search a.b x;y' >"),
        ),
        (
            {
                "eth1": {"link": {"type": "user"}},
                "eth2": {"link": {"type": "user", "network": "10.8.0.0/24"}},
            },
            "ip address add 10.0.2.15/24 dev eth1\nip address add 10.8.0.15/24 dev eth2\n"
            + OUTSIDE.partition("\n")[2]
            + "ip route add default via 10.8.0.2 dev eth2 metric 4261412865\n"
            "printf '%s\\n' 'nameserver 10.8.0.3' >>/etc/resolv.conf\n",
        ),
        ({"eth1": {"link": {"type": "none"}}}, None),
    ],
)
def test_a_user_link_by_shell(kind, nics, script):
    files = drive(build({"n1": {"nics": nics}}, kind=kind))["files"]
    assert files.get("addresses.sh") == script


def test_ssh_keys_of_linux():
    for keys in ("ssh-ed25519 A\n", ["ssh-ed25519 A"]):
        files = drive(build({"n1": {"vars": {"ssh_keys": keys}}}, kind="linux"))["files"]
        assert files["authorized_keys"] == "ssh-ed25519 A\n"
    own = {"vars": {"ssh_keys": ["a"]}, "files": {"authorized_keys": "b"}}
    assert drive(build({"n1": own}, kind="linux"))["files"]["authorized_keys"] == "b"
    assert "authorized_keys" not in drive(build(["n1"], kind="linux"))["files"]


def test_the_content_of_a_file_is_replaced_as_a_whole():
    topology = builder.build(
        {
            "name": "t",
            "defaults": {"kind": "frr", "files": {"a": {"template": "t"}}, "config": {"src": "s"}},
            "groups": {"g": {"files": {"a": {"src": "s"}, "b": "b"}, "members": ["n1"]}},
            "nodes": {"n1": {"files": {"a": {"base64": "eA=="}}, "config": {"template": "t"}}},
        }
    )
    files = drive(topology)["files"]
    assert (files["a"], files["b"], files["frr.conf"]) == (
        {"base64": "eA=="},
        "b",
        {"template": "t"},
    )


def test_own_files_and_templates():
    topology = build({"n1": {"files": {"hostname": "mine", "frr.conf": {"template": "a.j2"}}}})
    made = drive(
        topology,
        render=lambda node, content: (
            content if isinstance(content, str) else "%s of %s" % (content["template"], node.name)
        ),
    )
    assert (
        made["files"]["hostname"] == "mine"
        and made["files"]["frr.conf"] == "a.j2 of n1"
        and made["update"] == "next_start"
    )


def test_a_kind_without_files_has_no_drive():
    assert drive(build(["n1"], kind="cisco_vios")) is None
    made = drive(build({"n1": {"kind": "cisco_vios", "config": "hostname n1\n"}}))
    assert made == {
        "files": {"ios_config.txt": "hostname n1\n"},
        "update": "next_start",
        "label": "disk",
        "format": "fat",
        "bus": "virtio",
    }


def test_addresses_by_cloud_init():
    topology = build(
        {
            "n1": {
                "vars": {"user": "ann", "ssh_keys": ["ssh-ed25519 A"]},
                "nics": {"eth0": {"link": {"type": "user"}}},
            },
            "n2": {"config": "#cloud-config\n{}\n"},
        },
        ["n1 -- n2"],
        kind="cloud",
        addressing={"links": "10.0.0.0/30", "loopback": "10.9.0.0/24", "ipv6": True},
    )
    made, other = (vm["options"]["config_drive"] for vm in share(topology)["hv1"]["vms"])
    assert (made["label"], made["format"], set(made["files"])) == (
        "cidata",
        "iso",
        {"meta-data", "user-data", "vendor-data", "network-config"},
    )
    # The hypervisor adds the instance ID.
    assert made["files"]["meta-data"] == {}
    assert (
        made["files"]["user-data"].startswith("#cloud-config\n")
        and other["files"]["user-data"] == "#cloud-config\n{}\n"
    )
    user = yaml.safe_load(made["files"]["user-data"])
    assert (
        user["hostname"] == "n1"
        and user["users"][0]["name"] == "ann"
        and user["users"][0]["ssh_authorized_keys"] == ["ssh-ed25519 A"]
    )
    assert user["users"][0]["lock_passwd"] and not user["ssh_pwauth"]
    # Beside a config of the user as well.
    for files in (made["files"], other["files"]):
        header, _line, archive = files["vendor-data"].partition("\n")
        parts = {part["type"]: part["content"] for part in yaml.safe_load(archive)}
        assert header == "#cloud-config-archive"
        assert yaml.safe_load(parts["text/cloud-config"]) == {
            "updates": {"network": {"when": ["boot"]}}
        }
        hook = parts["text/cloud-boothook"].splitlines()
        assert hook[0] == "#!/bin/sh" and len(hook) == 3
        assert ("10.9.0.1" in hook[1]) == (files is made["files"])
    network = yaml.safe_load(made["files"]["network-config"])
    assert network["version"] == 2 and list(network["ethernets"]) == [
        "eth0",
        "eth1",
        "eth2",
        "eth3",
        "eth4",
    ]
    assert [network["ethernets"][name]["dhcp4"] for name in ("eth0", "eth1", "eth2")] == [
        True,
        False,
        False,
    ]
    assert network["ethernets"]["eth1"]["addresses"] == topology.nodes["n1"].nics["eth1"].addresses
    assert network["ethernets"]["eth1"]["match"] == {
        "macaddress": topology.nodes["n1"].nics["eth1"].mac
    }


def test_template_variables():
    topology = build(
        {"n1": {"asn": 65001, "vars": {"x": 1}}, "n2": {"asn": 65002, "groups": ["g"]}},
        [{"endpoints": ["n1", "n2"], "vars": {"cost": 5}}],
        {"lan": {"members": ["n1"], "vars": {"area": 0}}},
        groups={"g": {}},
        addressing={"links": "10.0.0.0/30", "loopback": "10.9.0.0/24"},
    )
    seen = template_variables(topology, topology.nodes["n1"])
    assert json.loads(json.dumps(seen)) == seen
    assert (seen["name"], seen["kind"], seen["loopback"], seen["asn"], seen["vars"]) == (
        "n1",
        "tiny",
        "10.9.0.1",
        65001,
        {"x": 1},
    )
    assert seen["nics"][0]["peer"] == {
        "node": "n2",
        "nic": "eth1",
        "addresses": ["10.0.0.2/30"],
        "asn": 65002,
        "groups": ["g"],
        "loopback": "10.9.0.2",
    }
    assert (
        seen["nics"][0]["vars"],
        seen["nics"][1]["vars"],
        seen["nics"][1]["wire"],
        seen["nics"][1]["peer"],
    ) == ({"cost": 5}, {"area": 0}, "lan", None)


def test_after_has_only_nodes_of_the_same_host():
    topology = build({"n1": {"after": ["n2", "n3"]}, "n2": {}, "n3": {}})
    shares = share(topology, {"n1": "hv1", "n2": "hv1", "n3": "hv2"})
    assert shares["hv1"]["vms"][0]["after"] == {"n2": "started"}


def test_cloud_init_without_addresses():
    topology = build(
        {
            "my_node": {"set_addresses": False, "nics": {"eth0": {"link": {"type": "user"}}}},
            "n2": {},
        },
        ["my_node -- n2"],
        kind="cloud",
        addressing={"links": "10.0.0.0/30", "loopback": "10.9.0.0/24"},
    )
    files = drive(topology)["files"]
    assert yaml.safe_load(files["user-data"])["hostname"] == "my-node"
    assert "boothook" not in files["vendor-data"]
    for nic in yaml.safe_load(files["network-config"])["ethernets"].values():
        assert (nic["addresses"], nic["dhcp4"]) == ([], False)


UUID = "6BA7B812-9DAD-11D1-80B4-00C04FD430C8"


@pytest.mark.parametrize(
    ("given", "placeholder"),
    [
        (UUID, UUID.lower()),
        ("derived", placeholders.derived_uuid("t", "n1")),
        ("random", placeholders.derived_uuid("t", "n1")),
    ],
)
def test_a_node_has_its_own_uuid(given, placeholder):
    kinds = {"k": {"extends": "tiny", "vm": {"smbios": [{"type": 1, "serial": "{uuid}"}]}}}
    topology = build({"n1": {"uuid": given}, "n2": {}}, kind="k", kinds=kinds)
    first, second = share(topology)["hv1"]["vms"]
    assert first["options"]["uuid"] == given and "uuid" not in second["options"]
    assert first["options"]["smbios"][0]["serial"] == placeholder


def test_nodes_are_stopped_in_their_own_way():
    topology = build(
        {"n1": {"shutdown": {"timeout": 300}}, "n2": {}},
        defaults={"kind": "tiny", "shutdown": {"force": False}},
    )
    first, second = share(topology)["hv1"]["vms"]
    assert first["shutdown"] == {"force": False, "timeout": 300}
    assert second["shutdown"] == {"force": False}
    assert share(build())["hv1"]["vms"][0]["shutdown"] == {}


@pytest.mark.parametrize(
    ("nodes", "path", "message"),
    [
        ({"n1": {"uuid": "here"}}, "nodes.n1", "uuid: 'here' is not a UUID"),
        (
            {"n1": {"uuid": UUID}, "n2": {"uuid": UUID.lower()}},
            "nodes.n2.uuid",
            "6ba7b812-9dad-11d1-80b4-00c04fd430c8 is also the UUID of n1",
        ),
        ({"n1": {"shutdown": {"timeout": -1}}}, "nodes.n1.shutdown.timeout", "-1"),
        ({"n1": {"shutdown": {"timeuot": 1}}}, "nodes.n1.shutdown.timeuot", "did you mean timeout"),
    ],
)
def test_what_is_wrong_with_a_life_is_named(nodes, path, message):
    with pytest.raises(TopologyError) as caught:
        build(nodes)
    assert message in dict(caught.value.problems)[path]


def test_a_uuid_is_for_one_node():
    with pytest.raises(TopologyError, match="defaults.uuid: there is no such setting"):
        build(defaults={"kind": "tiny", "uuid": UUID})
