# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import scenario
from ansible_collections.vlab.qemu.plugins.module_utils._lab.scenario import PartRun, undo_steps
from ansible_collections.vlab.qemu.plugins.module_utils._lab.scenario_nodes import ScenarioNodes
from ansible_collections.vlab.qemu.plugins.module_utils._lab.scenario_plan import (
    STEP_SPEC,
    plan_parts,
    seconds,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import converge


def udp(name, local, remote, address="127.0.0.1", **more):
    link = {"type": "udp", "local_port": local, "remote_port": remote, "local_address": address}
    link["remote_address"] = address
    return dict({"name": name, "link": dict(link, **more)})


# r1 has a link to r2 on this hypervisor, two to r3 on another one, and one NIC without a link.
LOCAL = {
    "r1": {
        "name": "r1",
        "status": "running",
        "nics": [
            dict(
                udp("eth1", 1, 2, impair={"delay": 20}),
                impairment={"measured": {"lost": 3}},
            ),
            udp("eth2", 3, 4, "192.0.2.1"),
            udp("eth3", 5, 6, "192.0.2.1"),
            {"name": "ge-0_0_0", "link": {"type": "user"}, "link_down": True},
        ],
    },
    "r2": {"name": "r2", "status": "paused", "nics": [udp("eth1", 2, 1)]},
    "off": {"name": "off", "status": "stopped", "nics": []},
    "p": {"name": "p", "status": "running", "nics": [{"name": "a", "link": {"peer": "r2:eth1"}}]},
}
OTHERS = {
    # eth9 has the ports of r1's eth1 by chance.
    "r3": [udp("eth1", 4, 3, "192.0.2.1"), udp("eth2", 6, 5, "192.0.2.1"), udp("eth9", 2, 1)],
    "r4": [{"name": "eth0", "link": {"type": "none"}}],
}


def nodes():
    return ScenarioNodes(LOCAL, OTHERS)


def plan(*steps):
    return plan_parts([{**dict.fromkeys(STEP_SPEC), **step} for step in steps], nodes())


def flat(parts):
    return [
        (event.offset, event.action, event.target, *([event.impair] if event.impair else []))
        for part in parts
        for event in part.events
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 0.5), ("5s", 5), ("1.5 s", 1.5), ("2m", 120), ("1h", 3600), ("0", 0), (" 3s ", 3)],
)
def test_times(text, expected):
    assert seconds("at", text) == expected


@pytest.mark.parametrize("text", ["5", "s", "-1s", "1d", "", "25h", "1s2", "٣s"])
def test_texts_that_are_no_times(text):
    with pytest.raises(OptionError, match="time"):
        seconds("at", text)


FLAP = {"link": "r1:eth1", "times": 2, "down": "100ms", "up": "400ms"}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([{"at": "1s", "cut": ["r1:eth1"]}], [(1, "cut", "r1:eth1")]),
        # Each end of a link, with and without its NICs, on this and on another hypervisor.
        (
            [{"cut": ["r1:eth2 -- r3:eth1", "r1 -- r2"]}],
            [
                (0, "cut", "r1:eth2"),
                (0, "cut", "r3:eth1"),
                (0, "cut", "r1:eth1"),
                (0, "cut", "r2:eth1"),
            ],
        ),
        ([{"heal": ["p -- r2"]}], [(0, "heal", "p:a"), (0, "heal", "r2:eth1")]),
        ([{"cut": ["r1:ge-0/0/0"]}], [(0, "cut", "r1:ge-0_0_0")]),
        # after counts from the end of the step before.
        (
            [{"at": "1s", "flap": FLAP}, {"after": "250ms", "heal": ["r4:eth0"]}],
            [
                (1, "cut", "r1:eth1"),
                (1.1, "heal", "r1:eth1"),
                (1.5, "cut", "r1:eth1"),
                (1.6, "heal", "r1:eth1"),
                (2.25, "heal", "r4:eth0"),
            ],
        ),
        # Steps can fall into a flap.
        (
            [{"flap": dict(FLAP, times=1)}, {"at": "50ms", "cut": ["r2:eth1"]}],
            [(0, "cut", "r1:eth1"), (0.05, "cut", "r2:eth1"), (0.1, "heal", "r1:eth1")],
        ),
        (
            [{"impair": {"r1 -- r2": {"delay": "5ms"}, "r1:eth2": "wan"}}],
            [
                (0, "impair", "r1:eth1", {"delay": "5ms"}),
                (0, "impair", "r2:eth1", {"delay": "5ms"}),
                (0, "impair", "r1:eth2", {"preset": "wan"}),
            ],
        ),
        (
            [{"impair": {"r1:eth1": {}}}, {"after": "1s", "pause": ["r1", "r3"]}],
            [(0, "impair", "r1:eth1"), (1, "pause", "r1"), (1, "pause", "r3")],
        ),
        ([{"resume": ["r2"]}], [(0, "resume", "r2")]),
    ],
)
def test_events(steps, expected):
    assert flat(plan(*steps)) == expected


