# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The clock of a guest that continues from a saved state."""

from __future__ import annotations

import time

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestNotReady,
    MonitorClosed,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import guest_agent
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clock import set_guest_clock
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose


class _Monitor:
    """A monitor with one event, or an error."""

    def __init__(self, event):
        self.event = event

    def wait_event(self, name, match, timeout):
        assert (name, match) == ("VSERPORT_CHANGE", {"id": "agent0"}) and timeout < 5
        if isinstance(self.event, Exception):
            raise self.event
        return {"event": name, "data": {**match, "open": self.event}}


class _Agent:
    """An agent that records what it is asked, or does not answer."""

    requests: list = []
    answers = True

    def __init__(self, path, timeout):
        assert path.endswith("agent.sock")
        # Ten emulated guests on two busy processors answer after 6 s.
        assert timeout >= 20

    def __enter__(self):
        if not self.answers:
            raise GuestNotReady("no guest agent answers")
        return self

    def __exit__(self, *_exception):
        pass

    def execute(self, command, arguments):
        self.requests.append((command, arguments["time"] / 1e9))


@pytest.fixture(name="requests")
def _requests(monkeypatch):
    monkeypatch.setattr(guest_agent, "GuestAgent", _Agent)
    monkeypatch.setattr(_Agent, "requests", [])
    return _Agent.requests


def warnings(tmp_path, event, guest_agent=True):  # pylint: disable=redefined-outer-name
    host = FakeHost(root=tmp_path)
    definition = compose({"guest_agent": guest_agent}, host=host)
    return set_guest_clock(host.folder, definition, _Monitor(event))


@pytest.mark.parametrize("event", [True, MonitorTimeout("late")])
def test_the_agent_is_given_the_time(tmp_path, requests, event):
    assert not warnings(tmp_path, event)
    ((command, moment),) = requests
    assert command == "guest-set-time" and abs(moment - time.time()) < 5


@pytest.mark.parametrize(
    "event, options, expected",
    [
        (False, {}, "no guest agent runs in it"),
        (MonitorClosed("QEMU has ended"), {}, "QEMU has ended"),
        (True, {"guest_agent": False}, None),
    ],
)
def test_nobody_waits_for_an_agent_that_does_not_run(tmp_path, requests, event, options, expected):
    texts = ["the clock of the guest was not set: " + expected] if expected else []
    assert warnings(tmp_path, event, **options) == texts
    assert not requests


def test_an_agent_that_does_not_answer_is_a_warning(tmp_path, monkeypatch, requests):
    monkeypatch.setattr(_Agent, "answers", False)
    assert warnings(tmp_path, True) == [
        "the clock of the guest was not set: no guest agent answers"
    ]
    assert not requests
