# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common import (
    files,
    locks,
    processes,
    sizes,
    validation,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LockTimeout,
    OptionError,
    ProgramError,
    VlabError,
)

M, G = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    "text, unit, expected",
    [
        ("0", "b", 0),
        ("512", "b", 512),
        (512, "b", 512),
        ("512", "m", 512 * M),
        ("1k", "b", 1024),
        ("1 KiB", "m", 1024),
        ("1.5G", "b", 3 * G // 2),
        (" 20g ", "b", 20 * G),
        ("20 GB", "b", 20 * G),
        ("2T", "b", 2 << 40),
        ("7E", "b", 7 << 60),
        ("0.5k", "b", 512),
        ("1b", "m", 1 * M),
        ("64M", "m", 64 * M),
        ("000000000000000000001", "b", None),
        ("", "b", None),
        ("-1", "b", None),
        ("1.5", "b", None),
        ("1,5G", "b", None),
        ("1e3", "b", None),
        ("G", "b", None),
        ("1Q", "b", None),
        ("0x10", "b", None),
        ("٣", "b", None),
        ("8E", "b", None),
        ("9" * 5000, "b", None),
        ("1." + "0" * 500, "b", None),
        (None, "b", None),
        ([], "b", None),
        ("1\n2", "b", None),
        (True, "b", None),
    ],
)
def test_sizes(text, unit, expected):
    if expected is None:
        with pytest.raises(OptionError, match="^memory: "):
            sizes.parse_size("memory", text, unit)
    else:
        assert sizes.parse_size("memory", text, unit) == expected


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0"),
        (1, "1"),
        (1000, "1000"),
        (1024, "1K"),
        (1536, "1536"),
        (G, "1G"),
        (3 * G // 2, "1536M"),
        (5 << 50, "5P"),
        (8 << 30, "8G"),
    ],
)
def test_sizes_as_text(size, text):
    assert sizes.format_size(size) == text
    assert sizes.parse_size("x", text) == size


@pytest.mark.parametrize(
    "value, path",
    [
        ({"a": "é,\n\t\"'"}, None),
        ({"a": [1, None, True, {"b": ["x"]}]}, None),
        ("x", None),
        ({"a": "b\0"}, "a"),
        ({"a": {"b": ["x", "\0"]}}, "a.b[1]"),
        ({"a": "\ud800"}, "a"),
        ({"a": "\udcff"}, "a"),
        ({"a": {"b\0": 1}}, "a"),
        ({"a": [{"b": {"\udc80": 1}}]}, "a[0].b"),
        ({"c": {"d": "\0\udcff"}}, None),
        ({"c": {"d": {"e": ["\0"]}}}, None),
        ({"c": {"d": "\ud800"}}, "c.d"),
        ({"c": {"f": "\0"}}, "c.f"),
        ({"c": {"dd": "\0"}}, "c.dd"),
    ],
)
def test_texts(value, path):
    if path is None:
        validation.check_texts("", value, content=("c.d",))
        return
    with pytest.raises(OptionError) as caught:
        validation.check_texts("", value, content=("c.d",))
    assert caught.value.facts["option"] == path
    caught.value.message.encode("utf-8")


@pytest.mark.parametrize(
    "value, fits",
    [
        (1, True),
        (10, True),
        (5.5, True),
        (0, False),
        (11, False),
        (True, False),
        ("5", False),
        (None, False),
        (float("nan"), False),
        (float("inf"), False),
        (10**100, False),
        ([], False),
    ],
)
def test_numbers(value, fits):
    if fits:
        assert validation.check_number("x", value, 1, 10, "a number") == value
        return
    with pytest.raises(OptionError, match=r"^x: .* is not a number: 1 to 10$") as caught:
        validation.check_number("x", value, 1, 10, "a number")
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "text, version, fits",
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("::1", 6, True),
        ("::1", 4, False),
        ("1.2.3.4", 6, False),
        ("1.2.3", None, False),
        ("a.example", None, False),
        ("", None, False),
        ("1.2.3.4,x=y", None, False),
        ("01.2.3.4", None, False),
        ("1.2.3.4 ", None, False),
    ],
)
def test_addresses(text, version, fits):
    if fits:
        assert validation.check_address("x", text, version) == text
    else:
        with pytest.raises(OptionError):
            validation.check_address("x", text, version)


def test_errors():
    error = OptionError("a[0].b", "no", cmd=["x"])
    assert (error.message, str(error), error.facts) == (
        "a[0].b: no",
        "a[0].b: no",
        {"option": "a[0].b", "cmd": ["x"]},
    )
    assert isinstance(error, VlabError)


def test_a_file_is_written_whole(tmp_path):
    path = str(tmp_path / "a")
    files.write_atomically(path, "é\udcff")
    assert (
        open(path, "rb").read() == b"\xc3\xa9\xff" and stat.S_IMODE(os.stat(path).st_mode) == 0o600
    )
    files.write_atomically(path, b"x", 0o640)
    assert open(path, "rb").read() == b"x" and stat.S_IMODE(os.stat(path).st_mode) == 0o640
    for wrong in (str(tmp_path), str(tmp_path / "no" / "x"), str(tmp_path / "a" / "x")):
        with pytest.raises(HostError, match="cannot write"):
            files.write_atomically(wrong, "x")
    assert os.listdir(tmp_path) == ["a"], "nothing temporary is left"


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_atomically(str(tmp_path / "link"), "new")
    assert (tmp_path / "target").read_text() == "old" and not (tmp_path / "link").is_symlink()


