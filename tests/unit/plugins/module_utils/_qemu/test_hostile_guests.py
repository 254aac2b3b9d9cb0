# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests and monitors that give answers of any shape, or send without a pause."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import threading
import time
import tracemalloc

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    MonitorError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console import serial_cli, serial_shell
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import guest_files
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_exec import (
    exec_in_guest,
    run_in_guest,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._console.serial_cli import SerialCli
from ansible_collections.vlab.qemu.plugins.module_utils._console.serial_shell import SerialShell
from ansible_collections.vlab.qemu.tests.unit.flood import Flood

from .test_guest_agent import FakeAgent

DEEP = b"[" * 100_000
SHAPES = [
    *(b"null", b"true", b"1", b"-1", b"1.5", b"1e999", b"NaN", b'"x"', b'"\\ud800"', b'""'),
    *(b"[]", b"{}", b"[1]", b"[[]]", b"[{}]", b"[null]", b'["x"]', b'{"a": 1}'),
    *(b"9" * 5000, b"[" + b"9" * 5000 + b"]", DEEP, b"{", b"\x00", b"\xc3\x28"),
    *(b"[" * 900 + b"]" * 900, b'{"a": ' * 900 + b"1" + b"}" * 900),
]


class RawAgent(FakeAgent):
    """answers: command -> the bytes of a whole line."""

    def _answer(self, client, request):
        raw = self.answers.get(request["execute"])
        if raw is None:
            super()._answer(client, request)
        else:
            self.requests.append(request["execute"])
            client.sendall(raw + b"\n")


def returned(value):
    return b'{"return": %s}' % (value if isinstance(value, bytes) else json.dumps(value).encode())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.sock")


CALLS = {
    "guest-network-get-interfaces": lambda agent: agent.interfaces(),
    "guest-exec": lambda agent: run_in_guest(agent, ["x"], timeout=1),
    "guest-exec-status": lambda agent: run_in_guest(agent, ["x"], timeout=1),
    "guest-file-open": lambda agent: guest_files.read_file(agent, "/x", 0, 10),
    "guest-file-read": lambda agent: guest_files.read_file(agent, "/x", 0, 10),
    "guest-file-write": lambda agent: guest_files.write_file(agent, "/x", b"abc"),
}
USUAL = {
    "guest-exec": returned({"pid": 7}),
    "guest-exec-status": returned({"exited": True, "exitcode": 0}),
    "guest-file-open": returned(3),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("command", sorted(CALLS))
def test_agent_answers_of_any_shape(path, monkeypatch, command, shape):
    monkeypatch.setattr(guest_files, "REPLY_TIMEOUT", 0.5)
    for line in (returned(shape), b'{"error": %s}' % shape, shape):
        with RawAgent(path, {**USUAL, command: line}):
            with GuestAgent(path, timeout=0.2) as agent, contextlib.suppress(GuestError):
                CALLS[command](agent)
        os.unlink(path)


INTERFACE = {"name": "eth0"}
ADDRESS = {"ip-address": "10.0.0.1"}


@pytest.mark.parametrize(
    "command, value",
    [
        ("guest-network-get-interfaces", [INTERFACE, None]),
        ("guest-network-get-interfaces", [{}]),
        ("guest-network-get-interfaces", [{"name": 3}]),
        ("guest-network-get-interfaces", [{**INTERFACE, "hardware-address": 3}]),
        ("guest-network-get-interfaces", [{**INTERFACE, "hardware-address": "{{ x }}"}]),
        ("guest-network-get-interfaces", [{**INTERFACE, "ip-addresses": {}}]),
        ("guest-network-get-interfaces", [{**INTERFACE, "ip-addresses": [ADDRESS, 1]}]),
        ("guest-network-get-interfaces", [{**INTERFACE, "ip-addresses": [{}]}]),
        ("guest-network-get-interfaces", [{**INTERFACE, "ip-addresses": [{"ip-address": "x"}]}]),
        (
            "guest-network-get-interfaces",
            [{**INTERFACE, "ip-addresses": [{"ip-address": "fe80::1%{{ x }}"}]}],
        ),
        ("guest-exec", {"pid": "7"}),
        ("guest-exec", {"pid": True}),
        ("guest-exec-status", {"exited": 1}),
        ("guest-exec-status", {"exited": True, "exitcode": "0"}),
        ("guest-exec-status", {"exited": True, "signal": []}),
        ("guest-exec-status", {"exited": True, "exitcode": 0, "out-data": "*"}),
        ("guest-exec-status", {"exited": True, "exitcode": 0, "out-data": "YQ"}),
        ("guest-exec-status", {"exited": True, "exitcode": 0, "err-data": 7}),
        ("guest-exec-status", {"exited": True, "exitcode": 0, "out-truncated": 7}),
        ("guest-file-open", "3"),
        ("guest-file-read", {"buf-b64": "a", "eof": True, "count": 1}),
        ("guest-file-read", {"buf-b64": "YQ==", "eof": "yes", "count": 1}),
        ("guest-file-read", {"buf-b64": base64.b64encode(b"x" * 11).decode(), "eof": True}),
        ("guest-file-write", {"count": 0}),
        ("guest-file-write", {"count": -1}),
        ("guest-file-write", {"count": 4}),
    ],
)
def test_invalid_answers_of_the_agent(path, command, value):
    with RawAgent(path, {**USUAL, command: returned(value)}), GuestAgent(path) as agent:
        with pytest.raises(GuestError, match="the guest agent gave an invalid answer: "):
            CALLS[command](agent)


def test_valid_answers_of_the_agent(path):
    status = {"exited": True, "signal": 9, "out-data": "YQ==", "err-data": None}
    interfaces = [
        {"name": "a\ud800", "hardware-address": None, "ip-addresses": None},
        {"name": "Ethernet 2", "ip-addresses": [{"ip-address": "fe80::1%4"}]},
    ]
    answers = {
        **USUAL,
        "guest-exec-status": returned(status),
        "guest-network-get-interfaces": returned(interfaces),
        "guest-file-read": returned({"buf-b64": "YWI=", "eof": True, "count": 2}),
        "guest-file-write": returned({"count": 3, "eof": False}),
    }
    with RawAgent(path, answers), GuestAgent(path) as agent:
        assert exec_in_guest(agent, ["x"]) == (137, b"a", b"")
        assert agent.interfaces() == [
            {"name": "a?", "mac": None, "addresses": []},
            {"name": "Ethernet 2", "mac": None, "addresses": ["fe80::1%4"]},
        ]
        assert guest_files.read_file(agent, "/x", 0, 10) == b"ab"
        guest_files.write_file(agent, "/x", b"abc")


def test_a_file_without_an_end(path, monkeypatch):
    monkeypatch.setattr(guest_files, "MAX_FILE", 1000)
    piece = returned({"buf-b64": base64.b64encode(b"x" * 91).decode(), "eof": False, "count": 1})
    with RawAgent(path, {**USUAL, "guest-file-read": piece}) as server, GuestAgent(path) as agent:
        with pytest.raises(GuestError, match="/x in the guest is larger than"):
            guest_files.read_file(agent, "/x")
        assert server.requests[-1] == "guest-file-close"


GREETING = b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}}}\n'


