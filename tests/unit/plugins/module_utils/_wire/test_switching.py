# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a switch sends frames: learning, VLANs, tags, and what a hostile guest can do to it."""

from __future__ import annotations

import random

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._wire import switching
from ansible_collections.vlab.qemu.plugins.module_utils._wire.switching import Switch

A, B, C = (bytes([2, 0, 0, 0, 0, number]) for number in (1, 2, 3))
ALL = b"\xff" * 6
STP = bytes.fromhex("0180c2000000")
IP = b"\x08\x00"
BODY = b"payload"


def frame(destination, source, *tags, body=IP + BODY):
    """A frame with tags: numbers of VLANs, or (protocol, priority and VLAN)."""
    data = destination + source
    for tag in tags:
        protocol, control = tag if isinstance(tag, tuple) else (0x8100, tag)
        data += protocol.to_bytes(2, "big") + control.to_bytes(2, "big")
    return data + body


def switch_of(ageing=300, **ports):
    switch = Switch()
    switch.configure({name: switching.check(vlans) for name, vlans in ports.items()}, ageing)
    return switch


def sent(switch, port, data, now=0.0):
    """Return {port: frame} that a frame becomes."""
    found = switch.forward(switch.ports[port], data, now)
    return {other.name: copy for other, copy in found}


def counters(switch, port):
    return {name: value for name, value in switch.ports[port].report().items() if value}


def test_addresses_are_learned_and_a_third_port_stays_silent():
    switch = switch_of(a={}, b={}, c={})
    assert set(sent(switch, "a", frame(B, A))) == {"b", "c"}
    assert set(sent(switch, "b", frame(A, B))) == {"a"}
    assert set(sent(switch, "a", frame(B, A))) == {"b"}
    # Broadcasts and multicasts, also those of protocols between neighbours, go to all.
    for destination in (ALL, STP, bytes.fromhex("0180c200000e")):
        assert set(sent(switch, "a", frame(destination, A))) == {"b", "c"}
    # Both are at the same port now: behind a hub, for example.
    assert set(sent(switch, "c", frame(ALL, A))) == {"a", "b"}
    assert set(sent(switch, "b", frame(A, B))) == {"c"}
    assert sent(switch, "c", frame(A, C)) == {}
    assert counters(switch, "c")["addresses"] == 2 and "addresses" not in counters(switch, "a")


def test_addresses_age():
    switch = switch_of(10, a={}, b={}, c={})
    sent(switch, "a", frame(ALL, A), 0)
    assert set(sent(switch, "b", frame(A, B), 10)) == {"a"}
    assert set(sent(switch, "b", frame(A, B), 10.1)) == {"a", "c"}
    sent(switch, "a", frame(ALL, A), 15)
    assert set(sent(switch, "b", frame(A, B), 24)) == {"a"}
    switch.sweep(24)
    assert switch.addresses == 2
    assert switch.listed(24)[0] == {"vlan": None, "mac": "02:00:00:00:00:01", "port": "a", "age": 9}
    switch.sweep(40)
    assert switch.addresses == 0 and switch.listed(40) == []


TRUNK = {"trunk": "10,20-29"}
PLAIN, TEN, TWENTY = frame(ALL, A), frame(ALL, A, 10), frame(ALL, A, 20)


