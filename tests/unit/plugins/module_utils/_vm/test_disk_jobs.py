# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots and backups of a VM's disk: the plan, and what a running QEMU is asked."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    MonitorError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm import disk_jobs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import disk_options
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal
from ansible_collections.vlab.qemu.tests.unit.image_headers import qcow2
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost

DISK = dict(disk_options.DISK_DEFAULTS, name="d", format="qcow2")


def params(**more):
    return dict(
        {
            "name": "d",
            "format": None,
            "snapshot": None,
            "snapshots": None,
            "purge_snapshots": False,
            "restore_snapshot": None,
            "backup": None,
            "backup_timeout": 5,
        },
        **more,
    )


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize(
    "options, has, verbs",
    [
        ({"snapshots": ["a"]}, [], ["create_snapshot"]),
        ({"snapshots": ["a"]}, ["a", "b"], []),
        ({"snapshots": [], "purge_snapshots": True}, ["a"], ["delete_snapshot"]),
        ({"backup": "/b"}, [], ["backup"]),
        ({"backup": "/there"}, [], []),
        ({"backup": "/b", "snapshots": ["a"]}, [], ["create_snapshot", "backup"]),
    ],
)
def test_plan(options, has, verbs, runs):
    state = disk_jobs.DiskState(DISK, "/d", runs, has, options.get("backup") == "/there")
    changes = disk_jobs.plan_jobs(params(**options), state)
    assert [change.verb for change in changes] == verbs
    assert {change.how for change in changes} <= {"live" if runs else "file"}
    assert disk_jobs.is_requested(params(**options)) and not disk_jobs.is_requested(params())


@pytest.mark.parametrize(
    "disk, runs, options, says",
    [
        ({}, True, {"restore_snapshot": "a"}, "restore_snapshot: QEMU cannot .*stop the VM"),
        ({}, False, {"restore_snapshot": "b"}, "restore_snapshot: .*it has a"),
        ({"snapshot": True}, True, {"snapshots": ["b"]}, "snapshots: the disk has snapshot: true"),
        ({"format": "raw"}, True, {"snapshots": ["b"]}, "snapshots: an image of format raw"),
    ],
)
def test_what_cannot_be(disk, runs, options, says):
    state = disk_jobs.DiskState(dict(DISK, **disk), "/d", runs, ["a"], False)
    with pytest.raises(OptionError, match="^" + says):
        disk_jobs.plan_jobs(params(**options), state)


def test_a_disk_that_the_task_adds_has_no_snapshots_yet():
    state = disk_jobs.DiskState(None, "", True, [], False)
    assert len(disk_jobs.plan_jobs(params(snapshots=["a"]), state)) == 1


class FakeImg:
    """A qemu-img that makes files."""

    def __init__(self):
        self.done = []

    def create(self, path, *words, **more):
        self.done.append(("create", *words))
        with open(path, "wb") as stream:
            stream.write(b"new")

    def __getattr__(self, name):
        return lambda *words, **more: self.done.append((name, *words))


@pytest.fixture(name="running")
def fixture_running(tmp_path, monkeypatch):
    """Run jobs(answers, changes, **params) against a fake QEMU; return its commands."""
    host = FakeHost(root=tmp_path / "root")
    host.folder.make()
    with open(host.folder.file("d.qcow2"), "wb") as stream:
        stream.write(qcow2())
    monkeypatch.setattr(disk_jobs, "find_qemu_img", lambda: "qemu-img")
    monkeypatch.setattr(disk_jobs, "QemuImg", lambda _path: fake)
    fake = FakeImg()
    definition = {"disks": [DISK], "slots": {"disks/d": {"kind": "pci", "index": 0}}}

    def run(answers, **options):
        started = {
            "query-named-block-nodes": [
                {"node-name": "disk-pci0", "image": {"virtual-size": 512}},
                {"node-name": "layer-1", "image": {"virtual-size": 1 << 20}},
            ],
            # A snapshot with memory has put an overlay on the image.
            "query-block": [
                {"qdev": "/machine/peripheral/disk-pci1/virtio-backend", "inserted": {}},
                {
                    "qdev": "/machine/peripheral/disk-pci0/virtio-backend",
                    "inserted": {"node-name": "layer-1"},
                },
            ],
            "block-job-cancel": Refusal("no such job"),
            **answers,
        }
        with FakeQmp(tmp_path / "qmp.sock", started) as qemu:
            if "blockdev-backup" not in answers:
                qemu.answers["blockdev-backup"] = lambda words: (
                    qemu.event("BLOCK_JOB_COMPLETED", {"device": words["job-id"]}) or {}
                )
            run.qemu, run.image = qemu, fake
            with Monitor(qemu.path) as monitor:
                monkeypatch.setattr(disk_jobs._Jobs, "snapshots", lambda _self: [])
                jobs = disk_jobs._Jobs(params(**options), host.folder, definition, monitor)
                changes = disk_jobs.plan_jobs(params(**options), jobs.observe())
                jobs.check(changes)
                jobs.apply(changes)
            return [request for request in qemu.requests if request[0] != "qmp_capabilities"]

    return run


