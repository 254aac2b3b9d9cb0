# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a lab, and the order in which the locks of its VMs are taken."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LockTimeout,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import converge
from ansible_collections.vlab.qemu.plugins.module_utils._lab.lab_lock import lab_lock
from ansible_collections.vlab.qemu.plugins.module_utils._vm import settings
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, remove_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost

SETTINGS = {name: option.get("default") for name, option in settings.SETTINGS_SPEC.items()}
FORK = multiprocessing.get_context("fork")


def lab_run(root, names=(), state="started", check_mode=False, **params):
    given = {
        "root": str(root),
        "lab": "lab1",
        "state": state,
        "purge": True,
        "allow_restart": False,
        "allow_container": True,
        "vms": [{"name": name, "state": state, "options": {}} for name in names],
        "wait_ready": False,
    }
    return converge.LabRun(dict(SETTINGS, **dict(given, **params)), check_mode)


@pytest.fixture
def observed(monkeypatch):
    """Stop each run when it observes: the VMs that it knows by then."""
    seen = []

    def observe(run):
        seen.append(sorted(run.nodes))
        raise HostError("far enough")

    monkeypatch.setattr(converge.LabRun, "_observe", observe)
    return seen


def make(root, name):
    folder = Folder(str(root), "lab1", name)
    with folder.locked(True):
        with open(folder.definition, "w", encoding="utf-8") as stream:
            stream.write("{}")
    return folder


def test_what_a_lab_has_is_looked_at_after_its_lock_was_taken(tmp_path, observed):
    run = lab_run(tmp_path, ["a"])

    def second():
        with pytest.raises(HostError, match="far enough"):
            run.run()

    with lab_lock(str(tmp_path), "lab1", 5, create=True):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        assert not observed
        make(tmp_path, "b")
    thread.join()
    assert observed == [["a", "b"]]


def test_a_lab_that_is_busy_names_the_run_that_holds_it(tmp_path, observed):
    with lab_lock(str(tmp_path), "lab1", 5, create=True):
        with pytest.raises(
            LockTimeout, match=r"\(pid %d\) has held .*lab-lab1\.lock" % os.getpid()
        ):
            lab_run(tmp_path, ["a"], lock_timeout=1).run()
    assert not observed and not os.path.exists(tmp_path / "lab1")


def test_labs_do_not_wait_for_each_other(tmp_path, observed):
    with lab_lock(str(tmp_path), "other", 5, create=True):
        with pytest.raises(HostError, match="far enough"):
            lab_run(tmp_path, ["a"], lock_timeout=1).run()


def test_one_time_out_is_for_all_locks(tmp_path, observed):
    for name in "ab":
        make(tmp_path, name)
    with contextlib.ExitStack() as stack:
        for name in "ab":
            stack.enter_context(Folder(str(tmp_path), "lab1", name).locked(False))
        with pytest.raises(LockTimeout, match="lab1/a/lock for [01] seconds"):
            lab_run(tmp_path, ["b", "a"], lock_timeout=1).run()


def test_locks_of_vms_are_taken_in_the_order_of_their_names(tmp_path, monkeypatch, observed):
    taken = []
    locked = Folder.locked

    def watched(folder, *args):
        taken.append(folder.name)
        return locked(folder, *args)

    make(tmp_path, "b")
    monkeypatch.setattr(Folder, "locked", watched)
    with pytest.raises(HostError, match="far enough"):
        lab_run(tmp_path, ["c", "r10", "a"]).run()
    assert taken == ["a", "b", "c", "r10"]


@pytest.mark.parametrize(
    "state, check_mode", [("absent", False), ("absent", True), ("started", True)]
)
def test_nothing_is_left_of_a_lab_that_is_not_there(tmp_path, state, check_mode, observed):
    with pytest.raises(HostError, match="far enough"):
        lab_run(tmp_path, [], state, check_mode).run()
    assert os.listdir(tmp_path) == []
    with pytest.raises(HostError, match="far enough"):
        lab_run(tmp_path / "none", [], state, check_mode).run()
    assert os.listdir(tmp_path) == []


def test_the_locks_that_killed_runs_left_go_with_the_next(tmp_path):
    host = tmp_path / ".host"
    host.mkdir()
    (tmp_path / "lives").mkdir()
    for name in ("lab-gone.lock", "lab-lives.lock", "lab-busy.lock", "ports.lock", "lab-.lock"):
        (host / name).write_text("")
    with lab_lock(str(tmp_path), "busy", 5, create=False):
        with lab_lock(str(tmp_path), "lab1", 5, create=True):
            assert (host / "lab-lab1.lock").exists()
    assert sorted(os.listdir(host)) == [
        "lab-.lock",
        "lab-busy.lock",
        "lab-lives.lock",
        "ports.lock",
    ]


@pytest.mark.parametrize("name", ["..", "a/b", "x\n", ""])
def test_the_name_of_a_lab_is_a_file_name(tmp_path, name):
    with pytest.raises(OptionError, match="^lab: "):
        lab_run(tmp_path, [], lab=name)


def _hold_in_turns(root, lab, rounds, errors):
    """Hold the lock of a lab again and again; only one process is inside at a time."""
    try:
        for _round in range(rounds):
            with lab_lock(root, lab, 30, create=True):
                os.mkdir(os.path.join(root, "inside"))
                os.rmdir(os.path.join(root, "inside"))
    except BaseException as error:  # reported by the parent
        errors.put(repr(error))


def _make_and_remove(root, name, rounds, errors):
    """Make the only VM of a lab and remove it again and again."""
    try:
        for _round in range(rounds):
            remove_folder(make(root, name), ())
    except BaseException as error:  # reported by the parent
        errors.put(repr(error))


@pytest.mark.parametrize(
    "work, names", [(_hold_in_turns, ["x", "x", "x"]), (_make_and_remove, ["a", "b", "c"])]
)
def test_runs_that_remove_what_others_make(tmp_path, work, names):
    errors = FORK.Queue()
    children = [
        FORK.Process(target=work, args=(str(tmp_path), name, 200, errors)) for name in names
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    assert errors.empty(), errors.get()
    assert sorted(os.listdir(tmp_path)) == []


def test_a_vm_that_another_run_makes_is_not_touched_without_its_lock(tmp_path):
    host = FakeHost(root=tmp_path)
    run = VmRun(host, settings_of({}))
    with host.folder.locked(False):
        other = Folder(str(tmp_path), host.folder.lab, host.folder.name)
        with other.locked(True):
            with pytest.raises(HostError, match="another run makes the VM r1 at this moment"):
                run.observe()
            remove_folder(host.folder, ())
            assert os.path.exists(other.lock)


def test_a_vm_whose_lock_was_deleted_has_one_again(tmp_path):
    folder = make(tmp_path, "a")
    os.unlink(folder.lock)
    with folder.locked(False):
        assert not folder.lacks_lock and os.path.exists(folder.lock)
