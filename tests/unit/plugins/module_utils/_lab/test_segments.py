# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hubs and bridges: what is to be done to them, and what is done."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    find_processes,
    process_start_time,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import (
    bridge,
    hub,
    segment_ports,
    segments,
    switch,
)
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal
from ansible_collections.vlab.qemu.tests.unit.vm_world import capabilities


def port(number):
    return {
        "local_address": "127.0.0.1",
        "local_port": 20000 + number,
        "remote_address": "127.0.0.1",
        "remote_port": 21000 + number,
    }


def hub_with(root, ports, has=None, alive=True):
    """A planned hub. has: {end: port} of its QEMU, which is this process; None: it never ran."""
    if has is not None:
        folder = segment_ports.SegmentFolder(str(root), "lab1", "office")
        os.makedirs(folder.path)
        run = {
            "pid": os.getpid(),
            "start": process_start_time(os.getpid()),
            "boot_id": boot_id() if alive else "another",
            "ports": {end: dict(has[end], id=number) for number, end in enumerate(sorted(has))},
        }
        with open(folder.run, "w", encoding="utf-8") as stream:
            json.dump(run, stream)
    return planned(hub.Hub(str(root), "lab1", "office", ports and {"ports": ports}))


def planned(segment):
    """The segment, observed and planned."""
    segment.observe()
    segment.plan()
    return segment


A, B = {"a:eth0": port(1)}, {"b:eth0": port(2)}


@pytest.mark.parametrize(
    "has, alive, ports, changes",
    [
        (None, True, None, []),
        (None, True, A, [("segments.office", None, ["a:eth0"], "file")]),
        (A, True, A, []),
        (A, False, A, [("segments.office", None, ["a:eth0"], "file")]),
        (A, True, {**A, **B}, [("segments.office[b:eth0]", None, port(2), "live")]),
        ({**A, **B}, True, B, [("segments.office[a:eth0]", port(1), None, "live")]),
        (A, True, {"a:eth0": port(3)}, [("segments.office[a:eth0]", port(1), port(3), "live")]),
        (A, True, None, [("segments.office", ["a:eth0"], None, "file")]),
        (A, False, None, [("segments.office", [], None, "file")]),
    ],
)
def test_what_is_to_be_done_to_a_hub(tmp_path, has, alive, ports, changes):
    found = hub_with(tmp_path, ports, has, alive).changes
    assert [(change.option, change.before, change.after, change.how) for change in found] == changes


@pytest.fixture
def root():
    """A folder whose sockets have short paths, wherever the tests keep theirs."""
    with tempfile.TemporaryDirectory(prefix="vlab-") as folder:
        yield folder


def test_ports_of_a_running_hub_come_and_go_one_by_one(root):
    made = hub_with(root, {**B, "c:eth0": port(3)}, {**A, **B})
    with FakeQmp(made.folder.qmp) as qemu:
        made.apply(5)
    assert qemu.requests[1:] == [
        ("netdev_del", {"id": "plug0"}),
        ("netdev_del", {"id": "link0"}),  # a goes
        ("netdev_del", {"id": "plug0"}),
        ("netdev_del", {"id": "link0"}),  # what a killed run may have left in its place
        (
            "netdev_add",
            {
                "type": "socket",
                "id": "link0",
                "udp": "127.0.0.1:21003",
                "localaddr": "127.0.0.1:20003",
            },
        ),
        ("netdev_add", {"type": "hubport", "id": "plug0", "hubid": 0, "netdev": "link0"}),
    ]
    with open(made.folder.run, encoding="utf-8") as stream:
        assert json.load(stream)["ports"] == {
            "b:eth0": dict(port(2), id=1),
            "c:eth0": dict(port(3), id=0),
        }
    again = planned(hub.Hub(root, "lab1", "office", {"ports": {**B, "c:eth0": port(3)}}))
    assert again.changes == []


def test_a_port_that_is_refused_is_an_error_and_is_not_recorded(root):
    made = hub_with(root, {**A, **B}, A)
    with (
        FakeQmp(made.folder.qmp, {"netdev_add": Refusal("Address already in use")}),
        pytest.raises(MonitorError, match="already in use"),
    ):
        made.apply(5)
    with open(made.folder.run, encoding="utf-8") as stream:
        assert sorted(json.load(stream)["ports"]) == ["a:eth0"]


