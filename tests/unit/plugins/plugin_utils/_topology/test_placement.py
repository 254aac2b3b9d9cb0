# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._lab import shortages
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    placement,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.images import apply_images
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import (
    Problems,
    TopologyError,
)

HOSTS = ["hv1", "hv2", "hv3"]
OVERHEAD = (
    placement.memory_of(
        builder.build({"name": "t", "nodes": {"n": {"kind": "tiny", "memory": 1}}}).nodes["n"]
    )
    - 1
)


def lab(nodes=6, policy=None, **more):
    data = {
        "name": "t",
        "defaults": {"kind": "tiny", "memory": "100M"},
        "placement": {"policy": policy} if policy else {},
    }
    data["nodes"] = (
        nodes if isinstance(nodes, dict) else {"n%d" % n: {} for n in range(1, nodes + 1)}
    )
    return builder.build(dict(data, **more))


def facts(memory=1000, vms=(), **more):
    return dict(
        {
            "memory_available_mb": memory,
            "cpus": 4,
            "disk_free_mb": 10000,
            "qemu_version": [8, 0, 0],
            "missing_files": [],
            "vms": {name: {"status": "running"} for name in vms},
        },
        **more,
    )


def counts(placed):
    return [list(placed.values()).count(host) for host in HOSTS]


@pytest.mark.parametrize(
    "memory, mebibytes",
    [
        ("512", 512),
        (512, 512),
        ("1.5G", 1536),
        ("64 MiB", 64),
        ("2048k", 2),
        (None, 256),
        ("1T", 1 << 20),
    ],
)
def test_memory_of_a_node(memory, mebibytes):
    settings = {"kind": "bare"} if memory is None else {"kind": "bare", "memory": memory}
    node = builder.build({"name": "t", "kinds": {"bare": {}}, "nodes": {"n": settings}}).nodes["n"]
    assert placement.memory_of(node) == mebibytes + OVERHEAD


def test_spread_is_even_and_the_default():
    assert counts(placement.place(lab(), HOSTS)) == [2, 2, 2]
    assert counts(placement.place(lab(7, "spread"), HOSTS)) == [3, 2, 2]


def test_pack_fills_a_host_before_the_next():
    free_memory = {host: facts(2 * (100 + OVERHEAD)) for host in HOSTS}
    assert counts(placement.place(lab(3, "pack"), HOSTS, free_memory)) == [2, 1, 0]
    assert counts(placement.place(lab(6, "pack"), HOSTS, free_memory)) == [2, 2, 2]
    assert sum(counts(placement.place(lab(7, "pack"), HOSTS, free_memory))) == 7, (
        "shortages reports what does not fit"
    )


def test_memory_prefers_the_host_with_most_free_memory():
    free_memory = {"hv1": facts(500), "hv2": facts(2000), "hv3": facts(1000)}
    placed = placement.place(lab(2, "memory"), HOSTS, free_memory)
    assert counts(placed) == [0, 2, 0]
    assert counts(placement.place(lab(12, "memory"), HOSTS, free_memory))[1] > 6


def test_pins():
    placed = placement.place(lab({"n1": {"hypervisor": "hv3"}, "n2": {}, "n3": {}}), HOSTS)
    assert placed == {"n1": "hv3", "n2": "hv1", "n3": "hv2"}
    with pytest.raises(
        TopologyError, match="nodes.n1.hypervisor: hv9 is not among the hypervisors"
    ):
        placement.place(lab({"n1": {"hypervisor": "hv9"}}), HOSTS)
    with pytest.raises(
        TopologyError, match="segments.s.hypervisor: hv9 is not among the hypervisors"
    ):
        placement.place(
            lab({"n1": {}}, segments={"s": {"members": ["n1"], "hypervisor": "hv9"}}), HOSTS
        )


def test_a_node_stays_where_it_is():
    current = {"hv1": facts(), "hv2": facts(vms=["n1", "n2", "n3"]), "hv3": facts()}
    placed = placement.place(lab(6), HOSTS, current)
    assert [placed[name] for name in ("n1", "n2", "n3")] == ["hv2"] * 3 and counts(placed)[1] == 3
    assert (
        placement.place(lab({"n1": {"hypervisor": "hv1"}, "n2": {}}), HOSTS, current)["n1"] == "hv1"
    ), "a pin takes precedence"


def test_a_clone_goes_where_its_origin_is():
    origins = {"n1": "hv3", "n2": "hv3", "n3": "hv2"}
    current = {host: facts(vms=["n2"] if host == "hv1" else []) for host in HOSTS}
    topology = lab({"n1": {}, "n2": {}, "n3": {"hypervisor": "hv1"}})
    placed = placement.place(topology, HOSTS, current, origins)
    assert placed == {"n1": "hv3", "n2": "hv1", "n3": "hv1"}