def test_deeply_nested_json_is_damaged(tmp_path):
    (tmp_path / "a").write_text("[" * 100_000)
    with pytest.raises(HostError, match="is damaged"):
        files.read_json(str(tmp_path / "a"))


def test_json(tmp_path):
    path = str(tmp_path / "a")
    assert files.read_json(path) is None
    files.write_json(path, {"b": "é\ud800", "a": [1, None]})
    assert files.read_json(path) == {"a": [1, None], "b": "é\ud800"}
    assert open(path).read().startswith('{\n  "a"')
    for damaged in (b"", b"{", b"\xff\xfe", b'{"a": 1}x'):
        files.write_atomically(path, damaged)
        with pytest.raises(HostError, match="is damaged"):
            files.read_json(path)
    with pytest.raises(HostError, match="cannot read"):
        files.read_json(str(tmp_path))


@pytest.mark.parametrize(
    "text, lines, expected",
    [
        (b"", 3, ""),
        (b"a\nb\nc\nd", 2, "c\nd"),
        (b"a\n", 5, "a"),
        (b"\xff\n", 1, "\ufffd"),
        (b"x" * 9000, 1, "x" * 8192),
    ],
)
def test_tail(tmp_path, text, lines, expected):
    (tmp_path / "log").write_bytes(text)
    assert files.tail(str(tmp_path / "log"), lines) == expected


def test_what_is_not_there(tmp_path):
    gone = str(tmp_path / "gone")
    assert (
        files.tail(gone) == ""
        and files.read_text(gone) is None
        and files.read_text(gone, "x") == "x"
        and not files.remove_file(gone)
    )
    with pytest.raises(HostError, match="cannot remove"):
        files.remove_file(str(tmp_path))


