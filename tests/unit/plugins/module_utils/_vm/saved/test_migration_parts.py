# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What moves with a VM: disks, links, files, and how the two QEMUs reach each other."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm import dhcp_programs, rotations
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration import (
    cables,
    channel,
    copies,
    files,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration.channel import Channel
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted


@pytest.fixture
def host(tmp_path):
    host = FakeHost(root=tmp_path)
    host.folder.make()
    return host


@pytest.mark.parametrize(
    "target, uri, server",
    [
        (Channel(None, "/r/m", "/r/d"), "unix:/r/m", {"type": "unix", "path": "/r/d"}),
        (
            Channel("192.0.2.1", 7, 8),
            "tcp:192.0.2.1:7",
            {"type": "inet", "host": "192.0.2.1", "port": "8"},
        ),
        (
            Channel("2001:db8::1", 7, 8),
            "tcp:[2001:db8::1]:7",
            {"type": "inet", "host": "2001:db8::1", "port": "8"},
        ),
    ],
)
def test_addresses(target, uri, server):
    assert target.uri == uri and target.disk_server == server and target.tls == {}
    kind = server.pop("type")
    assert target.disk_listener == {"type": kind, "data": server}


@pytest.mark.parametrize("is_target", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_the_key_is_in_a_file_and_in_no_command(tmp_path, host, is_target, flat):
    seen = []

    def add(arguments):
        path = (arguments if flat else arguments["props"])["dir"]
        with open(os.path.join(path, "keys.psk"), encoding="ascii") as stream:
            seen.append(stream.read())
        assert os.stat(path).st_mode & 0o777 == 0o700
        assert os.stat(os.path.join(path, "keys.psk")).st_mode & 0o777 == 0o600
        return {}

    with FakeQmp(tmp_path / "q", {"object-add": add}) as qmp, Monitor(qmp.path) as monitor:
        channel.add_key(monitor, host.folder, "c0ffee", is_target, flat)
        assert seen == ["vlab:c0ffee\n"]
        assert "c0ffee" not in str(qmp.requests)
        # A server reads it again for each connection.
        assert os.path.isdir(host.folder.file("migrate-tls")) == is_target
        channel.remove_key(monitor, host.folder)
        assert not os.path.exists(host.folder.file("migrate-tls"))
        assert ("migrate-set-parameters", {"tls-creds": ""}) in qmp.requests


def test_a_qemu_without_tls(tmp_path, host):
    refusal = Refusal("TLS credentials support requires GNUTLS")
    with FakeQmp(tmp_path / "q", {"object-add": refusal}) as qmp, Monitor(qmp.path) as monitor:
        with pytest.raises(MonitorError) as caught:
            channel.add_key(monitor, host.folder, "c0ffee", False, True)
    assert "requires GNUTLS" in caught.value.message
    assert "set encrypt: false" in caught.value.message


@pytest.mark.parametrize(
    "disk, reason",
    [
        ({"size": "1M"}, None),
        ({"size": "1M", "format": "raw"}, None),
        ({"size": "1M", "snapshot": True}, "snapshot: true discards"),
        ({"size": "1M", "bus": "nvme"}, "cannot save the state of nvme"),
        ({"path": "/images/x.raw", "format": "raw"}, "outside the folder of the VM"),
        ({"path": "/images/x.raw", "format": "raw", "read_only": True}, None),
        ({"size": "1M", "secret_file": "/etc/key"}, "it is encrypted"),
    ],
)
def test_disks_that_cannot_move(host, disk, reason):
    definition = compose(disks=[dict(disk, name="d")], host=host)
    found = copies.blockers(host.folder, definition)
    if reason is None:
        assert found == []
    else:
        assert len(found) == 1 and found[0].startswith("disks[d]: ") and reason in found[0]


def test_an_image_of_a_snapshot_gets_its_usual_name_on_the_target(host):
    definition = compose(disks=[{"name": "d", "size": "1M"}], host=host)
    disk = dict(definition["disks"][0], image="d.0123abcd.qcow2")
    assert copies.moved(dict(definition, disks=[disk])) == definition


def test_an_image_that_the_target_has(host):
    definition = compose(disks=[{"name": "d", "size": "1M"}], host=host)
    with open(host.folder.file("d.qcow2"), "w", encoding="ascii"):
        pass
    with pytest.raises(HostError, match=r"disks\[d\]: the target has .*d.qcow2 already"):
        copies.check(host.folder, definition, [{"name": "d", "size": 1, "allocated": 1}])


def test_a_full_target(host):
    definition = compose(disks=[{"name": "d", "size": "1M"}], host=host)
    with pytest.raises(HostError, match="take 1099511627776 MiB, and .* MiB free"):
        copies.check(host.folder, definition, [{"name": "d", "size": 1, "allocated": 1 << 60}])


def test_a_vm_starts_without_the_links_that_another_qemu_has(host):
    nics = [
        {"name": "a", "link": {"peer": "x:a"}, "capture": {"enabled": True}},
        {"name": "b", "link": {"type": "tap", "vhost": True}},
        {"name": "c"},
    ]
    definition = compose(nics=nics, host=host)
    first, second, third = cables.unplugged(definition)["nics"]
    assert first["link"] == {"type": "none"} and first["capture"] is None
    assert [second, third] == definition["nics"][1:]


def test_a_cable_within_a_host_keeps_its_addresses(host):
    nics = [{"name": "a", "link": {"peer": "x:a"}}, {"name": "b", "link": {"type": "user"}}]
    definition = compose(nics=nics, host=host)
    definition["ports"] = {"/lab1/r1/a": 26001, "/lab1/x/a": 26002}
    found = cables.cables(definition, host.folder, host.capabilities)
    link = found["a"]
    assert list(found) == ["a"] and link["type"] == "udp"
    assert (link["local_port"], link["remote_port"]) == (26001, 26002)
    assert link["local_address"] == link["remote_address"]
    moved = cables.addressed(definition, found)["nics"]
    assert moved[0]["link"] == link and moved[1] == definition["nics"][1]


def linked(host):
    nics = [
        {"name": "a", "link": {"peer": "x:a"}, "capture": {"enabled": True}},
        {"name": "b", "link": {"type": "tap", "vhost": True}},
        {
            "name": "c",
            "link": {"type": "user"},
            "link_down": True,
            "capture": {"enabled": True, "size": "1M"},
        },
        {"name": "d"},
    ]
    return granted(compose(nics=nics, host=host))


def test_the_links_are_unplugged_and_plugged_in_again_on_the_origin(tmp_path, host):
    definition = linked(host)
    with FakeQmp(tmp_path / "q") as qmp, Monitor(qmp.path) as monitor:
        cables.unplug(monitor, definition)
        cables.plug_again(monitor, definition, host.folder, host.capabilities)
    requests = [(name, arguments["id"]) for name, arguments in qmp.requests[1:]]
    names = ["plug0", "link0", "plug2", "link2"]
    assert requests[:4] == requests[4:8] == [("netdev_del", name) for name in names]
    assert sorted(requests[8:]) == [("netdev_add", name) for name in sorted(names)]


@pytest.mark.parametrize("refused", [None, "netdev_add"])
def test_links_and_carriers_on_the_target(tmp_path, host, refused):
    definition = linked(host)
    answers = {refused: Refusal("the port is taken")} if refused else {}
    with FakeQmp(tmp_path / "q", answers) as qmp, Monitor(qmp.path) as monitor:
        live = Live(host, monitor, 1, {"nics": []}, {}, 0)
        if refused:
            with pytest.raises(MonitorError, match="the port is taken"):
                cables.plug(definition, live)
            return
        cables.plug(definition, live)
    sent = [(name, arguments) for name, arguments in qmp.requests if arguments]
    carriers = [(a["name"], a["up"]) for name, a in sent if name == "set_link"]
    assert carriers == [("nic0", True), ("nic1", True), ("nic2", False), ("nic3", False)]
    created = [a["id"] for name, a in sent if name in ("netdev_add", "object-add")]
    assert sorted(created) == ["capture0", "capture2", "link0", "link2", "plug0", "plug2"]


@pytest.mark.parametrize("error", [None, HostError("it does not start")])
def test_dhcp_options_come_after_their_links(tmp_path, host, monkeypatch, error):
    nic = {"name": "a", "link": {"type": "user", "dhcp_options": {67: "x"}}}
    definition = granted(compose(nics=[nic], host=host))
    started = []

    def start(*arguments):
        started.append((arguments[1], arguments[-1]["options"]))
        if error:
            raise error

    monkeypatch.setattr(dhcp_programs, "start", start)
    with FakeQmp(tmp_path / "q") as qmp, Monitor(qmp.path) as monitor:
        cables.plug_again(monitor, definition, host.folder, host.capabilities)
        live = Live(host, monitor, 7, {"nics": []}, {}, 0)
        if error:
            with pytest.raises(HostError, match="it does not start"):
                cables.plug(definition, live)
        else:
            cables.plug(definition, live)
    assert started == [(os.getpid(), {"67": "78"}), (7, {"67": "78"})]
    names = [name for name, _arguments in qmp.requests if name in ("netdev_add", "chardev-add")]
    assert names == (["netdev_add"] * 2 + ["chardev-add"] * 2) * 2


@pytest.mark.parametrize("error", [None, HostError("the disk is full")])
def test_rings_of_captures_on_the_target(tmp_path, host, monkeypatch, error):
    calls = []

    def update(folder, pid, captures):
        calls.append((folder, pid, *captures))
        if error:
            raise error

    monkeypatch.setattr(rotations, "update", update)
    with FakeQmp(tmp_path / "q") as qmp, Monitor(qmp.path) as monitor:
        live = Live(host, monitor, 7, {"nics": []}, {}, 0)
        cables.plug(linked(host), live)
        assert not calls, "the guest does not wait for the process"
        cables.copy_captures(linked(host), live)
    assert calls == [(host.folder, 7, "c")]


def test_files_of_a_guest(host, tmp_path):
    definition = compose(disks=[], host=host)
    os.makedirs(host.folder.file("tpm"))
    for name, content in (("efi.raw", "v"), ("tpm/state", "t"), ("console.log", "login:")):
        with open(host.folder.file(name), "w", encoding="ascii") as stream:
            stream.write(content)
    data = files.pack(host.folder, definition, ["efi.raw", "tpm", "missing"])
    other = Folder(str(tmp_path / "other"), "lab1", "r1")
    other.make()
    files.unpack(other, data)
    for name, content in (("efi.raw", "v"), ("tpm/state", "t"), ("console.log", "login:")):
        with open(other.file(name), encoding="ascii") as stream:
            assert stream.read() == content
        assert os.stat(other.file(name)).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//x"])
def test_hostile_files(host, name):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(HostError, match="which cannot be one"):
        files.unpack(host.folder, stream.getvalue())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_no_files_of_a_guest(host, kind):
    member = tarfile.TarInfo("x")
    member.type, member.linkname = kind, "/etc/passwd"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.addfile(member)
    files.unpack(host.folder, stream.getvalue())
    assert not os.path.lexists(host.folder.file("x"))


@pytest.mark.parametrize("data", [b"", b"nonsense"])
def test_files_that_are_no_archive(host, data):
    with pytest.raises(HostError, match="cannot be read"):
        files.unpack(host.folder, data)


@pytest.mark.parametrize(
    "statuses, error",
    [
        (["setup", "active", "pre-switchover"], None),
        (["active", "failed"], "it was not sent: no route"),
        (["active", "cancelled"], "it was not sent: no route"),
    ],
)
def test_wait_for_a_step_of_a_migration(tmp_path, statuses, error):
    answers = {"query-migrate": {"status": statuses[-1], "error-desc": "no route"}}
    with FakeQmp(tmp_path / "q", answers) as qmp, Monitor(qmp.path) as monitor:
        monitor.batch([])
        for status in statuses:
            qmp.event("MIGRATION", {"status": status})
        if error is None:
            memory.wait(monitor, 5, "it was not sent", "pre-switchover")
            return
        with pytest.raises(HostError, match=error):
            memory.wait(monitor, 5, "it was not sent", "pre-switchover")


def test_a_step_that_does_not_come(tmp_path):
    with FakeQmp(tmp_path / "q") as qmp, Monitor(qmp.path) as monitor:
        with pytest.raises(MonitorTimeout, match="it was not sent within 0 s: raise timeout"):
            memory.wait(monitor, 0.05, "it was not sent", option="timeout")
