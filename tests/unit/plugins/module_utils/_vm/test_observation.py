# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    write_json,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    process_start_time,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm import observation as observation_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm import plan as plans
from ansible_collections.vlab.qemu.plugins.module_utils._vm import process
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vm_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    users_of,
)
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose

UUID = "11111111-2222-3333-4444-555555555555"
PERIPHERAL = [
    {"name": "type", "type": "string"},
    {"name": "nic0", "type": "child<virtio-net-pci>"},
    {"name": "disk-pci0", "type": "child<virtio-blk-pci>"},
    {"name": "disk-ide0", "type": "child<ide-cd>"},
]
BLOCKS = [
    {
        "device": "",
        "qdev": "/machine/peripheral/disk-ide0",
        "removable": True,
        "inserted": {"file": "/b.iso"},
    },
    {"device": "", "qdev": "", "removable": True},
    {
        "qdev": "/machine/peripheral/disk-pci0/virtio-backend",
        "removable": False,
        "inserted": {"file": "/d"},
    },
]
ANSWERS = {
    "query-status": {"status": "running", "running": True},
    "query-uuid": {"UUID": UUID},
    "qom-list": PERIPHERAL,
    "query-block": BLOCKS,
}


@pytest.fixture(name="vm")
def fixture_vm(tmp_path):
    """A VM whose QEMU is this process."""
    host = FakeHost(root=tmp_path / "r")
    host.folder.make()
    definition = compose(
        disks=[{"name": "d", "size": "1G"}, {"name": "gone", "size": "1G"}],
        nics=[{"name": "e"}, {"name": "f"}],
        cdroms=[{"name": "c", "path": "/a.iso"}],
        uuid=UUID,
        host=host,
    )
    definitions.save(host.folder, definition)
    write_json(host.folder.run, run_of(os.getpid(), definition))
    return host.folder


def run_of(pid, definition, **more):
    return dict(
        {
            "pid": pid,
            "start": process_start_time(pid),
            "boot_id": boot_id(),
            "uuid": UUID,
            "definition": definition,
        },
        **more,
    )


def rewrite_run(folder, **more):
    write_json(folder.run, dict(run_of(os.getpid(), definitions.load(folder)), **more))


def test_a_vm_that_is_not_there(tmp_path):
    observation = observe(FakeHost(root=tmp_path).folder)
    assert (
        observation.status,
        observation.alive,
        observation.saved,
        observation.monitor,
        observation.running,
    ) == (
        "absent",
        False,
        None,
        None,
        {},
    )
    assert os.listdir(tmp_path) == [], "looking leaves nothing"


def test_a_qemu_on_its_way_out_is_waited_for(vm):
    write_atomically(vm.exit_code, b"")
    rewrite_run(vm, pid=2**22 + 1)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys\nhandle = open(sys.argv[1])\nfcntl.flock(handle, fcntl.LOCK_EX)\n"
            "print(flush=True)\nsys.stdin.read()",
            vm.exit_code,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    closing = threading.Timer(0.3, holder.stdin.close)
    closing.start()
    started = time.monotonic()
    assert not observe(vm).alive
    assert 0.2 < time.monotonic() - started < 4
    holder.wait(5)
    holder.stdout.close()
    closing.join()


def test_a_running_vm(vm):
    with FakeQmp(vm.qmp, ANSWERS):
        observation = observe(vm)
        assert (observation.status, observation.alive, observation.pid) == (
            "running",
            True,
            os.getpid(),
        )
        assert observation.devices == {
            "nic0": "virtio-net-pci",
            "disk-pci0": "virtio-blk-pci",
            "disk-ide0": "ide-cd",
        }
        assert observation.media == {"disk-ide0": "/b.iso"}
        assert [disk["name"] for disk in observation.running["disks"]] == ["d"], (
            "what somebody removed is missing"
        )
        assert [nic["name"] for nic in observation.running["nics"]] == ["e"]
        assert observation.running["cdroms"][0]["path"] == "/b.iso", (
            "and the disc that somebody put in is there"
        )
        assert [disk["name"] for disk in observation.saved["disks"]] == ["d", "gone"]
        observation.close()
        observation.close()
        assert observation.monitor is None