def test_assertions_divide_a_scenario_into_parts():
    own = [{"name": "none", "node": "r1", "command": "false"}]
    parts = plan(
        {"validate": True},
        {"at": "1s", "cut": ["r1:eth1"]},
        {"after": "2s", "validate": own},
        {"after": "1s", "heal": ["r1:eth1"]},
    )
    assert [(part.start, part.end, part.validate) for part in parts] == [
        (0, 0, True),
        (0, 3, own),
        (3, 4, False),
    ]
    assert [[event.step for event in part.events] for part in parts] == [[], [1], [3]]


@pytest.mark.parametrize(
    ("step", "option", "reason"),
    [
        ({"at": "1s"}, "steps[0]", "needs one of cut, heal"),
        ({"cut": ["r1:eth1"], "heal": ["r1:eth1"]}, "steps[0]", "it has cut, heal"),
        ({"at": "1s", "after": "1s", "cut": ["r1:eth1"]}, "steps[0].after", "combined with at"),
        ({"at": "1", "cut": ["r1:eth1"]}, "steps[0].at", "not a time with a unit"),
        ({"cut": []}, "steps[0].cut", "names nothing"),
        ({"impair": {}}, "steps[0].impair", "names nothing"),
        ({"cut": ["r1"]}, "steps[0].cut[0]", "not an endpoint"),
        ({"cut": ["rr1:eth1"]}, "steps[0].cut[0]", "no node rr1: did you mean r1"),
        ({"cut": ["r3:eth1", "r3:ethh2"]}, "steps[0].cut[1]", "no NIC ethh2: did you mean eth2"),
        ({"cut": ["r1 -- r2 -- r3"]}, "steps[0].cut[0]", "not a link"),
        ({"cut": ["r1 -- r2:eth1"]}, "steps[0].cut[0]", "not an endpoint"),
        ({"cut": ["r1 -- r4"]}, "steps[0].cut[0]", "no link between r1 and r4"),
        ({"cut": ["r1 -- r3"]}, "steps[0].cut[0]", "name the NICs: r1:eth2 -- r3:eth1, r1:eth3"),
        ({"pause": ["r9"]}, "steps[0].pause[0]", "no node r9"),
        ({"resume": ["off"]}, "steps[0].resume[0]", "the node off is stopped"),
        ({"validate": False}, "steps[0].validate", "not true"),
        ({"validate": []}, "steps[0].validate", "not true"),
        ({"validate": [{"name": "a"}]}, "steps[0].validate[0]", "an assertion has"),
        (
            {"validate": [{"name": "a", "node": "r33", "command": "true"}]},
            "steps[0].validate[0].node",
            "did you mean r3",
        ),
        ({"flap": dict(FLAP, link="r1:eth7")}, "steps[0].flap.link", "no NIC eth7"),
        ({"flap": dict(FLAP, times=0)}, "steps[0].flap.times", "number of times"),
        ({"flap": dict(FLAP, down="1")}, "steps[0].flap.down", "not a time"),
        ({"impair": {"r1:ge-0/0/0": {}}}, "steps[0].impair[r1:ge-0/0/0]", "type udp"),
        ({"impair": {"r1:eth1": 5}}, "steps[0].impair[r1:eth1]", "not an impairment"),
        ({"impair": {"r1:eth1": "wam"}}, "steps[0].impair[r1:eth1].preset", "is none of"),
        ({"impair": {"r1:eth1": {"los": 1}}}, "steps[0].impair[r1:eth1].los", "did you mean loss"),
        (
            {"impair": {"r1:eth1": {"burst_loss": 1}}},
            "steps[0].impair[r1:eth1].burst_loss",
            "not a mapping",
        ),
    ],
)
def test_wrong_steps(step, option, reason):
    with pytest.raises(OptionError) as caught:
        plan(step)
    assert caught.value.option == option and reason in caught.value.reason


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([{"at": "2s", "cut": ["r1:eth1"]}, {"at": "1s", "heal": ["r1:eth1"]}], "before the step"),
        ([{"flap": FLAP}, {"at": "300ms", "validate": True}], "before the steps before have ended"),
        ([{"at": "2s", "validate": True}, {"at": "1s", "cut": ["r1:eth1"]}], "before the step"),
    ],
)
def test_times_in_a_wrong_order(steps, reason):
    with pytest.raises(OptionError, match=reason):
        plan(*steps)


