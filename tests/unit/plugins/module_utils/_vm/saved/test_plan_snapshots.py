# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans of snapshots, which are pure functions."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import plan as planning
from ansible_collections.vlab.qemu.tests.unit.vm_world import compose

NOTHING = {"name": None, "state": "present", "keep": None, "purge": False}


def record(created, **more):
    return {
        "created": created,
        "memory": True,
        "name": "s",
        "machine_type": "pc-i440fx-7.2",
        "qemu_version": [7, 2, 0],
        "accel": "tcg",
        **more,
    }


HAVE = {"a": record(3), "b": record(1), "c": record(2)}
# The options; what is taken, whether it is a return, and what is removed.
CASES = [
    ({"name": "n"}, True, False, []),
    ({"name": "a"}, False, False, []),
    ({"name": "n", "keep": 4}, True, False, []),
    ({"name": "n", "keep": 3}, True, False, ["b"]),
    ({"name": "n", "keep": 1}, True, False, ["a", "b", "c"]),
    ({"name": "b", "keep": 2}, False, False, ["c"]),
    ({"name": "b", "keep": 1}, False, False, ["a", "c"]),
    ({"keep": 2}, False, False, ["b"]),
    ({"keep": 0}, False, False, ["a", "b", "c"]),
    ({"name": "n", "purge": True}, True, False, ["a", "b", "c"]),
    ({"name": "a", "purge": True}, False, False, ["b", "c"]),
    ({"name": "a", "state": "absent"}, False, False, ["a"]),
    ({"name": "n", "state": "absent"}, False, False, []),
    ({"state": "absent", "purge": True}, False, False, ["a", "b", "c"]),
    ({"name": "c", "state": "reverted"}, False, True, []),
]


@pytest.mark.parametrize("params, take, revert, remove", CASES)
def test_plan(params, take, revert, remove):
    plan = planning.plan_snapshots("r1", dict(NOTHING, **params), HAVE, [])
    assert (plan.take, plan.revert, plan.remove, plan.discard) == (take, revert, remove, [])
    assert bool(plan.changes) == (take or revert or bool(remove))


def test_incomplete_ones_are_always_removed():
    plan = planning.plan_snapshots("r1", dict(NOTHING, name="a"), HAVE, ["half"])
    assert plan.discard == ["half"]
    assert [change.option for change in plan.changes] == ["snapshots[half]"]


def test_return_to_an_unknown_snapshot_names_a_similar_one():
    with pytest.raises(OptionError, match="has no snapshot upgrad: .*upgrade"):
        planning.plan_snapshots(
            "r1", dict(NOTHING, name="upgrad", state="reverted"), {"upgrade": record(1)}, []
        )


def test_definition_changes():
    old, new = compose({"memory": "64"}), compose({"memory": "96", "disks": []})
    assert planning.definition_changes(old, dict(old, ports={"x": 1}, digest="d", bases={})) == []
    options = [change.option for change in planning.definition_changes(new, old)]
    assert options[0] == "memory" and "disks[disk0]" in options


# What cannot be loaded, and why.
@pytest.mark.parametrize(
    "version, machine, accel, reason",
    [
        ([7, 2, 5], "pc-i440fx-7.2", "tcg", None),
        ([10, 0, 0], "pc-i440fx-7.2", "tcg", None),
        ([10, 0, 0], None, "tcg", "does not have the machine pc-i440fx-7.2"),
        ([7, 0, 0], "pc-i440fx-7.2", "tcg", "the older 7.0.0"),
        ([7, 2, 0], "pc-i440fx-7.2", "kvm", "saved with accel: tcg"),
    ],
)
def test_check_loadable(version, machine, accel, reason):
    if reason is None:
        planning.check_loadable(record(1), version, machine, accel)
        return
    with pytest.raises(HostError, match=reason):
        planning.check_loadable(record(1), version, machine, accel)
    planning.check_loadable(record(1, memory=False), version, machine, accel)