def test_snapshots_of_a_running_disk(running):
    assert running({}, snapshots=["a b"])[-1] == (
        "blockdev-snapshot-internal-sync",
        {"device": "layer-1", "name": "a b"},
    )
    with pytest.raises(MonitorError) as caught:
        running({"blockdev-snapshot-internal-sync": Refusal("no space")}, snapshots=["a"])
    assert caught.value.message.startswith("snapshots: QEMU refused blockdev-snapshot-internal")


def test_a_backup_appears_when_it_is_complete(running, tmp_path):
    path = tmp_path / "backups" / "b.qcow2"
    commands = running({}, backup=str(path))
    assert [name for name, _words in commands] == [
        "block-job-cancel",
        "blockdev-del",
        "query-block",
        "query-named-block-nodes",
        "blockdev-add",
        "blockdev-backup",
        "blockdev-del",
    ]
    assert commands[4][1]["file"]["filename"] == str(path.with_name(".b.qcow2.new"))
    assert commands[5][1] == {
        "job-id": "disk-pci0-backup",
        "device": "layer-1",
        "target": "disk-pci0-backup",
        "sync": "full",
    }
    assert os.listdir(path.parent) == ["b.qcow2"] and path.read_bytes() == b"new"
    assert running.image.done == [("create", "qcow2", 1 << 20)]


@pytest.mark.parametrize("failure", ["error", "timeout", "refused", "appeared"])
def test_a_backup_that_fails_leaves_nothing(running, tmp_path, failure):
    path = tmp_path / "b.qcow2"
    (tmp_path / ".b.qcow2.new").write_text("of a killed run")

    def answer(words):
        if failure == "error":
            data = {"device": words["job-id"], "error": "No space left on device"}
            running.qemu.event("BLOCK_JOB_COMPLETED", data)
        elif failure == "appeared":
            path.write_text("mine")
            running.qemu.event("BLOCK_JOB_COMPLETED", {"device": words["job-id"]})
        return {}

    answers = {"blockdev-backup": Refusal("no") if failure == "refused" else answer}
    says = {
        "error": "No space left",
        "timeout": "within 1 s: increase backup_timeout",
        "refused": "refused blockdev-backup",
        "appeared": "exists already",
    }[failure]
    with pytest.raises((ImageError, MonitorError), match=says):
        running(answers, backup=str(path), backup_timeout=1)
    assert [name for name in os.listdir(tmp_path) if "b.qcow2" in name] == (
        ["b.qcow2"] if failure == "appeared" else []
    )
    assert running.qemu.commands()[-1] == "blockdev-del"
    assert failure != "timeout" or running.qemu.commands().count("block-job-cancel") == 2


def test_a_base_gets_no_snapshot(running, monkeypatch):
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
        User,
    )

    monkeypatch.setattr(
        disk_jobs, "users_of", lambda _root, _path: [User("l/other", "x", "base", False)]
    )
    with pytest.raises(ImageError, match="base image of the VM l/other"):
        running({}, snapshots=["a"])
    running({}, backup=os.path.join(os.path.dirname(running.qemu.path), "b.qcow2"))
