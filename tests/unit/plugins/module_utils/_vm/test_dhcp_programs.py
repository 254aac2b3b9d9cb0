# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The DHCP options of user links: their processes, and what a QEMU is asked for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    find_processes,
    process_start_time,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm import dhcp_programs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import dhcp_changes
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import (
    nic_ids,
)
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal
from ansible_collections.vlab.qemu.tests.unit.vm_world import capabilities

IDS = nic_ids({"slots": {"nics/eth0": {"index": 3}}}, "eth0")
OPTIONS = {"67": "first.cfg"}
ENCODED = {"67": b"first.cfg".hex()}


@pytest.fixture
def folder(tmp_path):
    folder = Folder(str(tmp_path), "lab", "r1")
    folder.make()
    yield folder
    dhcp_programs.end_all(folder)


@contextlib.contextmanager
def qemu_of(folder, version="7.2", pid=None, **answers):
    """Yield a QEMU that makes chardevs, and what it was asked for."""
    listening = {}

    def add(arguments):
        data = arguments["backend"]["data"]
        assert (data["server"], data["wait"]) == (True, False)
        server = socket.socket(socket.AF_UNIX)
        server.bind(data["addr"]["data"]["path"])
        server.listen(1)
        listening[arguments["id"]] = server
        return {}

    def remove(arguments):
        if arguments["id"] not in listening:
            return Refusal("not found")
        listening.pop(arguments["id"]).close()
        return {}

    chardevs = {"chardev-add": add, "chardev-remove": remove}
    try:
        with FakeQmp(folder.qmp, {**chardevs, **answers}) as qmp, Monitor(folder.qmp) as monitor:
            known = capabilities(version)
            yield dhcp_changes.Qemu(monitor, folder, known, pid or os.getpid()), qmp
    finally:
        for server in listening.values():
            server.close()


def nic(options=None):
    more = {"dhcp_options": options} if options else {}
    return {"name": "eth0", "link": {"type": "user", **more}}


def commands(qmp):
    return [name for name, _arguments in qmp.requests if name != "qmp_capabilities"]


def observed(folder, options=None):
    observation = Observation(folder)
    observation.running = {"nics": [nic(options), {"name": "eth1", "link": {"type": "none"}}]}
    dhcp_changes.observe(observation)
    return observation.running["nics"][0]["link"].get("dhcp_options")


@pytest.mark.parametrize("version", ["5.2", "7.2"])
def test_its_life(folder, version):
    with qemu_of(folder, version) as (qemu, qmp):
        dhcp_changes.start(nic(), IDS, qemu)
        assert not commands(qmp)
        dhcp_changes.start(nic(OPTIONS), IDS, qemu)
        assert commands(qmp)[-3:] == ["chardev-add", "chardev-add", "object-add"]
        added = qmp.requests[-1][1]
        properties = {
            "netdev": "link3",
            "queue": "tx",
            "indev": "dhcp3-in",
            "outdev": "dhcp3-out",
        }
        head = {"qom-type": "filter-redirector", "id": "dhcp3"}
        rest = {"props": properties} if version == "5.2" else properties
        assert added == {**head, **rest}
        assert dhcp_programs.options(folder, "eth0") == ENCODED
        assert os.stat(folder.file("dhcp/eth0")).st_mode & 0o777 == 0o700
        pid = dhcp_programs._program(folder, "eth0").running_pid()
        # Other options are those of another process; frames have their way meanwhile.
        dhcp_changes.start(nic({"67": "other"}), IDS, qemu)
        assert process_start_time(pid) is None
        assert commands(qmp)[-6:-3] == ["object-del", "chardev-remove", "chardev-remove"]
        assert dhcp_programs.options(folder, "eth0") == {"67": b"other".hex()}
        dhcp_changes.start(nic(), IDS, qemu)
        assert not dhcp_programs.exists(folder, "eth0")
        assert not [name for name in os.listdir(folder.sockets) if name.startswith("dhcp3")]
        asked = len(qmp.requests)
        dhcp_changes.stop("eth0", IDS, qemu)
        assert len(qmp.requests) == asked


def test_what_is_observed(folder):
    assert observed(folder, OPTIONS) is None
    with qemu_of(folder) as (qemu, _qmp):
        dhcp_changes.start(nic(OPTIONS), IDS, qemu)
        assert observed(folder) is None
        assert observed(folder, OPTIONS) == OPTIONS
        assert observed(folder, {"67": "other"}) is None
        pid = dhcp_programs._program(folder, "eth0").running_pid()
        start = process_start_time(pid)
        os.kill(pid, signal.SIGKILL)
        assert wait_for_exit(pid, start, 10)
        assert observed(folder, OPTIONS) is None
        dhcp_changes.start(nic(OPTIONS), IDS, qemu)
        assert observed(folder, OPTIONS) == OPTIONS
        for damaged in ("{", "[]", '{"options": 5}'):
            with open(folder.file("dhcp/eth0/settings.json"), "w", encoding="ascii") as stream:
                stream.write(damaged)
            assert observed(folder, OPTIONS) is None


def test_it_ends_with_qemu(folder):
    earlier = subprocess.Popen(["sleep", "600"])
    with qemu_of(folder, pid=earlier.pid) as (qemu, _qmp):
        dhcp_changes.start(nic(OPTIONS), IDS, qemu)
        pid = dhcp_programs._program(folder, "eth0").running_pid()
        start = process_start_time(pid)
        earlier.kill()
        earlier.wait()
        assert wait_for_exit(pid, start, 10)


def test_the_last_run_ends_all(folder):
    with qemu_of(folder) as (qemu, _qmp):
        dhcp_changes.start(nic(OPTIONS), IDS, qemu)
        os.unlink(folder.file("dhcp/eth0/run.json"))
        dhcp_programs.end_all(folder)
        assert not os.path.exists(folder.file("dhcp"))
        assert not find_processes("-I", folder.file("dhcp/eth0/dhcp.pyz"))


@pytest.mark.parametrize("refused", ["chardev-add", "object-add"])
def test_a_refusal_leaves_nothing(folder, refused):
    with qemu_of(folder, **{refused: Refusal("no such type")}) as (qemu, qmp):
        with pytest.raises(VlabError, match="no such type"):
            dhcp_changes.start(nic(OPTIONS), IDS, qemu)
        assert commands(qmp)[-3:] == ["object-del", "chardev-remove", "chardev-remove"]
        assert not dhcp_programs.exists(folder, "eth0")


def test_a_program_that_cannot_connect(folder):
    with qemu_of(folder, **{"chardev-add": {}}) as (qemu, _qmp):
        reason = r"nics\[eth0\].link.dhcp_options of the VM r1 does not start: error: .*No such"
        with pytest.raises(HostError, match=reason):
            dhcp_changes.start(nic(OPTIONS), IDS, qemu)
        assert not dhcp_programs.exists(folder, "eth0")
