# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.checksums import posix_cksum
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestGone,
    GuestNotReady,
    LoginFailed,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console
from ansible_collections.vlab.qemu.plugins.module_utils._console.serial_cli import SerialCli
from ansible_collections.vlab.qemu.plugins.module_utils._console.login import Login
from ansible_collections.vlab.qemu.plugins.module_utils._console.serial_shell import SerialShell
from ansible_collections.vlab.qemu.tests.unit.fake_console import FakeConsole

GETTY = r"""
import getpass, os, sys, time
def ask():
    # As BusyBox: the prompt first, then the echo off, which discards the input so far.
    print("Password: ", end="", flush=True)
    time.sleep(0.2)
    return getpass.getpass("")
while True:
    user = input("guest login: ")
    if user and ask() == "open" and user == "root":
        print("Last login: Saturday")
        os.execv("/bin/sh", ["-sh", "-i"])
    if user:
        time.sleep(0.7)
        print("Login incorrect")
"""
ROUTER = r"""
while True:
    command = input("router1> ")
    if command.startswith("show"):
        print("line 1 of " + command)
        print("a > in the middle")
        print("the last line")
"""


@pytest.fixture(params=["/bin/sh", "/bin/bash"])
def shell(request, tmp_path):
    with FakeConsole(tmp_path / "console.sock", [request.param, "-i"]) as fake:
        yield fake


def connect(fake, login=None, timeout=5):
    console = Console(fake.path)
    console.__enter__()
    try:
        return SerialShell(console, login, timeout).__enter__(), console
    except GuestError:
        console.__exit__()
        raise


def leave(guest, console):
    guest.__exit__()
    console.__exit__()


@pytest.mark.parametrize(
    "command, data, expected",
    [
        ("echo hello; echo error >&2; exit 3", b"", (3, b"hello\n", b"error\n")),
        ("true", b"", (0, b"", b"")),
        ("printf 'no newline'", b"", (0, b"no newline", b"")),
        ("cat", b"given \x00 \xff bytes\n", (0, b"given \x00 \xff bytes\n", b"")),
        (
            "echo 'a $HOME \"quoted\" `text` \\ and more'; # " + "x" * 1000,
            b"",
            (0, b'a $HOME "quoted" `text` \\ and more\n', b""),
        ),
        ("cat <&0; sh -c 'kill -9 $$'", b"input", (137, b"input", b"Killed")),
        ("echo VLAB-FAKE-r:0:; tty", b"", (1, b"VLAB-FAKE-r:0:\nnot a tty\n", b"")),
    ],
)
def test_commands(shell, command, data, expected):
    guest, console = connect(shell)
    code, out, error = guest.run(command, data)
    assert (
        code,
        out,
        error.split(b": ")[-1].split(b" ")[-1].strip() if b"Killed" in error else error,
    )[:2] == expected[:2]
    assert expected[2] in error
    leave(guest, console)


def test_files_of_users_have_the_rights_that_their_shell_gives_them(tmp_path):
    with FakeConsole(
        tmp_path / "console.sock", ["/bin/sh", "-c", "umask 027; exec /bin/sh -i"]
    ) as fake:
        guest, console = connect(fake)
        assert guest.run("umask")[1].strip() == b"0027"
        leave(guest, console)


def test_a_guest_without_space_for_files(tmp_path):
    with FakeConsole(
        tmp_path / "console.sock",
        ["/bin/sh", "-i"],
        environment={"TMPDIR": "/nowhere", "VLAB_T": ""},
    ) as fake:
        with pytest.raises(GuestError, match="a folder for temporary files"):
            connect(fake)


@pytest.mark.parametrize("shell", ["/bin/bash"], indirect=True)
def test_what_is_large_and_binary(shell):
    guest, console = connect(shell)
    data = bytes(range(256)) * 150
    assert guest.run("cat", data) == (0, data, b"")
    leave(guest, console)