@pytest.mark.parametrize(
    ("vlans", "data", "others", "expected"),
    [
        # Without VLANs, tags pass.
        ({}, TEN, {"b": {}}, {"b": TEN}),
        ({}, frame(ALL, A, (0x88A8, 7), 10), {"b": {}}, {"b": frame(ALL, A, (0x88A8, 7), 10)}),
        # Access ports.
        ({"access": 10}, PLAIN, {"b": {"access": 10}, "c": {"access": 20}}, {"b": PLAIN}),
        ({"access": 10}, PLAIN, {"b": TRUNK}, {"b": TEN}),
        ({"access": 20}, PLAIN, {"b": {"trunk": "10"}}, {}),
        ({"access": 10}, TEN, {"b": {"access": 10}, "c": TRUNK}, {}),
        ({"access": 10}, frame(ALL, A, (0x88A8, 10)), {"b": {"access": 10}}, {}),
        # A tag that is only a priority.
        ({"access": 10}, frame(ALL, A, 0xA000), {"b": TRUNK}, {"b": frame(ALL, A, 0xA00A)}),
        ({"access": 10}, frame(ALL, A, 0xA000), {"b": {"access": 10}}, {"b": PLAIN}),
        # Trunks.
        (TRUNK, TEN, {"b": {"access": 10}, "c": {"access": 20}}, {"b": PLAIN}),
        (TRUNK, frame(ALL, A, 0x7014), {"b": {"trunk": "all"}}, {"b": frame(ALL, A, 0x7014)}),
        (TRUNK, frame(ALL, A, 29), {"b": {"trunk": "all"}}, {"b": frame(ALL, A, 29)}),
        (TRUNK, frame(ALL, A, 30), {"b": {"trunk": "all"}}, {}),
        ({"trunk": "all"}, frame(ALL, A, 4095), {"b": {"trunk": "all"}}, {}),
        (TRUNK, PLAIN, {"b": {"access": 10}, "c": {"trunk": "all"}}, {}),
        # The native VLAN.
        ({**TRUNK, "native": 10}, PLAIN, {"b": {"access": 10}, "c": TRUNK}, {"b": PLAIN, "c": TEN}),
        ({"access": 5}, PLAIN, {"b": {**TRUNK, "native": 5}}, {"b": PLAIN}),
        ({**TRUNK, "native": 5}, frame(ALL, A, 5), {"b": {"access": 5}}, {"b": PLAIN}),
        ({**TRUNK, "native": 5}, frame(ALL, A, 0x6000), {"b": {"trunk": "5"}},
         {"b": frame(ALL, A, 0x6005)}),
        # QinQ: the tags of the customer are left as they are.
        ({"qinq": 100}, TEN, {"b": {"trunk": "100"}}, {"b": frame(ALL, A, 100, 10)}),
        ({"qinq": 100}, TEN, {"b": {"trunk": "100", "tag": "802.1ad"}},
         {"b": frame(ALL, A, (0x88A8, 100), 10)}),
        ({"qinq": 100}, PLAIN, {"b": {"qinq": 100}, "c": {"qinq": 200}}, {"b": PLAIN}),
        ({"trunk": "100", "tag": "802.1ad"}, frame(ALL, A, (0x88A8, 0x2064), 10),
         {"b": {"qinq": 100}}, {"b": TEN}),
        # A tag of the other protocol is part of the frame.
        ({"trunk": "10", "tag": "802.1ad"}, TEN, {"b": {"access": 10}}, {}),
        ({"trunk": "10", "tag": "802.1ad", "native": 10}, TEN, {"b": {"qinq": 10}}, {"b": TEN}),
        # A tag within the native VLAN does not become the VLAN.
        ({"qinq": 10}, TWENTY, {"b": {**TRUNK, "native": 10}}, {"b": frame(ALL, A, 10, 20)}),
        ({"access": 10}, frame(ALL, A, 0, 20), {"b": {**TRUNK, "native": 10}},
         {"b": frame(ALL, A, 10, 20)}),
        # STP is not tagged, and belongs to the VLAN of the port.
        ({"access": 10}, frame(STP, A), {"b": TRUNK, "c": {"access": 10}, "d": {"access": 20}},
         {"b": frame(STP, A, 10), "c": frame(STP, A)}),
        # Frames that are none.
        ({}, b"", {"b": {}}, {}),
        ({}, frame(ALL, A)[:13], {"b": {}}, {}),
        ({}, frame(ALL, A)[:14], {"b": {}}, {"b": frame(ALL, A)[:14]}),
        ({"access": 1}, frame(ALL, A, 0)[:17], {"b": {"access": 1}}, {}),
        (TRUNK, TEN[:15], {"b": TRUNK}, {}),
        (TRUNK, TEN[:18], {"b": TRUNK}, {"b": TEN[:18]}),
        ({}, frame(ALL, ALL), {"b": {}}, {}),
        ({}, frame(ALL, bytes(6)), {"b": {}}, {}),
    ],
)  # fmt: skip
def test_tags(vlans, data, others, expected):
    switch = switch_of(a=vlans, **others)
    assert sent(switch, "a", data) == expected
    found = counters(switch, "a")
    dropped = found.get("malformed", 0) + found.get("wrong_vlan", 0)
    assert found["frames_in"] == 1 and dropped + found.get("flooded", 0) == 1


