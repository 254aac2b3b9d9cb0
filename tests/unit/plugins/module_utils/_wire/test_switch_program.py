# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of a switch, as the process that it is, between sockets that play NICs."""

from __future__ import annotations

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
from ansible_collections.vlab.qemu.plugins.module_utils._wire import (
    client,
    control,
    engine,
    switch_program,
    switching,
)

TIMEOUT = 20
ALL = b"\xff" * 6
NAMES = "abc"


def udp():
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    channel.bind(("127.0.0.1", 0))
    channel.settimeout(TIMEOUT)
    return channel


def free_port():
    with udp() as probe:
        return probe.getsockname()[1]


def mac(name):
    return bytes([2, 0, 0, 0, 0, ord(name)])


def frame(destination, source, body=b"payload"):
    return destination + source + b"\x08\x00" + body


class Running:
    """The program with three ports."""

    def __init__(self, folder, **vlans):
        self.folder, self.control = folder, str(folder / "switch.sock")
        self.nics = {name: udp() for name in NAMES}
        self.switch = {
            "ageing": 300,
            "ports": {
                name: {
                    "local_address": "127.0.0.1",
                    "local_port": free_port(),
                    "remote_address": "127.0.0.1",
                    "remote_port": nic.getsockname()[1],
                    "vlans": vlans.get(name, {}),
                }
                for name, nic in self.nics.items()
            },
        }
        record = str(folder / "run.json")
        settings = {"record": record, "control": self.control, "switch": self.switch}
        (folder / "settings.json").write_text(json.dumps(settings))
        archive = program_archive(switch_program, control, engine, switching)
        (folder / "switch.pyz").write_bytes(archive)
        options = ["-I", "-S", "-B"]
        self.process = subprocess.Popen(
            [sys.executable, *options, str(folder / "switch.pyz"), str(folder / "settings.json")],
            stdout=subprocess.PIPE,
        )
        self.answer = self.process.stdout.readline().decode().strip()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        for nic in self.nics.values():
            nic.close()

    def send(self, name, data):
        self.nics[name].sendto(data, ("127.0.0.1", self.switch["ports"][name]["local_port"]))

    def receive(self, name, quiet=0.2):
        """Return what arrives until nothing comes any more."""
        found = []
        while select.select([self.nics[name]], [], [], quiet)[0]:
            found.append(self.nics[name].recv(65536))
        return found

    def ask(self, **request):
        return client.ask(self.control, request)

    def configure(self, **ports):
        switch = dict(self.switch, ports={**self.switch["ports"], **ports})
        return self.ask(command="configure", switch=switch)

    def works(self):
        self.send("a", frame(ALL, mac("a"), b"still here"))
        return self.receive("b") == [frame(ALL, mac("a"), b"still here")]


@pytest.fixture
def running(tmp_path):
    with Running(tmp_path) as started:
        assert started.answer == "ready"
        yield started


def test_it_learns(running):
    running.send("a", frame(ALL, mac("a")))
    assert running.receive("b") == running.receive("c") == [frame(ALL, mac("a"))]
    running.send("b", frame(mac("a"), mac("b")))
    assert running.receive("a") == [frame(mac("a"), mac("b"))]
    assert running.receive("c", 0.05) == []
    status = running.ask(command="status")
    assert status["switch"] == running.switch
    assert status["ports"]["a"]["frames_in"] == status["ports"]["c"]["frames_out"] == 1
    assert [entry["port"] for entry in status["addresses"]] == ["a", "b"]
    assert os.stat(running.control).st_mode & 0o777 == 0o600
    record = json.loads((running.folder / "run.json").read_text())
    assert record["pid"] == running.process.pid


def test_vlans_change_while_frames_pass(tmp_path):
    with Running(tmp_path, a={"access": 10}, b={"access": 10}, c={"access": 20}) as running:
        assert running.works() and running.receive("c", 0.05) == []
        ports = running.switch["ports"]
        running.configure(c=dict(ports["c"], vlans={"trunk": "10,20"}))
        assert running.works()
        assert running.receive("c")[0][12:16] == b"\x81\x00\x00\x0a"
        assert running.ask(command="status")["ports"]["a"]["frames_in"] == 2


def test_ports_come_and_go(running):
    ports = running.switch["ports"]
    moved = dict(ports["c"], local_port=free_port())
    assert sorted(running.configure(c=moved)["ports"]) == ["a", "b", "c"]
    running.send("c", frame(ALL, mac("c")))  # to its earlier place
    assert running.receive("a") == []
    # Two ports change places.
    swapped = {"a": dict(ports["b"]), "b": dict(ports["a"])}
    running.configure(**swapped)
    running.switch["ports"].update(swapped)
    running.nics.update(a=running.nics["b"], b=running.nics["a"])
    assert running.works()
    running.ask(command="configure", switch=dict(running.switch, ports={}))
    assert running.ask(command="status")["ports"] == {}
    running.ask(command="configure", switch=running.switch)
    assert running.works()


def test_a_change_that_fails_changes_nothing(running):
    with udp() as taken:
        there = dict(running.switch["ports"]["c"], local_port=taken.getsockname()[1])
        with pytest.raises(OSError, match="Address already in use"):
            running.configure(c=there)
    assert running.works()
    assert running.receive("c") == [frame(ALL, mac("a"), b"still here")]


