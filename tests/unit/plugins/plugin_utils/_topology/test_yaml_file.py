# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io

import pytest
import yaml

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.yaml_file import load_yaml


@pytest.mark.parametrize(
    "text, data",
    [
        ("a: 1\nb: [1, {c: 2}]\n", {"a": 1, "b": [1, {"c": 2}]}),
        ("x: &x {a: 1}\ny: {<<: *x, a: 2}\n", {"x": {"a": 1}, "y": {"a": 2}}),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
        ("{a: {k: 1}, b: {k: 1}}", {"a": {"k": 1}, "b": {"k": 1}}),
        ("", None),
    ],
)
def test_valid_yaml(text, data):
    assert load_yaml(io.StringIO(text)) == data


@pytest.mark.parametrize(
    "text, key, line",
    [
        ("nodes:\n  r1: {}\n  r2: {}\n  r1: {memory: 1}\n", "r1", 4),
        ('a: 1\n"a": 2\n', "a", 2),
        ("- {a: 1, b: {c: 1, c: 2}}\n", "c", 1),
    ],
)
def test_a_duplicate_key_is_an_error_with_its_line(text, key, line):
    with pytest.raises(yaml.YAMLError, match="found duplicate key %s" % key) as caught:
        load_yaml(io.StringIO(text))
    assert "line %d" % line in str(caught.value)


def test_python_objects_are_rejected():
    with pytest.raises(yaml.YAMLError):
        load_yaml(io.StringIO("!!python/object/apply:os.getcwd []"))


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "1" + ":59" * 3000])
def test_a_huge_number_is_an_error_with_its_line(number):
    """Python refuses to convert so many digits, wherever a message would show them."""
    with pytest.raises(yaml.YAMLError, match="found a number of [0-9]+ digits") as caught:
        load_yaml(io.StringIO("a: 1\nb: %s\n" % number))
    assert "line 2" in str(caught.value)
    assert load_yaml(io.StringIO("[0x10, -1, 0b11, 1_000]")) == [16, -1, 3, 1000]
