# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pictures show everything, nothing overlaps, and no text becomes markup. They need graphviz."""

from __future__ import annotations

import copy
import html.parser
import math
import re
import xml.etree.ElementTree

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ProgramError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import (
    drawing,
    graphviz,
    outside,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.geometry import crosses
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.mermaid import mermaid
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.page import page
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.svg import svg
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import view_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder

SVG = "{http://www.w3.org/2000/svg}"


def lab(nodes, links=(), **more):
    return dict(
        {
            "name": "lab",
            "defaults": {"kind": "frr"},
            "nodes": {name: {} for name in nodes} if not isinstance(nodes, dict) else nodes,
            "links": list(links),
            "addressing": {"loopback": "10.255.0.0/16", "links": "10.0.0.0/12", "asn": 65000},
        },
        **more,
    )


def fabric(spines, leaves, hosts):
    groups = {
        "host": {"members": []},
        "leaf": {"members": []},
        "spine": {"members": ["spine%d" % s for s in range(1, spines + 1)]},
    }
    links = []
    for leaf in range(1, leaves + 1):
        groups["leaf"]["members"].append("leaf%d" % leaf)
        links += ["leaf%d -- spine%d" % (leaf, spine) for spine in range(1, spines + 1)]
        for host in range(1, hosts + 1):
            groups["host"]["members"].append("host%d-%d" % (leaf, host))
            links.append("leaf%d -- host%d-%d" % (leaf, leaf, host))
    return lab(
        [name for group in groups.values() for name in group["members"]], links, groups=groups
    )


def ring(size):
    return lab(
        ["r%d" % n for n in range(size)], ["r%d -- r%d" % (n, (n + 1) % size) for n in range(size)]
    )


LABS = {
    "one": lab(["a"]),
    "two": lab(["a", "b"], ["a -- b"]),
    "no links": lab(["a", "b", "c"]),
    "fabric": fabric(2, 4, 1),
    "64": fabric(4, 20, 2),
    "triangle": ring(3),
    "ring": ring(7),
    "ring of 40": ring(40),
    "mesh": lab(
        "abcde", ["%s -- %s" % (one, other) for one in "abcde" for other in "abcde" if one < other]
    ),
    "grid": lab(
        ["r%d" % n for n in range(36)],
        ["r%d -- r%d" % (n, n + 1) for n in range(36) if n % 6 != 5]
        + ["r%d -- r%d" % (n, n + 6) for n in range(30)],
    ),
    "star": lab(["hub"] + ["s%d" % n for n in range(12)], ["hub -- s%d" % n for n in range(12)]),
    "parallel": lab(["a", "b"], ["a -- b", "b -- a", "a -- b"]),
    "itself": lab(["a", "b"], ["a -- a", "a -- b"]),
    "past a tier": lab(
        {"s": {"groups": ["spine"]}, "l": {"groups": ["leaf"]}, "h": {"groups": ["host"]}},
        ["s -- l", "l -- h", "s -- h"],
        groups={"spine": {}, "leaf": {}, "host": {}},
    ),
    "beside": lab(
        {
            "s": {"groups": ["spine"]},
            "l1": {"groups": ["leaf"]},
            "l2": {"groups": ["leaf"]},
            "l3": {"groups": ["leaf"]},
        },
        ["s -- l1", "s -- l2", "s -- l3", "l1 -- l3"],
        groups={"spine": {}, "leaf": {}},
    ),
    "segments": lab(
        "abc",
        ["a -- b"],
        segments={
            "lan": {"members": ["a", "b", "c"], "prefix": "192.168.0.0/24"},
            "dmz": {"members": ["c"]},
        },
    ),
    "switches": lab(
        "abcd",
        ["a -- b"],
        segments={
            "sw1": {
                "type": "switch",
                "members": [{"node": "a", "access": 10}, "b", {"segment": "sw2", "trunk": [10, 1]}],
            },
            "sw2": {
                "type": "switch",
                "members": [{"node": "c", "qinq": 7}, {"node": "d", "trunk": "all", "native": 5}],
                "uplink": {"type": "tap", "interface": "tap0", "access": 10},
            },
        },
    ),
    "two parts": lab("abcd", ["a -- b", "c -- d"]),
    "modules": lab(
        {"m1": {"kind": "nokia_sros_chassis"}, "m2": {"kind": "juniper_vmx"}, "a": {}},
        ["m1:1/1/2 -- m2", "m1 -- a"],
        segments={"lan": {"members": ["m1", "m2", "a"]}},
    ),
    "peer link": lab(
        {
            "s": {"groups": ["spine"]},
            "l1": {"groups": ["leaf"]},
            "l2": {"groups": ["leaf"]},
        },
        ["s -- l1", "s -- l2", "l1 -- l2"],
        groups={"spine": {}, "leaf": {}},
    ),
    "outside": lab(
        {
            "a": {"nics": {"eth8": {"link": {"type": "bridge", "bridge": "br0"}}}},
            "b": {"nics": {"eth8": {"link": {"type": "bridge", "bridge": "br0"}, "capture": True}}},
            "c": {
                "nics": {
                    "eth7": {"link": {"type": "tap", "interface": "tap0"}},
                    "eth8": {"link": {"type": "user", "forwards": [{"guest_port": 22}]}},
                }
            },
        },
        ["a -- b", {"endpoints": ["b", "c"], "capture": True}],
    ),
    "long": lab(["x" * 63, "y"], ["%s -- y" % ("x" * 63)]),
}


def seen(data, vms=None, placement=None):
    return view_of(builder.build(data), vms, placement)


def vm(name, status="running", **more):
    return dict({"name": name, "lab": "lab", "status": status, "consoles": [], "nics": []}, **more)


def test_a_system_of_several_vms_is_one_node():
    nics = [{"name": "1_1_2", "carrier": False, "capture": {"enabled": True, "path": "/c.pcap"}}]
    vms = [vm("m1"), vm("m1-iom1", nics=nics), vm("m2"), vm("m2-fpc0", "stopped"), vm("a")]
    view = seen(LABS["modules"], vms)
    assert sorted(view.nodes) == ["a", "m1", "m2"] and list(view.segments) == ["lan"]
    assert view.summary == "3 nodes, 2 links, 1 segment, 2 running, 1 stopped"
    links = {str(link): link for link in view.links}
    link = links["m1:1/1/2 -- m2:ge-0/0/0"]
    assert (link.name, link.down) == ("m1:1/1/2--m2:ge-0/0/0", True)
    assert [(end.vm, end.captured) for end in link.ends] == [("m1-iom1", True), ("m2-fpc0", False)]
    assert [nic.name for nic in view.nodes["m1"].nics] == ["1/1/1", "1/1/2", "1/1/3"]
    assert not links["a:eth1 -- m1:1/1/1"].down
    assert seen(LABS["modules"]).nodes["m2"].state == ""


@pytest.mark.parametrize("name", LABS)
def test_every_node_segment_and_link_is_in_the_svg(name):
    view = seen(LABS[name])
    picture = xml.etree.ElementTree.fromstring(svg(view))
    assert sorted(
        part.get("data-node") for part in picture.iter(SVG + "g") if part.get("data-node")
    ) == sorted(view.nodes)
    assert sorted(
        part.get("data-segment") for part in picture.iter(SVG + "g") if part.get("data-segment")
    ) == sorted(view.segments)
    links = {
        int(part.get("data-link")): part
        for part in picture.iter(SVG + "g")
        if part.get("data-link")
    }
    assert sorted(links) == [link.number for link in view.links]
    labels = {
        int(part.get("data-labels")): [text.text for text in part.iter(SVG + "text")]
        for part in picture.iter(SVG + "g")
        if part.get("data-labels")
    }
    for link in view.links:
        words = [text.removesuffix(", capture") for text in labels[link.number]]
        assert [end.nic for end in link.ends] == words[: len(link.ends)]
        assert all(str(end) in links[link.number].find(SVG + "title").text for end in link.ends)
    left, top, width, height = map(float, picture.get("viewBox").split())
    assert (left, top) == (0, 0) and width > 100 and height > 50


@pytest.mark.parametrize("name", LABS)
def test_nothing_overlaps(name):
    drawn = drawing.drawing_of(seen(LABS[name]))
    cards = drawn.nodes + drawn.segments
    for number, card in enumerate(cards):
        assert (
            card.box.left >= 0
            and card.box.top >= 0
            and card.box.right <= drawn.width
            and card.box.bottom <= drawn.height
        )
        for other in cards[number + 1 :]:
            assert not card.box.overlaps(other.box, 4), (card.title, other.title)
    for route in drawn.routes:
        ends = {end.node for end in route.link.ends} | {route.link.segment}
        line = route.line
        assert not [
            card.title
            for card in cards
            if card.subject.name not in ends and crosses(line, card.box)
        ], str(route.link)
        for end, point in zip(route.link.ends, (route.points[0], route.points[-1])):
            box = next(card.box for card in drawn.nodes if card.subject.name == end.node)
            assert (
                abs(point[0] - box.x) <= box.width / 2 + 8
                and abs(point[1] - box.y) <= box.height / 2 + 8
            ), "it does not end at its card"
    shown = [label.box for route in drawn.routes for label in route.labels if label.shown]
    for number, box in enumerate(shown):
        assert not any(
            box.overlaps(other) for other in shown[number + 1 :] + [card.box for card in cards]
        )


@pytest.mark.parametrize("name", ["fabric", "ring", "grid", "segments", "64"])
@pytest.mark.parametrize("make", [svg, mermaid, page])
def test_same_input_same_bytes(name, make):
    vms = [vm(node) for node in LABS[name]["nodes"]]
    assert make(seen(LABS[name], vms)) == make(seen(LABS[name], vms))


def test_the_order_of_tiers_does_not_depend_on_the_file():
    drawn = drawing.drawing_of(seen(fabric(2, 3, 1)))
    rows = {}
    for card in drawn.nodes:
        rows.setdefault(card.subject.groups[0], set()).add(card.box.y)
    assert [len(row) for row in rows.values()] == [1, 1, 1]
    assert max(rows["spine"]) < min(rows["leaf"]) and max(rows["leaf"]) < min(rows["host"])
    x = {card.subject.name: card.box.x for card in drawn.nodes}
    assert x["leaf1"] < x["leaf2"] < x["leaf3"] and x["spine1"] < x["spine2"]


def test_nodes_are_below_their_neighbours_whatever_their_names():
    data = lab(
        ["top", "l1", "l2", "l3", "x", "y", "z"],
        ["top -- l1", "top -- l2", "top -- l3", "l1 -- z", "l2 -- y", "l3 -- x"],
    )
    x = {card.subject.name: card.box.x for card in drawing.drawing_of(seen(data)).nodes}
    assert x["z"] < x["y"] < x["x"]


def test_distances_between_tiers():
    def gaps(data):
        boxes = {card.subject.name: card.box for card in drawing.drawing_of(seen(data)).nodes}
        return boxes["leaf1"].top - boxes["spine1"].bottom, boxes["host1-1"].top - boxes[
            "leaf1"
        ].bottom

    small, large = gaps(fabric(2, 4, 1)), gaps(fabric(4, 20, 2))
    assert small[0] > 110 > small[1] > 60 and large[0] > 180 and large[1] < 40


def test_groups_that_are_not_tiers():
    data = lab(
        {name: {"groups": ["big"]} for name in "abcd"},
        ["a -- b", "b -- c", "c -- d", "d -- a"],
        groups={"big": {}},
    )
    assert not seen(data).tiered
    assert [link.number for link in seen(ring(4)).links] == [0, 1, 2, 3] and not seen(
        ring(4)
    ).tiered


@pytest.mark.parametrize(
    "status, tone",
    [
        ("running", "up"),
        ("paused", "held"),
        ("prelaunch", "held"),
        ("stopped", "off"),
        ("crashed", "bad"),
        ("guest-panicked", "bad"),
        ("io-error", "bad"),
        ("unknown", "unknown"),
        ("something new", "unknown"),
    ],
)
def test_states(status, tone):
    node = seen(lab(["a"]), [vm("a", status)]).nodes["a"]
    assert (node.state, node.tone) == (status, tone)
    picture = svg(seen(lab(["a"]), [vm("a", status)]))
    assert (
        re.search(r'<text class="vl-state"[^>]*>%s</text>' % status, picture)
        and 'vl-%s"' % tone in picture
    )


def test_without_vms_no_states_are_shown():
    view = seen(lab(["a", "b"], ["a -- b"]))
    assert [node.state for node in view.nodes.values()] == ["", ""] and not view.links[0].down
    assert (
        'vl-state"' not in svg(view)
        and "absent" not in page(view).partition("<body>")[2]
        and ":::" not in mermaid(view)
    )


def test_missing_vms_and_vms_of_other_labs():
    view = seen(lab(["a", "b"]), [vm("a", lab="other"), vm("b"), vm("stranger")])
    assert {name: node.state for name, node in view.nodes.items()} == {
        "a": "absent",
        "b": "running",
    }
    assert view.summary == "2 nodes, 0 links, 1 running, 1 absent"


@pytest.mark.parametrize(
    "vms, down",
    [
        (None, False),
        ([vm("a"), vm("b")], False),
        ([vm("a"), vm("b", "paused")], False),
        ([vm("a"), vm("b", "stopped")], True),
        ([vm("a")], True),
        ([vm("a", nics=[{"name": "eth1", "link_down": True, "carrier": False}]), vm("b")], True),
        ([vm("a", nics=[{"name": "eth1", "link_down": False, "carrier": False}]), vm("b")], True),
        ([vm("a", nics=[{"name": "eth2", "link_down": True, "carrier": False}]), vm("b")], False),
    ],
)
def test_links_that_are_down(vms, down):
    view = seen(lab(["a", "b"], ["a -- b"]), vms)
    assert view.links[0].down is down
    assert (
        ('vl-down" data-link' in svg(view)) is down
        and (">down</text>" in svg(view)) is down
        and ("-.-" in mermaid(view)) is down
    )


def test_links_that_are_down_in_the_topology():
    assert seen(lab(["a", "b"], [{"endpoints": ["a", "b"], "down": True}])).links[0].down
    assert (
        seen(lab({"a": {"nics": {"eth1": {"link_down": True}}}, "b": {}}, ["a:eth1 -- b"]))
        .links[0]
        .down
    )


def test_hypervisors_come_from_the_vm_then_placement_then_the_topology():
    data = lab({"a": {"hypervisor": "hv1"}, "b": {"hypervisor": "hv1"}, "c": {"hypervisor": "hv1"}})
    view = seen(data, [vm("a", hypervisor="hv3"), vm("b")], {"a": "hv2", "b": "hv2"})
    assert [node.hypervisor for node in view.nodes.values()] == ["hv3", "hv2", "hv1"]
    assert view.hypervisors == ["hv1", "hv2", "hv3"]


def test_addresses_and_consoles_of_nodes():
    nics = [
        {
            "name": "eth1",
            "addresses": [
                {"address": "127.0.0.1", "port": 20002, "guest_port": 22},
                {"address": "192.0.2.7", "port": None},
            ],
        }
    ]
    data = lab({"a": {"nics": {"eth1": {"link": {"type": "user"}}}}})
    shown = page(seen(data, [vm("a", nics=nics, consoles=[{"command": "socat - x"}])]))
    assert (
        "127.0.0.1 port 20002 for port 22" in shown
        and "192.0.2.7" in shown
        and "<code>socat - x</code>" in shown
    )


@pytest.mark.parametrize("name", ["two", "triangle", "parallel", "peer link", "segments", "ring"])
def test_short_links_have_all_labels(name):
    drawn = drawing.drawing_of(seen(LABS[name]))
    assert not [
        (str(route.link), label.text)
        for route in drawn.routes
        for label in route.labels
        if not label.shown
    ]


def test_labels_are_above_all_links():
    picture = svg(seen(LABS["mesh"]))
    assert picture.rindex('class="vl-wire"') < picture.index('class="vl-labels"')


def outside_lab(**vm_b):
    data = lab(
        {
            "a": {"nics": {"eth8": {"link": {"type": "bridge", "bridge": "br0"}}}},
            "b": {
                "nics": {
                    "eth7": {"link": {"type": "bridge", "bridge": "br0"}},
                    "eth8": {
                        "link": {
                            "type": "user",
                            "forwards": [
                                {"guest_port": 22},
                                {"guest_port": 53, "host_port": 5353, "protocol": "udp"},
                                {"guest_port": 80, "host_port": 80, "host_address": "0.0.0.0"},
                            ],
                        },
                        "capture": True,
                    },
                }
            },
        }
    )
    return seen(data, [vm("a"), vm("b", **vm_b)] if vm_b else None)


def test_links_to_a_network_of_the_host_lead_to_one_segment():
    view = outside_lab()
    assert [(str(link), link.segment) for link in view.links] == [
        ("a:eth8 -- bridge br0", "bridge br0"),
        ("b:eth7 -- bridge br0", "bridge br0"),
    ]
    assert view.segments["bridge br0"].outside and "segment" not in view.summary
    assert 'vl-outside" data-segment="bridge br0"' in svg(view)
    assert '  s0[["bridge br0"]]' in mermaid(view).splitlines()
    assert "<div>bridge br0</div>" in page(view)


def test_bridges_of_two_hypervisors_are_two():
    data = lab(
        {name: {"nics": {"eth8": {"link": {"type": "bridge", "bridge": "br0"}}}} for name in "ab"}
    )
    view = seen(data, None, {"a": "hv1", "b": "hv2"})
    assert list(view.segments) == ["bridge br0 (hv1)", "bridge br0 (hv2)"]


def test_forwards_and_captures_of_links_to_the_outside():
    text = "eth8: user, auto \u2192 22, 5353 \u2192 53 udp, 0.0.0.0:80 \u2192 80, capture"
    view = outside_lab()
    assert text in svg(view) and "eth8: user, auto" in mermaid(view)
    shown = page(view)
    assert "<dd>0.0.0.0:80 \u2192 80</dd>" in shown and "<div>eth8: yes</div>" in shown
    nics = [{"name": "eth8", "capture": {"path": "/captures/eth8.pcap"}}]
    forwards = [{"nic": "eth8", "host_address": "127.0.0.1", "host_port": 20022, "guest_port": 22}]
    view = outside_lab(nics=nics, forwards=forwards)
    assert "eth8: user, 20022 \u2192 22, capture" in svg(view)
    assert "eth8: /captures/eth8.pcap" in page(view)
    view = outside_lab(nics=[{"name": "eth8", "capture": None}], forwards=forwards)
    assert "capture</text>" not in svg(view)


@pytest.mark.parametrize(
    "link, text, shared",
    [
        ({"type": "none"}, "", False),
        ({"type": "user"}, "user", False),
        ({"type": "tap"}, "tap", False),
        ({"type": "tap", "interface": "tap0"}, "tap tap0", True),
        ({"type": "mcast", "group": "230.0.0.1", "port": 9000}, "mcast 230.0.0.1:9000", True),
        ({"type": "vde", "path": "/run/vde"}, "vde /run/vde", True),
        (
            {"type": "udp", "local_port": 1, "remote_address": "192.0.2.1", "remote_port": 2},
            "udp 192.0.2.1:2",
            False,
        ),
        ({"peer": "x:eth1"}, "udp x:eth1", False),
        ({"type": "passt"}, "passt", False),
    ],
)
def test_every_type_of_link_to_the_outside(link, text, shared):
    assert (outside.destination(link), outside.is_shared(link)) == (text, shared)


def test_captures_of_links_are_at_their_first_end():
    data = lab(["a", "b"], [{"endpoints": ["b", "a"], "capture": True}])
    view = seen(data)
    assert [(str(end), end.captured) for end in view.links[0].ends] == [
        ("a:eth1", False),
        ("b:eth1", True),
    ]
    assert '<text class="vl-word vl-word-capture"' in svg(view)
    assert "eth1, capture</text>" in svg(view) and "(capture)" in mermaid(view)
    assert re.search(r"b:eth1 \S+ \(capture\)", svg(view))


def test_nics_with_slashes_are_found_in_the_vm():
    data = lab(["a", "b"], ["a:ge-0/0/0 -- b"])
    vms = [vm("a", nics=[{"name": "ge-0_0_0", "link_down": True}]), vm("b")]
    assert seen(data, vms).links[0].down


def test_consoles_over_ssh():
    command = "ssh -t hv1 'socat - x'"
    vms = [vm("a", consoles=[{"command": "socat - x"}], hypervisor="hv1")]
    shown = page(view_of(builder.build(lab(["a"])), vms, consoles={"a": command}))
    assert "ssh -t hv1 &#39;socat - x&#39;" in shown and "On the controller" in shown
    assert "On hv1" in page(seen(lab(["a"]), vms))


@pytest.mark.parametrize("make", [svg, page])
def test_schemes(make):
    view = seen(LABS["two"])
    auto, light, dark = make(view), make(view, "light"), make(view, "dark")
    assert "@media (prefers-color-scheme: dark)" in auto and "#10151d" in auto
    assert "prefers-color-scheme" not in light and "#10151d" not in light
    assert "prefers-color-scheme" not in dark and "#10151d" in dark
    # Its rules stand behind those that they override.
    assert dark.rindex(".vl-paper") > dark.index(".vl-bad")
    assert "light dark" not in light + dark


def test_schemes_of_a_diagram():
    view = seen(LABS["two"])
    assert [mermaid(view, scheme).splitlines()[2:4] for scheme in ("auto", "light", "dark")] == [
        ["---", "flowchart TB"],
        ["config:", "  theme: default"],
        ["config:", "  theme: dark"],
    ]


def test_icons():
    kinds = {"mine": {"extends": "cisco_asav"}, "loop": {"extends": "mine"}}
    data = lab(
        {
            "a": {"kind": "mine"},
            "b": {"kind": "loop"},
            "c": {"kind": "tiny"},
            "d": {},
            "e": {"groups": ["hosts"]},
            "f": {"kind": "arista_veos"},
        },
        kinds=kinds,
        groups={"hosts": {}},
    )
    assert {name: node.icon for name, node in seen(data).nodes.items()} == {
        "a": "firewall",
        "b": "firewall",
        "c": "host",
        "d": "router",
        "e": "host",
        "f": "switch",
    }


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "]]>&amp;&#60;",
    "{{ 7 * 7 }}{% raw %}{# x #}",
    "a\x00b\x1b[1m\ud800\u202e",
    '"]; click n0 call x() %% end',
    "`#quot;\n%%{init: 1}%%",
    "--> n1 ---|x|",
]