def test_what_a_port_sends_is_impaired(running):
    ports = running.switch["ports"]
    answer = running.configure(b=dict(ports["b"], impair={"delay": 80, "seed": 1}))
    assert answer["measured"]["b"]["frames_out"] == 0
    start = time.monotonic()
    running.send("a", frame(ALL, mac("a")))
    assert running.nics["c"].recv(100) and time.monotonic() - start < 0.08
    assert running.nics["b"].recv(100) and 0.08 <= time.monotonic() - start < 5
    measured = running.ask(command="status")["measured"]
    assert list(measured) == ["b"] and measured["b"]["delay_p50"] >= 80
    # A change of another port does not begin the count again; frames on their way stay so.
    running.configure(
        b=dict(ports["b"], impair={"delay": 80, "seed": 1}), c=dict(ports["c"], vlans={"access": 9})
    )
    assert running.ask(command="status")["measured"]["b"]["frames_out"] == 1
    running.configure(b=dict(ports["b"], impair={"loss": 100}))
    for _frame in range(5):
        running.send("a", frame(ALL, mac("a")))
    assert running.receive("b") == [] and len(running.receive("c")) == 5
    assert running.ask(command="status")["measured"]["b"]["lost"] == 5
    running.configure()
    assert running.works() and running.ask(command="status")["measured"] == {}


def test_frames_that_wait_are_bounded(running):
    ports = running.switch["ports"]
    slow = {name: dict(ports[name], impair={"delay": 60000}) for name in "bc"}
    running.configure(**slow)
    measured, deadline = {}, time.monotonic() + TIMEOUT
    while not all(measured.get(name, {}).get("dropped") for name in "bc"):
        assert time.monotonic() < deadline
        for _frame in range(50):  # the kernel loses some of them
            running.send("a", frame(ALL, mac("a"), bytes(60000)))
        measured = running.ask(command="status")["measured"]
    taken = sum(each["frames_in"] - each["dropped"] for each in measured.values())
    assert 0.9 * switch_program.MAX_WAITING < taken * 60014 <= switch_program.MAX_WAITING


PORT = {
    "local_address": "127.0.0.1",
    "local_port": 9,
    "remote_address": "127.0.0.1",
    "remote_port": 9,
    "vlans": {},
}
HOSTILE = [
    {"command": 5},
    {"command": "stop"},
    {"command": "configure"},
    {"command": "configure", "switch": 7},
    {"command": "configure", "switch": {"ports": {}, "ageing": 0}},
    {"command": "configure", "switch": {"ports": [], "ageing": 5}},
    {"command": "configure", "switch": {"ports": {"a": 1}, "ageing": 5}},
    {"command": "configure", "switch": {"ports": {"a": dict(PORT, vlans=0)}, "ageing": 5}},
    {"command": "configure", "switch": {"ports": {"a": dict(PORT, local_port="x")}, "ageing": 5}},
    {
        "command": "configure",
        "switch": {"ports": {"a": dict(PORT, remote_address="h")}, "ageing": 5},
    },
    {"command": "configure", "switch": {"ports": {"a": dict(PORT, impair={"x": 1})}, "ageing": 5}},
    {"command": "configure", "switch": {"ports": {str(n): PORT for n in range(300)}, "ageing": 5}},
]


def test_hostile_requests(running):
    for request in HOSTILE:
        with pytest.raises(OSError):
            client.ask(running.control, request)
    assert running.works()


def test_frames_of_others_are_not_taken(running):
    with udp() as stranger:
        stranger.sendto(
            frame(ALL, mac("x")), ("127.0.0.1", running.switch["ports"]["a"]["local_port"])
        )
    assert running.works()
    assert running.ask(command="status")["ports"]["a"]["frames_in"] == 1


def test_garbage_and_a_member_that_does_not_exist(running):
    running.nics["c"].close()
    del running.nics["c"]
    for size in (0, 1, 13, 65507):
        running.send("a", (ALL + mac("a") + os.urandom(65507))[:size])
    assert [len(data) for data in running.receive("b")] == [65507]
    assert running.works() and running.works()
    counters = running.ask(command="status")["ports"]
    assert counters["a"]["malformed"] == 3
    assert counters["c"]["frames_out"] + counters["c"]["send_errors"] == 3


def test_its_memory_under_a_flood(running):
    for number in range(20000):
        running.send("a", frame(ALL, b"\x02\xaa" + number.to_bytes(4, "big"), bytes(1000)))
    assert running.ask(command="status")["ports"]["a"]["addresses"] <= switching.MAX_PORT_ADDRESSES
    with open("/proc/%d/smaps_rollup" % running.process.pid) as stream:
        private = [int(line.split()[1]) for line in stream if line.startswith("Private_Dirty")]
    assert sum(private) < 16 << 10  # KiB


def test_it_ends_when_it_is_asked_to(running):
    running.process.terminate()
    assert running.process.wait(TIMEOUT) == 0


def test_it_says_why_it_does_not_start(tmp_path):
    with Running(tmp_path, a={"access": 5000}) as running:
        assert running.answer == "error: access is a number from 1 to 4094"
        assert running.process.wait(TIMEOUT) == 1
