# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import option_strings
from ansible_collections.vlab.qemu.tests.unit.vm_world import parsed


@pytest.mark.parametrize(
    "head, properties, expected",
    [
        ("", {}, ""),
        ("x", {}, "x"),
        ("", {"a": 1}, "a=1"),
        ("x", {"a": None, "b": True, "c": False, "d": 1.5, "e": ""}, "x,b=on,c=off,d=1.5,e="),
        ("x", {"a": "1,2", "b": ",", "c": ",,"}, "x,a=1,,2,b=,,,c=,,,,"),
        ("a,b", {}, "a,,b"),
        ("x", {"a": ["1", "2,3"]}, "x,a=1,a=2,,3"),
        ("x", {"a": (1, None)}, "x,a=1"),
        ("x", {"a": {"b": 1, "c": {"d": True}}}, "x,a.b=1,a.c.d=on"),
        ("x", {"a": [{"str": "p,q"}, {"str": "r"}]}, "x,a=p,,q,a=r"),
        ("x", {"a": {}, "b": []}, "x"),
        ("x", {"a": "k=v \"'\\\n\té日"}, "x,a=k=v \"'\\\n\té日"),
    ],
)
def test_keyval(head, properties, expected):
    assert option_strings.keyval(head, properties) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        ",,",
        ",,,",
        "a,",
        ",a",
        "a=b",
        "=",
        "id=x,id=y",
        "a b",
        '"',
        "\\",
        "\n",
        "é",
        "-x",
        "%s",
        "a,,,b=c,,",
    ],
)
def test_a_value_comes_back(value):
    assert parsed(option_strings.keyval("x", {"a": value, "b": value}), "driver") == [
        ("driver", "x"),
        ("a", value),
        ("b", value),
    ]


def test_words():
    assert option_strings.device({"driver": "e1000", "id": "a", "mac": None}) == [
        "-device",
        "e1000,id=a",
    ]
    assert option_strings.netdev({"type": "user", "id": "a"}) == ["-netdev", "user,id=a"]
    assert option_strings.qom_object({"qom-type": "filter-dump", "id": "a", "file": "b,c"}) == [
        "-object",
        "filter-dump,id=a,file=b,,c",
    ]
    option, text = option_strings.blockdev(
        {"driver": "file", "filename": 'a,"é\n\\', "read-only": True}
    )
    assert (
        option == "-blockdev"
        and text.isascii()
        and json.loads(text) == {"driver": "file", "filename": 'a,"é\n\\', "read-only": True}
    )


def test_objects_of_old_and_new():
    given = {"qom-type": "t", "id": "a", "x": 1}
    assert option_strings.object_add(given, True) == given
    assert option_strings.object_add(given, False) == {
        "qom-type": "t",
        "id": "a",
        "props": {"x": 1},
    }


@pytest.mark.parametrize(
    "properties, path",
    [
        (
            {
                "a": 1,
                "b-c_d.e": "x",
                "len[0]": None,
                "x-y": True,
                "l": [1, "a", None],
                "d": {"e": 1.5},
            },
            None,
        ),
        ({"a,b": 1}, "p"),
        ({"a=b": 1}, "p"),
        ({"": 1}, "p"),
        ({"-a": 1}, "p"),
        ({"a b": 1}, "p"),
        ({"a\n": 1}, "p"),
        ({5: 1}, "p"),
        ({"é": 1}, "p"),
        ({"ours": 1}, "p.ours"),
        ({"a": [[]]}, "p.a"),
        ({"a": [{}]}, "p.a"),
        ({"a": {"b,c": 1}}, "p.a"),
        ({"a": {"b": object()}}, "p.a.b"),
    ],
)
def test_properties(properties, path):
    if path is None:
        option_strings.check_properties("p", properties, reserved=("ours",))
        with pytest.raises(OptionError):
            option_strings.check_properties("p", properties, nested=False)
        return
    with pytest.raises(OptionError) as caught:
        option_strings.check_properties("p", properties, reserved=("ours",))
    assert caught.value.facts["option"] == path


@pytest.mark.parametrize(
    "address, port, text", [("127.0.0.1", 1, "127.0.0.1:1"), ("fd00::1", 2, "[fd00::1]:2")]
)
def test_addresses_of_both_families(address, port, text):
    assert option_strings.endpoint(address, port) == text