def hostile_lab(text):
    nic = re.sub(r"[\s:,\x00-\x1f\x7f]", "_", text).strip("/.") or "x"
    nic = re.sub(r"/+(?=/|$)", "", nic).encode("utf-8", "replace").decode()[:60]
    data = lab(
        {"a": {}, "b": {}},
        [
            {
                "endpoints": [{"node": "a", "nic": nic}, "b"],
                "name": text.encode("utf-8", "replace").decode(),
            }
        ],
    )
    vms = [
        vm(
            name,
            text,
            hypervisor=text,
            consoles=[{"command": text}],
            nics=[
                {"name": "eth1", "addresses": [{"address": text, "port": text, "guest_port": text}]}
            ],
        )
        for name in "ab"
    ]
    return nic, seen(data, vms)


class Tags(html.parser.HTMLParser):
    """The elements, attributes and texts of a page, as a browser sees them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_does_not_become_markup(text):
    nic, view = hostile_lab(text)
    harmless = seen(
        lab({"a": {}, "b": {}}, [{"endpoints": [{"node": "a", "nic": "eth1"}, "b"], "name": "x"}]),
        [
            vm(
                name,
                "odd",
                hypervisor="hv",
                consoles=[{"command": "x"}],
                nics=[
                    {
                        "name": "eth1",
                        "addresses": [{"address": "x", "port": "x", "guest_port": "x"}],
                    }
                ],
            )
            for name in "ab"
        ],
    )
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    tags, expected = Tags(page(view)), Tags(page(harmless))
    assert tags.tags == expected.tags and [name for name, _value in tags.attributes] == [
        name for name, _value in expected.attributes
    ]
    assert (
        shown in tags.texts
        and "".join(letter if letter.isprintable() else "?" for letter in nic) in tags.texts
    )
    root, known = (
        xml.etree.ElementTree.fromstring(svg(view)),
        xml.etree.ElementTree.fromstring(svg(harmless)),
    )
    assert [part.tag for part in root.iter()] == [part.tag for part in known.iter()]
    assert len(mermaid(view).splitlines()) == len(mermaid(harmless).splitlines())
    for line in mermaid(view).splitlines():
        assert (
            line.count('"') in (0, 2)
            and "<script" not in line
            and "%%" not in line
            and "`" not in line
        )
    for document in (page(view), svg(view), mermaid(view)):
        assert not re.search(r"\{[{%#]", document), "Ansible would evaluate it as a template"


def test_a_page_loads_nothing_and_restricts_scripts():
    text = page(seen(fabric(1, 2, 1), [vm("leaf1")]))
    tags = Tags(text)
    assert tags.tags.count("script") == 1 and "iframe" not in tags.tags
    assert [value for name, value in tags.attributes if name == "src"] == []
    assert all(
        value.startswith(("#node-", "data:,")) for name, value in tags.attributes if name == "href"
    )
    assert not re.search(r"url\(|@import|https?:(?!//www\.w3\.org/2000/svg)", text)
    policy = next(
        value for name, value in tags.attributes if value and value.startswith("default-src")
    )
    assert (
        policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
        and "unsafe" not in policy
    )
    ids = [value for name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_labels_and_the_title():
    data = lab({"a": {"label": "Core & Edge"}, "b": {}}, ["a -- b"])
    data["title"] = "Site <one>"
    view = seen(data)
    assert mermaid(view).splitlines()[1] == 'title: "Site #60;one#62;"'
    assert "Core &amp; Edge (a)" in svg(view) and "Site &lt;one&gt;" in svg(view)
    assert "<h1>Site &lt;one&gt;</h1>" in page(view)
    plain = seen(lab({"a": {}, "b": {}}, ["a -- b"]))
    assert (plain.title, plain.nodes["a"].title) == ("lab", "a")


PLACED = lab(
    {
        name: {"position": {"x": x, "y": y}, "description": "In {lab}: {name} {vars.key}"}
        for name, x, y in (("a", 0, 0), ("b", 30, -10), ("c", 28, 40), ("d", -500, 60))
    },
    ["a -- b", "b -- c", "c -- d", "d -- a"],
    defaults={"kind": "frr", "vars": {"key": "secret"}},
    segments={
        "lan": {"members": ["a", "c"], "position": {"x": 0, "y": 60}, "description": "of <us>"},
        "far": {"members": ["b", "c"]},
    },
)


def test_positions_of_the_topology():
    """The picture is the same, larger or smaller, and what has no place is between the others."""
    drawn = drawing.drawing_of(seen(PLACED))
    boxes = {card.subject.name: card.box for card in drawn.nodes + drawn.segments}
    scale = (boxes["b"].x - boxes["a"].x) / 30
    assert scale > 0
    for name, x, y in (("b", 30, -10), ("c", 28, 40), ("d", -500, 60), ("lan", 0, 60)):
        assert boxes[name].x - boxes["a"].x == pytest.approx(x * scale)
        assert boxes[name].y - boxes["a"].y == pytest.approx(y * scale)
    assert boxes["b"].top > boxes["far"].y - 200 and boxes["far"].x > boxes["a"].x
    cards = list(boxes.values())
    for number, box in enumerate(cards):
        assert not any(box.overlaps(other, 4) for other in cards[number + 1 :])
    assert min(box.left for box in cards) > 0 and min(box.top for box in cards) > 0


@pytest.mark.parametrize(
    "position",
    [
        None,
        {"x": 30, "y": -10},  # that of b
        {"x": 30.001, "y": -10.001},  # so near that the picture would be too large
        {"x": math.nan, "y": 0},
    ],
)
def test_positions_that_cannot_be_used(position):
    data, plain = copy.deepcopy(PLACED), copy.deepcopy(PLACED)
    data["nodes"]["c"]["position"] = position
    if position is None:
        del data["nodes"]["c"]["position"]
    for part in [*plain["nodes"].values(), *plain["segments"].values()]:
        part.pop("position", None)
    assert svg(seen(data)) == svg(seen(plain))


def test_positions_take_precedence_over_tiers():
    data = fabric(2, 2, 0)
    for number, node in enumerate(data["nodes"].values()):
        node["position"] = {"x": 100 * number, "y": 0}
    drawn = drawing.drawing_of(seen(data))
    assert len({card.box.y for card in drawn.nodes}) == 1


def test_descriptions_without_vars():
    view = seen(PLACED)
    text = page(view)
    assert view.nodes["a"].description == "In lab: a "
    assert "In lab: a" in text and "of &lt;us&gt;" in text and "secret" not in text
    assert "In lab: a" in svg(view)
    assert "Description" not in page(seen(lab(["a"])))


def test_mermaid():
    view = seen(
        lab(
            {"r1": {"groups": ["leaf"]}, "r2": {"groups": ["spine"]}},
            ["r1 -- r2"],
            groups={"leaf": {}, "spine": {}},
            segments={"lan": {"members": ["r1"], "prefix": "192.168.0.0/24"}},
            addressing={"links": "10.0.0.0/30"},
        ),
        [vm("r1"), vm("r2")],
    )
    assert mermaid(view).splitlines()[:9] == [
        "---",
        'title: "lab"',
        "---",
        "flowchart TB",
        '  n0["r2<br/>frr<br/>10.0.0.2/30<br/>running"]:::up',
        '  n1["r1<br/>frr<br/>10.0.0.1/30<br/>running"]:::up',
        '  s0(["lan<br/>192.168.0.0/24"])',
        '  n0 ---|"eth1 · 10.0.0.0/30 · eth1"| n1',
        '  n1 ---|"eth2 · 192.168.0.0/24"| s0',
    ]


def test_switches_and_their_vlans():
    view = seen(LABS["switches"])
    text, picture, document = mermaid(view), svg(view), page(view)
    for line in (
        '  s0{{"sw1"}}',
        '  s1{{"sw2<br/>uplink#58; tap tap0"}}',
        '  n0 ---|"eth2 · VLAN 10"| s0',
        '  n1 ---|"eth2 · VLAN 1"| s0',
        '  s0 ---|"trunk 1, 10"| s1',
        '  n2 ---|"eth1 · QinQ 7"| s1',
        '  n3 ---|"eth1 · trunk all, native 5"| s1',
    ):
        assert line.replace("#58;", ":") in text.splitlines(), (line, text)
    assert picture.count('class="vl-segment vl-lan-switch"') == 2
    for words in ("sw1 -- sw2, trunk 1, 10", "uplink: tap tap0"):
        assert words in picture
    assert ">trunk 1, 10<" in picture and "trunk 1, 10" in document


def test_without_graphviz_the_error_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        VlabError, match="install the package graphviz .Debian.*Fedora.*format mermaid"
    ):
        svg(seen(LABS["two"]))
    assert "n0 ---" in mermaid(seen(LABS["two"]))


def test_an_error_of_graphviz_is_reported(monkeypatch, tmp_path):
    (tmp_path / "dot").write_text(
        "#!/bin/sh\necho 'no space in the world' >&2\nexit 3\n", encoding="utf-8"
    )
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", "%s:/usr/bin:/bin" % tmp_path)
    with pytest.raises(
        ProgramError, match="could not draw the lab: no space in the world"
    ) as caught:
        svg(seen(LABS["two"]))
    assert caught.value.facts["rc"] == 3


def test_graphviz_gets_numbers_only(monkeypatch):
    given = []
    ask = graphviz._run_dot
    monkeypatch.setattr(
        graphviz, "_run_dot", lambda text, *arguments: given.append(text) or ask(text, *arguments)
    )
    svg(seen(LABS["segments"]))
    svg(seen(LABS["mesh"]))
    assert given and not any("lan" in text or "dmz" in text for text in given)