def test_all_wrong_steps_are_reported_at_once():
    with pytest.raises(VlabError) as caught:
        plan({"cut": ["r8:eth1", "r9:eth1"]}, {"at": "x", "pause": ["r7"]})
    assert caught.value.facts["options"] == [
        "steps[0].cut[0]",
        "steps[0].cut[1]",
        "steps[1].at",
        "steps[1].pause[0]",
    ]
    assert len(caught.value.message.splitlines()) == 4


@pytest.mark.parametrize("nics", [None, [1], [{"link": {}}]])
def test_wrong_nodes(nics):
    with pytest.raises(OptionError, match="nodes.r9"):
        ScenarioNodes(LOCAL, {"r9": nics})


def test_undo():
    parts = plan(
        {"cut": ["r1:eth1", "r1:ge-0/0/0", "r3:eth1"]},
        {"impair": {"r1 -- r2": "wan"}},
        {"pause": ["r1"], "at": "1s"},
        {"resume": ["r2"]},
        {"heal": ["r1:eth1"]},
    )
    assert undo_steps(parts, nodes()) == [
        {"impair": {"r1:eth1": {"delay": 20}, "r2:eth1": {}}},
        {"resume": ["r1"]},
        {"pause": ["r2"]},
        {"cut": ["r1:ge-0_0_0"]},
        {"heal": ["r1:eth1"]},
    ]
    plan(*undo_steps(parts, nodes()))


