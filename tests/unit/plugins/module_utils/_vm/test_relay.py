# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The relay of a VM as a process: started, recognised, ended, started again."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    find_processes,
    process_start_time,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import detached, relay
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import (
    Consoles,
    _consoles,
)


@pytest.fixture
def folder(tmp_path):
    made = Folder(str(tmp_path), "lab", "r1")
    made.make()
    yield made
    relay.end(made)


class Qemu:
    """QEMU's side of a console: a client is served as soon as the one before has left."""

    def __init__(self, folder):
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(folder.socket("relay0.sock"))
        self.server.listen(1)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.server.close()


def settings(folder):
    return [
        {
            "name": "console",
            "backend": folder.socket("relay0.sock"),
            "listen": folder.socket("console.sock"),
            "telnet": False,
            "writers": "many",
        }
    ]


def kill(pid):
    start = process_start_time(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_for_exit(pid, start, 10)


def exit_code(folder):
    deadline = time.monotonic() + 10
    while relay.state(folder)["exit_code"] is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return relay.state(folder)["exit_code"]


def test_its_life(folder):
    with Qemu(folder):
        relay.start(folder, settings(folder))
        pid = relay.running_pid(folder)
        state = relay.state(folder)
        assert (state["status"], state["pid"], state["exit_code"]) == ("running", pid, None)
        assert os.path.exists(folder.socket("console.sock"))
        kill(pid)
        assert relay.state(folder)["status"] == "ended" and exit_code(folder) == 137
        relay.start(folder, settings(folder))
        again = relay.running_pid(folder)
        assert again != pid
        start = process_start_time(again)
        relay.end(folder)
        assert wait_for_exit(again, start, 0)
    assert sorted(os.listdir(folder.path)) == ["console.sock", "relay.log", "relay0.sock"]


def test_a_relay_without_a_record_is_found(folder):
    """As after a kill of a run, or with a damaged file."""
    with Qemu(folder):
        relay.start(folder, settings(folder))
        first = relay.running_pid(folder)
        start = process_start_time(first)
        for content in (None, "{", "[]", '{"pid": "x"}', '{"pid": 1, "start": 1, "boot_id": "x"}'):
            if content is None:
                os.unlink(folder.file("relay.json"))
            else:
                with open(folder.file("relay.json"), "w", encoding="ascii") as stream:
                    stream.write(content)
            assert relay.running_pid(folder) is None
        relay.start(folder, settings(folder))
        assert wait_for_exit(first, start, 0), "there is one at a time"
        _shell, found = find_processes("-I", folder.file("console_relay.py"))
        assert found == relay.running_pid(folder)


def test_it_does_not_start_without_qemu(folder):
    with pytest.raises(HostError, match="the relay .* of the VM r1 does not start: error: "):
        relay.start(folder, settings(folder))
    deadline = time.monotonic() + 10  # the shell that keeps its exit code ends a little later
    while find_processes("-I", folder.file("console_relay.py")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_python_that_cannot_run(folder, monkeypatch):
    monkeypatch.setattr(detached.sys, "executable", "/none/python3")
    with pytest.raises(HostError, match="does not start: .*/none/python3"):
        relay.start(folder, settings(folder))


MANY = {"name": "console", "clients": "many"}


def test_a_dead_relay_is_a_live_change():
    part = Consoles()
    definition = {"consoles": [MANY], "monitors": [], "guest_agent": False}
    assert part.compare(definition, definition) == []
    (change,) = part.compare(dict(definition, relay="ended"), definition)
    assert (change.option, change.before, change.after) == ("consoles.relay", "ended", "running")
    assert change.how == "live"
    # A restart for another reason starts the relay as well.
    changes = part.compare(dict(definition, relay="ended"), dict(definition, consoles=[]))
    assert [change.how for change in changes] == ["restart"]


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, {}),
        ({"clients": "one"}, {}),
        ({"clients": "one", "writers": "one"}, {}),
        ({"clients": "many"}, {"clients": "many", "writers": "many"}),
        ({"clients": "many", "writers": "one"}, {"clients": "many", "writers": "one"}),
    ],
)
def test_options(given, expected):
    (console,) = _consoles("consoles", [given])
    assert {key: console[key] for key in ("clients", "writers") if key in console} == expected


@pytest.mark.parametrize(
    "given, option",
    [({"writers": "many"}, "consoles[0].writers"), ({"name": "relay"}, "consoles[0].name")],
)
def test_mistakes(given, option):
    with pytest.raises(OptionError) as caught:
        _consoles("consoles", [given])
    assert caught.value.option == option