def test_folders(tmp_path):
    deep = str(tmp_path / "a" / "b" / "c")
    files.make_folder(deep)
    assert stat.S_IMODE(os.stat(deep).st_mode) == 0o700
    os.chmod(deep, 0o755)
    files.make_folder(deep)
    assert stat.S_IMODE(os.stat(deep).st_mode) == 0o755, "one that exists is left as it is"
    files.make_private_folder(deep)
    assert stat.S_IMODE(os.stat(deep).st_mode) == 0o700
    (tmp_path / "file").write_text("")
    for wrong in ("file", "file/x"):
        with pytest.raises(HostError):
            files.make_private_folder(str(tmp_path / wrong))
    (tmp_path / "link").symlink_to(deep)
    with pytest.raises(HostError, match="exists but is not a directory"):
        files.make_private_folder(str(tmp_path / "link"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another owner")
def test_a_folder_of_somebody_else(tmp_path):
    (tmp_path / "his").mkdir()
    os.chown(tmp_path / "his", 12345, 12345)
    with pytest.raises(HostError, match="belongs to user id 12345"):
        files.make_private_folder(str(tmp_path / "his"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another owner")
@pytest.mark.parametrize("owner, is_followed", [(12345, False), (0, True)])
def test_a_link_to_a_folder_is_followed_if_it_is_not_of_somebody_else(tmp_path, owner, is_followed):
    (tmp_path / "private").mkdir()
    (tmp_path / "lab").symlink_to(tmp_path / "private")
    os.lchown(tmp_path / "lab", owner, owner)
    if is_followed:
        files.make_folder(str(tmp_path / "lab"))
    else:
        with pytest.raises(HostError, match="lab is a symbolic link of user id 12345"):
            files.make_folder(str(tmp_path / "lab"))


def hold(path, seconds=60):
    """Another process that holds the lock."""
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, sys, select\n"
            "h = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
            "fcntl.flock(h, fcntl.LOCK_EX)\n"
            "os.pwrite(h, b'%d' % os.getpid(), 0)\n"
            "print(1, flush=True)\n"
            "select.select([sys.stdin], [], [], float(sys.argv[2]))",
            path,
            str(seconds),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    return child


def test_a_lock_is_waited_for(tmp_path):
    path = str(tmp_path / "lock")
    child = hold(path)
    try:
        with pytest.raises(
            LockTimeout, match=r"another run \(pid %d\) has held .*lock for 0" % child.pid
        ):
            with locks.file_lock(path, timeout=0.05):
                pass
        threading.Timer(0.1, child.kill).start()
        with locks.file_lock(path, timeout=10):
            assert open(path).read().strip() == str(os.getpid())
    finally:
        child.kill()
        child.communicate()


def test_a_lock_that_was_given_up_is_free(tmp_path):
    """The thread that waited must not hold it for ever afterwards, when it gets it at last."""
    path = str(tmp_path / "lock")
    child = hold(path)
    with pytest.raises(LockTimeout):
        with locks.file_lock(path, timeout=0.05):
            pass
    child.kill()
    child.communicate()
    with locks.file_lock(path, timeout=5):
        pass
    with locks.file_lock(path, timeout=5):
        pass


def test_locks_of_threads_exclude_each_other(tmp_path):
    path, inside, most = str(tmp_path / "lock"), [], []

    def work():
        for _round in range(20):
            with locks.file_lock(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and len(most) == 80


def test_a_lock_whose_folder_goes_while_it_is_waited_for(tmp_path):
    folder, made = tmp_path / "vm", []

    def remake():
        folder.mkdir(exist_ok=True)
        made.append(1)

    remake()
    child = hold(str(folder / "lock"))

    def remove():
        (folder / "lock").unlink()
        folder.rmdir()
        child.kill()

    timer = threading.Timer(0.1, remove)
    timer.start()
    with locks.file_lock(str(folder / "lock"), timeout=10, remake=remake):
        assert (folder / "lock").exists() and len(made) == 3
    timer.join()
    child.communicate()


def test_a_lock_without_a_folder(tmp_path):
    with locks.file_lock(str(tmp_path / "gone" / "lock")):
        assert not (tmp_path / "gone").exists()
    (tmp_path / "dir").mkdir()
    with pytest.raises(HostError, match="cannot open the lock"):
        with locks.file_lock(str(tmp_path / "dir")):
            pass


def test_a_check_needs_no_writable_file_system(tmp_path, monkeypatch):
    path, real = str(tmp_path / "lock"), os.open

    def read_only(name, flags, *mode):
        if os.fspath(name) == path and flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, "Read-only file system", name)
        return real(name, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)
    with locks.file_lock(path, is_check=True) as is_held:
        assert is_held is False
    os.close(real(path, os.O_CREAT | os.O_WRONLY))
    with locks.file_lock(path, is_check=True) as is_held:
        assert is_held is True
        with pytest.raises(LockTimeout), locks.file_lock(path, timeout=0.05, is_check=True):
            pass
    with pytest.raises(HostError, match="cannot open the lock .*: Read-only file system"):
        with locks.file_lock(path):
            pass
    assert (tmp_path / "lock").read_text() == ""


def test_run():
    assert processes.run_program(["cat"], data=b"a\xff")[:2] == (0, "a\ufffd")
    assert processes.run_program(["sh", "-c", "echo $LC_ALL; cat; exit 3"], accept=(3,)) == (
        3,
        "C\n",
        "",
    )
    with pytest.raises(ProgramError, match=r"^work failed \(exit code 2\): bad") as caught:
        processes.run_program(["sh", "-c", "echo bad >&2; exit 2"], purpose="work")
    assert (caught.value.facts["rc"], caught.value.facts["stderr"]) == (2, "bad\n")
    with pytest.raises(HostError, match="not on this host"):
        processes.run_program(["/nonexistent/x"])
    with pytest.raises(HostError, match="cannot run"):
        processes.run_program(["/"])
    with pytest.raises(ProgramError, match="did not end within"):
        processes.run_program(["sleep", "60"], timeout=0.1)


@pytest.fixture(name="sleeper")
def fixture_sleeper():
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


def test_who_runs(sleeper):
    start = processes.process_start_time(sleeper.pid)
    assert start and processes.command_line(sleeper.pid) == ["sleep", "60"]
    assert sleeper.pid in processes.find_processes(
        "sleep", "60"
    ) and sleeper.pid not in processes.find_processes("sleep", "61")
    assert not processes.wait_for_exit(sleeper.pid, start, 0) and not processes.wait_for_exit(
        sleeper.pid, start, 0.05
    )
    assert not processes.send_signal(sleeper.pid, start + 1), "another process with that number"
    assert sleeper.poll() is None
    assert processes.send_signal(sleeper.pid, start)
    assert processes.wait_for_exit(sleeper.pid, start, 5)
    assert processes.process_start_time(sleeper.pid) is None, "a zombie has ended"
    assert not processes.send_signal(sleeper.pid, start) and processes.wait_for_exit(
        sleeper.pid, start, 0
    )
    assert processes.command_line(1 << 30) == [] and processes.process_start_time(1 << 30) is None


def test_an_exit_is_seen_at_once(sleeper, monkeypatch):
    for descriptor in (True, False):
        child = subprocess.Popen(["sleep", "0.15"])
        if not descriptor:
            monkeypatch.delattr(os, "pidfd_open", raising=False)
        began = time.monotonic()
        assert processes.wait_for_exit(child.pid, processes.process_start_time(child.pid), 10)
        assert time.monotonic() - began < 5
        child.wait()


def test_a_name_with_brackets_and_spaces(tmp_path):
    """proc(5): the name in stat may hold anything, also ") R 1"."""
    path = tmp_path / ") R 1 (x"
    os.symlink("/bin/sleep", path)
    child = subprocess.Popen([str(path), "60"])
    try:
        assert isinstance(processes.process_start_time(child.pid), int)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def test_boot_id():
    assert len(processes.boot_id()) == 36 and processes.boot_id() == processes.boot_id()
