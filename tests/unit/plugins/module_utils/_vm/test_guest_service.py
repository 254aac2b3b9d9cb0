# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.module_utils._vm import guest_cause, guest_service
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.tests.unit.fake_console import FakeConsole


def reply_to(root, name, data=b"", **parameters):
    """Return what the guest service replies: the result or the error, and the data."""
    parameters = dict({"lab": "lab", "vm": "r1", "root": str(root)}, **parameters)
    content = {"name": name, "parameters": parameters}
    request = protocol.Message("vlab-1", protocol.REQUEST, content, [data])
    replies = io.BytesIO()
    protocol.handle_request(guest_service.HANDLERS, request, replies)
    replies.seek(0)
    assert protocol.read_message(replies).type == protocol.STARTED
    reply = protocol.read_message(replies)
    assert protocol.read_message(replies) is None
    assert reply.token == "vlab-1"
    return reply.content.get("result", reply.content), reply.pieces


@pytest.fixture
def defined(tmp_path):
    """A VM with a console, and a shell on it."""
    folder = Folder(str(tmp_path), "lab", "r1")
    folder.make()
    with open(folder.definition, "w", encoding="utf-8") as stream:
        json.dump(
            {
                "format": 1,
                "consoles": [{"name": "console", "type": "unix", "log": True}],
                "ports": {},
            },
            stream,
        )
    with FakeConsole(folder.socket("console.sock"), ["/bin/sh", "-i"]):
        yield tmp_path


def test_commands_and_files_on_a_console(defined):
    assert reply_to(
        defined, "exec", b"in", channel="serial", command="cat; echo no >&2; exit 4"
    ) == ({"rc": 4}, [b"in", b"no\n"])
    path = str(defined / "file")
    assert reply_to(defined, "write", b"a\x00\n", channel="serial", path=path) == ({}, [])
    assert reply_to(defined, "write", b"b", channel="serial", path=path, append=True) == (
        {},
        [],
    )
    assert reply_to(defined, "read", channel="serial", path=path) == ({}, [b"a\x00\nb"])
    assert reply_to(defined, "read", channel="serial", path=path, offset=1, size=2) == (
        {},
        [b"\x00\n"],
    )


@pytest.mark.parametrize(
    "channel, request_, kind, message",
    [
        ("serial", {"vm": "r2"}, "error", "the lab lab has no VM r2 under"),
        ("agent", {"vm": "r2"}, "error", "the lab lab has no VM r2 under"),
        ("serial", {"console": "other"}, "error", "the VM r1 has no console other; it has console"),
        ("serial", {"vm": "../r1"}, "error", "cannot be a name"),
    ],
)
def test_what_cannot_be_reached(defined, channel, request_, kind, message):
    result, pieces = reply_to(defined, "exec", channel=channel, command="true", **request_)
    assert (result["kind"], pieces) == (kind, [])
    assert message in result["message"]


def test_no_vms(tmp_path):
    assert reply_to(tmp_path, "vms") == ({"vms": [], "node_facts": {}, "warnings": []}, [])


def test_a_guest_that_goes_away(defined):
    result, _pieces = reply_to(
        defined,
        "exec",
        channel="serial",
        command="echo '[    9.000000] reboot: Restarting system' >/dev/tty; sleep 60",
    )
    assert result["kind"] == "gone" and "reboot: Restarting system" in result["message"]


@pytest.mark.parametrize(
    "parameters, timeout",
    [
        ({}, 3600),
        ({"timeout": 5}, 5),
        ({"timeout": 0}, guest_service._NO_TIMEOUT),
        ({"cli": True}, None),
        ({"cli": True, "timeout": 0}, guest_service._NO_TIMEOUT),
    ],
)
def test_a_command_has_a_limit(defined, monkeypatch, parameters, timeout):
    given = []

    class Session:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def run(self, _command, _data, timeout):
            given.append(timeout)
            return 0, b"", b""

    monkeypatch.setattr(guest_service, "_open_session", lambda parameters: Session())
    reply_to(defined, "exec", channel="serial", command="x", **parameters)
    assert given == [timeout]


@pytest.mark.parametrize(
    "state, agent, message",
    [
        ({"alive": False, "status": "stopped"}, True, "does not run: it is stopped"),
        ({"status": "paused"}, True, "is paused: state=started resumes it"),
        ({"status": "guest-panicked"}, False, "QEMU reports guest-panicked"),
        ({"status": "internal-error"}, False, "QEMU reports internal-error"),
        ({"running": {"guest_agent": False}}, True, "give it guest_agent: true"),
        ({"running": {"guest_agent": False}}, False, None),
        ({"running": {"guest_agent": True}}, True, None),
        ({"monitor_error": MonitorTimeout("hangs")}, True, "it is silent; and hangs"),
    ],
)
def test_why_a_guest_does_not_answer(defined, monkeypatch, state, agent, message):
    folder = Folder(str(defined), "lab", "r1")
    usual = {"alive": True, "status": "running", "monitor_error": None, "damage": None}
    observation = SimpleNamespace(folder=folder, close=lambda: None, running={}, **usual)
    vars(observation).update(state)
    monkeypatch.setattr(guest_cause, "observe", lambda folder: observation)
    error = GuestError("it is silent")
    assert (message or "it is silent") in guest_cause.with_cause(error, folder, agent).message


CLIENT = """
import sys
sys.path[:0] = %r
from ansible_collections.vlab.qemu.plugins.module_utils._vm.hangup import end_with_client
end_with_client()
try:
    print("up", flush=True)
    import select
    select.select([], [], [], 60)
finally:
    open(%r, "w").close()
"""


def test_a_request_ends_with_its_controller(tmp_path):
    """So that it does not hold the console of the guest."""
    cleaned = str(tmp_path / "cleaned")
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT % (sys.path, cleaned)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"up\n"
        time.sleep(0.2)
        assert process.poll() is None
        process.stdout.close()
        assert process.wait(10) == 1 and os.path.exists(cleaned)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