class Kernel:
    """The interfaces of a host, and the programs that were run."""

    def __init__(self, monkeypatch, root=True, bridges=(), interfaces=()):
        self.bridges, self.ran = set(bridges), []
        monkeypatch.setattr(
            bridge.Bridge, "_exists", staticmethod(lambda name: name in self.bridges)
        )
        monkeypatch.setattr(
            bridge.os.path,
            "exists",
            lambda path: path.rpartition("/")[2] in self.bridges | set(interfaces),
        )
        monkeypatch.setattr(bridge.os, "geteuid", lambda: 0 if root else 1000)
        monkeypatch.setattr(bridge, "run_program", self.run)

    def run(self, argv, purpose):
        assert purpose
        self.ran.append(argv[:4] if argv[2] != "set" else argv)
        if argv[2] == "add":
            self.bridges.add(argv[4])
        if argv[2] == "delete":
            self.bridges.discard(argv[4])


def steps(made):
    return [(change.before, change.after) for change in planned(made).changes]


def test_a_bridge_is_made_once_and_removed_by_who_made_it(tmp_path, monkeypatch):
    kernel, folder = Kernel(monkeypatch), str(tmp_path / "server")
    made = bridge.Bridge(folder, "server", "vlab-1")
    assert steps(made) == [(None, "vlab-1")]
    made.apply(5)
    assert kernel.bridges == {"vlab-1"}
    assert (
        (tmp_path / "server/attach")
        .read_text(encoding="utf-8")
        .endswith('set dev "$1" up master vlab-1\n')
    )
    assert steps(bridge.Bridge(folder, "server", "vlab-1")) == []
    # Another name: the old one goes.
    again = bridge.Bridge(folder, "server", "vlab-2")
    assert steps(again) == [("vlab-1", "vlab-2")]
    again.apply(5)
    assert kernel.bridges == {"vlab-2"}
    gone = bridge.Bridge(folder, "server", None)
    assert steps(gone) == [("vlab-2", None)]
    gone.apply(5)
    assert kernel.bridges == set() and steps(bridge.Bridge(folder, "server", None)) == []


def test_a_bridge_of_the_host_is_used_and_stays(tmp_path, monkeypatch):
    kernel, folder = Kernel(monkeypatch, bridges={"br0"}), str(tmp_path / "house")
    planned(bridge.Bridge(folder, "house", "br0")).apply(5)
    planned(bridge.Bridge(folder, "house", None)).apply(5)
    assert kernel.bridges == {"br0"}
    assert not [argv for argv in kernel.ran if argv[2] in ("add", "delete")]


@pytest.mark.parametrize(
    "options, says",
    [
        ({"root": False}, "segments.server: a bridge needs root"),
        (
            {"interfaces": {"vlab-1"}},
            "segments.server.bridge: vlab-1 is an interface of this host, but not a bridge",
        ),
    ],
)
def test_a_bridge_that_cannot_be(tmp_path, monkeypatch, options, says):
    kernel = Kernel(monkeypatch, **options)
    with pytest.raises(HostError, match=says):
        planned(bridge.Bridge(str(tmp_path / "server"), "server", "vlab-1")).apply(5)
    assert kernel.ran == []


@pytest.mark.parametrize(
    "observation, desired, change",
    [
        # created, created_exists, desired_exists, has_folder, script
        ((None, False, False, False, None), None, None),
        ((None, False, False, True, None), None, (True, None)),
        (("b", True, False, True, None), None, ("b", None)),
        ((None, False, False, False, None), "b", (None, "b")),
        (("b", True, True, True, "b"), "b", None),
        # Removed by hand, or by a reboot of the host.
        (("b", False, False, True, "b"), "b", (None, "b")),
        (("b", True, False, True, "b"), "c", ("b", "c")),
        (("b", True, True, True, "b"), "c", ("b", "c")),
        # A bridge of the host, not plugged into yet; then with a script of another one.
        ((None, False, True, False, None), "b", (None, "b")),
        ((None, False, True, True, "a"), "b", (None, "b")),
        ((None, False, True, True, "b"), "b", None),
    ],
)
def test_the_plan_of_a_bridge_is_a_pure_function(observation, desired, change):
    *rest, script = observation
    if script:
        script = bridge._ATTACH_SCRIPT % script
    made = bridge.plan_bridge("office", bridge.BridgeObservation(*rest, script), desired)
    assert [(one.option, one.before, one.after) for one in made] == (
        [("segments.office", *change)] if change else []
    )


