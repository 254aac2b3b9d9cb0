# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LaunchError,
    MonitorError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    command_line,
    process_start_time,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import process as processes
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

POLICY = {"acpi": True, "timeout": 0.3, "quit_timeout": 0.3, "term_timeout": 0.3, "force": True}
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 60 & wait; done"


class FakeMonitor:
    """A monitor whose commands end a process, or do nothing. port: what I/O port 0x602 holds."""

    def __init__(self, pid, obeys=(), port=0x101):
        self.pid, self.obeys, self.port, self.asked = pid, obeys, port, []

    def execute(self, command):
        self.asked.append(command)
        if command in self.obeys:
            os.kill(self.pid, signal.SIGKILL)
        if command == "quit" and "quit" not in self.obeys:
            raise MonitorError("it hangs")

    def human(self, line):
        assert line == "i /h 0x602"
        if self.port is None:
            raise MonitorError("no")
        return "portw[0x0602] = %#x\r\n" % self.port


@pytest.fixture(name="child")
def fixture_child():
    children = []

    def make(stubborn=False):
        child = subprocess.Popen(
            ["sh", "-c", STUBBORN] if stubborn else ["sleep", "60"],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        if stubborn:
            child.stdout.readline()
        children.append(child)
        return child

    yield make
    for child in children:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
        child.stdout.close()


LADDER = [
    # obeys, stubborn, policy, status, 0x602, monitor: what it took, what was asked
    ({"system_powerdown"}, False, {}, "running", 0x101, True, "acpi", ["system_powerdown"]),
    (
        {"system_powerdown", "quit"},
        False,
        {"acpi": False},
        "running",
        0x101,
        True,
        "quit",
        ["quit"],
    ),
    ({"system_powerdown", "quit"}, False, {}, "paused", 0x101, True, "quit", ["quit"]),
    ({"system_powerdown", "quit"}, False, {}, "running", 0x001, True, "quit", ["quit"]),
    ({"system_powerdown"}, False, {}, "running", None, True, "acpi", ["system_powerdown"]),
    ({"quit"}, False, {}, "running", 0x101, True, "quit", ["system_powerdown", "quit"]),
    ((), False, {}, "running", 0x101, True, "term", ["system_powerdown", "quit"]),
    ((), False, {}, "running", 0x101, False, "term", []),
]


@pytest.mark.parametrize("row", LADDER, ids=range(len(LADDER)))
def test_the_ladder(child, row):
    obeys, stubborn, policy, status, port, has_monitor, expected, asked = row
    victim = child(stubborn)
    monitor = FakeMonitor(victim.pid, obeys, port)
    start = process_start_time(victim.pid)
    assert (
        processes.shut_down(
            monitor if has_monitor else None,
            victim.pid,
            start,
            dict(POLICY, **policy),
            "q35",
            status,
        )
        == expected
    )
    assert monitor.asked == asked and process_start_time(victim.pid) is None


def test_the_last_rung(child, monkeypatch):
    victim = child(stubborn=True)
    waited = processes.wait_for_exit
    monkeypatch.setattr(
        processes,
        "wait_for_exit",
        lambda pid, start, timeout: waited(
            pid, start, min(timeout, 0.2) if timeout <= 5 else timeout
        ),
    )
    assert (
        processes.shut_down(
            FakeMonitor(victim.pid),
            victim.pid,
            process_start_time(victim.pid),
            POLICY,
            "none",
            "running",
        )
        == "kill"
    )


@pytest.mark.parametrize(
    "port, status, message",
    [
        (0x101, "running", "did not power down within"),
        (0x1, "running", "does not listen"),
        (0x101, "paused", "does not listen"),
    ],
)
def test_a_guest_that_does_not_obey_is_left_alone_without_force(child, port, status, message):
    victim = child()
    monitor = FakeMonitor(victim.pid, port=port)
    with pytest.raises(HostError, match=message + ".*shutdown.force"):
        processes.shut_down(
            monitor,
            victim.pid,
            process_start_time(victim.pid),
            dict(POLICY, force=False),
            "i440fx",
            status,
        )
    assert victim.poll() is None and "quit" not in monitor.asked


@pytest.mark.parametrize(
    "family, port, expected",
    [
        ("i440fx", 0x120, True),
        ("q35", 0x021, False),
        ("q35", 0xFFFF, False),
        ("q35", None, None),
        ("virt", 0x101, None),
        ("none", 0x101, None),
    ],
)
def test_who_listens_to_the_power_button(family, port, expected):
    assert processes.listens_to_power_button(FakeMonitor(0, port=port), family) is expected


def test_kill_takes_nobody_else(child):
    victim = child()
    processes.kill(victim.pid, process_start_time(victim.pid) - 1)
    processes.kill(victim.pid, None)
    assert victim.poll() is None
    processes.kill(victim.pid, process_start_time(victim.pid))
    assert process_start_time(victim.pid) is None


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
    folder = Folder(str(tmp_path), "l, x", "v\"'$x")
    folder.make()
    return folder


def program(tmp_path, text):
    path = tmp_path / "qemu $x"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "echo 'no such disk' >&2; exit 3",
            r"QEMU ended with exit code 3. QEMU's output: no such disk$",
        ),
        ("exit 1", "QEMU's output: nothing"),
        ("echo 'Could not access KVM kernel module'; exit 1", "accel: auto or tcg"),
        ("echo 'qemu: Failed to get \"write\" lock'", "another QEMU has that image open"),
    ],
)
def test_an_early_end_is_reported(folder, tmp_path, text, message):
    argv = [program(tmp_path, text), "-pidfile", folder.pidfile]
    with pytest.raises(LaunchError, match=message) as caught:
        processes.Child(argv, folder, {}).connect(10)
    assert caught.value.facts["cmd"] == argv
    assert "cannot start the VM %s" % folder.name in caught.value.message
    code = open(folder.exit_code).read()
    assert code == ("3\n" if "exit 3" in text else "1\n" if "exit 1" in text else "0\n")


