# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the schema."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.validation import valid_part


def test_errors_are_in_the_order_of_the_file():
    names = ["n%d" % (number * 7 % 30) for number in range(30)]
    nodes = {name: {"kind": 5, "wrong": 1} for name in names}
    problems = Problems()
    valid_part({"name": "x", "nodes": nodes, "links": [5, {"endpoints": 3}, 7]}, problems)
    found = [path for path, _message in problems.found]
    assert sorted(found[:2]) == ["nodes.n0.kind", "nodes.n0.wrong"]
    assert [path.split(".")[1] for path in found[:60:2]] == names
    assert found[60:] == ["links[0]", "links[1].endpoints", "links[2]"]