def test_addresses_are_learned_by_vlan():
    switch = switch_of(a={"access": 10}, b={"access": 20}, up={"trunk": "all"}, c={"access": 10})
    sent(switch, "a", frame(ALL, A))
    # The same address in the other VLAN is another one.
    assert set(sent(switch, "up", frame(A, C, 20))) == {"b"}
    assert set(sent(switch, "up", frame(A, C, 10))) == {"a"}
    assert counters(switch, "b").get("addresses") is None
    listed = [(entry["vlan"], entry["mac"][-2:], entry["port"]) for entry in switch.listed(0)]
    assert listed == [(10, "01", "a"), (10, "03", "up"), (20, "03", "up")]


def test_ports_that_change_forget_their_addresses_and_no_others():
    switch = switch_of(a={"access": 10}, b={"access": 10}, c={"access": 20})
    sent(switch, "a", frame(ALL, A))
    sent(switch, "b", frame(ALL, B))
    before = switch.ports["b"]
    switch.configure({"a": {"access": 20}, "b": {"access": 10}, "c": {"access": 20}}, 300)
    assert switch.ports["b"] is before and counters(switch, "b")["frames_in"] == 1
    assert counters(switch, "b")["addresses"] == 1 and switch.addresses == 1
    assert set(sent(switch, "a", frame(B, A))) == {"c"}
    assert set(sent(switch, "b", frame(A, B))) == set()
    switch.configure({"a": {"access": 20}, "c": {"access": 20}}, 300)
    assert switch.addresses == 1 and set(sent(switch, "c", frame(A, C))) == {"a"}


def test_floods_of_addresses_are_bounded_per_port():
    switch = switch_of(a={}, b={}, c={})
    sent(switch, "b", frame(ALL, B))
    for number in range(switching.MAX_PORT_ADDRESSES + 500):
        sent(switch, "a", frame(ALL, b"\x02\xaa" + number.to_bytes(4, "big")))
    assert switch.ports["a"].addresses == switching.MAX_PORT_ADDRESSES
    # The addresses of others are still known, and new ones are learned.
    assert set(sent(switch, "c", frame(B, C))) == {"b"}
    assert set(sent(switch, "b", frame(C, B))) == {"c"}
    # Later, the old ones are forgotten.
    assert set(sent(switch, "a", frame(B, A), 301)) == {"b", "c"}
    assert switch.addresses == 1 and switch.ports["a"].addresses == 1


def test_the_table_is_bounded_over_all_ports():
    switch = switch_of(**{"p%d" % number: {"trunk": "all"} for number in range(6)})
    for port in switch.ports:
        for number in range(switching.MAX_PORT_ADDRESSES):
            source = b"\x02" + port.encode() + number.to_bytes(3, "big")
            sent(switch, port, frame(ALL, source, 1 + number % 4094))
    assert switch.addresses == switching.MAX_ADDRESSES
    assert len(switch.listed(0)) == switching.MAX_LISTED


@pytest.mark.parametrize(
    ("vlans", "says"),
    [
        (None, "are a dictionary"),
        ({"access": 0}, "access is a number from 1 to 4094"),
        ({"access": True}, "access is a number"),
        ({"access": "10"}, "access is a number"),
        ({"qinq": 4095}, "qinq is a number"),
        ({"access": 1, "native": 1}, "a port has access, qinq, or trunk"),
        ({"access": 1, "trunk": "1"}, "a port has access, qinq, or trunk"),
        ({"native": 1}, "a port has access, qinq, or trunk"),
        ({"x": 1}, "a port has access, qinq, or trunk"),
        ({"trunk": [1]}, "trunk is a text"),
        ({"trunk": ""}, "is not a VLAN or a range"),
        ({"trunk": "1,"}, "is not a VLAN or a range"),
        ({"trunk": "1-"}, "is not a VLAN or a range"),
        ({"trunk": "-1"}, "is not a VLAN or a range"),
        ({"trunk": "20-10"}, "20-10' is not within 1 and 4094"),
        ({"trunk": "0"}, "'0' is not within 1 and 4094"),
        ({"trunk": "1-4095"}, "is not within 1 and 4094"),
        ({"trunk": "\u0661"}, "is not a VLAN or a range"),
        ({"trunk": "1", "tag": "isl"}, "tag is one of 802.1q, 802.1ad"),
        ({"trunk": "1", "native": 5000}, "native is a number"),
    ],
)
def test_vlans_of_no_port(vlans, says):
    with pytest.raises(ValueError, match=says):
        switching.check(vlans)