def test_a_vm_that_an_earlier_version_started(vm):
    """Its definitions have format 1, in vm.json and in run.json; it goes on without a restart."""
    definition = definitions.load(vm)
    old = {key: value for key, value in definition.items() if key != "slots"}
    old.update(format=1, places=definition["slots"])
    definitions.save(vm, old)
    write_json(vm.run, run_of(os.getpid(), old))
    with FakeQmp(vm.qmp, ANSWERS):
        observation = observe(vm)
        observation.close()
    assert observation.saved == observation.run["definition"] == definition
    assert observation.running["slots"] == definition["slots"]
    desired = compose(
        {"remove_disks": ["gone"], "remove_nics": ["f"]},
        saved=observation.saved,
        host=FakeHost(root=vm.root),
    )
    power = plans.plan_power(observation, "started")
    plan = plans.plan(observation, desired, power)
    assert {change.how for change in plan.changes} <= {LIVE, FILE}


@pytest.mark.parametrize(
    "status", ["paused", "prelaunch", "shutdown", "io-error", "guest-panicked"]
)
def test_qemus_own_words(vm, status):
    with FakeQmp(
        vm.qmp, dict(ANSWERS, **{"query-status": {"status": status}, "query-block": Refusal()})
    ):
        observation = observe(vm)
        assert (observation.status, observation.alive, observation.media) == (status, True, {})
        observation.close()


@pytest.mark.parametrize("change", [{"start": 5}, {"boot_id": "another boot"}, {"pid": 1 << 30}])
def test_a_process_of_that_number_that_is_another(vm, change):
    rewrite_run(vm, **change)
    observation = observe(vm)
    assert (observation.alive, observation.pid, observation.monitor) == (False, None, None)
    assert observation.status == ("stopped" if "boot_id" in change else "crashed")


@pytest.mark.parametrize(
    "code, pidfile, status, exit_code",
    [
        ("0\n", False, "stopped", 0),
        ("0\n", True, "crashed", 0),
        ("1\n", False, "crashed", 1),
        ("139\n", True, "crashed", 139),
        (None, True, "crashed", None),
        ("", False, "crashed", None),
    ],
)
def test_how_it_ended(vm, code, pidfile, status, exit_code):
    rewrite_run(vm, pid=1 << 30)
    if code is not None:
        write_atomically(vm.exit_code, code)
    if pidfile:
        write_atomically(vm.pidfile, "5\n")
    write_atomically(vm.log, "line 1\nlast words\n")
    observation = observe(vm)
    assert (observation.status, observation.exit_code) == (status, exit_code)
    assert observation.log == ("line 1\nlast words" if status == "crashed" else "")


def test_a_stranger_in_its_place(vm):
    other = subprocess.Popen(["sleep", "60"])
    try:
        rewrite_run(vm, pid=other.pid, start=process_start_time(other.pid))
        message = "belongs to process %d, not to the QEMU of the VM r1 .process %d" % (
            os.getpid(),
            other.pid,
        )
        with FakeQmp(vm.qmp, ANSWERS) as fake, pytest.raises(HostError, match=message):
            observe(vm)
        assert fake.commands() == [], "a stranger is not asked anything"
    finally:
        other.kill()
        other.wait()


def test_a_vm_with_another_uuid(vm):
    with (
        FakeQmp(vm.qmp, dict(ANSWERS, **{"query-uuid": {"UUID": UUID.replace("1", "9")}})),
        pytest.raises(HostError, match="it is not the VM r1"),
    ):
        observe(vm)


def test_the_monitor_is_left_when_something_is_wrong(vm):
    """QEMU serves one client at a time: one that stays would lock out the next."""
    with FakeQmp(vm.qmp, dict(ANSWERS, **{"query-uuid": {"UUID": "x"}})) as fake:
        with pytest.raises(HostError):
            observe(vm)
        fake.answers = ANSWERS
        observation = observe(vm)
        assert observation.alive
        observation.close()


def test_a_qemu_that_refuses(vm):
    with (
        FakeQmp(vm.qmp, dict(ANSWERS, **{"query-status": Refusal("not now")})),
        pytest.raises(MonitorError, match="not now"),
    ):
        observe(vm)


