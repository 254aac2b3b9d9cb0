# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestGone,
    GuestNotReady,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import guest_exec
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent


class FakeAgent:
    """A guest agent on a socket.

    answers: command -> value, an {"error": ...} dict, or None for no answer. before: bytes sent
    first.
    """

    def __init__(self, path, answers=None, before=b"", silent=False):
        self.answers, self.before, self.silent = answers or {}, before, silent
        self.requests, self.raw, self.clients = [], [], []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(1)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for channel in [self.server] + self.clients:
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        for channel in [self.server] + self.clients:
            channel.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.server.accept()[0]
                self.clients.append(client)
                client.sendall(self.before)
                for line in client.makefile("rb"):
                    self.raw.append(line)
                    self._answer(client, json.loads(line.lstrip(b"\xff")))

    def _answer(self, client, request):
        name = request["execute"]
        self.requests.append(name)
        if self.silent:
            return
        if name == "guest-sync-delimited":
            client.sendall(
                b"\xff" + json.dumps({"return": request["arguments"]["id"]}).encode() + b"\n"
            )
        elif self.answers.get(name, {}) == "hang up":
            client.shutdown(socket.SHUT_RDWR)
        elif self.answers.get(name, {}) is not None:
            answer = self.answers.get(name, {})
            client.sendall(
                json.dumps(answer if "error" in answer else {"return": answer}).encode() + b"\n"
            )


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "agent.sock")


def test_synchronises_first(path):
    with FakeAgent(path, before=b'{"return": "of an ear') as server, GuestAgent(path) as agent:
        agent.execute("guest-ping")
        assert server.raw[0].startswith(b"\xff{")
        assert server.requests == ["guest-sync-delimited", "guest-ping"]


def test_answers_to_an_earlier_client_are_skipped(path):
    with (
        FakeAgent(path, {"guest-x": [1]}, before=b'\xff{"return": 1}\n{"return": "old"}\n'),
        GuestAgent(path) as agent,
    ):
        assert agent.execute("guest-x", {"a": 1}) == [1]


def test_nobody_listens(path):
    with pytest.raises(
        GuestError,
        match="no guest agent answers at .*agent.sock: No such file or directory. Does the VM run",
    ):
        GuestAgent(path).__enter__()


def test_no_agent_in_the_guest(path):
    with FakeAgent(path, silent=True):
        began = time.monotonic()
        with pytest.raises(
            GuestError, match="no guest agent answers at .*: is qemu-guest-agent installed"
        ):
            GuestAgent(path, timeout=0.2).__enter__()
        assert 0.15 < time.monotonic() - began < 2


def test_refusal(path):
    refusal = {"error": {"class": "CommandNotFound", "desc": "not supported"}}
    with FakeAgent(path, {"guest-x": refusal}), GuestAgent(path) as agent:
        with pytest.raises(
            GuestError, match="the guest agent refused guest-x: not supported"
        ) as caught:
            agent.execute("guest-x")
    assert caught.value.facts["error_class"] == "CommandNotFound"


def test_synchronises_again_after_a_timeout(path):
    with (
        FakeAgent(path, {"guest-slow": None, "guest-x": "answer"}) as server,
        GuestAgent(path) as agent,
    ):
        with pytest.raises(GuestError, match="did not answer guest-slow in time"):
            agent.execute("guest-slow", timeout=0.1)
        server.clients[0].sendall(b'{"return": "late"}\n')
        assert agent.execute("guest-x") == "answer"
        assert server.requests[-2:] == ["guest-sync-delimited", "guest-x"]


def test_command_without_an_answer(path):
    with FakeAgent(path, {"guest-shutdown": None}) as server, GuestAgent(path) as agent:
        assert agent.execute("guest-shutdown", answers=False) is None
        agent.execute("guest-ping")
        assert server.requests[1:] == ["guest-shutdown", "guest-sync-delimited", "guest-ping"]


def test_end_of_the_vm(path):
    with FakeAgent(path, {"guest-x": "hang up"}), GuestAgent(path) as agent:
        with pytest.raises(GuestError, match="was closed: the VM has ended"):
            agent.execute("guest-x")