def test_the_order_of_the_file_does_not_matter():
    assert placement.place(lab({"n10": {}, "n2": {}, "n1": {}}), HOSTS) == placement.place(
        lab({"n1": {}, "n2": {}, "n10": {}}), HOSTS
    )


def test_hypervisors_of_the_topology():
    topology = lab(placement={"hypervisors": ["hv3", "hv2"]})
    assert counts(placement.place(topology, HOSTS)) == [0, 3, 3]
    with pytest.raises(TopologyError, match="no hypervisor"):
        placement.place(lab(), [])


def rows(topology, facts_of_hosts, **placed):
    placed = placed or {name: "hv1" for name in topology.nodes}
    return [
        (row["host"], row["what"], row["wanted"], row["has"])
        for row in placement.shortages(topology, placed, facts_of_hosts)
    ]


def test_a_lab_that_fits_lacks_nothing():
    assert rows(lab(), {"hv1": facts()}) == []
    assert rows(lab(), {}) == [], "a host without facts lacks nothing"


def test_shortages_of_memory():
    need = 6 * (100 + OVERHEAD)
    assert rows(lab(), {"hv1": facts(need)}) == []
    assert rows(lab(), {"hv1": facts(need - 1)}) == [
        ("hv1", "memory", "%d MiB" % need, "%d MiB" % (need - 1))
    ]
    assert rows(lab(limits={"memory_overcommit": 2}), {"hv1": facts(need // 2)}) == []
    assert rows(lab(), {"hv1": facts(0, vms=["n%d" % n for n in range(1, 7)])}) == [], (
        "running VMs have their memory already"
    )
    assert rows(lab(defaults={"kind": "tiny", "state": "stopped"}), {"hv1": facts(0)}) == []
    assert rows(lab(defaults={"kind": "tiny", "check_host_memory": False}), {"hv1": facts(0)}) == []


def test_shortages_of_other_things():
    unix = {"eth1": {"link": {"type": "unix", "path": "/a", "remote_path": "/b"}}}
    topology = lab(
        {"n1": {"vcpus": 5, "image": "/i/base.qcow2"}, "n2": {"kernel": "/i/k", "nics": unix}},
        limits={"vcpu_ratio": 1},
    )
    apply_images(topology, {}, Problems())
    facts_of_hosts = {
        "hv1": facts(
            missing_files=["/i/base.qcow2", "/i/other", "/i/k"],
            disk_free_mb=100,
            qemu_version=[5, 2, 0],
        )
    }
    assert rows(topology, facts_of_hosts) == [
        ("hv1", "vCPUs", "6", "4 (4 x 1)"),
        ("hv1", "disk space", "128 MiB", "100 MiB"),
        ("hv1", "image of n1", "/i/base.qcow2", "no such file"),
        ("hv1", "image of n2", "/i/k", "no such file"),
        ("hv1", "QEMU for n2", "7.2", "5.2.0"),
    ]


def test_the_columns_of_the_table():
    made = shortages.table(
        [
            {"host": "hv1", "what": "memory", "wanted": "1 MiB", "has": "0 MiB"},
            {"host": "a-long-name", "what": "vCPUs", "wanted": "3", "has": "2"},
        ]
    )
    assert made.splitlines() == [
        "  hypervisor   lacks   wanted  has",
        "  hv1          memory  1 MiB   0 MiB",
        "  a-long-name  vCPUs   3       2",
    ]


@pytest.mark.parametrize("policy", ["spread", "memory", "pack"])
@pytest.mark.parametrize("seed", range(20))
def test_the_heap_chooses_as_a_search_of_all_hosts_does(policy, seed):
    draw = random.Random(seed)
    hosts = ["hv%d" % number for number in range(draw.randint(1, 7))]
    draw.shuffle(hosts)
    free = {host: draw.choice([0, 900, 4000]) for host in hosts}
    nodes = {
        "n%d" % number: {"memory": draw.choice([64, 256, 1024])}
        | ({"hypervisor": draw.choice(hosts)} if draw.random() < 0.2 else {})
        for number in range(40)
    }
    topology = lab(nodes, policy)
    expected = {name: node["hypervisor"] for name, node in nodes.items() if "hypervisor" in node}
    left = dict(free)
    for name, host in expected.items():
        left[host] -= placement.memory_of(topology.nodes[name])
    for name in nodes:
        if name not in expected:
            need = placement.memory_of(topology.nodes[name])
            chosen = max(hosts, key=lambda host: left[host])
            if policy == "spread":
                chosen = min(hosts, key=list(expected.values()).count)
            elif policy == "pack":
                chosen = next((host for host in hosts if left[host] >= need), chosen)
            expected[name] = chosen
            left[chosen] -= need
    found = {host: {"memory_available_mb": mebibytes} for host, mebibytes in free.items()}
    assert placement.place(topology, hosts, found) == expected
