# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What needs a right that we do not have is refused before any change."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common import rights
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, Change, Item
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import cpu_limit
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts import confinement
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.confinement import Confinement
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import tap_rights
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.network import Network
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose

_setpriority = os.setpriority


@pytest.fixture(name="user")
def fixture_user(monkeypatch):
    """Be a user without privileges, who has no cpulimit and no control group."""

    def refuse(which, who, value):
        if value < 19:
            raise PermissionError(13, "Permission denied")
        return _setpriority(which, who, value)

    monkeypatch.setattr(os, "setpriority", refuse)
    monkeypatch.setattr(os, "getpriority", lambda which, who: 0)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(rights, "read_text", lambda path, default: "CapEff:\t0000000000000000\n")
    monkeypatch.setattr(cpu_limit, "_V1", ())
    monkeypatch.setattr(cpu_limit, "_V2", "/nowhere")
    monkeypatch.setattr(cpu_limit, "find_program", lambda name: None)


@pytest.fixture(name="tun")
def fixture_tun(monkeypatch, tmp_path):
    """Have /dev/net/tun, and the interfaces tap0 of user 1000, tap1 of 0 and tap2 of nobody."""
    device, interfaces = tmp_path / "tun", tmp_path / "net"
    device.touch()
    for name, owner in (("tap0", "1000"), ("tap1", "0"), ("tap2", "-1")):
        (interfaces / name).mkdir(parents=True)
        (interfaces / name / "owner").write_text(owner + "\n")
    monkeypatch.setattr(tap_rights, "_DEVICE", str(device))
    monkeypatch.setattr(tap_rights, "_INTERFACES", str(interfaces))
    return device


def changed(part, option, value, verb="set"):
    path = ("nics", Item("eth0"), "link") if option == "nics" else (option,)
    return [Change(path, None, value, LIVE, part.name, verb)]


def check(part, is_live, option, value, wrapper=()):
    desired = compose({"memory": "64", "disks": [], "wrapper": list(wrapper), option: value})
    if is_live:
        part.check_live(changed(part, option, value, "link"), desired, os.getpid())
    else:
        part.check_start(desired, FakeHost())


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize(
    "option, value, message",
    [
        ("priority", "realtime", "priority: 'realtime' needs privileges that we do not have"),
        ("priority", "high", "priority: 'high' needs privileges"),
        ("cpu_limit", 50, "cpu_limit: no control group can be made here"),
    ],
)
def test_a_user_may_not(user, option, value, message, is_live):
    with pytest.raises(HostError, match=message):
        check(Confinement(), is_live, option, value)


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("value", ["normal", "low", "very low"])
def test_a_user_may_lower_a_priority(user, value, is_live):
    check(Confinement(), is_live, "priority", value)


def test_normal_is_a_rise_for_a_vm_that_runs_low(user, monkeypatch):
    monkeypatch.setattr(os, "getpriority", lambda which, who: 5 if who else 0)
    with pytest.raises(HostError, match="priority: 'normal' needs privileges"):
        check(Confinement(), True, "priority", "normal")


def test_who_may_sets_a_priority_without_a_trace(monkeypatch):
    monkeypatch.setattr(os, "setpriority", lambda which, who, value: None)
    check(Confinement(), False, "priority", "realtime")
    assert os.getpriority(os.PRIO_PROCESS, 0) == os.getpriority(os.PRIO_PROCESS, os.getpid())


def test_other_live_changes_need_no_right(user):
    part = Confinement()
    part.check_live([], compose({"memory": "64", "disks": [], "priority": "high"}), 1)


def test_a_lower_priority_is_tried_on_a_thread_only():
    before = os.getpriority(os.PRIO_PROCESS, 0)
    confinement._check_priority("very low", before)
    rights.may_set_priority(before, before + 1)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize(
    "interface, message",
    [
        (None, "only root can create the tap interface: become root, or create it before"),
        ("tap9", "only root can create the tap interface tap9"),
        ("tap1", "link.interface: tap1 belongs to the user with id 0"),
        ("tap0", None),
        ("tap2", None),
    ],
)
def test_taps_of_a_user(user, tun, interface, message, is_live):
    nics = [{"name": "eth0", "link": {"type": "tap", "interface": interface}}]
    if message is None:
        return check(Network(), is_live, "nics", nics)
    with pytest.raises(HostError) as caught:
        check(Network(), is_live, "nics", nics)
    assert caught.value.message.startswith("nics[eth0].link") and message in caught.value.message
    check(Network(), is_live, "nics", nics, wrapper=["sudo"])


def test_taps_of_root(user, tun, monkeypatch):
    monkeypatch.setattr(rights, "read_text", lambda path, default: "CapEff:\t0000000000001000\n")
    check(Network(), False, "nics", [{"name": "eth0", "link": {"type": "tap"}}])


@pytest.mark.parametrize("is_there, message", [(False, "this host has no"), (True, "permission")])
def test_without_the_device_of_taps(user, tun, monkeypatch, is_there, message):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    if not is_there:
        tun.unlink()
    with pytest.raises(HostError, match=message):
        check(Network(), False, "nics", [{"name": "eth0", "link": {"type": "tap"}}])
