# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process of the rotated captures of a VM: started, changed, killed, ended with QEMU."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    find_processes,
    process_start_time,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import rotations
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.captures import (
    spool_path,
)
from ansible_collections.vlab.qemu.tests.unit.pcap_files import (
    HEADER,
    append,
    packet,
    packets,
    ring,
)

TIMEOUT = 20  # seconds


class Vm:
    """A VM whose QEMU is a process that does nothing; the test writes the spools."""

    def __init__(self, path):
        self.folder = Folder(str(path), "lab", "r1")
        self.folder.make()
        os.mkdir(self.folder.captures)
        self.captures = path / "lab" / "r1" / "captures"
        self.qemu = subprocess.Popen(["sleep", "600"])

    def rotation(self, nic="e", **changed):
        settings = {
            "spool": spool_path(self.folder, nic),
            "path": str(self.captures / (nic + ".pcap")),
            "size": 24 + 3 * 84,
            "count": 3,
        }
        return {nic: dict(settings, **changed)}

    def begin(self, nic="e", **changed):
        """Let QEMU capture a NIC."""
        rotations.prepare(self.folder, nic)
        append(spool_path(self.folder, nic), HEADER)
        self.update(nic, **changed)

    def update(self, nic="e", **changed):
        rotations.update(self.folder, self.qemu.pid, self.rotation(nic, **changed))

    def write(self, *numbers, nic="e"):
        append(spool_path(self.folder, nic), packets(*numbers))

    def end_qemu(self):
        self.qemu.kill()
        self.qemu.wait()

    @property
    def pid(self):
        return rotations.state(self.folder)["pid"]

    def kill(self):
        pid = self.pid
        start = process_start_time(pid)
        os.kill(pid, signal.SIGKILL)
        assert wait_for_exit(pid, start, TIMEOUT)

    def has(self, files):
        """Wait for these files."""
        deadline = time.monotonic() + TIMEOUT
        while ring(self.captures) != files and time.monotonic() < deadline:
            time.sleep(0.02)
        return ring(self.captures) == files


def processes(folder):
    return find_processes("-I", folder.file("rotations/rotation.pyz"))