class FakeClock:
    """Time passes only while something waits, or works."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now + 5000

    def wait_until(self, moment):
        self.now = max(self.now, moment)


def run_part(steps, work=0.0, start_at=None, part=0, fail=None):
    clock = FakeClock()

    def change(event):
        clock.now += work
        if event.target == fail:
            raise HostError("no")
        return True

    run = PartRun(clock, change, start_at)
    run.run(plan(*steps)[part])
    return clock, run


STEPS = [
    {"at": "1s", "cut": ["r1:eth1"]},
    {"at": "1100ms", "heal": ["r1:eth1"]},
    {"at": "2s", "validate": True},
    {"at": "2.5s", "cut": ["r2:eth1"]},
    {"after": "1s", "validate": True},
]


@pytest.mark.parametrize(
    ("options", "times", "end"),
    [
        ({}, [(1000, 1000), (1100, 1100)], 1002),
        ({"work": 0.03}, [(1000, 1030), (1100, 1130)], 1002),
        # A change that takes longer delays the next one, and not those after it.
        ({"work": 0.4}, [(1000, 1400), (1400, 1800)], 1002),
        # Each part counts on where the one before ended.
        ({"part": 1}, [(2500, 2500)], 1001.5),
        ({"start_at": 6010.0}, [(1000, 1000), (1100, 1100)], 1012),
        # The start is over: what was missed is late.
        ({"start_at": 5998.95}, [(1050, 1050), (1100, 1100)], 1000.95),
    ],
)
def test_times_of_a_run(options, times, end):
    clock, run = run_part(STEPS, **options)
    assert [(entry["began"], entry["done"]) for entry in run.entries] == times
    assert clock.now == pytest.approx(end)
    assert [entry["asked"] for entry in run.entries] == (
        [2500] if options.get("part") else [1000, 1100]
    )


@pytest.mark.parametrize(("start_at", "late"), [(None, 0), (6010.0, 0), (5998.5, 1.5)])
def test_the_start(start_at, late):
    _clock, run = run_part(STEPS, start_at=start_at)
    assert run.started == (start_at or 6000) and run.late == pytest.approx(late)


@pytest.mark.parametrize("start_at", [5000.0, 7000.0])
def test_clocks_that_do_not_agree(start_at):
    with pytest.raises(OptionError, match="start_at: it is 1000 s from the clock"):
        run_part(STEPS, start_at=start_at)


def test_a_failure_ends_the_part():
    steps = [{"cut": ["r1:eth1"]}, {"at": "1s", "heal": ["r1:eth2"]}, {"cut": ["r2:eth1"]}]
    _clock, run = run_part([*steps, {"at": "3s", "heal": ["r1:eth1"]}], fail="r1:eth2")
    # Other VMs change at the same moment.
    assert [entry["target"] for entry in run.entries] == ["r1:eth1", "r2:eth1"]
    assert list(run.failed) == ["r1"]


@pytest.fixture
def made(monkeypatch):
    calls = []

    def converge_item(params, check_mode, option, item):
        if check_mode:
            if item["name"] == "ge-0_0_0":
                raise HostError("it has no monitor")
            return {"changed": True}
        calls.append((params["vm"], item["name"], item["link_down"], item["link"]))
        return {"changed": item["link_down"] is not False}

    def converge_vm(params, check_mode):
        if check_mode:
            return {"changed": True}
        calls.append((params["name"], params["state"]))
        if params["name"] == "r2":
            raise HostError("no answer")
        return {"changed": True}

    monkeypatch.setattr(scenario, "vm_facts", lambda root, lab: (list(LOCAL.values()), ["w"]))
    monkeypatch.setattr(converge, "converge_item", converge_item)
    monkeypatch.setattr(scenario, "converge_vm", converge_vm)
    return calls


def module_run(*steps, check_mode=False, **more):
    given = [{**dict.fromkeys(STEP_SPEC), **step} for step in steps]
    params = {"root": None, "lab": "x", "nodes": OTHERS, "part": 0, "start_at": None}
    params["lock_timeout"] = 5
    return scenario.run_scenario({**params, "steps": given, **more}, check_mode, FakeClock())


def test_only_nodes_of_this_hypervisor_are_changed(made):
    result = module_run(
        {"at": "1s", "cut": ["r1:eth2 -- r3:eth1"]},
        {"after": "1s", "heal": ["r1:eth2"]},
        {"after": "1s", "impair": {"r1:eth2": {"loss": 1}}},
        {"pause": ["r1", "r3"]},
    )
    assert made == [
        ("r1", "eth2", True, None),
        ("r1", "eth2", False, None),
        ("r1", "eth2", None, {"impair": {"loss": 1}}),
        ("r1", "paused"),
    ]
    assert [entry["changed"] for entry in result["events"]] == [True, False, True, True]
    assert result["impairments"] == {"r1:eth1": {"measured": {"lost": 3}}}
    assert result["changed"] and result["start_late"] == 0 and result["started"] == 6000
    assert result["events"][2] == {
        "step": 2,
        "part": 0,
        "action": "impair",
        "target": "r1:eth2",
        "impair": {"loss": 1},
        "asked": 3000,
        "began": 3000,
        "done": 3000,
        "changed": True,
    }


def test_check_mode_lists_all_parts_and_changes_nothing(made):
    result = module_run(*STEPS, check_mode=True)
    assert made == [] and result["changed"]
    assert [(entry["asked"], entry["target"]) for entry in result["events"]] == [
        (1000, "r1:eth1"),
        (1100, "r1:eth1"),
        (2500, "r2:eth1"),
    ]
    assert [part["validate"] for part in result["parts"]] == [True, True]
    assert result["undo"] == [{"heal": ["r1:eth1", "r2:eth1"]}] and result["warnings"] == ["w"]


def test_a_failed_change_fails_the_module(made):
    result = module_run({"cut": ["r1:eth1"]}, {"at": "1s", "resume": ["r2"]})
    assert result["failed"] and result["msg"] == "the scenario stopped:\nr2: no answer"
    assert result["errors"]["r2"]["msg"] == "no answer" and len(result["events"]) == 1


@pytest.mark.parametrize("part", [-1, 2])
def test_parts_that_do_not_exist(made, part):
    with pytest.raises(OptionError, match="part: "):
        module_run(*STEPS, part=part)


def test_what_cannot_be_changed_fails_before_the_first_change(made):
    with pytest.raises(HostError, match="no monitor"):
        module_run({"cut": ["r1:eth1"]}, {"at": "1s", "heal": ["r1:ge-0/0/0"]})
    assert made == []
