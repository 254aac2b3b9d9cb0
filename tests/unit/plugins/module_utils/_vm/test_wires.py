# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process of the wires of a VM: started, asked, changed, ended, started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    find_processes,
    process_start_time,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import process, wires
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._wire import client


@pytest.fixture
def folder(tmp_path):
    folder = Folder(str(tmp_path), "lab", "r1")
    folder.make()
    yield folder
    wires.end(folder)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wire(**parameters):
    ends = {name: ["127.0.0.1", free_port()] for name in ("listen", "local", "remote")}
    return {**ends, "parameters": parameters}


def kill(pid, number=signal.SIGKILL):
    start = process_start_time(pid)
    os.kill(pid, number)
    assert number != signal.SIGKILL or wait_for_exit(pid, start, 10)


def pid_of(folder):
    return wires.state(folder)["pid"]


def test_its_life(folder):
    first, second = wire(delay=1), wire(loss=2)
    wires.update(folder, os.getpid(), {"eth0": first})
    pid = pid_of(folder)
    assert wires.state(folder)["status"] == "running"
    assert wires.measured(folder)["eth0"]["settings"] == first
    assert os.stat(folder.file("wires")).st_mode & 0o777 == 0o700
    # Changes are made by the same process.
    changed = {"eth0": dict(first, parameters={"delay": 5}), "eth1": second}
    wires.update(folder, os.getpid(), changed)
    found = wires.measured(folder)
    assert {name: entry["settings"] for name, entry in found.items()} == changed
    assert pid_of(folder) == pid
    # The last wire takes the process with it.
    wires.update(folder, os.getpid(), {})
    assert process_start_time(pid) is None
    assert not os.path.exists(folder.file("wires"))
    assert wires.measured(folder) is None


def test_one_of_an_earlier_qemu_is_replaced(folder):
    earlier = subprocess.Popen(["sleep", "600"])
    try:
        same = {"eth0": wire(delay=1)}
        wires.update(folder, earlier.pid, same)
        pid = pid_of(folder)
        wires.update(folder, os.getpid(), same)
        assert pid_of(folder) != pid
        assert process_start_time(pid) is None
    finally:
        earlier.kill()
        earlier.wait()


def test_it_is_started_again(folder):
    wires.update(folder, os.getpid(), {"eth0": wire(delay=1)})
    pid = pid_of(folder)
    kill(pid)
    deadline = time.monotonic() + 10
    while wires.state(folder)["exit_code"] is None and time.monotonic() < deadline:
        time.sleep(0.01)
    state = wires.state(folder)
    assert (state["status"], state["pid"], state["exit_code"]) == ("ended", None, 137)
    assert wires.measured(folder) is None
    wires.update(folder, os.getpid(), {"eth0": wire(delay=1)})
    assert pid_of(folder) != pid


def test_one_that_does_not_answer_is_replaced(folder, monkeypatch):
    monkeypatch.setattr(process, "_TERM_TIMEOUT", 0.2)
    same = {"eth0": wire(delay=1)}
    wires.update(folder, os.getpid(), same)
    pid = pid_of(folder)
    kill(pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(client, "_ANSWER_TIMEOUT", 0.2)
        assert wires.measured(folder) is None
        wires.update(folder, os.getpid(), same)
    assert process_start_time(pid) is None
    assert wires.measured(folder)["eth0"]["settings"] == same["eth0"]


@pytest.mark.parametrize("content", [None, "{", '{"pid": 1, "start": 1, "boot_id": "x"}'])
def test_one_without_a_record_is_ended(folder, content):
    wires.update(folder, os.getpid(), {"eth0": wire(delay=1)})
    pid = pid_of(folder)
    os.unlink(folder.file("wires/run.json"))
    if content:
        with open(folder.file("wires/run.json"), "w", encoding="ascii") as stream:
            stream.write(content)
    assert wires.measured(folder) is None
    wires.end(folder)
    assert process_start_time(pid) is None
    assert not find_processes("-I", folder.file("wires/wires.pyz"))


def test_a_wire_that_cannot_be(folder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        wrong = dict(wire(delay=1), listen=list(taken.getsockname()))
        reason = "impaired links of the VM r1 does not start: error: .*Address already in use"
        with pytest.raises(HostError, match=reason):
            wires.update(folder, os.getpid(), {"eth0": wrong})
        good = {"eth1": wire(delay=1)}
        wires.update(folder, os.getpid(), good)
        with pytest.raises(HostError, match="does not take its settings: OSError: .*in use"):
            wires.update(folder, os.getpid(), {**good, "eth0": wrong})
        assert sorted(wires.measured(folder)) == ["eth1"]


def test_it_ends_with_qemu(folder):
    qemu = subprocess.Popen(["sleep", "600"])
    wires.update(folder, qemu.pid, {"eth0": wire(delay=1)})
    pid = pid_of(folder)
    start = process_start_time(pid)
    qemu.kill()
    qemu.wait()
    assert wait_for_exit(pid, start, 10)
    wires.end(folder)
    assert not os.path.exists(folder.file("wires"))


def test_a_qemu_that_has_ended(folder):
    qemu = subprocess.Popen(["true"])
    qemu.wait()
    with pytest.raises(HostError, match="the QEMU of the VM r1 has ended"):
        wires.update(folder, qemu.pid, {"eth0": wire(delay=1)})
    assert wires.state(folder)["status"] == "ended"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"[]\n",
        b'{"wires": 5}\n',
        b'{"wires": {"eth0": 1}}\n',
        b"x" * 100 + b"\n",
        b'{"error": "no"}\n',
    ],
)
def test_answers_of_another_program(folder, monkeypatch, answer):
    wires.update(folder, os.getpid(), {"eth0": wire(delay=1)})
    monkeypatch.setattr(client, "_exchange", lambda _folder, _request: answer)
    assert wires.measured(folder) is None
