# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The relay of consoles, as the program that it is, between a fake QEMU and clients."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.program_archive import (
    program_archive,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import console_relay

TIMEOUT = 20


class Relay:
    """A running relay with one console. qemu: QEMU's end of the connection."""

    def __init__(self, folder, listen=None, telnet=False, writers="many"):
        self.folder, self.listen = folder, listen or str(folder / "console.sock")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(folder / "relay0.sock"))
        self.server.listen(1)
        console = {
            "name": "console",
            "backend": str(folder / "relay0.sock"),
            "listen": self.listen,
            "telnet": telnet,
            "writers": writers,
        }
        settings = {"record": str(folder / "relay.json"), "consoles": [console]}
        (folder / "relay.pyz").write_bytes(program_archive(console_relay))
        self.log = open(folder / "relay.log", "wb")
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(folder / "relay.pyz"), json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.answer = self.process.stdout.readline()
        self.clients, self.qemu = [], None
        if self.answer == b"ready\n":
            self.qemu = self.server.accept()[0]
            self.qemu.settimeout(TIMEOUT)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        for channel in [self.log, self.server, self.qemu, *self.clients]:
            if channel is not None:
                channel.close()

    def connect(self, size=None):
        """Return a client. size: of its receive buffer."""
        if isinstance(self.listen, str):
            client = socket.socket(socket.AF_UNIX)
        else:
            client = socket.socket()
        if size:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        client.settimeout(TIMEOUT)
        client.connect(self.listen if isinstance(self.listen, str) else tuple(self.listen))
        self.clients.append(client)
        return client

    def descriptors(self):
        """Return how many sockets the relay has; it opens and closes files at any time."""
        count = 0
        for entry in os.scandir("/proc/%d/fd" % self.process.pid):
            with contextlib.suppress(FileNotFoundError):
                count += os.readlink(entry.path).startswith("socket:")
        return count

    def connected(self):
        """Return a client that has seen output: the relay has accepted it."""
        before = self.descriptors()
        client = self.connect()
        deadline = time.monotonic() + TIMEOUT
        while self.descriptors() == before:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.qemu.sendall(b"hello\n")
        receive(client, b"hello\n")
        return client


def receive(channel, end):
    """Return what arrives up to end."""
    data = b""
    while not data.endswith(end):
        piece = channel.recv(65536)
        assert piece, data[-200:]
        data += piece
    return data


def nothing_from(channel, seconds=0.3):
    return not select.select([channel], [], [], seconds)[0]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def relay(tmp_path):
    with Relay(tmp_path) as started:
        yield started


def test_many_clients_read_and_type(relay):
    first, second = relay.connected(), relay.connected()
    receive(first, b"hello\n")
    relay.qemu.sendall(b"login: ")
    assert receive(first, b"login: ") == receive(second, b"login: ") == b"login: "
    first.sendall(b"ro")
    assert receive(relay.qemu, b"ro") == b"ro"
    second.sendall(b"ot\r")
    assert receive(relay.qemu, b"\r") == b"ot\r"
    first.close()
    relay.qemu.sendall(b"Password: ")
    assert receive(second, b"Password: ") == b"Password: "


def test_it_is_recognised_by_its_record(relay):
    record = json.loads((relay.folder / "relay.json").read_text())
    assert record["pid"] == relay.process.pid
    assert sorted(record) == ["boot_id", "pid", "start"]
    assert os.stat(relay.listen).st_mode & 0o777 == 0o600


def test_one_writer(tmp_path):
    with Relay(tmp_path, writers="one") as relay:
        first, second = relay.connected(), relay.connected()
        first.sendall(b"a")
        assert receive(relay.qemu, b"a") == b"a"
        receive(first, b"hello\n")
        for _try in range(3):
            second.sendall(b"b")
        shown = b"\r\n[console console: read only, as another client types]\r\n"
        assert receive(second, shown) == shown, "it is shown once"
        assert nothing_from(second) and nothing_from(relay.qemu)
        first.close()
        time.sleep(0.2)
        second.sendall(b"c")
        assert receive(relay.qemu, b"c") == b"c"


