# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a migration: which requests go to which hypervisor, and where the guest runs."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.migration import (
    Migration,
    Neighbour,
    Options,
)

HERE = {"state": "here", "status": "running", "disks": [{"name": "d", "allocated": 5}]}
SENT = {"state": "sent", "status": "paused"}
ABSENT = {"state": "absent"}


class Fake:
    """A hypervisor. answers: {request: a result, an error as text, or a list of these}."""

    def __init__(self, name, log, **answers):
        self.name, self.log, self.answers = name, log, answers
        self.parameters = {}

    def request(self, name, data=b"", **parameters):
        self.log.append("%s.%s" % (self.name, name))
        self.parameters[name] = dict(parameters, data=data)
        answer = self.answers.get(name, {})
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, str):
            raise AnsibleError(answer)
        return answer, [b"files"] if name == "describe" else []


class World:
    """An origin o, a target t and a neighbour n."""

    def __init__(self, origin, target, encrypt=True, check_mode=False, **more):
        self.log = []
        answers = {"remove": {"warnings": []}, "send": {"stopped_for": 0.1}}
        self.origin = Fake("o", self.log, **{**answers, "describe": origin, **more})
        settled = {"warnings": ["w"], "vm": {"name": "v"}}
        planned = {"warnings": [], "channel": ["h", 1, 2, None]}
        answers = {"state": target, "plan": planned, "settle": settled}
        self.target = Fake("t", self.log, **{**answers, **more})
        self.other = Fake("n", self.log)
        neighbour = Neighbour(self.other, {"root": None, "lab": "l", "vm": "x"}, {"name": "eth0"})
        request = {"host": "192.0.2.1", "port": None, "nics": None, "allow_container": False}
        limits = {"timeout": 9, "downtime": 300, "bandwidth": 0}
        options = Options(
            "v", "l", "/a", "/b", request, encrypt, limits, {"lock_timeout": 3}, check_mode
        )
        self.migration = Migration(self.origin, self.target, [neighbour], options)

    def run(self):
        return self.migration.run()


def states(*names):
    return [{"state": name} for name in names]


FIRST = ["o.describe", "t.state"]
LAST = ["n.relink", "o.remove", "t.settle"]


def test_a_migration():
    world = World(HERE, states("absent"))
    result = world.run()
    assert world.log[:3] == [*FIRST, "t.plan"]
    assert sorted(world.log[3:5]) == ["o.send", "t.receive"]
    assert world.log[5:] == LAST
    assert result["changed"] and result["vm"] == {"name": "v"} and result["warnings"] == ["w"]
    assert result["stopped_for"] == 0.1 and result["disk_bytes"] == 5
    assert result["changes"] == [
        {"option": "hypervisor", "before": "o", "after": "t", "how": "live"}
    ]
    assert world.target.parameters["plan"]["data"] == b"files"
    assert len(world.target.parameters["plan"]["request"]["key"]) == 64
    assert world.origin.parameters["send"]["disks"] == ["d"]
    assert world.origin.parameters["send"]["root"] == "/a"
    assert world.target.parameters["receive"]["root"] == "/b"


def test_without_encryption_there_is_no_key():
    world = World(HERE, states("absent"), encrypt=False)
    world.run()
    assert world.target.parameters["plan"]["request"]["key"] is None


@pytest.mark.parametrize(
    "origin, target, requests",
    [
        (HERE, "absent", ["t.plan", "n.relink"]),
        (HERE, "waiting", ["n.relink"]),
        (SENT, "dead", []),
        (SENT, "other", []),
    ],
)
def test_check_mode_changes_nothing(origin, target, requests):
    world = World(origin, states(target), check_mode=True)
    assert world.run()["changed"]
    assert world.log == FIRST + requests
    for fake in (world.target, world.other):
        assert all(call["check_mode"] for call in fake.parameters.values())


@pytest.mark.parametrize(
    "origin, target, requests",
    [
        # Killed after all was sent: the target has it, stopped or already running.
        (SENT, "arrived", ["t.receive", *LAST]),
        (SENT, "running", ["t.receive", *LAST]),
        (SENT, "other", LAST),
    ],
)
def test_what_a_killed_run_has_sent_is_completed(origin, target, requests):
    world = World(origin, states(target))
    assert world.run()["changed"]
    assert world.log == FIRST + requests
    if "receive" in world.target.parameters:
        assert world.target.parameters["receive"]["status"] == "paused"


@pytest.mark.parametrize("target", ["absent", "dead", "waiting"])
def test_what_the_target_has_lost_goes_on_on_the_origin_and_is_sent_again(target):
    world = World([SENT, HERE], states(target))
    assert world.run()["changed"]
    assert world.log[2:4] == ["o.recover", "o.describe"]
    assert ("t.discard" in world.log) == (target != "absent")
    assert world.log[-3:] == LAST


def test_a_target_that_waits_for_a_killed_run_is_discarded_first():
    world = World(HERE, states("waiting"))
    world.run()
    assert world.log[2:4] == ["t.discard", "t.plan"]


def test_a_vm_that_is_on_the_target_already():
    world = World(ABSENT, states("other"))
    result = world.run()
    assert not result["changed"] and result["vm"] == {"name": "v"} and result["changes"] == []


def test_a_vm_that_is_nowhere():
    with pytest.raises(AnsibleError, match="neither o nor t has a VM v in the lab l"):
        World(ABSENT, states("absent")).run()


def test_a_failed_send_cleans_the_target():
    world = World(HERE, states("absent", "waiting"), send="no route", receive="it has ended")
    with pytest.raises(AnsibleError, match="^no route. The VM continues on o$"):
        world.run()
    assert world.log[-1] == "o.recover" and "t.discard" in world.log
    assert not {"o.remove", "n.relink"} & set(world.log)


def test_a_target_that_does_not_answer_after_a_failed_send():
    world = World(HERE, [{"state": "absent"}, "no ssh"], send="no route", receive="no ssh")
    with pytest.raises(
        AnsibleError, match="no route. .* cleaned up: no ssh. The VM continues on o"
    ):
        world.run()


def test_an_origin_that_fails_after_it_has_sent_everything():
    world = World(HERE, states("absent", "other"), send="killed")
    assert world.run()["changed"]
    assert world.log[-3:] == LAST and "t.discard" not in world.log


@pytest.mark.parametrize("target", ["dead", "arrived"])
def test_a_guest_that_the_target_cannot_continue_goes_on_on_the_origin(target):
    world = World(HERE, states("absent", target), receive="the port is taken")
    with pytest.raises(AnsibleError, match="^the port is taken. The VM continues on o$"):
        world.run()
    # The guest is in one of them at most.
    assert world.log[-2:] == ["t.discard", "o.recover"]


def test_a_lost_connection_to_a_target_that_continues():
    world = World(HERE, states("absent", "other"), receive="connection lost")
    assert world.run()["changed"]
    assert world.log[-3:] == LAST


def test_nothing_is_decided_about_a_target_that_does_not_answer():
    world = World(HERE, [{"state": "absent"}, "no ssh"], receive="connection lost")
    with pytest.raises(AnsibleError, match="unknown .no ssh., so it stays stopped on o"):
        world.run()
    assert not {"o.recover", "o.remove", "t.discard"} & set(world.log)


def test_a_neighbour_that_cannot_be_connected_is_a_warning():
    world = World(HERE, states("absent"))
    world.other.answers["relink"] = "no such NIC"
    assert world.run()["warnings"] == ["no such NIC", "w"]
    assert world.log[-2:] == ["o.remove", "t.settle"]
