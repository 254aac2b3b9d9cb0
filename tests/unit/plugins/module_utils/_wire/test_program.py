# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of the wires, as the process that it is, between sockets that play QEMU and peers."""

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
from ansible_collections.vlab.qemu.plugins.module_utils._common.detached_program import start_time
from ansible_collections.vlab.qemu.plugins.module_utils._common.program_archive import (
    program_archive,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire import control, engine, program

TIMEOUT = 20
SIZE = 200
COUNT, BATCH = 10000, 50


def udp(address="127.0.0.1"):
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    channel.bind((address, 0))
    channel.settimeout(TIMEOUT)
    return channel


def free_port():
    with udp() as probe:
        return probe.getsockname()[1]


class End:
    """One end of a link: the socket of QEMU, and the port of the wire that it sends to."""

    def __init__(self):
        self.qemu, self.wire = udp(), free_port()

    def settings(self, other, parameters):
        return {
            "listen": ["127.0.0.1", self.wire],
            "local": list(self.qemu.getsockname()),
            "remote": list(other.qemu.getsockname()),
            "parameters": parameters,
        }

    def send(self, data):
        self.qemu.sendto(data, ("127.0.0.1", self.wire))

    def receive(self, quiet=0.25):
        """Return what arrived until nothing comes any more, with the ports of the senders."""
        found = []
        while select.select([self.qemu], [], [], quiet)[0]:
            found.append(self.qemu.recvfrom(65536))
        return [data for data, _address in found], {address[1] for _data, address in found}


class Running:
    """The program with a wire for each direction of a link."""

    def __init__(self, folder, there=None, back=None, qemu=None):
        self.folder, self.left, self.right = folder, End(), End()
        self.control = str(folder / "wire.sock")
        pid = qemu or os.getpid()
        self.wires = {
            "there": self.left.settings(self.right, there or {}),
            "back": self.right.settings(self.left, back or {}),
        }
        settings = {
            "record": str(folder / "wire.json"),
            "control": self.control,
            "pid": pid,
            "start": start_time(pid),
            "wires": self.wires,
        }
        (folder / "wire.pyz").write_bytes(program_archive(program, control, engine))
        (folder / "settings.json").write_text(json.dumps(settings))
        self.log = open(folder / "wire.log", "wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-B"),
                *(str(folder / "wire.pyz"), str(folder / "settings.json")),
            ],
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.answer = self.process.stdout.readline().decode().strip()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        for channel in (self.log, self.left.qemu, self.right.qemu):
            channel.close()

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT)
        client.connect(self.control)
        return client

    def ask(self, request):
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        answer = b""
        with self.connect() as client:
            client.sendall(data + b"\n")
            while not answer.endswith(b"\n"):
                piece = client.recv(65536)
                assert piece, answer
                answer += piece
        return json.loads(answer)

    def measured(self, name="there"):
        return self.ask({"command": "status"})["wires"][name]["measured"]

    def works(self):
        self.left.send(b"still here")
        return b"still here" in self.right.receive()[0]


def flood(sender, count, per_second):
    """Send numbered frames at a steady rate."""
    start = time.monotonic()
    for number in range(count):
        if number % 20 == 0:
            time.sleep(max(0, start + number / per_second - time.monotonic()))
        sender.send(number.to_bytes(4, "big") + bytes(SIZE - 4))


def passed(sender, receiver, count):
    """Return the numbers of the frames that arrive, with few on their way at any time."""
    found = []
    for first in range(0, count, BATCH):
        for number in range(first, first + BATCH):
            sender.send(number.to_bytes(4, "big") + bytes(SIZE - 4))
        while select.select([receiver.qemu], [], [], 0.003)[0]:
            found.append(receiver.qemu.recv(SIZE))
    return numbers(found + receiver.receive()[0])


def numbers(frames):
    return [int.from_bytes(frame[:4], "big") for frame in frames]


@pytest.fixture
def running(tmp_path):
    with Running(tmp_path) as started:
        assert started.answer == "ready"
        yield started


def test_both_directions_and_the_port_that_the_peer_expects(running):
    for sender, receiver in ((running.left, running.right), (running.right, running.left)):
        flood(sender, 500, 20000)
        frames, ports = receiver.receive()
        assert numbers(frames) == list(range(500))
        assert {len(frame) for frame in frames} == {SIZE}
        assert ports == {sender.qemu.getsockname()[1]}
        # What comes from the other side still goes to QEMU, which has the same port.
        receiver.qemu.sendto(b"direct", sender.qemu.getsockname())
        assert sender.receive()[0] == [b"direct"]
    assert running.measured("back")["frames_out"] == 500
    assert os.stat(running.control).st_mode & 0o777 == 0o600
    record = json.loads((running.folder / "wire.json").read_text())
    assert record["pid"] == running.process.pid