@pytest.mark.parametrize(
    "exists, running, ports, changes",
    [
        (False, None, None, []),
        (True, None, None, [([], None)]),
        (True, {}, None, [([], None)]),
        (True, {}, {}, []),
        (False, None, {}, [(None, [])]),
        (True, {"a": dict(port(1), id=7)}, {"a": port(1)}, []),
        (True, {"a": dict(port(1), id=7)}, {"b": port(1)}, [(port(1), None), (None, port(1))]),
    ],
)
def test_the_plan_of_a_hub_is_a_pure_function(exists, running, ports, changes):
    made = segment_ports.plan_segment(
        "office",
        exists,
        None if running is None else {"ports": running},
        None if ports is None else {"ports": ports},
    )
    assert [(change.before, change.after) for change in made] == changes


UPLINK = {"type": "user", "network": "10.9.0.0/24"}


def test_the_uplink_of_a_running_hub_changes_alone(root, monkeypatch):
    monkeypatch.setattr(hub, "find_qemu", lambda: ("qemu", "x86_64"))
    monkeypatch.setattr(hub, "get_capabilities", lambda _path: capabilities("7.2"))
    folder = hub_with(root, A, A).folder
    made = planned(hub.Hub(root, "lab1", "office", {"ports": A, "uplink": UPLINK}))
    steps = [(change.option, change.before, change.after, change.how) for change in made.changes]
    assert steps == [("segments.office.uplink", None, UPLINK, "live")]
    with FakeQmp(folder.qmp) as qemu:
        made.apply(5)
    assert qemu.requests[1:] == [
        ("netdev_del", {"id": "plug-uplink"}),
        ("netdev_del", {"id": "link-uplink"}),
        ("netdev_add", {"type": "user", "net": "10.9.0.0/24", "id": "link-uplink"}),
        (
            "netdev_add",
            {"type": "hubport", "id": "plug-uplink", "hubid": 0, "netdev": "link-uplink"},
        ),
    ]
    again = planned(hub.Hub(root, "lab1", "office", {"ports": A, "uplink": UPLINK}))
    assert again.changes == []
    less = planned(hub.Hub(root, "lab1", "office", {"ports": A}))
    with FakeQmp(folder.qmp) as qemu:
        less.apply(5)
    assert [name for name, _arguments in qemu.requests[1:]] == ["netdev_del", "netdev_del"]
    assert planned(hub.Hub(root, "lab1", "office", {"ports": A})).changes == []


def free_ports(*vlans):
    """Ports of a switch, with these VLANs."""
    found = {}
    for number, each in enumerate(vlans):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            found["%s:eth0" % "abc"[number]] = {
                "local_address": "127.0.0.1",
                "local_port": probe.getsockname()[1],
                "remote_address": "127.0.0.1",
                "remote_port": 21000 + number,
                "vlans": each,
            }
    return found


def changes_of(root, desired):
    made = planned(switch.Switch(root, "lab1", "office", desired))
    return made, [(one.option, one.before, one.after, one.how) for one in made.changes]


@pytest.fixture
def ended(root):
    yield
    planned(switch.Switch(root, "lab1", "office", None)).apply(5)