class RawMonitor:
    """A monitor that answers each line with the same bytes."""

    def __init__(self, path, greeting, answer):
        self.greeting, self.answer = greeting, answer
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(1)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.thread.join(5)
        self.server.close()

    def _serve(self):
        with self.server.accept()[0] as client, contextlib.suppress(OSError):
            client.sendall(self.greeting)
            for line in client.makefile("rb"):
                identifier = json.loads(line)["id"]
                client.sendall(self.answer.replace(b"ID", b"%d" % identifier) + b"\n")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "message",
    [
        b'{"return": SHAPE, "id": ID}',
        b'{"error": SHAPE, "id": ID}',
        b'{"error": {"class": SHAPE, "desc": SHAPE}, "id": ID}',
        b'{"event": SHAPE}',
        b'{"event": "X", "data": SHAPE}',
        b'{"event": "X", "timestamp": SHAPE}',
        b'{"event": "X", "timestamp": {"seconds": SHAPE}}',
        b'{"id": SHAPE}',
        b"SHAPE",
        b"{SHAPE}",
    ],
)
def test_monitor_messages_of_any_shape(path, message, shape):
    with RawMonitor(path, GREETING, message.replace(b"SHAPE", shape)):
        with Monitor(path) as monitor, contextlib.suppress(MonitorError):
            monitor.timeout = 0.1  # not for the greeting, which comes late on a busy machine
            monitor.execute("x")
            monitor.wait_event("X", {"a": 1})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "greeting",
    [b'{"QMP": SHAPE}', b'{"QMP": {"version": {"qemu": {"major": SHAPE}}}}', b"SHAPE"],
)
def test_greetings_of_any_shape(path, greeting, shape):
    with RawMonitor(path, greeting.replace(b"SHAPE", shape) + b"\n", b""):
        with pytest.raises(MonitorError):
            Monitor(path, timeout=0.1).connect()


def test_old_events_are_dropped(path):
    events = b"".join(b'{"event": "E%d"}\n' % number for number in range(3000))
    large = b'{"event": "LARGE", "data": {"x": "%s"}}\n' % (b"x" * 70000)
    with RawMonitor(path, GREETING, events + large + b'{"return": {}, "id": ID}'):
        with Monitor(path) as monitor:
            assert monitor.execute("x") == {}
            assert [monitor.events[0]["event"], monitor.events[-1]["event"]] == ["E2000", "E2999"]
            assert monitor.wait_event("E2500")["event"] == "E2500"


@contextlib.contextmanager
def bounded(seconds):
    """The block takes no longer than its timeout and a second or two, and 64 MiB."""
    tracemalloc.start()
    began = time.monotonic()
    try:
        yield
        assert time.monotonic() - began < seconds + 2.5
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"x", b"\xff", b"\n", b'{"return": 1}\n', b'\xff{"return": 1}\n', b"[" * 9999, b"\0"]
)
def test_an_agent_that_never_pauses(path, data):
    with Flood(path, data), bounded(0.5), pytest.raises(GuestError):
        GuestAgent(path, timeout=0.5).__enter__()


