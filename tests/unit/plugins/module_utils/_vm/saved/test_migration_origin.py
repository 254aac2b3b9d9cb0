# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The origin of a migration: the order of its steps, and whether the guest goes on there."""

from __future__ import annotations

import json
import threading
import types

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_json
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm.migration_service import HANDLERS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration import copies
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration import (
    origin as module,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration.channel import Channel
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted

TARGET = Channel(None, "/t/m", "/t/d")
LIMITS = {"downtime": 300, "bandwidth": 0, "timeout": 5}


class FakeQemu(FakeQmp):
    """A QEMU that migrates. fails: the command after which its migration fails."""

    def __init__(self, path, fails=None, node="disk"):
        super().__init__(
            path,
            {
                "query-status": lambda _arguments: {"status": self.status},
                "query-migrate": lambda _arguments: self.migration,
                "query-block": [],
                "query-block-jobs": [],
                "query-named-block-nodes": [{"node-name": "migrate-" + node}],
                "blockdev-mirror": self._job("BLOCK_JOB_READY", "job-id"),
                "block-job-cancel": self._job("BLOCK_JOB_COMPLETED", "device"),
                "migrate": self._step("migrate", "pre-switchover", "finish-migrate"),
                "migrate-continue": self._step("migrate-continue", "completed", "postmigrate"),
                "migrate_cancel": self._step("migrate_cancel", "cancelled", "running"),
                "cont": self._continue,
            },
        )
        self.fails, self.status, self.migration = fails, "running", {"status": "none"}
        self.deleted_before = None

    def _job(self, event, key):
        def answer(arguments):
            data = {"device": arguments[key]}
            if self.fails == event:
                event_now, data["error"] = "BLOCK_JOB_COMPLETED", "no space"
            else:
                event_now = event
            self.event(event_now, data)
            return {}

        return answer

    def _step(self, name, migration, status):
        def answer(_arguments):
            after = ("failed", "running") if self.fails == name else (migration, status)
            self.migration, self.status = {"status": after[0], "error-desc": "lost"}, after[1]
            if name == "migrate" and self.fails != name:
                threading.Timer(0.2, self._sends).start()
            else:
                self.event("MIGRATION", {"status": after[0]})
            return {}

        return answer

    def _sends(self):
        """The connection to the target is set up."""
        self.event("MIGRATION", {"status": "active"})
        self.deleted_before = "blockdev-del" in self.commands()
        self.event("MIGRATION", {"status": "pre-switchover"})

    def _continue(self, _arguments):
        self.status = "running"
        return {}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Return make(fails, accel): an Origin of a running VM with a disk, and its QEMU."""
    host = FakeHost(root=tmp_path)
    host.folder.make()
    nics = [{"name": "eth0", "link": {"type": "udp", "local_port": 1, "remote_port": 2}}]
    definition = granted(compose(disks=[{"name": "d", "size": "1M"}], nics=nics, host=host))
    made = []

    def make(fails=None, accel="kvm"):
        qmp = FakeQemu(tmp_path / "q", fails, copies.node(definition, "d"))
        monitor = Monitor(qmp.path, timeout=2).connect()
        made.extend([monitor, qmp])
        observation = types.SimpleNamespace(
            folder=host.folder,
            monitor=monitor,
            running=definition,
            run={"accel": accel},
            alive=True,
            status="running",
            check_monitor=lambda: None,
            check_complete=lambda: None,
            close=monitor.close,
        )
        monkeypatch.setattr(module, "observe", lambda _folder: observation)
        monkeypatch.setattr(module, "Host", lambda _folder: host)
        return module.Origin(host.folder), qmp

    yield make
    for one in made:
        one.close()


def recorded(origin):
    with open(origin.folder.run, encoding="ascii") as stream:
        return json.load(stream).get("sending")


def test_the_steps_of_a_migration(world):
    origin, qmp = world()
    figures = origin.send("hv2", TARGET, ["d"], LIMITS)
    steps = [
        "blockdev-add",
        "blockdev-mirror",
        "migrate",
        "block-job-cancel",
        "blockdev-del",
        "netdev_del",
        "migrate-continue",
    ]
    assert [name for name in qmp.commands() if name in steps] == [
        *steps[:-2],
        "netdev_del",
        *steps[-2:],
    ]
    sent = dict(qmp.requests)
    assert sent["blockdev-mirror"]["sync"] == "full"
    assert sent["migrate"] == {"uri": "unix:/t/m"}
    assert sent["migrate-set-parameters"]["downtime-limit"] == 300
    assert figures["stopped_for"] >= 0
    # If the run is killed now, the next one knows that the guest may run on the target.
    assert recorded(origin) == {"to": "hv2", "status": "running"}
    assert "cont" not in qmp.commands()


def test_the_run_state_changes_after_the_report_that_all_was_sent(world):
    origin, qmp = world()
    states = ["finish-migrate", "finish-migrate", "postmigrate"]
    qmp.answers["query-status"] = lambda _arguments: {"status": states.pop(0)}
    origin.send("hv2", TARGET, ["d"], LIMITS)
    # The next request removes the VM only if its QEMU is in the last one.
    assert not states


@pytest.mark.parametrize("accel, is_stopped", [("kvm", False), ("tcg", True), (None, True)])
def test_a_guest_that_qemu_emulates_is_stopped_before_its_memory_is_sent(world, accel, is_stopped):
    origin, qmp = world(accel=accel)
    origin.send("hv2", TARGET, ["d"], LIMITS)
    steps = [name for name in qmp.commands() if name in ("blockdev-mirror", "stop", "migrate")]
    assert steps == ["blockdev-mirror", *(["stop"] if is_stopped else []), "migrate"]
    # A QEMU that deletes a copy waits for the other one, which may wait for its TLS handshake.
    assert qmp.deleted_before is False


@pytest.mark.parametrize(
    "fails, reason",
    [
        ("BLOCK_JOB_READY", "the disk d was not copied: no space"),
        ("migrate", "was not sent: lost"),
        ("BLOCK_JOB_COMPLETED", "the rest of the disk d was not written: no space"),
        ("migrate-continue", "was not sent: lost"),
    ],
)
def test_a_failure_lets_the_guest_go_on(world, fails, reason):
    origin, qmp = world(fails)
    with pytest.raises(HostError) as caught:
        origin.send("hv2", TARGET, ["d"], LIMITS)
    assert reason in caught.value.message
    assert qmp.status == "running" and recorded(origin) is None
    capabilities = [dict_of(a) for name, a in qmp.requests if name == "migrate-set-capabilities"]
    # A later save must not wait for a continuation.
    assert capabilities[-1]["pause-before-switchover"] is False
    added = [a["id"] for name, a in qmp.requests if name == "netdev_add"]
    assert added == ["link0", "plug0"]
    assert "blockdev-del" in qmp.commands()


def dict_of(arguments):
    return {entry["capability"]: entry["state"] for entry in arguments["capabilities"]}


def test_a_migration_that_lasts_too_long(world):
    origin, qmp = world()
    qmp.answers["migrate"] = {}
    with pytest.raises(MonitorTimeout, match="raise timeout"):
        origin.send("hv2", TARGET, ["d"], dict(LIMITS, timeout=0.2))
    assert qmp.status == "running" and recorded(origin) is None


@pytest.mark.parametrize("is_certain", [False, True])
def test_a_guest_that_was_sent_goes_on_only_if_the_target_has_not_continued_it(world, is_certain):
    origin, qmp = world()
    origin.send("hv2", TARGET, ["d"], LIMITS)
    origin.observation.status = "postmigrate"
    assert origin.was_sent
    before = len(qmp.requests)
    origin.recover(is_certain=is_certain)
    names = [name for name, _arguments in qmp.requests[before:]]
    assert ("cont" in names) == is_certain and ("netdev_add" in names) == is_certain
    assert (recorded(origin) is None) == is_certain


def test_a_paused_guest_stays_paused(world):
    origin, qmp = world("migrate")
    origin.observation.status = "paused"
    with pytest.raises(HostError):
        origin.send("hv2", TARGET, ["d"], LIMITS)
    assert "cont" not in qmp.commands()


@pytest.mark.parametrize("status", ["inmigrate", "io-error", "postmigrate", "shutdown"])
def test_other_run_states_are_refused(world, status):
    origin, _qmp = world()
    origin.observation.status = status
    with pytest.raises(HostError, match="only a running or a paused one can be migrated"):
        origin.send("hv2", TARGET, ["d"], LIMITS)


def test_a_guest_whose_qemu_has_ended_may_run_on_the_target(world):
    origin, _qmp = world()
    assert not origin.was_sent
    origin.send("hv2", TARGET, ["d"], LIMITS)
    origin.observation.alive, origin.observation.status = False, "crashed"
    assert origin.was_sent and origin.status == "running"
    origin.recover()
    assert origin.was_sent
    origin.recover(is_certain=True)
    assert not origin.was_sent


def test_a_guest_that_has_left(world):
    origin, _qmp = world()
    write_json(origin.folder.receiving, {"moved": "paused"})
    assert origin.was_sent and origin.status == "paused"


def test_a_vm_that_stays_is_reported(world):
    origin, _qmp = world()
    folder = origin.folder
    vm = {"root": folder.root, "lab": folder.lab, "vm": folder.name}
    result, _data = HANDLERS["remove"](dict(vm, lock_timeout=5, check_mode=False), b"")
    assert result["warnings"] == ["the VM r1 stays on its former hypervisor: it is running"]
