# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes of a running VM: the commands to QEMU, their order, and what a refusal does."""

from __future__ import annotations

import hashlib
import os

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    GuestError,
    ImageError,
    MonitorError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm import dhcp_programs, rotations, wires
from ansible_collections.vlab.qemu.plugins.module_utils._vm.apply import adopt
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import BY_NAME, PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import captures
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import bases
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted


class World:
    """A VM that runs, and a QEMU that keeps count of its devices and block nodes."""

    def __init__(self, folder, monkeypatch, before, answers=None):
        self.host = FakeHost(root=folder)
        self.running = granted(compose(before, host=self.host))
        self.devices = {}
        self.past = []
        for part in PARTS:
            monkeypatch.setattr(type(part), "prepare_one", lambda *_args: None, raising=False)
        self.qemu = FakeQmp(
            folder / "qmp.sock",
            {
                "qom-list": lambda _arguments: [
                    {"name": name, "type": "child<%s>" % driver}
                    for name, driver in self.devices.items()
                ],
                "device_add": self.add,
                "device_del": self.delete,
                **(answers or {}),
            },
        )
        for nic in self.running["nics"]:
            self.devices["nic%d" % (self.running["slots"]["nics/%s" % nic["name"]]["index"])] = nic[
                "model"
            ]
        for disk in self.running["disks"]:
            self.devices["disk-pci0"] = "virtio-blk-pci"
            assert len(self.running["disks"]) == 1 and disk["bus"] == "virtio"

    def add(self, arguments):
        self.devices[arguments["id"]] = arguments["driver"]
        return {}

    def delete(self, arguments):
        del self.devices[arguments["id"]]
        self.qemu.event(
            "DEVICE_DELETED",
            {"device": arguments["id"], "path": "/machine/peripheral/" + arguments["id"]},
        )
        return {}

    def change(self, after):
        """Make the changes; return the commands to QEMU, without queries."""
        desired = granted(compose(after, saved=plain_copy(self.running), host=self.host))
        changes = [change for part in PARTS for change in part.compare(self.running, desired)]
        assert {change.how for change in changes} == {"live"}, changes
        with Monitor(self.qemu.path) as monitor:
            live = Live(self.host, monitor, 1, self.running, dict(self.devices), 1)
            live.past = self.past or [plain_copy(self.running)]
            for change in changes:
                BY_NAME[change.part].apply(change, desired, live)
                adopt(change, live.running, desired)
            live.flush()
        return [
            (name, arguments)
            for name, arguments in self.qemu.requests
            if not name.startswith(("qom-list", "qmp_", "query"))
        ]


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = []

    def make(before, answers=None):
        made.append(World(tmp_path, monkeypatch, before, answers))
        return made[0]

    yield make
    made[0].qemu.close()


NIC = {"name": "eth0", "link": {"type": "udp", "local_port": 20010, "remote_port": 20011}}
MOVED = {"name": "eth0", "link": {"type": "udp", "local_port": 20012, "remote_port": 20013}}
NONE = {"name": "eth0", "link": {"type": "none"}}


def names(commands):
    return [name for name, _arguments in commands]


def test_a_link_moves_with_the_carrier_off(world):
    commands = world({"nics": [NIC]}).change({"nics": [MOVED]})
    assert names(commands) == [
        "set_link",
        "netdev_del",
        "netdev_del",
        "netdev_add",
        "netdev_add",
        "set_link",
    ]
    assert [arguments["up"] for name, arguments in commands if name == "set_link"] == [False, True]
    assert commands[3][1]["localaddr"].endswith(":20012") and commands[4][1]["type"] == "hubport"


def test_a_link_that_is_pulled_leaves_no_carrier(world):
    commands = world({"nics": [NIC]}).change({"nics": [NONE]})
    assert names(commands) == ["set_link", "netdev_del", "netdev_del"]