def ethernet(destination, protocol, size):
    head = bytes.fromhex(destination) + b"\x02\0\0\0\0\x01" + bytes.fromhex(protocol)
    return head + os.urandom(size - len(head))


# What a switch may treat in its own way, and a cable does not.
FRAMES = {
    "VLAN": ethernet("020000000002", "8100000a", 64),
    "QinQ": ethernet("020000000002", "88a8000a81000014", 1522),
    "LLDP": ethernet("0180c200000e", "88cc", 60),
    "STP": ethernet("0180c2000000", "0026424203", 60),
    "LACP": ethernet("0180c2000002", "8809", 124),
    "PTP": ethernet("011b19000000", "88f7", 58),
    "jumbo": ethernet("020000000002", "0800", 9014),
    "jumbo with tags": ethernet("020000000002", "88a8000a81000014", 9022),
    "short": b"\xff" * 14,
    "largest datagram": os.urandom(65507),
}


@pytest.mark.parametrize("parameters", [{}, {"delay": 1}, {"rate": 1000000}], ids=str)
def test_every_kind_of_frame_passes_unchanged(tmp_path, parameters):
    with Running(tmp_path, parameters) as running:
        for frame in FRAMES.values():
            running.left.send(frame)
        assert running.right.receive()[0] == list(FRAMES.values())


def test_a_qemu_that_listens_on_all_addresses(tmp_path):
    with Running(tmp_path) as running:
        qemu = udp("0.0.0.0")
        wire = dict(running.wires["there"], local=list(qemu.getsockname()))
        running.ask({"command": "configure", "wires": {"there": wire}})
        qemu.sendto(b"there", ("127.0.0.1", running.left.wire))
        data, sender = running.right.qemu.recvfrom(100)
        assert (data, sender[1]) == (b"there", qemu.getsockname()[1])
        assert sender[0] != "0.0.0.0"
        running.right.qemu.sendto(b"back", sender)
        assert qemu.recv(100) == b"back"
        qemu.close()


def test_frames_of_others_are_not_taken(running):
    with udp() as stranger:
        stranger.sendto(b"intruder", ("127.0.0.1", running.left.wire))
    assert running.works()
    assert running.measured()["frames_in"] == 1


@pytest.mark.parametrize(
    ("parameters", "least", "most"),
    [({"delay": 10}, 10, 10.5), ({}, 0, 0.5)],
)
def test_delays(tmp_path, parameters, least, most):
    with Running(tmp_path, parameters) as running:
        delays = []
        for _attempt in range(5):  # another program may have needed the processor
            delays.append(_median_delay(running))
            if least <= delays[-1] < most:
                break
        assert least <= min(delays) < most, delays


def _median_delay(running):
    found = []
    for _frame in range(51):
        start = time.monotonic()
        running.left.send(b"frame")
        running.right.qemu.recv(100)
        found.append(time.monotonic() - start)
        time.sleep(0.001)
    own = []  # what two sockets need without a wire
    for _frame in range(51):
        start = time.monotonic()
        running.left.qemu.sendto(b"frame", running.right.qemu.getsockname())
        running.right.qemu.recv(100)
        own.append(time.monotonic() - start)
    return (sorted(found)[25] - sorted(own)[25]) * 1000


def test_losses_and_a_seed(tmp_path):
    arrived = []
    with Running(tmp_path, {"loss": 10, "seed": 5}) as running:
        for _run in range(2):
            arrived.append(passed(running.left, running.right, COUNT))
            measured = running.measured()
            assert measured["frames_in"] == COUNT, "the sockets have lost frames"
            assert measured["lost"] == COUNT - len(arrived[-1])
            # 4 standard deviations
            assert abs(measured["lost"] - COUNT * 0.1) < 4 * (COUNT * 0.1 * 0.9) ** 0.5
            request = {"command": "set", "wire": "there", "parameters": {"loss": 10, "seed": 5}}
            running.ask(request)
    assert arrived[0] == arrived[1]


def test_rate(tmp_path):
    with Running(tmp_path, {"rate": 2000, "limit": 20}) as running:
        flood(running.left, 3500, 2500)  # 4 Mbit/s
        start = running.measured()
        assert start["rate"] == pytest.approx(2000, rel=0.05)
        assert start["dropped"] > 1000
        assert start["delay_p50"] < 20  # 20 frames of 0.8 ms


