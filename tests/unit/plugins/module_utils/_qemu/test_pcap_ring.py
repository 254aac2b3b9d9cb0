# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Captures as rings of files: no packet is lost or doubled, whatever happens."""

from __future__ import annotations

import json
import os
import stat

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import pcap_ring
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.pcap_ring import Ring
from ansible_collections.vlab.qemu.tests.unit.pcap_files import (
    HEADER,
    append,
    packet,
    packets,
    ring,
)

THREE = 24 + 3 * 84  # bytes of a file with three packets


class Capture:
    """A spool and its ring."""

    def __init__(self, folder):
        self.folder, self.spool = folder, folder / "e.spool"
        self.settings = {
            "spool": str(self.spool),
            "path": str(folder / "e.pcap"),
            "size": THREE,
            "count": 3,
        }
        append(self.spool, HEADER)

    def write(self, data):
        append(self.spool, data)

    def copy(self, **changed):
        """Copy all there is, as a process that has just started."""
        self.settings.update(changed)
        made = Ring(self.settings)
        while made.copy():
            pass

    def files(self):
        return ring(self.folder)


@pytest.fixture
def capture(tmp_path):
    return Capture(tmp_path)


ROTATIONS = [
    (0, 3, {"e.pcap": []}),
    (1, 3, {"e.pcap": [0]}),
    (3, 3, {"e.pcap": [0, 1, 2]}),
    (4, 3, {"e.pcap": [3], "e.1.pcap": [0, 1, 2]}),
    (9, 3, {"e.pcap": [6, 7, 8], "e.1.pcap": [3, 4, 5], "e.2.pcap": [0, 1, 2]}),
    (10, 3, {"e.pcap": [9], "e.1.pcap": [6, 7, 8], "e.2.pcap": [3, 4, 5]}),
    (10, 1, {"e.pcap": [9]}),
    (10, 2, {"e.pcap": [9], "e.1.pcap": [6, 7, 8]}),
]


@pytest.mark.parametrize("total, count, files", ROTATIONS)
@pytest.mark.parametrize("at_once", [True, False])
def test_it_rotates(capture, total, count, files, at_once):
    if at_once:
        capture.write(packets(*range(total)))
    for number in () if at_once else range(total):
        capture.write(packet(number))
        capture.copy(count=count)
    capture.copy(count=count)
    assert capture.files() == files
    assert stat.S_IMODE(os.stat(capture.settings["path"]).st_mode) == 0o600


@pytest.mark.parametrize("cut", [*range(84)])
def test_a_packet_that_is_not_complete_yet(capture, cut):
    data = packets(0, 1, 2) + packet(3)[:cut]
    capture.write(data)
    capture.copy()
    assert capture.files() == {"e.pcap": [0, 1, 2]}
    capture.write(packet(3)[cut:])
    capture.copy()
    assert capture.files() == {"e.pcap": [3], "e.1.pcap": [0, 1, 2]}


def test_a_header_that_is_not_complete_yet(capture):
    capture.spool.write_bytes(HEADER[:20])
    capture.copy()
    assert capture.files() == {}


@pytest.mark.parametrize("batch", [100, 168, 300])
def test_packets_over_the_border_of_a_read(capture, monkeypatch, batch):
    monkeypatch.setattr(pcap_ring, "_BATCH", batch)
    capture.write(packets(*range(8)))
    capture.copy()
    assert capture.files() == {"e.pcap": [6, 7], "e.1.pcap": [3, 4, 5], "e.2.pcap": [0, 1, 2]}


def test_a_packet_that_is_larger_than_a_file(capture):
    capture.write(packet(0, size=5000) + packet(1) + packet(2, size=5000))
    capture.copy()
    assert capture.files() == {"e.pcap": [2], "e.1.pcap": [1], "e.2.pcap": [0]}


def test_size_and_count_change(capture):
    capture.write(packets(*range(9)))
    capture.copy()
    Ring(dict(capture.settings, count=2)).trim()
    assert sorted(capture.files()) == ["e.1.pcap", "e.pcap"]
    capture.write(packets(9, 10))
    capture.copy(size=24 + 84, count=4)
    assert capture.files() == {
        "e.pcap": [10],
        "e.1.pcap": [9],
        "e.2.pcap": [6, 7, 8],
        "e.3.pcap": [3, 4, 5],
    }
    capture.write(packets(11, 12))
    capture.copy(size=1 << 20)
    assert capture.files()["e.pcap"] == [10, 11, 12]


class Killed(BaseException):
    """SIGKILL."""


