# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images are copied once, whole, and only where they are missing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat

import pytest
from ansible.errors import AnsibleError
from ansible_collections.vlab.qemu.plugins.module_utils._lab import image_service
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import RequestError
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab import image_copies
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.image_copies import (
    AUTO,
    DIRECT,
    THROUGH_CONTROLLER,
    Copier,
    Image,
    Target,
    ssh_command,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.image_plan import (
    CONTROLLER,
    Copy,
    Found,
    check_space,
    needed_images,
    plan_copies,
    same_images,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.images_action import _check_same
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, images, problems

CONTENT = bytes(range(256)) * 1000
SSH = {"ansible_connection": "ssh"}


def found(size, device=1, free=1 << 40):
    return Found("/images/x", size, device, free)


def test_the_images_of_all_nodes_are_needed_where_they_are_placed():
    data = {"name": "lab", "defaults": {"kind": "frr"}, "nodes": {"a": {}, "b": {}, "c": {}}}
    data["nodes"]["c"] = {"kind": "cloud", "image": "disk"}
    topology = builder.build(data)
    wrong = problems.Problems()
    given = {"frr": {"kernel": "k", "initrd": "/i"}, "disk": {"disk": "d.qcow2"}}
    images.apply_images(topology, given, wrong)
    wrong.check()
    assert needed_images(topology, {"a": "hv1", "b": "hv2", "c": "hv2"}) == {
        "/i": ["hv1", "hv2"],
        "d.qcow2": ["hv2"],
        "k": ["hv1", "hv2"],
    }


@pytest.mark.parametrize(
    "sizes, copies",
    [
        ({"hv1": 5, "hv2": 5, "hv3": 5}, []),
        ({"hv1": None, "hv2": 5, "hv3": None}, [("hv2", ["hv1", "hv3"])]),
        ({"hv1": None, "hv2": None, "hv3": None, "hv4": 5}, [("hv4", ["hv1", "hv2", "hv3"])]),
        ({"hv1": 5, "hv2": None, "hv3": 5, CONTROLLER: 5}, [(CONTROLLER, ["hv2"])]),
        # A block device serves its own host only.
        ({"hv1": -1, "hv2": 5, "hv3": None}, [("hv2", ["hv3"])]),
    ],
)
def test_what_is_missing_is_copied_from_one_source(sizes, copies):
    hosts = {host: {"x": found(size)} for host, size in sizes.items()}
    planned = plan_copies({"x": ["hv1", "hv2", "hv3"]}, hosts)
    assert planned == [Copy("x", source, 5, targets) for source, targets in copies]


@pytest.mark.parametrize("other", [None, -1])
def test_an_image_that_is_nowhere_is_an_error(other):
    hosts = {"hv1": {"x": found(None)}, "hv2": {"x": found(other)}, CONTROLLER: {"x": found(None)}}
    with pytest.raises(problems.TopologyError, match="hv1 needs x, which neither another"):
        plan_copies({"x": ["hv1"]}, hosts)


def test_the_space_of_all_images_of_a_file_system_is_checked_without_what_was_copied():
    mib = 1 << 20
    hosts = {"hv1": {"x": found(None, free=10 * mib), "y": found(None, free=10 * mib)}}
    copies = [Copy("x", "hv2", 6 * mib, ["hv1"]), Copy("y", "hv2", 5 * mib, ["hv1"])]
    with pytest.raises(problems.TopologyError, match="hv1 needs 11 MiB for them, but has 10 MiB"):
        check_space(copies, hosts, {})
    check_space(copies, hosts, {("hv1", "x"): mib})
    hosts["hv1"]["y"] = found(None, device=2, free=10 * mib)
    check_space(copies, hosts, {})


def test_images_that_several_hosts_have_are_compared():
    hosts = {
        CONTROLLER: {"x": found(None), "y": found(3)},
        "hv1": {"x": found(5), "y": found(None)},
        "hv2": {"x": found(6), "y": found(3)},
        "hv3": {"x": found(-1), "y": found(None)},
    }
    needed = {"x": ["hv1", "hv2", "hv3"], "y": ["hv1", "hv2"]}
    assert same_images(needed, hosts) == {"x": ["hv1", "hv2"], "y": [CONTROLLER, "hv2"]}
    with pytest.raises(AnsibleError, match=r"never replaced.*\(5 bytes, aa\), .* on hv2 \(6 bytes"):
        _check_same("x", {"hv1": "aa", "hv2": "bb"}, hosts)
    _check_same("x", {"hv1": "aa", "hv2": "aa"}, hosts)


class Host:
    """Requests to the service in this process. log: the names of all requests.

    after: the number of requests of a name until the connection is cut.
    """

    def __init__(self, folder):
        self.folder, self.log, self.after = folder, [], {}
        folder.mkdir()

    def request(self, name, data=b"", **parameters):
        self.log.append(name)
        if self.after.get(name) == 0:
            raise AnsibleError("the connection was cut")
        if name in self.after:
            self.after[name] -= 1
        try:
            return image_service.HANDLERS[name](parameters, data)
        except RequestError as error:
            raise AnsibleError(error.message)

    @property
    def path(self):
        return str(self.folder / "images/x")

    @property
    def files(self):
        return {path.name: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


class World:
    """Hosts, of which hv1 has the image."""

    def __init__(self, folder, count=3):
        names = ["hv%d" % (number + 1) for number in range(count)]
        self.hosts = {name: Host(folder / name) for name in names}
        self.variables = {name: {**SSH, "inventory_hostname": name} for name in names}
        os.makedirs(os.path.dirname(self.hosts["hv1"].path))
        with open(self.hosts["hv1"].path, "wb") as stream:
            stream.write(CONTENT)
        os.chmod(self.hosts["hv1"].path, 0o644)
        self.lines = []
        self.transfers = {}

    def copy(self, transfer=THROUGH_CONTROLLER, checksum=None, source="hv1", path=None):
        """Copy the image to all hosts that do not have it."""
        missing = [name for name, host in self.hosts.items() if "x" not in host.files]
        paths = {name: host.path for name, host in self.hosts.items()}
        paths[CONTROLLER] = path
        one = Image(
            Copy("x", source, len(CONTENT), missing),
            paths,
            checksum or hashlib.sha256(CONTENT).hexdigest(),
        )
        targets = []
        for name in missing:
            host = self.hosts[name]
            copied = Target(name, one, host, 0, self.lines.append).ask("partial_size")["size"]
            targets.append(Target(name, one, host, copied, self.lines.append))
        copier = Copier(one, targets, self.hosts, self.variables, transfer)
        copier.run()
        self.transfers = copier.transfers

    def check(self):
        """Check that all hosts have exactly the image."""
        for host in self.hosts.values():
            assert host.files == {"x": CONTENT}
            assert stat.S_IMODE(os.stat(host.path).st_mode) == 0o644


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(image_copies, "CHUNK", 30000)
    monkeypatch.setattr(image_copies, "_FETCHED_PART", 100000)
    return World(tmp_path)


@pytest.fixture(autouse=True)
def no_hangup(monkeypatch):
    monkeypatch.setattr(image_service, "end_with_client", lambda: None)


def test_each_part_is_read_once_and_written_to_all(world):
    world.copy()
    world.check()
    parts = -(-len(CONTENT) // 30000)
    assert world.hosts["hv1"].log == ["read"] * parts
    for name in ("hv2", "hv3"):
        assert world.hosts[name].log == ["partial_size"] + ["write"] * parts + ["finish"]
    assert world.transfers == {"hv2": "controller", "hv3": "controller"}
    assert any("hv2: x: 11 %" in line or "hv2: x: 23 %" in line for line in world.lines)


def test_an_image_of_the_controller_is_copied(world, tmp_path):
    path = tmp_path / "local"
    path.write_bytes(CONTENT)
    os.unlink(world.hosts["hv1"].path)
    os.rmdir(os.path.dirname(world.hosts["hv1"].path))
    world.copy(source=CONTROLLER, path=str(path), transfer=AUTO)
    world.check()
    assert world.lines[-1].endswith("MiB from the controller")


def test_a_copy_that_was_cut_off_continues(world):
    world.hosts["hv3"].after["write"] = 3
    with pytest.raises(AnsibleError, match="was cut"):
        world.copy()
    assert "x" not in world.hosts["hv3"].files and len(world.hosts["hv3"].files) == 1
    (partial,) = world.hosts["hv3"].files.values()
    assert partial == CONTENT[:90000]
    del world.hosts["hv3"].after["write"]
    world.hosts["hv3"].log.clear()
    world.copy()
    assert world.hosts["hv3"].files == {"x": CONTENT}
    assert world.hosts["hv3"].log.count("write") == -(-(len(CONTENT) - 90000) // 30000)


def test_a_copy_with_another_content_gets_no_name(world):
    with pytest.raises(AnsibleError, match="the source changed meanwhile.*was removed"):
        world.copy(checksum="0" * 64)
    assert world.hosts["hv2"].files == {} and world.hosts["hv3"].files == {}


def test_a_source_that_becomes_shorter_is_an_error(world):
    with open(world.hosts["hv1"].path, "r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(AnsibleError, match="became shorter"):
        world.copy()


def test_an_image_that_appears_meanwhile_is_not_replaced(world):
    write = image_service.HANDLERS["write"]

    def write_and_appear(parameters, data):
        with open(parameters["path"], "wb") as stream:
            stream.write(b"other")
        return write(parameters, data)

    os.makedirs(os.path.dirname(world.hosts["hv2"].path))
    os.makedirs(os.path.dirname(world.hosts["hv3"].path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(image_service.HANDLERS, "write", write_and_appear)
        with pytest.raises(AnsibleError, match="File exists"):
            world.copy()
    assert world.hosts["hv2"].files["x"] == b"other"


def test_two_runs_do_not_write_one_copy(world):
    parameters = {"path": world.hosts["hv2"].path, "checksum": "0" * 64, "offset": 0}
    image_service.HANDLERS["write"](parameters, b"abc")
    with open(image_service._partial(parameters), "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(RequestError) as raised:
            image_service.HANDLERS["write"](dict(parameters, offset=3), b"def")
        assert "another run copies" in raised.value.message
    # What another run has written meanwhile is not written again.
    size, _pieces = image_service.HANDLERS["write"](dict(parameters, offset=1), b"xyz")
    assert size == {"size": 3}


def test_a_symbolic_link_is_not_written_through(world, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    parameters = {"path": world.hosts["hv2"].path, "checksum": "0" * 64, "offset": 0}
    os.makedirs(os.path.dirname(parameters["path"]))
    os.symlink(victim, image_service._partial(parameters))
    with pytest.raises(RequestError):
        image_service.HANDLERS["write"](parameters, b"abc")
    assert victim.read_bytes() == b"precious"


@pytest.fixture
def fake_ssh(tmp_path, monkeypatch):
    """A program ssh that runs the command here, and logs the host; hosts in the file down fail."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "ssh"
    script.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 2 ]; do shift; done\necho "$1" >>%(here)s/log\n'
        'if grep -qx "$1" %(here)s/down 2>/dev/null; then echo no route >&2; exit 255; fi\n'
        'exec sh -c "$2"\n' % {"here": folder},
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (folder, os.environ["PATH"]))
    return folder


def test_hosts_fetch_the_image_and_serve_others(tmp_path, fake_ssh, monkeypatch):
    monkeypatch.setattr(image_copies, "_FETCHED_PART", 100000)
    (tmp_path / "w").mkdir()
    world = World(tmp_path / "w", 5)
    world.copy(DIRECT)
    world.check()
    assert not world.hosts["hv1"].log, "nothing goes through the controller"
    served = (fake_ssh / "log").read_text(encoding="utf-8").split()
    assert set(served) == {"hv1", "hv2"} and len(served) == 4 * 3
    assert set(world.transfers.values()) == {DIRECT}


def test_what_cannot_be_fetched_goes_through_the_controller(world, fake_ssh):
    (fake_ssh / "down").write_text("hv1\n", encoding="utf-8")
    world.copy(AUTO)
    world.check()
    assert set(world.transfers.values()) == {THROUGH_CONTROLLER}


def test_direct_is_an_error_if_it_is_not_possible(world, fake_ssh):
    (fake_ssh / "down").write_text("hv1\n", encoding="utf-8")
    with pytest.raises(AnsibleError, match="cannot fetch x from hv1, transfer=direct: no route"):
        world.copy(DIRECT)


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"ansible_connection": "local"}, None),
        ({"ansible_connection": "community.docker.docker"}, None),
        ({}, ["hv1"]),
        ({"ansible_host": "192.0.2.1", "ansible_port": 2222}, ["-p", "2222", "192.0.2.1"]),
        ({"ansible_user": "ann", "vlab_address": "192.0.2.2"}, ["-l", "ann", "192.0.2.2"]),
    ],
)
def test_the_address_for_ssh_between_hosts(variables, words):
    found_words = ssh_command({**variables, "inventory_hostname": "hv1"})
    assert found_words == (words and [*image_copies._SSH, *words])


def test_find_reports_sizes_space_and_devices(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/x").write_bytes(b"abc")
    parameters = {"root": str(tmp_path), "images": ["x", "y", str(tmp_path / "z")]}
    (result, _pieces) = image_service.HANDLERS["find"](parameters, b"")
    sizes = {name: entry["size"] for name, entry in result["images"].items()}
    assert sizes == {"x": 3, "y": None, str(tmp_path / "z"): None}
    assert result["images"]["y"]["path"] == str(tmp_path / "images/y")
    assert result["images"]["y"]["free"] > 0
    parameters["images"] = ["sub"]
    (tmp_path / "images/sub").mkdir()
    with pytest.raises(RequestError):
        image_service.HANDLERS["find"](parameters, b"")
