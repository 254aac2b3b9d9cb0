# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Descriptors that QEMU inherits: what is opened, what is refused, and that none is left open."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.descriptors import Descriptors
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, argv, compose, values

PART = Descriptors()


def open_descriptors():
    """Return what is open, without the folder that is read for that."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add((name, os.readlink("/proc/self/fd/" + name)))
    return found


def launched(host, *entries):
    desired = compose({"memory": "64", "disks": [], "fds": list(entries)}, host=host)
    PART.before_launch(desired, host)
    return desired


def test_the_command_line_names_the_numbers_that_are_going_to_be_opened(tmp_path):
    path = tmp_path / "f"
    path.write_text("here")
    entries = [{"set": 1, "path": str(path), "mode": "rw"}, {"set": 9, "path": str(path)}]
    foreseen = values(argv({"fds": entries}), "-add-fd")
    assert foreseen == ["fd=100,set=1", "fd=101,set=9"]
    host = FakeHost()
    desired = launched(host, *entries)
    try:
        assert values(PART.arguments(desired, host), "-add-fd") == foreseen
        assert os.read(101, 9) == b"here"
        assert not os.get_inheritable(100)  # by programs that are started meanwhile
    finally:
        PART.release(desired, host)
    assert host.descriptors == []
    with pytest.raises(OSError):
        os.fstat(100)


def test_a_number_in_use_is_left_alone(tmp_path):
    path = tmp_path / "f"
    path.write_text("here")
    first, second = FakeHost(), FakeHost()
    launched(first, {"set": 1, "path": str(path)})
    desired = launched(second, {"set": 1, "path": str(path)})
    try:
        assert first.descriptors == [100] and second.descriptors == [101]
        assert values(PART.arguments(desired, second), "-add-fd") == ["fd=101,set=1"]
    finally:
        first.close_descriptors()
        second.close_descriptors()


def test_a_file_is_neither_created_nor_truncated(tmp_path):
    path = tmp_path / "f"
    host = FakeHost()
    with pytest.raises(OptionError, match=r"fds\[0\].path: cannot open .* mode w: No such file"):
        launched(host, {"set": 1, "path": str(path), "mode": "w"})
    assert not path.exists()
    path.write_text("kept")
    launched(host, {"set": 1, "path": str(path), "mode": "w"})
    host.close_descriptors()
    assert path.read_text() == "kept"


def test_what_cannot_be_opened_leaves_nothing_open(tmp_path):
    path = tmp_path / "f"
    path.write_text("x")
    os.mkfifo(tmp_path / "fifo")
    before = open_descriptors()
    host = FakeHost()
    for entry, message in (
        ({"path": str(tmp_path), "mode": "w"}, "Is a directory"),
        ({"path": str(tmp_path / "fifo"), "mode": "w"}, "no process reads this FIFO"),
    ):
        with pytest.raises(OptionError, match=r"fds\[1\].path: .*" + message):
            launched(host, {"set": 1, "path": str(path)}, dict(entry, set=2))
        PART.release({}, host)  # as a failed start does
        assert open_descriptors() == before


def test_a_fifo_blocks_qemu_as_usual_but_not_us(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    host = FakeHost()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        launched(host, {"set": 1, "path": str(fifo), "mode": "w"})
        assert os.get_blocking(host.descriptors[0])
    finally:
        host.close_descriptors()
        os.close(reader)


@pytest.mark.parametrize(
    ("make", "mode", "message"),
    [
        (lambda path: None, "r", "cannot reach .*No such file"),
        (lambda path: path.symlink_to("nothing"), "r", "points to nothing, which does not exist"),
        (lambda path: path.mkdir(), "r", "is a folder or a socket"),
    ],
)
def test_what_is_refused_before_any_change(tmp_path, make, mode, message):
    path = tmp_path / "f"
    make(path)
    desired = compose({"memory": "64", "fds": [{"set": 1, "path": str(path), "mode": mode}]})
    for options in (None, {"fds"}):
        with pytest.raises(OptionError, match=r"fds\[0\].path: .*" + message):
            PART.check_files(desired, options)
    PART.check_files(desired, {"memory"})
    PART.check_files({}, None)  # of a VM that is removed


def test_a_right_that_is_missing_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_text("x")
    monkeypatch.setattr(os, "access", lambda _path, rights, effective_ids: not rights & os.W_OK)
    desired = compose({"memory": "64", "fds": [{"set": 1, "path": str(path), "mode": "rw"}]})
    with pytest.raises(OptionError, match="user id [0-9]+ may not open .* with the mode rw"):
        PART.check_files(desired, None)


def test_two_starts_at_once_do_not_take_each_others_descriptors(tmp_path):
    """As in a lab, whose nodes are started by the threads of one process."""
    wrong = []

    def start(number):
        path = tmp_path / str(number)
        path.write_text(str(number))
        for _round in range(50):
            host = FakeHost()
            desired = launched(host, {"set": 1, "path": str(path)})
            words = values(PART.arguments(desired, host), "-add-fd")[0]
            opened = int(words.partition(",")[0][len("fd=") :])
            if os.pread(opened, 9, 0) != str(number).encode():
                wrong.append(words)
            host.close_descriptors()

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