def test_a_slow_client_is_disconnected_and_delays_nobody(relay):
    slow, good = relay.connected(), relay.connected()
    receive(slow, b"hello\n")
    sent, got = 0, 0
    piece = b"x" * 65535 + b"\n"
    begin = time.monotonic()
    relay.qemu.setblocking(False)
    while got < 100 * len(piece):
        waiting = [relay.qemu] if sent < 100 * len(piece) else []
        readable, writable, _errors = select.select([good], waiting, [], TIMEOUT)
        assert readable or writable, "neither QEMU nor the other client waits"
        if writable:
            sent += relay.qemu.send(piece[sent % len(piece) :])
        if readable:
            got += len(good.recv(1 << 20))
    assert time.monotonic() - begin < TIMEOUT
    relay.qemu.setblocking(True)
    with open("/proc/%d/status" % relay.process.pid, encoding="ascii") as stream:
        peak = next(line for line in stream if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 64 << 10, peak
    data = b""
    while True:
        piece = slow.recv(1 << 20)
        if not piece:
            break
        data += piece
    assert data.endswith(b"[console console: disconnected, because it was read too slowly]\r\n")
    assert b"is disconnected, because it was read" in (relay.folder / "relay.log").read_bytes()


def test_a_stuck_client_leaves_after_a_while(relay, monkeypatch):
    stuck, good = relay.connect(size=2048), relay.connected()
    assert stuck is not good
    for _piece in range(40):
        relay.qemu.sendall(b"x" * 65535 + b"\n")
        receive(good, b"x\n")
    deadline = time.monotonic() + console_relay.FAREWELL_TIMEOUT + 5
    before = relay.descriptors()
    while relay.descriptors() >= before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert relay.descriptors() == before - 1


def test_a_guest_that_does_not_read_its_input(relay):
    """The relay keeps a bounded part of it, and output goes on."""
    typing, reading = relay.connected(), relay.connected()
    typing.setblocking(False)
    typed = 0
    with contextlib.suppress(BlockingIOError):
        for _try in range(1000):
            typed += typing.send(b"y" * 65536)
            time.sleep(0.001)
    assert typed < 8 << 20
    relay.qemu.sendall(b"output\n")
    assert receive(reading, b"output\n").endswith(b"output\n")
    assert nothing_from(reading)
    typing.close()
    total = 0
    while select.select([relay.qemu], [], [], 1)[0]:
        total += len(relay.qemu.recv(1 << 20))
    assert total >= console_relay.MAX_INPUT
    busy = [int(word) for word in _stat(relay.process.pid)[13:15]]
    time.sleep(0.5)
    assert sum(map(int, _stat(relay.process.pid)[13:15])) - sum(busy) < 20, "it does not spin"


def _stat(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as stream:
        return stream.read().split()


def test_telnet(tmp_path):
    with Relay(tmp_path, ["127.0.0.1", free_port()], telnet=True) as relay:
        client = relay.connect()
        assert client.recv(12, socket.MSG_WAITALL) == console_relay.NEGOTIATION
        relay.qemu.sendall(b"a\xffb\n")
        assert receive(client, b"\n") == b"a\xff\xffb\n"
        for piece in (b"\xff", b"\xfd\x01l", b"s\xff\xff\xff", b"\xf1\r"):
            client.sendall(piece)
            time.sleep(0.02)
        assert receive(relay.qemu, b"\r") == b"ls\xff\r"


def test_tcp_is_not_changed(tmp_path):
    with Relay(tmp_path, ["127.0.0.1", free_port()]) as relay:
        client = relay.connected()
        relay.qemu.sendall(b"\xff\xfb\x01\n")
        assert receive(client, b"\n") == b"\xff\xfb\x01\n"
        client.sendall(b"\xff\xff\n")
        assert receive(relay.qemu, b"\n") == b"\xff\xff\n"


def test_it_ends_with_qemu_once_the_last_output_is_read(relay):
    client = relay.connected()
    relay.qemu.sendall(b"reboot: Power down\n")
    relay.qemu.close()
    assert receive(client, b"down\n") == b"reboot: Power down\n"
    assert client.recv(1) == b""
    assert relay.process.wait(TIMEOUT) == 0


def test_it_ends_with_qemu_whatever_its_clients_do(relay):
    relay.connect(size=2048)
    relay.connected()
    relay.qemu.sendall(b"x" * 200_000)
    relay.qemu.close()
    assert relay.process.wait(TIMEOUT) == 0


def test_sigterm(relay):
    relay.connected()
    relay.process.terminate()
    assert relay.process.wait(TIMEOUT) == 0


def test_a_limit_of_clients(relay, monkeypatch):
    clients = [relay.connect() for _number in range(console_relay.MAX_CLIENTS)]
    relay.qemu.sendall(b"hello\n")
    for client in clients:
        receive(client, b"hello\n")
    shown = receive(relay.connect(), b"]\r\n")
    assert b"disconnected, because it has 32 clients" in shown
    relay.qemu.sendall(b"again\n")
    for client in clients:
        assert receive(client, b"again\n") == b"again\n"


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with Relay(tmp_path, list(taken.getsockname())) as relay:
            assert relay.answer.startswith(b"error: ") and b"in use" in relay.answer
            assert relay.process.wait(TIMEOUT) == 1


def test_it_goes_on_if_the_run_that_started_it_is_killed(tmp_path, monkeypatch):
    """Nobody reads its answer."""
    real = subprocess.Popen

    def without_reader(*words, **options):
        process = real(*words, **options)
        process.stdout.close()
        process.stdout = open(os.devnull, "rb")
        return process

    monkeypatch.setattr(subprocess, "Popen", without_reader)
    with Relay(tmp_path) as relay:
        relay.qemu = relay.server.accept()[0]
        relay.qemu.settimeout(TIMEOUT)
        deadline = time.monotonic() + TIMEOUT
        while not os.path.exists(relay.listen) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert relay.connected()