def test_an_answer_of_the_agent_without_an_end(path):
    with FakeAgent(path, {"guest-x": None}) as server, GuestAgent(path, timeout=5) as agent:

        def flood():
            with contextlib.suppress(OSError):
                while True:
                    server.clients[0].sendall(b"x" * 65536)

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        with bounded(5), pytest.raises(GuestError, match="larger than 16 MiB"):
            agent.execute("guest-x")
        agent.close()
        thread.join(5)


@pytest.mark.parametrize(
    "data",
    [b'{"a', b"{", b"{\n", b"\n", b'{"event": "X"}\n', b'{"return": 1, "id": 1}\n', b'{"a": 1}\n'],
)
def test_a_monitor_that_never_pauses(path, data):
    with Flood(path, data, GREETING), bounded(0.5), pytest.raises(MonitorError):
        with Monitor(path, timeout=0.5) as monitor:
            monitor.execute("x")


@pytest.mark.parametrize("data", [b'{"event": "X"}\n', b"{\n"])
def test_events_that_never_pause(path, data):
    with Flood(path, data, GREETING), bounded(0.5), pytest.raises(MonitorError):
        with Monitor(path, timeout=0.5) as monitor:
            monitor._negotiated = True
            monitor.wait_event("Y")


@pytest.mark.parametrize("session", [SerialShell, SerialCli])
@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"# ",
        b"# \r\n",
        b"login: ",
        b"Password: ",
        b"\x1b]",
        b"\x1b[0",
        b"VLAB-",
        b"\0",
        b"\n",
    ],
)
def test_a_console_that_never_pauses(path, session, data, monkeypatch):
    # Not shorter than the timeout, as usual for one so short.
    monkeypatch.setattr(serial_shell, "PROMPT_TIMEOUT", 0.2)
    monkeypatch.setattr(serial_cli, "PROMPT_TIMEOUT", 0.4)
    with Flood(path, data), bounded(0.2):
        with Console(path) as console, contextlib.suppress(VlabError):
            with session(console, timeout=0.2) as shell:
                shell.run("x", timeout=0.1)


@pytest.mark.parametrize("data", [b"x", b"# ", b"# \r\nline\r\n"])
def test_output_of_a_command_line_without_an_end(path, data):
    with Flood(path, data), Console(path) as console, bounded(0.2):
        cli = SerialCli(console)
        with pytest.raises(GuestError):
            cli.run("show", timeout=0.2)


class Answering:
    """A console that gives the same answer, with our token, whatever is typed."""

    location, printed = "here", b""

    def __init__(self, answer):
        self.answer, self.sent = answer, []

    def send(self, data, deadline):
        self.sent.append(data)
        tokens = re.findall(rb"VLAB-(\w+)-", data)
        self.printed += self.answer.replace(b"TOKEN", (tokens or [self.token])[-1])

    def expect(self, patterns, deadline):
        for index, pattern in enumerate(patterns):
            match = pattern.search(self.printed)
            if match:
                self.printed = self.printed[match.end() :]
                return index, match
        return None, None

    expect_alive = expect


@pytest.mark.parametrize(
    "answer",
    [
        b"VLAB-TOKEN-r:0:%s 1:0 0:;" % (b"9" * 5000),
        b"VLAB-TOKEN-r:%s:1 1:0 0:;" % (b"9" * 5000),
        b"VLAB-TOKEN-r:0:999999999999999 1:0 0:;",
        b"VLAB-TOKEN-r:0:1 1:0 0:;VLAB-TOKEN-o:1:a===\r\n",
        b"VLAB-TOKEN-r:0:1 1:0 0:;VLAB-TOKEN-o:1:YQ==\r\n",
        b"VLAB-TOKEN-r:0:1 1:0 0:;VLAB-TOKEN-o:1:====\r\n",
        b"VLAB-TOKEN-r:0:1 1:0 0:;VLAB-TOKEN-o:%s:YQ==\r\n" % (b"1" * 5000),
        b"VLAB-TOKEN-r:0:1 1:0 0:;VLAB-TOKEN-end:0:",
    ],
)
def test_results_of_a_shell_that_are_not_valid(monkeypatch, answer):
    monkeypatch.setattr(serial_shell, "RETRY_INTERVALS", (0.01,))
    console = Answering(answer)
    shell = SerialShell(console, timeout=0.1)
    console.token = shell.token.encode()
    with pytest.raises(GuestError):
        shell.run("x", timeout=0.2)


def test_a_shell_that_repeats_a_line_makes_no_progress(monkeypatch, path):
    monkeypatch.setattr(serial_shell, "RETRY_INTERVALS", (0.02,))
    token = b"AAAAAAAA"
    line = b"VLAB-%s-o:1:%s\r\n" % (token, b"A" * 76)
    with Flood(path, line, b"VLAB-%s-r:0:1000 1:0 0:;" % token), Console(path) as console:
        shell = SerialShell(console, timeout=0.5)
        shell.token = token.decode()
        began = time.monotonic()
        with pytest.raises(GuestError):
            shell.run("x", timeout=0.5)
        assert time.monotonic() - began < 30