def test_killed_before_any_call_to_the_system(tmp_path, monkeypatch):
    """A process is killed before each of its changes in turn; the next one goes on."""
    real = {
        name: getattr(os, name)
        for name in ("open", "pwrite", "replace", "unlink", "ftruncate", "close")
    }
    left = [0]

    def killing(name):
        def call(*given, **more):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            if name == "pwrite" and left[0] == 0:  # killed in the middle of it
                handle, data, offset = given
                real["pwrite"](handle, data[: len(data) // 2], offset)
                raise Killed
            return real[name](*given, **more)

        return call

    expected = {"e.pcap": [6, 7], "e.1.pcap": [3, 4, 5], "e.2.pcap": [0, 1, 2]}
    survived = 0
    for step in range(1, 200):
        folder = tmp_path / str(step)
        folder.mkdir()
        capture = Capture(folder)
        # Something to rotate, which the ring loses.
        append(folder / "e.pcap", HEADER + packets(99))
        left[0] = step
        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, killing(name))
            try:
                made = Ring(capture.settings)
                for number in range(0, 8, 2):
                    with real_open(real, capture.spool) as stream:
                        stream.write(packets(number, number + 1))
                    while made.copy():
                        pass
                    survived = number + 2
                survived = 8
            except Killed:
                survived = number
        written = (os.stat(capture.spool).st_size - 24) // 84
        capture.write(packets(*range(written, 8)))
        capture.copy()
        assert capture.files() == expected, step
        if survived == 8:
            return
    raise AssertionError("it takes more steps")


def real_open(real, path):
    return open(path, "ab", opener=lambda name, flags: real["open"](name, flags, 0o600))


def test_the_space_behind_is_released(capture):
    capture.write(packets(*range(40), size=65000))
    capture.copy(size=1 << 20)
    found = os.stat(capture.spool)
    assert found.st_size > 2 << 20 and found.st_blocks * 512 <= 1 << 19
    capture.write(packets(40, 41))
    capture.copy()
    assert sum(capture.files().values(), []) != [] and capture.files()["e.pcap"][-2:] == [40, 41]


def test_a_disk_that_is_full(capture, monkeypatch):
    capture.write(packets(0, 1))
    made = Ring(capture.settings)
    assert made.copy()
    capture.write(packets(2, 3, 4))
    real, space = os.pwrite, [50]

    def pwrite(handle, data, offset):
        if not space[0]:
            raise OSError(28, "No space left on device")
        taken = min(len(data), space[0])
        space[0] -= taken
        return real(handle, data[:taken], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        for _attempt in range(3):
            with pytest.raises(OSError, match="No space left"):
                made.copy()
    while made.copy():
        pass
    assert capture.files() == {"e.pcap": [3, 4], "e.1.pcap": [0, 1, 2]}


@pytest.mark.parametrize(
    "kept, length", [(0, 0), (0, 60), (1 << 17, 60), ((1 << 17) + 1, 1 << 30), (61, 60)]
)
def test_a_damaged_spool(capture, kept, length):
    wrong = packet(2)[:8] + kept.to_bytes(4, "little") + length.to_bytes(4, "little") + bytes(99)
    capture.write(packets(0, 1) + wrong)
    with pytest.raises(ValueError, match="a packet cannot have"):
        capture.copy()
    assert capture.files() == {"e.pcap": [0, 1]}


def test_a_spool_that_is_no_capture(capture):
    capture.spool.write_bytes(b"x" * 200)
    with pytest.raises(ValueError, match="does not begin as a pcap file"):
        capture.copy()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"start": 24}', '{"start": 50, "position": 24}']
)
def test_a_damaged_position(capture, content):
    capture.write(packets(0, 1))
    capture.copy()
    (capture.folder / "e.spool.json").write_text(content)
    with pytest.raises(ValueError, match="e.spool.json is damaged"):
        capture.copy()
    assert capture.files() == {"e.pcap": [0, 1]}


@pytest.mark.parametrize("harm", ["moved", "cut", "link"])
def test_files_that_somebody_takes_away(capture, harm):
    capture.write(packets(0, 1))
    capture.copy()
    path = capture.folder / "e.pcap"
    if harm == "cut":
        os.truncate(path, 24 + 84)
    else:
        path.rename(capture.folder / "taken")
    if harm == "link":
        path.symlink_to("taken")
    capture.write(packets(2))
    capture.copy()
    files = capture.files()
    assert files.pop("e.pcap") == [2]
    assert files == {"cut": {"e.1.pcap": [0]}, "link": {"e.1.pcap": [0, 1]}}.get(harm, {})


def test_what_is_left_is_copied_at_the_end(capture):
    capture.write(packets(*range(5)) + packet(5)[:30])
    assert Ring(capture.settings).finish() == 30
    assert capture.files() == {"e.pcap": [3, 4], "e.1.pcap": [0, 1, 2]}
    assert sorted(os.listdir(capture.folder)) == ["e.1.pcap", "e.pcap"]
    assert Ring(capture.settings).finish() == 0


def test_the_next_capture_begins_a_file(capture):
    capture.write(packets(0))
    Ring(capture.settings).finish()
    for number in (1, 2):
        append(capture.spool, HEADER + packet(number))
        Ring(capture.settings).finish()
    append(capture.spool, HEADER)
    capture.copy()
    capture.copy()
    Ring(capture.settings).finish()
    append(capture.spool, HEADER + packet(3))
    capture.copy()
    # A file without frames is not kept.
    assert capture.files() == {"e.pcap": [3], "e.1.pcap": [2], "e.2.pcap": [1]}


def test_the_position_is_for_its_owner_only(capture):
    capture.write(packets(0))
    capture.copy()
    record = capture.folder / "e.spool.json"
    assert json.loads(record.read_text()) == {"start": 24, "position": 108}
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