def test_a_link_that_cannot_be_had_is_plugged_back(world):
    refusals = iter([Refusal("Address already in use")])
    made = world({"nics": [NIC]}, {"netdev_add": lambda _arguments: next(refusals, {})})
    with pytest.raises(MonitorError, match="already in use"):
        made.change({"nics": [MOVED]})
    added = [arguments for name, arguments in made.qemu.requests if name == "netdev_add"]
    assert added[0]["localaddr"].endswith(":20012") and added[1]["localaddr"].endswith(":20010")
    assert made.qemu.requests[-1] == (
        "set_link",
        {"name": "nic%d" % made.running["slots"]["nics/eth0"]["index"], "up": True},
    )


def user(**options):
    return {"name": "eth0", "link": {"type": "user", **options}}


@pytest.fixture
def started(monkeypatch):
    """The options with which processes were started, in place of the processes."""
    calls = []
    monkeypatch.setattr(
        dhcp_programs, "start", lambda *arguments: calls.append(arguments[-1]["options"])
    )
    return calls


OPTIONS_ADDED = ["chardev-add", "chardev-add", "object-add"]


def test_dhcp_options_do_not_concern_the_backend(world, started):
    commands = world({"nics": [user()]}).change({"nics": [user(dhcp_options={67: "x"})]})
    assert names(commands) == OPTIONS_ADDED and started == [{"67": "78"}]


def test_dhcp_options_that_end(world, started):
    made = world({"nics": [user(dhcp_options={67: "x"})]})
    dhcp_programs.prepare(made.host.folder, "eth0")
    commands = made.change({"nics": [user()]})
    assert names(commands) == ["object-del", "chardev-remove", "chardev-remove"]
    assert not started and not dhcp_programs.exists(made.host.folder, "eth0")


def test_dhcp_options_of_another_network(world, started):
    made = world({"nics": [user(dhcp_options={67: "x"})]})
    dhcp_programs.prepare(made.host.folder, "eth0")
    commands = made.change({"nics": [user(dhcp_options={67: "x"}, network="10.9.0.0/24")]})
    assert names(commands) == [
        "set_link",
        "object-del",
        "chardev-remove",
        "chardev-remove",
        "netdev_del",
        "netdev_del",
        "netdev_add",
        "netdev_add",
        *OPTIONS_ADDED,
        "set_link",
    ]
    assert started == [{"67": "78"}]


def test_a_nic_with_dhcp_options_that_comes(world, started):
    commands = world({"nics": []}).change({"nics": [user(dhcp_options={67: "x"})]})
    found = names(commands)
    assert found[-5:-1] == [*OPTIONS_ADDED, "device_add"] and started == [{"67": "78"}]


class FakeWires:
    """The process of the wires: its settings, after how many commands to QEMU."""

    def __init__(self, monkeypatch):
        self.wires, self.calls, self.qemu = None, [], None
        monkeypatch.setattr(wires, "measured", lambda _folder: self.wires)
        monkeypatch.setattr(wires, "update", self.update)

    def update(self, _folder, pid, settings):
        assert pid == 1
        self.calls.append((len(self.qemu.requests), settings))
        self.wires = {name: {"settings": one} for name, one in settings.items()} or None


@pytest.fixture
def fake_wires(monkeypatch):
    return FakeWires(monkeypatch)


def impaired(**parameters):
    return dict(NIC, link=dict(NIC["link"], impair=parameters))


def states(running):
    return {"query-status": {"running": running, "status": "running" if running else "paused"}}


REPLUG = ["netdev_del", "netdev_del", "netdev_add", "netdev_add"]


@pytest.mark.parametrize("running", [True, False])
def test_a_link_becomes_impaired_while_the_guest_stands_still(world, fake_wires, running):
    made = world({"nics": [NIC]}, states(running))
    fake_wires.qemu = made.qemu
    commands = made.change({"nics": [impaired(delay="20ms")]})
    assert names(commands) == (["stop", *REPLUG, "cont"] if running else REPLUG)
    added = next(arguments for name, arguments in commands if name == "netdev_add")
    ((before, settings),) = fake_wires.calls
    wire = settings["eth0"]
    # The wire exists before QEMU sends to it, and passes on to where QEMU sent.
    assert "netdev_add" not in names(made.qemu.requests[:before])
    assert added["udp"] == "%s:%d" % tuple(wire["listen"])
    assert added["localaddr"] == "%s:%d" % tuple(wire["local"]) == "127.0.0.1:20010"
    assert wire["remote"] == ["127.0.0.1", 20011]
    assert wire["parameters"] == {"delay": 20}