@pytest.mark.usefixtures("ended")
def test_the_life_of_a_switch(root):
    ports = free_ports({"access": 10}, {"trunk": "10,20"})
    desired = {"ageing": 300, "ports": ports}
    made, changes = changes_of(root, desired)
    assert changes == [("segments.office", None, ["a:eth0", "b:eth0"], "file")]
    assert not os.path.exists(made.folder.path) and not made.changes_existing
    made.apply(5)
    again, changes = changes_of(root, desired)
    assert changes == [] and again.state()["status"] == "running"
    # Its VLANs change in the same process.
    edited = {
        "ageing": 60,
        "ports": {
            **ports,
            "a:eth0": dict(ports["a:eth0"], vlans={"access": 20}, impair={"delay": 5}),
        },
    }
    made, changes = changes_of(root, edited)
    assert changes == [
        ("segments.office.ageing", 300, 60, "live"),
        ("segments.office[a:eth0].impair", None, {"delay": 5}, "live"),
        ("segments.office[a:eth0].vlans", {"access": 10}, {"access": 20}, "live"),
    ]
    assert made.changes_existing
    made.apply(5)
    again, changes = changes_of(root, edited)
    assert changes == [] and again.state()["pid"] == made.state()["pid"]
    reported = again.report()["ports"]
    assert reported["a:eth0"]["vlans"] == {"access": 20}
    assert reported["a:eth0"]["impairment"]["parameters"] == {"delay": 5}
    assert reported["a:eth0"]["impairment"]["measured"]["frames_out"] == 0
    assert "impairment" not in reported["b:eth0"]
    facts = switch.switch_facts(root, "lab1")
    assert facts["office"]["status"] == "running" and facts["office"]["addresses"] == []
    # Killed: cut cables, until the next run.
    pid = made.state()["pid"]
    start = process_start_time(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_for_exit(pid, start, 5)
    made, changes = changes_of(root, edited)
    assert changes == [("segments.office", None, ["a:eth0", "b:eth0"], "file")]
    made.apply(5)
    assert changes_of(root, edited)[1] == []
    made, changes = changes_of(root, None)
    assert changes == [("segments.office", ["a:eth0", "b:eth0"], None, "file")]
    made.apply(5)
    assert changes_of(root, None)[1] == [] and not os.path.exists(made.folder.path)


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("spoil", ["record", "settings", "socket"])
def test_a_switch_whose_files_are_lost_is_started_again(root, spoil):
    desired = {"ageing": 300, "ports": free_ports({}, {})}
    made, _changes = changes_of(root, desired)
    made.apply(5)
    pid = made.state()["pid"]
    files = {
        "record": made.folder.file("switch.json"),
        "settings": made.folder.file("settings.json"),
        "socket": made.control,
    }
    os.unlink(files[spoil])
    made, changes = changes_of(root, desired)
    assert bool(changes) == (spoil != "settings")
    made.apply(5)
    assert changes_of(root, desired)[1] == []
    assert (made.state()["pid"] == pid) == (spoil == "settings")
    # The program and the shell that keeps its exit code.
    assert len(find_processes("-I", made.folder.file("switch.pyz"))) == 2


def test_a_port_that_another_program_has(root):
    desired = {"ageing": 300, "ports": free_ports({})}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", desired["ports"]["a:eth0"]["local_port"]))
        made, _changes = changes_of(root, desired)
        with pytest.raises(HostError, match=r"segments\[office\].ports\[a:eth0\]: port udp/"):
            made.apply(5)
    planned(switch.Switch(root, "lab1", "office", None)).apply(5)


HUB = {"name": "x", "ports": A}
SWITCH = {"name": "x", "ports": A, "ageing": 300}
BRIDGE = {"name": "x", "bridge": "br0"}


@pytest.mark.parametrize(
    "there, desired, purge, found, replaced",
    [
        ({}, {"x": HUB}, False, {"x": hub.Hub}, {}),
        ({}, {"x": SWITCH}, False, {"x": switch.Switch}, {}),
        ({}, {"x": BRIDGE}, False, {"x": bridge.Bridge}, {}),
        ({"x": "run.json"}, {"x": SWITCH}, False, {"x": switch.Switch}, {"x": hub.Hub}),
        ({"x": "switch.pyz"}, {"x": HUB}, False, {"x": hub.Hub}, {"x": switch.Switch}),
        ({"x": "attach"}, {"x": SWITCH}, False, {"x": switch.Switch}, {"x": bridge.Bridge}),
        ({"x": "switch.pyz"}, {"x": BRIDGE}, False, {"x": bridge.Bridge}, {"x": switch.Switch}),
        ({"x": "switch.pyz"}, {}, False, {}, {}),
        ({"x": "switch.pyz", "y": "attach", "z": "run.json"}, {}, True,
         {"x": switch.Switch, "y": bridge.Bridge, "z": hub.Hub}, {}),
        # The uplink of a switch goes with the setting.
        ({"x": "switch.pyz", "x.uplink": "run.json", "y.uplink": "run.json"}, {"x": SWITCH}, False,
         {"x": switch.Switch, "x.uplink": hub.Hub}, {}),
    ],
)  # fmt: skip
def test_which_segments_there_are(tmp_path, there, desired, purge, found, replaced):
    for name, file in there.items():
        path = tmp_path / "lab1" / ".segments" / name / file
        path.parent.mkdir(parents=True)
        path.write_text("")
    result = segments.find_segments(str(tmp_path), "lab1", desired, purge)
    assert {each.name: type(each) for each in result.segments} == found
    assert {name: type(each) for name, each in result.replaced.items()} == replaced