def test_one_that_says_nothing_is_ended(folder, tmp_path):
    began = time.monotonic()
    child = processes.Child(
        [program(tmp_path, "exec sleep 60"), "-pidfile", folder.pidfile], folder, {}
    )
    with pytest.raises(LaunchError, match="did not answer within 0 s"):
        child.connect(0.1)
    os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()
    assert time.monotonic() - began < 10


def test_arguments_and_environment_arrive(folder, tmp_path):
    words = ["a b", "", "'\"$x`y`\\", "é,\n", "-n", "*"]
    argv = [program(tmp_path, 'printf "%s|" "$@" "$A"')] + words
    child = processes.Child(argv, folder, {"A": "x y\n$z"})
    assert child.process.wait(10) == 0
    output = "|".join(words + ["x y\n$z", ""])
    log = open(folder.log, encoding="utf-8").read()
    assert log.endswith("\n" + output)
    # What comes before is the command, as a shell reads it.
    assert shlex.split(log[: -len(output)]) == argv
    assert processes.qemu_output(folder, argv) == output
    assert processes.qemu_output(folder, ["of another run"]) in log


def test_a_command_longer_than_the_end_of_a_log_is_no_output_of_qemu(folder, tmp_path):
    argv = [program(tmp_path, "echo said"), "x" * 100000]
    processes.Child(argv, folder, {}).process.wait(10)
    assert processes.qemu_output(folder, argv) == "said"


def test_a_descriptor_is_inherited_and_no_other(folder, tmp_path):
    path = tmp_path / "passed"
    path.write_text("of the user")
    passed, other = (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for _number in range(2))
    try:
        listed = "for n in %d %d; do [ -e /proc/self/fd/$n ] && cat <&$n; done" % (passed, other)
        argv = [program(tmp_path, listed.replace("<&$n", "/proc/self/fd/$n"))]
        processes.Child(argv, folder, {}, [passed]).process.wait(10)
    finally:
        os.close(passed)
        os.close(other)
    assert processes.qemu_output(folder, argv) == "of the user"


def test_files_that_qemu_creates_are_private(folder, tmp_path):
    path = tmp_path / "capture"
    child = processes.Child([program(tmp_path, 'echo x >"$1"'), str(path)], folder, {})
    assert child.process.wait(10) == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_program(folder):
    with pytest.raises(LaunchError, match="(?s)exit code 127.*not found"):
        processes.Child(["/nonexistent/q"], folder, {}).connect(5)
    assert open(folder.exit_code).read() == "127\n"
    with pytest.raises(LaunchError, match="cannot run .*Argument list too long"):
        processes.Child(["x" * 200000], folder, {})


def test_a_log_that_cannot_be_written(folder):
    os.mkdir(folder.log)
    with pytest.raises(HostError, match="cannot write .*qemu.log"):
        processes.Child(["true"], folder, {})


@pytest.fixture(name="impostor")
def fixture_impostor(folder):
    """Start a process with the VM's pidfile in its argv, of another program or user."""
    children = []

    def make(words, **options):
        child = subprocess.Popen(words, **options)
        children.append(child)
        deadline = time.monotonic() + 5
        while folder.pidfile not in " ".join(command_line(child.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return child

    yield make
    for child in children:
        child.kill()
        child.wait()


def test_only_our_qemus_are_ended(folder, impostor, monkeypatch):
    """An argv and an abstract socket that look like those of the VM are no QEMU of it."""
    sleep = ["-c", "import time; time.sleep(60)"]
    words = [*sleep, "-pidfile", folder.pidfile]
    others = [
        impostor(["grep", "x", "--", "-pidfile", folder.pidfile, "-"], stdin=subprocess.PIPE),
        impostor([sys.executable, *sleep, folder.pidfile, "-pidfile"]),
        impostor([sys.executable, *sleep, "-pidfile", folder.pidfile + "x"]),
        impostor([sys.executable, *sleep, "-name", "-pidfile " + folder.pidfile]),
    ]
    if os.geteuid() == 0:
        # The interpreter may be in a folder that other users cannot enter.
        others.append(
            impostor(
                ["/bin/sh", "-c", "sleep 60; true", "sh", "-pidfile", folder.pidfile], user=65534
            )
        )
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + folder.qmp)
        assert processes.orphans(folder) == [] and not processes._has_socket(folder.qmp)
        assert processes.end_orphans(folder) == []
        monkeypatch.setattr(processes, "_has_socket", lambda path: True)
        assert processes.end_orphans(folder) == []
    assert all(other.poll() is None for other in others)
    ours = impostor([sys.executable, *words])
    assert processes.orphans(folder) == [ours.pid] and processes.is_qemu_of(folder, ours.pid)
    reap = threading.Thread(target=ours.wait)
    reap.start()
    assert processes.end_orphans(folder) == [ours.pid]
    reap.join(5)


def test_a_socket_is_known_by_its_exact_path(folder, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(folder.qmp + "x")
        assert not processes._has_socket(folder.qmp)
    path = str(tmp_path / "a  b.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.unlink(path)
        assert processes._has_socket(path), "the folder of a VM may have been deleted"