def test_other_numbers_do_not_concern_qemu(world, fake_wires):
    made = world({"nics": [impaired(delay=1)]})
    fake_wires.qemu = made.qemu
    assert made.change({"nics": [impaired(loss=5)]}) == []
    ((_before, settings),) = fake_wires.calls
    assert settings["eth0"]["parameters"] == {"loss": 5}


def test_other_numbers_after_a_killed_run_that_may_have_removed_the_wire(world, fake_wires):
    made = world({"nics": [impaired(delay=1)]}, states(True))
    fake_wires.qemu = made.qemu
    made.past = [granted(compose({"nics": [NIC]}, host=made.host))]
    assert names(made.change({"nics": [impaired(loss=5)]})) == ["stop", *REPLUG, "cont"]


def test_an_impairment_ends_when_qemu_no_longer_sends_to_the_wire(world, fake_wires):
    made = world({"nics": [impaired(delay=1)]}, states(True))
    fake_wires.qemu = made.qemu
    fake_wires.wires = {"eth0": {"settings": {}}, "eth1": {"settings": {"its": "own"}}}
    commands = made.change({"nics": [NIC]})
    assert names(commands) == ["stop", *REPLUG, "cont"]
    assert fake_wires.calls == [(len(made.qemu.requests), {"eth1": {"its": "own"}})]


def test_an_impaired_link_that_moves(world, fake_wires):
    made = world({"nics": [impaired(delay=1)]})
    fake_wires.qemu = made.qemu
    moved = dict(MOVED, link=dict(MOVED["link"], impair={"delay": 1}))
    assert names(made.change({"nics": [moved]})) == ["set_link", *REPLUG, "set_link"]
    assert fake_wires.wires["eth0"]["settings"]["remote"] == ["127.0.0.1", 20013]


def test_an_impairment_that_cannot_be_had(world, fake_wires):
    refusals = iter([Refusal("no more ports")])
    answers = {"netdev_add": lambda _arguments: next(refusals, {}), **states(True)}
    made = world({"nics": [NIC]}, answers)
    fake_wires.qemu = made.qemu
    with pytest.raises(MonitorError, match="no more ports"):
        made.change({"nics": [impaired(delay=1)]})
    added = [arguments for name, arguments in made.qemu.requests if name == "netdev_add"]
    assert added[1]["udp"] == "127.0.0.1:20011"
    assert made.qemu.commands()[-1] == "cont"
    assert not fake_wires.wires


def test_an_impaired_nic_comes_and_goes(world, fake_wires):
    made = world({"nics": [NIC]})
    fake_wires.qemu = made.qemu
    link = {"type": "udp", "local_port": 1, "remote_port": 2, "impair": {"loss": 1}}
    made.change({"nics": [NIC, {"name": "eth1", "link": link}]})
    assert fake_wires.wires["eth1"]["settings"]["local"] == ["127.0.0.1", 1]
    made.change({"nics": [NIC], "purge_nics": True})
    assert not fake_wires.wires


def observe(made):
    observation = Observation(made.host.folder)
    observation.running, observation.devices = made.running, made.devices
    BY_NAME["network"].reconcile_observed(observation)
    return observation


def test_dead_wires_are_a_live_change(world, fake_wires):
    made = world({"nics": [impaired(delay=1)]})
    fake_wires.qemu = made.qemu
    part = BY_NAME["network"]
    assert part.compare(made.running, made.running) == []
    observe(made)
    (change,) = part.compare(made.running, granted(compose({"nics": [impaired(delay=1)]})))
    assert (change.option, change.before, change.after) == ("nics.wires", "ended", "running")
    assert made.change({"nics": [impaired(delay=1)]}) == []
    assert fake_wires.wires["eth0"]["settings"]["parameters"] == {"delay": 1}