def test_files(shell, tmp_path):
    guest, console = connect(shell)
    path = str(tmp_path / "a 'file'")
    guest.write(path, b"one\n")
    guest.write(path, b"two\n", append=True)
    assert guest.read(path) == b"one\ntwo\n"
    assert guest.read(path, 2, 3) == b"e\nt"
    with pytest.raises(GuestError, match="cannot read /nowhere/file in the guest"):
        guest.read("/nowhere/file", 0, 10)
    with pytest.raises(GuestError, match="cannot write /nowhere/file in the guest"):
        guest.write("/nowhere/file", b"")
    leave(guest, console)


@pytest.mark.parametrize("shell", ["/bin/sh"], indirect=True)
def test_nothing_is_left_in_the_guest(shell, tmp_path):
    guest, console = connect(shell)
    folder = guest.run("echo $T; echo ${0%/*}")[1].split()[-1].decode()
    assert os.path.isdir(folder)
    leave(guest, console)
    deadline = time.monotonic() + 5
    while os.path.exists(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(folder)


def test_noise_does_no_harm(tmp_path):
    with FakeConsole(tmp_path / "console.sock", ["/bin/sh", "-i"], noise=20) as fake:
        for number in range(4):
            guest, console = connect(fake, timeout=20)
            lines = "".join("%d %d\n" % (number, line) for line in range(number * 60))
            assert guest.run(
                "i=0; while [ $i -lt %d ]; do echo %d $i; i=$((i+1)); done; exit %d"
                % (number * 60, number, number)
            ) == (number, lines.encode(), b"")
            leave(guest, console)
        assert fake.printed.count(b"noise") > 10


@pytest.mark.parametrize("shell", ["/bin/sh"], indirect=True)
def test_a_client_that_was_killed_leaves_a_console_that_still_answers(shell):
    guest, console = connect(shell)
    console.__exit__()
    guest, console = connect(shell)
    assert guest.run("echo again") == (0, b"again\n", b"")
    leave(guest, console)


@pytest.mark.parametrize("shell", ["/bin/bash"], indirect=True)
def test_a_command_that_somebody_left_running_is_ended(shell):
    console = Console(shell.path)
    with console:
        console.expect([re.compile(b"[$#] ")], time.monotonic() + 20)
        console.send(b"sleep 100\r", time.monotonic() + 1)
        console.expect([re.compile(b"sleep 100\r\n")], time.monotonic() + 5)
    guest, console = connect(shell, timeout=40)
    assert guest.run("echo again") == (0, b"again\n", b"")
    leave(guest, console)


def test_a_terminal_that_was_left_without_carriage_returns(tmp_path):
    """As a program leaves it that was killed while it had the terminal for itself."""
    with FakeConsole(
        tmp_path / "console.sock", ["/bin/sh", "-c", "stty -icrnl; exec sh -i"]
    ) as fake:
        guest, console = connect(fake, timeout=20)
        assert guest.run("echo again") == (0, b"again\n", b"")
        leave(guest, console)


def test_login(tmp_path):
    with FakeConsole(tmp_path / "console.sock", [sys.executable, "-c", GETTY]) as fake:
        with pytest.raises(LoginFailed, match="asks for the password of root, and none was given"):
            connect(fake, Login())
        with pytest.raises(LoginFailed, match="rejected the password of root"):
            connect(fake, Login(password="wrong"), timeout=8)
        guest, console = connect(fake, Login(password="open"), timeout=8)
        assert guest.run("echo in") == (0, b"in\n", b"")
        leave(guest, console)
        assert b"open" not in fake.printed
        # Once in, no password is needed.
        guest, console = connect(fake)
        leave(guest, console)


def test_a_console_that_says_nothing(tmp_path):
    with (
        FakeConsole(tmp_path / "console.sock", ["/bin/sleep", "100"]) as fake,
        pytest.raises(GuestNotReady, match="nothing answered at the console"),
    ):
        connect(fake, timeout=1)


def test_prompts_that_are_no_regular_expressions(tmp_path):
    with (
        FakeConsole(tmp_path / "console.sock", ["/bin/sleep", "100"]) as fake,
        pytest.raises(OptionError, match=r"prompt: '\[' is not a regular"),
    ):
        connect(fake, Login(prompt="["))


def test_command_line_of_a_network_system(tmp_path):
    with (
        FakeConsole(tmp_path / "console.sock", [sys.executable, "-c", ROUTER]) as fake,
        Console(fake.path) as console,
    ):
        with SerialCli(console, Login(prompt=r"^[\w-]+> *$"), timeout=5) as cli:
            assert cli.run("show version") == (
                0,
                b"line 1 of show version\na > in the middle\nthe last line\n",
                b"",
            )
            assert cli.run("configure") == (0, b"", b"")
            with pytest.raises(GuestError, match="without a POSIX shell"):
                cli.write("/file", b"")


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 300])
def test_posix_cksum(data):
    assert posix_cksum(data) == int(
        subprocess.run(["cksum"], input=data, stdout=subprocess.PIPE, check=True).stdout.split()[0]
    )