@pytest.fixture
def vm(tmp_path):
    made = Vm(tmp_path)
    yield made
    made.end_qemu()
    rotations.end(made.folder)
    # Its shell ends a moment later.
    deadline = time.monotonic() + TIMEOUT
    while processes(made.folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not processes(made.folder)


def test_its_life(vm):
    vm.begin()
    # The file is there at once.
    assert ring(vm.captures) == {"e.pcap": []}
    assert rotations.state(vm.folder)["status"] == "running"
    assert os.stat(vm.folder.file("rotations")).st_mode & 0o777 == 0o700
    vm.write(0, 1, 2, 3)
    assert vm.has({"e.pcap": [3], "e.1.pcap": [0, 1, 2]})
    pid = vm.pid
    vm.update()
    assert vm.pid == pid, "nothing is to be changed"
    # The second capture is copied by one process with the first.
    vm.begin("f")
    vm.write(4, 5)
    vm.write(0, nic="f")
    assert vm.has({"e.pcap": [3, 4, 5], "e.1.pcap": [0, 1, 2], "f.pcap": [0]})
    assert set(rotations.configured(vm.folder)) == {"e", "f"}
    # What is left is copied when a capture ends, and the other one goes on.
    vm.write(6)
    assert rotations.stop(vm.folder, vm.qemu.pid, "e") == ""
    assert not os.path.exists(spool_path(vm.folder, "e"))
    vm.write(1, nic="f")
    files = {"e.pcap": [6], "e.1.pcap": [3, 4, 5], "e.2.pcap": [0, 1, 2]}
    assert vm.has({**files, "f.pcap": [0, 1]})
    pid = vm.pid
    assert rotations.stop(vm.folder, vm.qemu.pid, "f") == ""
    assert process_start_time(pid) is None
    assert not os.path.exists(vm.folder.file("rotations"))
    assert rotations.stop(vm.folder, vm.qemu.pid, "f") == ""


def test_other_numbers_for_a_capture_that_goes_on(vm):
    vm.begin()
    vm.write(*range(9))
    assert vm.has({"e.pcap": [6, 7, 8], "e.1.pcap": [3, 4, 5], "e.2.pcap": [0, 1, 2]})
    vm.update(count=2, size=24 + 4 * 84)
    vm.write(9, 10, 11)
    assert vm.has({"e.pcap": [10, 11], "e.1.pcap": [6, 7, 8, 9]})


def test_killed_again_and_again(vm):
    vm.begin(count=100)
    for number in range(0, 20, 2):
        vm.write(number)
        vm.kill()
        assert rotations.state(vm.folder)["status"] == "ended"
        assert not rotations.is_running(vm.folder)
        vm.write(number + 1)
        vm.update(count=100)
    vm.write(20)
    expected = {"e.pcap": [18, 19, 20]}
    expected.update({"e.%d.pcap" % (6 - n): [3 * n, 3 * n + 1, 3 * n + 2] for n in range(6)})
    assert vm.has(expected)


@pytest.mark.parametrize("is_dead", [False, True])
def test_the_rest_is_copied_after_the_end_of_qemu(vm, is_dead):
    vm.begin()
    if is_dead:
        vm.kill()
    append(spool_path(vm.folder, "e"), packets(0, 1, 2, 3) + packet(4)[:50])
    vm.end_qemu()
    assert rotations.end(vm.folder) == []
    assert ring(vm.captures) == {"e.pcap": [3], "e.1.pcap": [0, 1, 2]}
    assert not os.path.exists(vm.folder.file("rotations"))


def test_it_ends_with_qemu_and_releases_the_spool(vm):
    vm.begin()
    vm.write(0)
    pid, start = vm.pid, process_start_time(vm.pid)
    vm.end_qemu()
    assert wait_for_exit(pid, start, TIMEOUT)
    assert ring(vm.captures) == {"e.pcap": [0]}
    assert not os.path.exists(spool_path(vm.folder, "e"))


def test_one_of_an_earlier_qemu_is_replaced(vm):
    vm.begin()
    pid = vm.pid
    rotations.update(vm.folder, os.getpid(), vm.rotation())
    assert process_start_time(pid) is None and vm.pid != pid
    rotations.stop(vm.folder, os.getpid(), "e")


def test_a_qemu_that_has_ended(vm):
    vm.end_qemu()
    with pytest.raises(HostError, match="the QEMU of the VM r1 has ended"):
        vm.begin()


def test_a_file_that_cannot_be(vm):
    vm.begin("f")
    path = str(vm.captures / "f.pcap" / "e.pcap")
    with pytest.raises(HostError, match=r"nics\[e\]\.capture: cannot write .*e\.pcap: Not a dir"):
        vm.begin(path=path)
    # The other one goes on.
    vm.write(0, nic="f")
    assert vm.has({"f.pcap": [0]}) and set(rotations.configured(vm.folder)) == {"f"}


def test_a_spool_that_is_damaged(vm):
    vm.begin()
    vm.begin("f")
    vm.write(0)
    append(spool_path(vm.folder, "e"), bytes(100))
    vm.write(0, nic="f")
    assert vm.has({"e.pcap": [0], "f.pcap": [0]})
    warning = rotations.stop(vm.folder, vm.qemu.pid, "e")
    assert "nics[e].capture: the latest frames are not in" in warning and "0 of 0" in warning
    assert not os.path.exists(spool_path(vm.folder, "e"))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"captures": 5}', '{"captures": {"e": {"size": 1}}}']
)
def test_damaged_settings(vm, content):
    vm.begin()
    vm.write(0)
    assert vm.has({"e.pcap": [0]})
    with open(vm.folder.file("rotations/settings.json"), "w", encoding="ascii") as stream:
        stream.write(content)
    assert rotations.configured(vm.folder) == {}
    pid = vm.pid
    vm.update()
    assert process_start_time(pid) is None
    vm.write(1)
    assert vm.has({"e.pcap": [0, 1]})