@pytest.mark.parametrize(
    "found, expected",
    [({"delay": 1}, {"delay": 1}), ({"loss": 9}, {"loss": 9}), (None, None)],
)
def test_what_the_wires_do_is_observed(world, fake_wires, found, expected):
    made = world({"nics": [impaired(delay=1)]})
    fake_wires.wires = {"eth0": {"settings": {"parameters": found}}} if found else {}
    observation = observe(made)
    assert observation.running["nics"][0]["link"].get("impair") == expected


@pytest.mark.parametrize("before, after, up", [(False, True, False), (True, False, True)])
def test_the_carrier_alone(world, before, after, up):
    commands = world({"nics": [dict(NIC, link_down=before)]}).change(
        {"nics": [dict(NIC, link_down=after)]}
    )
    assert names(commands) == ["set_link"] and commands[0][1]["up"] == up


def test_a_nic_comes_with_all_that_is_behind_it_and_goes_with_it(world):
    made = world({"nics": [NIC]})
    commands = made.change({"nics": [NIC, {"name": "eth1"}]})
    assert names(commands) == [
        "object-del",
        "netdev_del",
        "netdev_del",
        "netdev_del",
        "netdev_add",
        "device_add",
        "set_link",
    ]
    assert commands[-1][1]["up"] is False
    made.qemu.requests.clear()
    commands = made.change({"nics": [NIC], "purge_nics": True})
    assert names(commands) == ["device_del", "object-del", "netdev_del", "netdev_del", "netdev_del"]


REMOVAL = ["device_del", "object-del", "netdev_del", "netdev_del", "netdev_del"]


@pytest.mark.parametrize("position", range(len(REMOVAL)))
@pytest.mark.parametrize(
    "event, data",
    [
        ("RESET", {"guest": True, "reason": "guest-reset"}),
        ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}),
        ("GUEST_PANICKED", {"action": "pause"}),
        ("STOP", None),
        ("RESUME", None),
        ("NIC_RX_FILTER_CHANGED", {"name": "nic1", "path": "/machine/peripheral/nic1"}),
        ("DEVICE_DELETED", {"device": "nic0", "path": "/machine/peripheral/nic0"}),
        ("DEVICE_DELETED", {"path": "/machine/peripheral/nic1/virtio-backend"}),
        ("DEVICE_UNPLUG_GUEST_ERROR", {"device": "nic0"}),
    ],
)
def test_a_nic_is_removed_whatever_comes_meanwhile(world, event, data, position):
    made = world({"nics": [NIC, {"name": "eth1"}]})
    answered = []

    def disturbed(name, answer):
        def reply(arguments):
            if len(answered) == position:
                made.qemu.event(event, data)
            answered.append(name)
            return answer(arguments)

        return reply

    made.qemu.answers["device_del"] = disturbed("device_del", made.delete)
    for name in ("object-del", "netdev_del"):
        made.qemu.answers[name] = disturbed(name, lambda _arguments: {})
    assert names(made.change({"nics": [NIC], "purge_nics": True})) == REMOVAL
    assert answered == REMOVAL and "nic1" not in made.devices


@pytest.mark.parametrize("command", ["device_del", "object-del", "netdev_del"])
def test_a_nic_is_removed_by_the_next_run_if_the_monitor_closes(world, command):
    made = world({"nics": [NIC, {"name": "eth1"}]})
    made.qemu.last = command
    with pytest.raises(MonitorError):
        made.change({"nics": [NIC], "purge_nics": True})
    made.qemu.last = "quit"
    made.qemu.requests.clear()
    commands = made.change({"nics": [NIC], "purge_nics": True})
    # The guest had released it.
    assert names(commands) == REMOVAL[1:] and "nic1" not in made.devices
    assert [nic["name"] for nic in made.running["nics"]] == ["eth0"]


def test_half_a_nic_is_cleared_away(world):
    made = world({"nics": [NIC]}, {"device_add": Refusal("no free slot")})
    with pytest.raises(MonitorError, match="no free slot"):
        made.change({"nics": [NIC, {"name": "eth1"}]})
    assert made.qemu.commands()[-4:] == ["object-del", "netdev_del", "netdev_del", "netdev_del"]