@pytest.mark.parametrize("shell", ["/bin/sh"], indirect=True)
@pytest.mark.parametrize(
    "sign",
    [
        "[    0.000000] Linux version 6.1.0",
        "[   99.000001] reboot: Restarting system",
        "[   99.000001] Kernel panic - not syncing: Attempted to kill init!",
        "SeaBIOS (version 1.16.2)",
    ],
)
def test_a_guest_that_goes_away_in_a_command(shell, sign):
    """A command without a limit ends as soon as the console shows it."""
    guest, console = connect(shell)
    begin = time.monotonic()
    with pytest.raises(GuestGone, match=re.escape(sign)):
        guest.run("echo '%s' >/dev/tty; sleep 60" % sign)
    assert time.monotonic() - begin < 5
    console.__exit__()


REBOOTING = r"""
import os, signal, subprocess
subprocess.run(["/bin/sh", "-i"])
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.tcsetpgrp(0, os.getpgrp())
os.system("stty echo icanon")
while True:
    input("guest login: ")
"""


def test_a_guest_that_asks_for_a_login_again(tmp_path):
    """A quiet kernel shows nothing else of a new boot."""
    with FakeConsole(tmp_path / "console.sock", [sys.executable, "-c", REBOOTING]) as fake:
        guest, console = connect(fake)
        begin = time.monotonic()
        # The shell of the session, and the one of the login.
        with pytest.raises(GuestGone, match="asks for a login"):
            guest.run("kill -9 $(ps -o ppid= $PPID) $PPID")
        assert time.monotonic() - begin < 60
        console.__exit__()


RELOADING = r"""
while True:
    command = input("router1> ")
    if command == "reload":
        print("[    0.000000] Linux version 4.19.0")
        while True:
            input()
    if command == "exit":
        input("router login: ")
    print("Linux version 4.19 runs here")
    print("the login: of whom")
"""


SLOW = r"""
import time
time.sleep(1.2)  # two lines have been typed by now
while True:
    command = input("router1> ")
    if not command:
        time.sleep(0.4)
    print("output of %r" % command)
"""


def test_a_slow_network_system(tmp_path):
    with (
        FakeConsole(tmp_path / "console.sock", [sys.executable, "-c", SLOW]) as fake,
        Console(fake.path) as console,
    ):
        with SerialCli(console, Login(prompt=r"^[\w-]+> *$"), timeout=10) as cli:
            assert cli.run("show") == (0, b"output of 'show'\n", b"")


def test_a_network_system_that_goes_away(tmp_path):
    with (
        FakeConsole(tmp_path / "console.sock", [sys.executable, "-c", RELOADING]) as fake,
        Console(fake.path) as console,
    ):
        with SerialCli(console, Login(prompt=r"^[\w-]+> *$"), timeout=5) as cli:
            expected = b"Linux version 4.19 runs here\nthe login: of whom\n"
            assert cli.run("show version") == (0, expected, b"")
            with pytest.raises(GuestGone, match="the session on .* has ended"):
                cli.run("exit", timeout=5)
            cli.run("back", timeout=5)
            with pytest.raises(GuestGone, match="no prompt came after 'reload': the system has"):
                cli.run("reload", timeout=1)