@pytest.mark.parametrize("seconds", [None, 0, -1, True, "5", float("nan"), 1e9])
def test_no_ageing(seconds):
    with pytest.raises(ValueError, match="ageing is a number of seconds"):
        switching.check_ageing(seconds)


def _random_vlans(source):
    number = source.randint(1, 4)
    trunk = source.choice(["all", "1-2", "2,4"])
    return source.choice(
        [
            {},
            {"access": number},
            {"qinq": number},
            {"trunk": trunk},
            {"trunk": trunk, "native": number},
            {"trunk": trunk, "tag": "802.1ad"},
            {"trunk": trunk, "native": number, "tag": "802.1ad"},
        ]
    )


def _random_frame(source, addresses):
    data = source.choice(addresses) + source.choice(addresses)
    for _tag in range(source.choice([0, 0, 1, 1, 2])):
        data += source.choice([b"\x81\x00", b"\x88\xa8"])
        data += (source.choice([0, 0xA000]) | source.choice([0, 1, 2, 3, 4, 9, 4095])).to_bytes(
            2, "big"
        )
    data += source.choice([IP, b"\x88\xcc", b"\x00\x26"]) + source.randbytes(source.randint(0, 40))
    return data[: source.choice([len(data)] * 9 + [source.randint(0, 20)])]


def _vlan_of(vlans, data):
    """Return the VLAN of a frame, and whether it has a tag of that VLAN; None if it is dropped."""
    protocol, number = data[12:14], int.from_bytes(data[14:16], "big") & 0xFFF
    if "trunk" in vlans:
        allowed = {"all": set(range(1, 4095)), "1-2": {1, 2}, "2,4": {2, 4}}[vlans["trunk"]]
        allowed |= {vlans.get("native")} - {None}
        is_tagged = protocol == switching.TAGS[vlans.get("tag", "802.1q")]
        if is_tagged and number:
            return (number, True) if number in allowed and len(data) >= 18 else None
        if is_tagged and len(data) < 18:
            return None
        return (vlans["native"], is_tagged) if "native" in vlans else None
    if "access" in vlans:
        is_tagged = protocol in switching.TAGS.values()
        if is_tagged and (number or len(data) < 18):
            return None
        return vlans["access"], is_tagged
    return vlans.get("qinq", 0), False


@pytest.mark.parametrize("seed", range(20))
def test_random_frames_stay_in_their_vlan(seed):
    """A frame leaves with its content, in its VLAN only, and never where it came from."""
    source = random.Random(seed)
    ports = {"p%d" % number: _random_vlans(source) for number in range(source.randint(1, 6))}
    switch = switch_of(20, **ports)
    addresses = [A, B, C, ALL, STP, bytes(6)]
    seen = {}
    for now in range(400):
        name, data = source.choice(list(ports)), _random_frame(source, addresses)
        found = sent(switch, name, data, now)
        arrived = _vlan_of(ports[name], data) if len(data) >= 14 else None
        if arrived is None or data[6] & 1 or data[6:12] == bytes(6):
            assert found == {}
            continue
        vlan, was_tagged = arrived
        members = {
            port
            for port, vlans in ports.items()
            if port != name and (_vlan_of(vlans, _as_sent(vlans, vlan)) or [None])[0] == vlan
        }
        seen[vlan, data[6:12]] = (name, now)
        place = seen.get((vlan, data[:6]))
        if place is None or now - place[1] > 20:
            assert set(found) == members
        else:
            assert set(found) == {place[0]} - {name}
        content = data[:12] + data[16:] if was_tagged else data
        for port, copy in found.items():
            left, is_tagged = _vlan_of(ports[port], copy) or (vlan, False)
            assert left == vlan
            leaves_tagged = is_tagged and "trunk" in ports[port]
            assert (copy[:12] + copy[16:] if leaves_tagged else copy) == content
    assert switch.addresses <= 3 * 4095


def _as_sent(vlans, vlan):
    """A frame of a VLAN as a port of these VLANs would receive it."""
    is_tagged = "trunk" in vlans and vlans.get("native") != vlan
    protocol = 0x88A8 if vlans.get("tag") == "802.1ad" else 0x8100
    return frame(ALL, A, *([(protocol, vlan)] if is_tagged else []))