def test_changes_while_frames_pass(running):
    running.left.send(b"before")
    reply = running.ask({"command": "set", "wire": "there", "parameters": {"loss": 100}})
    assert reply["wires"]["there"]["settings"]["parameters"] == {"loss": 100}
    running.left.send(b"lost")
    assert running.right.receive()[0] == [b"before"]
    wires = {"there": dict(running.wires["there"], parameters={"delay": 300})}
    assert sorted(running.ask({"command": "configure", "wires": wires})["wires"]) == ["there"]
    running.left.send(b"late")
    time.sleep(0.05)
    assert not select.select([running.right.qemu], [], [], 0)[0]
    # A frame on its way keeps its time; a later one does not overtake it.
    running.ask({"command": "set", "wire": "there", "parameters": {}})
    running.left.send(b"later")
    assert running.right.receive(quiet=1)[0] == [b"late", b"later"]
    running.right.send(b"nobody takes it")
    assert running.left.receive()[0] == []


def test_a_change_that_fails_changes_nothing(running):
    with udp() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        new = dict(running.wires["there"], listen=list(taken.getsockname()))
        reply = running.ask({"command": "configure", "wires": {"new": new}})
        assert "Address already in use" in reply["error"]
    assert running.works()


HOSTILE = [
    b"",
    b"not JSON",
    b"[]",
    b"null",
    b"1" * 5000,
    b"[" * 100000,
    b"\xff\xfe\0",
    b'{"command": 5}',
    b'{"command": "stop"}',
    b'{"command": "configure"}',
    b'{"command": "configure", "wires": 7}',
    b'{"command": "configure", "wires": {"there": {}}}',
    b'{"command": "configure", "wires": {"there": {"parameters": {}, "listen": "x"}}}',
    b'{"command": "configure", "wires": {"n": {"parameters": {}, "listen": ["h"]}}}',
    b'{"command": "set", "wire": "there", "parameters": {"delay": NaN}}',
    b'{"command": "set", "wire": "there", "parameters": {"delay": 1e999}}',
    b'{"command": "set", "wire": [], "parameters": {}}',
    b'{"command": "set", "wire": "no", "parameters": {}}',
]


def test_hostile_requests(running):
    for request in HOSTILE:
        assert "error" in running.ask(request), request
    host = {"parameters": {}, "listen": ["a\0b", 5], "local": ["::", 5], "remote": [1, 2]}
    for wrong in (host, dict(host, listen=["a.b", 70000]), dict(host, listen=["127.0.0.1", 9.5])):
        assert "error" in running.ask({"command": "configure", "wires": {"n": wrong}})
    assert running.works()
    assert running.measured()["frames_out"] == 1


def test_hostile_clients(running):
    silent = [running.connect() for _client in range(20)]
    half = running.connect()
    with contextlib.suppress(OSError):
        half.sendall(b'{"command": ')
    endless = running.connect()
    with contextlib.suppress(OSError):
        for _piece in range(40):
            endless.sendall(b"x" * 65536)
    for client in (*silent, half, endless):
        client.close()
    assert running.works()
    assert running.measured()["frames_out"] == 1


def test_garbage_frames(running):
    for size in (0, 1, 65507, 3):
        running.left.send(os.urandom(size))
    assert [len(frame) for frame in running.right.receive()[0]] == [0, 1, 65507, 3]


def test_a_peer_that_does_not_exist(running):
    running.right.qemu.close()
    for _frame in range(5):
        running.left.send(b"into nothing")
        time.sleep(0.01)
    assert running.measured()["frames_out"] == 5


def test_it_ends_with_qemu(tmp_path):
    qemu = subprocess.Popen(["sleep", "600"])
    with Running(tmp_path, qemu=qemu.pid) as running:
        assert running.works()
        qemu.kill()
        qemu.wait()
        assert running.process.wait(TIMEOUT) == 0
    assert b"ended with QEMU" in (tmp_path / "wire.log").read_bytes()


def test_it_says_why_it_does_not_start(tmp_path):
    with Running(tmp_path, {"loss": 200}) as running:
        assert running.answer == "error: loss is a number from 0 to 100"
        assert running.process.wait(TIMEOUT) == 1


def test_its_memory(tmp_path):
    with Running(tmp_path, {"loss": 1}) as running:
        assert running.works()
        with open("/proc/%d/smaps_rollup" % running.process.pid) as stream:
            private = [int(line.split()[1]) for line in stream if line.startswith("Private_Dirty")]
        assert sum(private) < 8 << 10  # KiB