def test_interfaces(path):
    found = [
        {
            "name": "lo",
            "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8, "ip-address-type": "ipv4"}],
        },
        {"name": "eth0", "hardware-address": "52:54:00:AB:cd:EF"},
    ]
    with FakeAgent(path, {"guest-network-get-interfaces": found}), GuestAgent(path) as agent:
        assert agent.interfaces() == [
            {"name": "lo", "mac": None, "addresses": ["127.0.0.1"]},
            {"name": "eth0", "mac": "52:54:00:ab:cd:ef", "addresses": []},
        ]


def test_a_guest_that_restarts_under_a_program(path):
    """The new agent does not know the process."""
    unknown = {"error": {"class": "GenericError", "desc": "PID 7 does not exist"}}
    answers = {"guest-exec": {"pid": 7}, "guest-exec-status": unknown}
    with FakeAgent(path, answers), GuestAgent(path) as agent:
        with pytest.raises(GuestGone, match="does not know the process of reboot any more"):
            guest_exec.exec_in_guest(agent, ["reboot"])


def test_a_request_that_is_lost_in_a_restart_is_sent_again(path, monkeypatch):
    monkeypatch.setattr(guest_exec, "MAX_SILENCE", 0.2)
    answers = {"guest-exec": {"pid": 7}, "guest-exec-status": None}
    with FakeAgent(path, answers) as server, GuestAgent(path) as agent:
        threading.Timer(
            0.5, answers.update, [{"guest-exec-status": {"exited": True, "exitcode": 3}}]
        ).start()
        assert guest_exec.exec_in_guest(agent, ["x"]) == (3, b"", b"")
        assert server.requests.count("guest-exec-status") > 2


def test_a_guest_that_hangs_under_a_program(path, monkeypatch):
    monkeypatch.setattr(guest_exec, "MAX_SILENCE", 0.2)
    monkeypatch.setattr(guest_exec, "REPLY_TIMEOUT", 0.6)
    answers = {"guest-exec": {"pid": 7}, "guest-exec-status": None}
    with FakeAgent(path, answers), GuestAgent(path, timeout=0.1) as agent:
        with pytest.raises(GuestGone, match="the guest stopped answering while it ran x"):
            guest_exec.exec_in_guest(agent, ["x"])


def test_a_vm_that_ends_under_a_program(path):
    answers = {"guest-exec": {"pid": 7}, "guest-exec-status": "hang up"}
    with FakeAgent(path, answers), GuestAgent(path) as agent:
        with pytest.raises(GuestGone, match="was closed: the VM has ended"):
            guest_exec.exec_in_guest(agent, ["poweroff"])


class Repeating(FakeAgent):
    """Answers twice."""

    def _answer(self, client, request):
        super()._answer(client, request)
        if request["execute"] == "guest-exec-status":
            super()._answer(client, request)
            self.requests.pop()


def test_an_agent_that_sends_what_nobody_asked_for_is_not_polled_without_a_pause(path):
    answers = {"guest-exec": {"pid": 7}, "guest-exec-status": {"exited": False}}
    with Repeating(path, answers) as server, GuestAgent(path, timeout=0.1) as agent:
        with pytest.raises(GuestError, match="did not end within 1 s"):
            guest_exec.exec_in_guest(agent, ["x"], timeout=1)
        assert len(server.requests) < 40


def test_waiting_for_an_agent_has_pauses_and_ends_if_it_is_in_vain(path):
    calls = []
    with pytest.raises(GuestError, match="no guest agent answers at"):
        guest_exec.wait_for_agent(path, 1, calls.append)
    assert 1 < len(calls) < 8

    def in_vain(error):
        raise GuestError("give it guest_agent: true")

    with pytest.raises(GuestError, match="give it guest_agent"):
        guest_exec.wait_for_agent(path, 60, in_vain)


def test_silence_is_no_refusal(path):
    with FakeAgent(path, {"guest-x": None}), GuestAgent(path, timeout=0.1) as agent:
        with pytest.raises(GuestNotReady, match="did not answer guest-x in time"):
            agent.execute("guest-x")
