# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""qemu_guest_exec in one guest and in several."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import types

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import guest_exec_service

from .._qemu.test_guest_agent import FakeAgent

DEFAULTS = {
    name: rule.get("default")
    for name, rule in guest_exec_service.SPECIFICATION["argument_spec"].items()
}


def ended(code, text):
    data = base64.b64encode(text.encode()).decode()
    return {"exited": True, "exitcode": code, "out-data": data}


@pytest.fixture
def guests(tmp_path, monkeypatch):
    """Start agents; all commands end together: each guest waits for the others."""
    with contextlib.ExitStack() as stack:

        def start(**codes):
            barrier = threading.Barrier(len(codes))

            class Agent(FakeAgent):
                def _answer(self, client, request):
                    if request["execute"] == "guest-exec":
                        barrier.wait(10)
                    super()._answer(client, request)

            agents = {}
            for name, code in codes.items():
                answers = {"guest-exec": {"pid": 1}, "guest-exec-status": ended(code, name)}
                agents[name] = stack.enter_context(Agent(str(tmp_path / name), answers))
            return agents

        monkeypatch.setattr(
            guest_exec_service,
            "existing",
            lambda _root, _lab, vm: types.SimpleNamespace(socket=lambda _: str(tmp_path / vm)),
        )
        monkeypatch.setattr(guest_exec_service, "check_agent", lambda error, _folder: None)
        yield start


def work(**params):
    return guest_exec_service.work({**DEFAULTS, **params}, False)


def test_one_guest(guests):
    guests(a=0)
    assert work(vm="a", cmd="hostname") == {
        **{"rc": 0, "stdout": "a", "stdout_lines": ["a"], "changed": True},
        **{"stderr": "", "stderr_lines": []},
    }


def test_several_guests_at_the_same_time(guests):
    agents = guests(b=0, a=0)
    result = work(cmds={"b": "echo b", "a": "echo a"})
    assert result == {
        "changed": True,
        "outputs": [{"vm": name, "rc": 0, "stdout": name, "stderr": ""} for name in ("b", "a")],
    }
    sent = [json.loads(line.lstrip(b"\xff")) for line in agents["a"].raw]
    (run,) = [request["arguments"] for request in sent if request["execute"] == "guest-exec"]
    assert (run["path"], run["arg"]) == ("/bin/sh", ["-c", "echo a"])


def test_guests_that_fail(guests):
    guests(a=0, b=3)
    result = work(cmds={"a": "true", "b": "false", "gone": "true"}, ready_timeout=0)
    assert result["failed"]
    assert [(each["vm"], each.get("rc")) for each in result["outputs"]] == [
        *(("a", 0), ("b", 3)),
        ("gone", None),
    ]
    assert [line.split(":")[0] for line in result["msg"].splitlines()] == ["b", "gone"]
    assert "no guest agent answers" in result["outputs"][2]["msg"]


@pytest.mark.parametrize("line", ["", None, ["true"], 1])
def test_a_command_line_is_a_text(line):
    with pytest.raises(OptionError) as caught:
        work(cmds={"a": "true", "b": line})
    assert caught.value.facts["option"] == "cmds.b"


def test_no_command_lines():
    assert work(cmds={}) == {"changed": False, "outputs": []}