def test_another_model_than_the_one_asked_for_is_an_error(world):
    made = world({"nics": [NIC]})
    made.add = None
    made.qemu.answers["device_add"] = lambda arguments: (
        made.devices.update({arguments["id"]: "e1000"}) or {}
    )
    with pytest.raises(
        MonitorError,
        match=r"nics\[eth1\].model: virtio-net-pci was requested, but the running VM has e1000",
    ):
        made.change({"nics": [NIC, {"name": "eth1"}]})


DISK = {"name": "disk0", "size": "8M"}
LUKS = b"LUKS\xba\xbe\0\1" + bytes(600)


def test_a_disk_comes_and_goes(world):
    made = world({"disks": [DISK]})
    commands = made.change({"disks": [DISK, {"name": "data", "size": "1M"}]})
    assert names(commands) == ["blockdev-del", "object-del", "blockdev-add", "device_add"]
    node = commands[2][1]["node-name"]
    assert commands[3][1]["drive"] == node
    made.qemu.requests.clear()
    commands = made.change({"disks": [DISK], "purge_disks": True})
    assert names(commands) == ["device_del", "blockdev-del", "object-del"]
    assert commands[1][1] == {"node-name": node}


def test_the_secret_of_a_disk_comes_before_it_and_goes_after_it(world, tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("hunter2-and-more")
    monkeypatch.setattr(
        bases, "make_image", lambda _option, _disk, path, _img: open(path, "wb").write(LUKS)
    )
    made = world({"disks": [DISK]})
    made.host.folder.make()
    new = {"name": "data", "size": "1M", "format": "luks", "secret_file": str(secret)}
    commands = made.change({"disks": [DISK, new]})
    assert names(commands)[-3:] == ["object-add", "blockdev-add", "device_add"]
    identifier = commands[-1][1]["drive"]
    assert commands[-3][1] == {
        "qom-type": "secret",
        "id": identifier + "-secret",
        "file": str(secret),
    }
    assert commands[-2][1]["key-secret"] == identifier + "-secret"
    made.qemu.requests.clear()
    commands = made.change({"disks": [DISK], "purge_disks": True})
    assert ("object-del", {"id": identifier + "-secret"}) in commands
    assert "hunter2" not in str(made.qemu.requests)


@pytest.mark.parametrize(
    "before, after, inserted",
    [
        ({"path": "A"}, {"path": "B"}, True),
        ({"path": "A", "checksum": "B"}, {"checksum": "A"}, True),
        ({"path": "A"}, {"checksum": "A"}, False),
        ({"path": "A", "checksum": "A"}, {"checksum": ""}, False),
        ({"path": "A", "checksum_first_mib": "B"}, {"checksum_first_mib": "A"}, True),
        ({"path": "A", "checksum": "A"}, {"path": "B", "checksum": "B"}, True),
    ],
)
def test_another_checksum_is_another_medium(world, tmp_path, before, after, inserted):
    sums = {}
    for name in ("A", "B"):
        (tmp_path / name).write_bytes(name.encode() * 4096)
        sums[name] = "md5:" + hashlib.md5(name.encode() * 4096).hexdigest()

    def filled(drive):
        return {
            key: (str(tmp_path / name) if key == "path" else sums[name]) if name else ""
            for key, name in drive.items()
        }

    made = world({"disks": [], "cdroms": [dict(filled(before), name="cd")]})
    commands = made.change({"cdroms": [dict(filled(after), name="cd")]})
    assert names(commands) == (
        ["eject", "blockdev-change-medium", "blockdev-del"] if inserted else []
    )


def test_a_medium_with_another_content_is_not_inserted(world, tmp_path):
    (tmp_path / "a").write_bytes(bytes(4096))
    made = world({"disks": [], "cdroms": [{"name": "cd"}]})
    cdrom = {"name": "cd", "path": str(tmp_path / "a")}
    with pytest.raises(ImageError, match=r"cdroms\[cd\]\.checksum_first_mib"):
        made.change({"cdroms": [dict(cdrom, checksum_first_mib="md5:" + "0" * 32)]})
    (tmp_path / "a").write_bytes(b"\x1f\x8b\x08" + bytes(4096))
    with pytest.raises(ImageError, match=r"cdroms\[cd\]\.path: .*gunzip"):
        made.change({"cdroms": [cdrom]})
    assert "eject" not in made.qemu.commands()


def test_a_disk_that_qemu_refuses_leaves_no_node(world):
    made = world({"disks": [DISK]}, {"device_add": Refusal("no free slot")})
    with pytest.raises(MonitorError, match="no free slot"):
        made.change({"disks": [DISK, {"name": "data", "size": "1M"}]})
    assert made.qemu.commands()[-2:] == ["blockdev-del", "object-del"]


@pytest.mark.parametrize(
    "after, command, arguments",
    [
        ({"size": "16M"}, "block_resize", {"node-name": "disk-pci0", "size": 16 << 20}),
    ],
)
def test_a_disk_is_changed(world, after, command, arguments):
    assert world({"disks": [DISK]}).change({"disks": [dict(DISK, **after)]}) == [
        (command, arguments)
    ]


def test_a_guest_that_keeps_its_disk_is_reported_and_the_node_stays(world):
    made = world({"disks": [DISK]}, {"device_del": {}})
    with pytest.raises(
        GuestError,
        match=r"disks\[disk0\]: the guest did not release the device disk-pci0 within 1 s",
    ):
        made.change({"disks": [], "purge_disks": True})
    assert "blockdev-del" not in made.qemu.commands()


def test_a_capture_starts_and_stops(world):
    made = world({"nics": [NIC]})
    commands = made.change({"nics": [dict(NIC, capture={"enabled": True})]})
    assert (
        names(commands) == ["object-del", "object-add"]
        and commands[1][1]["qom-type"] == "filter-dump"
    )
    made.qemu.requests.clear()
    assert names(made.change({"nics": [dict(NIC, capture={"enabled": False})]})) == ["object-del"]


class FakeRotations:
    """The process of the rotated captures: what it has, after which command to QEMU."""

    def __init__(self, monkeypatch):
        self.has, self.calls, self.qemu, self.runs = {}, [], None, True
        monkeypatch.setattr(rotations, "configured", lambda _folder: dict(self.has))
        monkeypatch.setattr(rotations, "is_running", lambda _folder: self.runs)
        monkeypatch.setattr(rotations, "update", self.update)
        monkeypatch.setattr(rotations, "stop", self.stop)

    def _call(self, *call):
        commands = [name for name in self.qemu.commands() if not name.startswith("q")]
        self.calls.append((commands[-1] if commands else None, *call))

    def update(self, _folder, pid, settings):
        assert pid == 1
        self._call("update", *sorted(settings))
        self.has.update(settings)

    def stop(self, _folder, pid, name):
        assert pid == 1
        if self.has.pop(name, None):
            self._call("stop", name)
        return ""


@pytest.fixture
def fake_rotations(monkeypatch):
    return FakeRotations(monkeypatch)


def rotated(size, **more):
    return dict(NIC, capture={"enabled": True, "size": size, **more})


REFILTER = ["object-del", "object-add"]
ROTATION_CHANGES = [
    # Before, after, commands to QEMU, calls to the process after which command.
    (NIC, rotated("1M"), REFILTER, [("object-add", "update", "eth0")]),
    (rotated("1M"), rotated("2M"), [], [(None, "update", "eth0")]),
    (rotated("1M"), rotated("1M", count=3), [], [(None, "update", "eth0")]),
    (
        rotated("1M"),
        rotated("1M", snaplen=60),
        REFILTER,
        [("object-del", "stop", "eth0"), ("object-add", "update", "eth0")],
    ),
    (
        rotated("1M"),
        dict(NIC, capture={"enabled": True}),
        REFILTER,
        [("object-del", "stop", "eth0")],
    ),
    (
        rotated("1M"),
        dict(NIC, capture={"enabled": False}),
        ["object-del"],
        [("object-del", "stop", "eth0")],
    ),
]


@pytest.mark.parametrize("before, after, commands, calls", ROTATION_CHANGES)
def test_a_rotated_capture_changes(world, fake_rotations, before, after, commands, calls):
    made = world({"nics": [before]})
    fake_rotations.qemu = made.qemu
    if "capture" in before:
        fake_rotations.has = {"eth0": {"size": 1 << 20, "count": 10}}
    found = made.change({"nics": [after]})
    assert names(found) == commands
    assert fake_rotations.calls == calls
    if calls[-1][1] == "update":
        settings = fake_rotations.has["eth0"]
        assert settings["path"].endswith("/captures/eth0.pcap")
        assert settings["size"] == made.running["nics"][0]["capture"]["size"]
        if commands:
            assert found[-1][1]["file"] == settings["spool"]


def test_other_numbers_after_a_killed_run_that_may_have_captured_otherwise(world, fake_rotations):
    made = world({"nics": [rotated("1M")]})
    fake_rotations.qemu = made.qemu
    made.past = [granted(compose({"nics": [NIC]}, host=made.host))]
    assert names(made.change({"nics": [rotated("2M")]})) == REFILTER


def test_a_rotation_that_cannot_be_had_leaves_no_filter(world, fake_rotations, monkeypatch):
    made = world({"nics": [NIC]})

    def update(*_given):
        raise HostError("cannot write")

    monkeypatch.setattr(rotations, "update", update)
    with pytest.raises(HostError, match="cannot write"):
        made.change({"nics": [rotated("1M")]})
    assert made.qemu.commands()[-3:] == ["object-del", "object-add", "object-del"]


def test_a_rotation_ends_with_its_nic(world, fake_rotations):
    made = world({"nics": [NIC, dict(rotated("1M"), name="eth1", link={"type": "user"})]})
    fake_rotations.qemu, fake_rotations.has = made.qemu, {"eth1": {"size": 1 << 20, "count": 10}}
    made.change({"nics": [NIC], "purge_nics": True})
    assert fake_rotations.has == {}


def test_a_dead_rotation_is_a_live_change(world, fake_rotations):
    made = world({"nics": [rotated("1M")]})
    fake_rotations.qemu, fake_rotations.has = made.qemu, {"eth0": {"size": 1 << 20, "count": 10}}
    desired = granted(compose({"nics": [rotated("1M")]}))
    observe(made)
    assert BY_NAME["network"].compare(made.running, desired) == []
    fake_rotations.runs = False
    observe(made)
    (change,) = BY_NAME["network"].compare(made.running, desired)
    assert (change.option, change.before, change.after) == ("nics.rotation", "ended", "running")
    assert made.change({"nics": [rotated("1M")]}) == []
    assert fake_rotations.calls == [(None, "update", "eth0")]
    assert BY_NAME["network"].compare(made.running, desired) == []


def test_numbers_that_a_killed_run_changed(world, fake_rotations):
    made = world({"nics": [rotated("1M")]})
    fake_rotations.has = {"eth0": {"size": 5 << 20, "count": 7}}
    observe(made)
    (change,) = BY_NAME["network"].compare(
        made.running, granted(compose({"nics": [rotated("1M")]}))
    )
    assert (change.option, change.before["size"]) == ("nics[eth0].capture", 5 << 20)


def test_a_dangling_link_at_the_path_of_a_capture_is_renamed(tmp_path):
    """QEMU would create its file through the link, wherever somebody else wants it."""
    path = tmp_path / "shared" / "x.pcap"
    path.parent.mkdir()
    for name in ("x.pcap", "x.1.pcap"):
        (path.parent / name).symlink_to(tmp_path / "elsewhere")
    captures.keep_earlier(Folder(str(tmp_path), "l", "v"), str(path))
    assert sorted(os.listdir(path.parent)) == ["x.1.pcap", "x.2.pcap"]
    assert not (tmp_path / "elsewhere").exists()
