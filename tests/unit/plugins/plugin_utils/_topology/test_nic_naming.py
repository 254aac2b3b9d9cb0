# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of NICs: slots, and the names that containerlab gives them."""

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import (
    NicNaming,
    SystemNaming,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

SLOTS = {"name": "Gi{slot}/{n}", "per_slot": 4, "first": 0, "max": 16, "fill_slots": True}
FROM_ONE = {"name": "p{slot}.{n}x", "per_slot": 2, "first": 1, "max": 5, "fill_slots": True}
REVERSED = {"name": "eth{n}@{slot}", "per_slot": 3, "first": 0, "max": 7}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (SLOTS, ["Gi%d/%d" % (slot, port) for slot in range(4) for port in range(4)]),
        (FROM_ONE, ["p0.1x", "p0.2x", "p1.1x", "p1.2x", "p2.1x"]),
        (REVERSED, ["eth0@0", "eth1@0", "eth2@0", "eth0@1", "eth1@1", "eth2@1", "eth0@2"]),
        ({"name": "ge-0/0/{n}", "first": 3, "max": 2}, ["ge-0/0/3", "ge-0/0/4"]),
    ],
)
def test_names_and_numbers_are_the_same_both_ways(settings, names):
    naming = NicNaming(settings)
    assert list(naming.names()) == names
    assert [naming.number(name) for name in names] == list(
        range(naming.first, naming.first + naming.maximum)
    )
    assert all(naming.supports(name) for name in names)
    assert [naming.at(position) for position in range(len(names) + 1)] == [*names, None]


@pytest.mark.parametrize(
    "name", ["Gi0/4", "Gi4/0", "Gi00/1", "Gi0/01", "Gi0", "Gi0/1/2", "Gi/1", "gi0/1", "Gi0/1 ", ""]
)
def test_names_of_no_slot(name):
    assert not NicNaming(SLOTS).supports(name)


def test_gaps_are_filled_over_slots():
    topology = builder.build(
        {
            "name": "t",
            "defaults": {"kind": "cisco_viosl2"},
            "nodes": {"a": {}, "b": {}},
            "links": ["a:GigabitEthernet1/1 -- b"],
        }
    )
    names = list(topology.nodes["a"].nics)
    assert names[:6] == ["GigabitEthernet%d/%d" % divmod(number, 4) for number in range(6)]
    assert len(names) == 8, "blocks of four"
    assert [nic.position for nic in topology.nodes["a"].nics.values()] == list(range(8))
    assert topology.links[0].ends[1].nic == "GigabitEthernet0/0"


@pytest.mark.parametrize(
    ("kind", "name", "full"),
    [
        ("juniper_vsrx", "eth0", "fxp0"),
        ("juniper_vsrx", "eth1", "ge-0/0/0"),
        ("juniper_vsrx", "eth3", "ge-0/0/2"),
        # Its first NIC is for management there.
        ("cisco_c8000v", "eth0", "GigabitEthernet1"),
        ("cisco_c8000v", "eth1", "GigabitEthernet2"),
        ("cisco_vios", "eth1", "GigabitEthernet0/1"),
        ("cisco_viosl2", "eth4", "GigabitEthernet1/0"),
        ("arista_veos", "eth1", "Ethernet1"),
        # Names of the system itself.
        ("juniper_vsrx", "ge-0/0/1", "ge-0/0/1"),
        ("vyos", "eth0", "eth0"),
        ("tiny", "eth1", "eth1"),
    ],
)
def test_every_kind_has_the_names_of_containerlab(kind, name, full):
    data = {"name": "t", "nodes": {"a": {"kind": kind}, "b": {"kind": "tiny"}}}
    for more in (
        {"links": ["a:%s -- b" % name]},
        {"links": [{"endpoints": [{"node": "a", "nic": name}, "b"]}]},
        {"segments": {"s": {"members": ["a:" + name]}}},
    ):
        topology = builder.build({**data, **more})
        assert topology.networks[0].ends[0].nic == full
    data["nodes"]["a"]["nics"] = {name: {"mac": "52:54:00:00:00:07"}}
    assert builder.build(data).nodes["a"].nics[full].mac == "52:54:00:00:00:07"


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"links": ["a:eth99 -- b"]}, "links[0].endpoints[0]", "has no NIC eth99"),
        ({"links": ["b:eth0 -- a"]}, "links[0].endpoints[0]", "has no NIC eth0"),
        (
            {"nodes": {"a": {"kind": "juniper_vsrx", "nics": {"eth1": {}, "ge-0/0/0": {}}}}},
            "nodes.a.nics.ge-0/0/0",
            "ge-0/0/0 is given by two names",
        ),
        (
            {"kinds": {"k": {"nic": {"name": "x{slot}/{n}"}}}},
            "kinds.k.nic.per_slot",
            "the names have {slot}",
        ),
        (
            {"kinds": {"k": {"nic": {"name": "x{n}", "per_slot": 4}}}},
            "kinds.k.nic.name",
            "'x{n}' has no {slot}",
        ),
        ({"kinds": {"k": {"nic": {"name": "x{n}{n}"}}}}, "kinds.k.nic.name", "more than one {n}"),
        (
            {"kinds": {"k": {"nic": {"name": "x{slot}"}}}},
            "kinds.k.nic.name",
            "must contain {n}",
        ),
    ],
)
def test_what_is_wrong_is_named(changes, path, message):
    data = {"name": "t", "nodes": {"a": {"kind": "juniper_vsrx"}, "b": {"kind": "tiny"}}}
    with pytest.raises(TopologyError) as caught:
        builder.build({**data, **changes})
    assert message in dict(caught.value.problems)[path]


def test_the_nics_of_a_system_are_counted_over_its_modules():
    own = {"management": ["m0", "m1"], "max": 0}
    cards = [
        {"name": "1/{n}", "max": 2, "management": ["x"]},
        {"name": "2/{n}", "max": 3, "first": 0},
    ]
    naming = SystemNaming(own, cards)
    names = ["1/1", "1/2", "2/0", "2/1", "2/2"]
    assert list(naming.names()) == names
    assert [naming.number(name) for name in names] == [0, 1, 2, 3, 4]
    assert [naming.part_with(name) for name in ("m1", *names, "x")] == [0, 1, 1, 2, 2, 2, 0]
    assert [naming.full_name("eth%d" % n) for n in range(5)] == ["m0", "1/1", "1/2", "2/0", "2/1"]
    assert [naming.supports(name) for name in ("m0", "1/1", "1/3", "x")] == [
        True,
        True,
        False,
        False,
    ]
    assert str(naming) == "m0, m1, 1/1 to 2/2"
    assert str(NicNaming({"max": 0})) == "none"
    data_on_top = SystemNaming({"name": "xe{n}", "max": 1}, [{"max": 0, "management": ["i"]}])
    assert [data_on_top.part_with("xe1"), data_on_top.data_part, str(data_on_top)] == [
        0,
        0,
        "xe1 to xe1",
    ]