def test_one_that_ends_while_it_is_looked_at(vm):
    other = subprocess.Popen(["sleep", "0.3"])
    rewrite_run(vm, pid=other.pid, start=process_start_time(other.pid))
    write_atomically(vm.exit_code, "0\n")
    observation = observe(vm)
    assert (observation.status, observation.alive, observation.pid) == ("stopped", False, None)
    other.wait()


def test_a_lost_definition_is_that_of_the_run(vm):
    os.unlink(vm.definition)
    with FakeQmp(vm.qmp, ANSWERS):
        observation = observe(vm)
        assert observation.saved["name"] == "r1" and observation.status == "running"
        assert observation.lost_definition and "slots_at_start" not in observation.saved
        observation.close()
        facts, warnings = vm_facts(vm.root)
        assert [(fact["name"], fact["status"]) for fact in facts] == [("r1", "running")]
        assert not warnings
    assert [user.disk for user in users_of(vm.root, vm.file("d.qcow2"))] == ["d"]
    write_json(vm.run, {})
    assert vm_facts(vm.root) == ([], [])


QEMU = """
import os, socket, sys, time
if sys.argv[1] != "deaf":
    channel = socket.socket(socket.AF_UNIX)
    channel.bind(sys.argv[1])
    channel.listen(0)
print(flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def process_like_qemu(vm, listens=True, argv=()):
    """A process with the pidfile of the VM in its argv; it accepts no connection."""
    path = vm.qmp if listens else "deaf"
    words = [sys.executable, "-c", QEMU, path, "-pidfile", vm.pidfile, *argv]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            rewrite_run(vm, pid=child.pid, start=process_start_time(child.pid))
            yield child
        finally:
            child.kill()


def test_a_full_backlog_is_unresponsive(vm, monkeypatch):
    """Two clients wait, so that not even connect() returns: the process is ended all the same."""
    monkeypatch.setattr(observation_module, "Monitor", lambda path: Monitor(path, timeout=0.3))
    with process_like_qemu(vm) as qemu, contextlib.ExitStack() as stack:
        qemu.send_signal(signal.SIGSTOP)
        for _client in range(2):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(0.2)
            with contextlib.suppress(OSError):
                client.connect(vm.qmp)
        for _run in range(3):
            observation = observe(vm)
            assert (observation.status, observation.alive, observation.pid) == (
                "unresponsive",
                True,
                qemu.pid,
            )
            assert observation.monitor is None and observation.running["name"] == "r1"
            assert "restarted, stopped and absent end its process" in (
                observation.monitor_error.message
            )
        policy = {"acpi": True, "timeout": 1, "quit_timeout": 1, "term_timeout": 0.2, "force": True}
        monkeypatch.setattr(process, "_TERM_TIMEOUT", 0.2)
        reap = threading.Thread(target=qemu.wait)
        reap.start()
        ended_by = process.shut_down(
            None, qemu.pid, observation.start, policy, "q35", observation.status
        )
        reap.join(5)
        assert ended_by == "kill" and observe(vm).status == "crashed"


@pytest.mark.parametrize("listens", [True, False])
def test_a_deleted_socket_is_unresponsive(vm, listens):
    with process_like_qemu(vm, listens) as qemu:
        if listens:
            os.unlink(vm.qmp)
        started = time.monotonic()
        observation = observe(vm)
        assert time.monotonic() - started < 3
        assert (observation.status, observation.pid) == ("unresponsive", qemu.pid)
        assert plans.plan_power(observation, "stopped").steps == ["stop"]
        assert plans.plan_power(observation, "absent").steps == ["stop", "remove"]
        assert plans.plan_power(observation, "restarted").steps == ["stop", "start", "resume"]


def test_a_foreign_socket_of_our_qemu_is_unresponsive(vm):
    with process_like_qemu(vm, listens=False), FakeQmp(vm.qmp, ANSWERS) as fake:
        assert observe(vm).status == "unresponsive"
        assert fake.commands() == [], "a stranger is not asked anything"


def test_an_unresponsive_vm_has_its_error_in_the_facts(vm):
    with process_like_qemu(vm, listens=False) as qemu:
        ((facts,), warnings) = vm_facts(vm.root)
        assert (facts["status"], facts["pid"], warnings) == ("unresponsive", qemu.pid, [])
        assert "no QEMU listens" in facts["error"]
