# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import sys
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import capabilities as module

# A QEMU that counts its starts in a file next to it, and replies as a real one, with an event
# in between.
FAKE = r"""#!%(python)s
import json, sys
open(sys.argv[0] + ".starts", "a").write("x")
TYPES = {
    "device": ["e1000", "virtio-net-pci", "rocker", "cfi.pflash01"],
    "pci-device": ["e1000", "virtio-net-pci", "rocker"],
    "accel": ["tcg-accel", "kvm-accel", "accel"],
}
TEXTS = {
    "device_add help": 'Storage devices:\r\nname "ich9-ahci", bus PCI, alias "ahci"\r\n\r\n'
                       'Network devices:\r\n'
                       'name "e1000", bus PCI, alias "e1000-82540em", desc "Intel"\r\n'
                       'name "rocker", bus PCI\r\n'
                       'name "virtio-net-pci", bus PCI, alias "virtio-net"\r\n\r\n'
                       'Misc devices:\r\nname "cfi.pflash01"\r\n',
    "netdev_add help": "Available netdev backend types:\r\nsocket\r\nhubport\r\n",
}
ANSWERS = {
    "qmp_capabilities": {}, "quit": {},
    "query-machines": [
        {"name": "pc-q35-7.2", "alias": "q35", "cpu-max": 288, "hotpluggable-cpus": True,
         "deprecated": False},
        {"name": "pc-i440fx-7.2", "alias": "pc", "is-default": True, "cpu-max": 255,
         "hotpluggable-cpus": True},
        {"name": "pc-1.0", "cpu-max": 255, "hotpluggable-cpus": True, "deprecated": True}],
    "query-command-line-options": [
        {"option": "action", "parameters": [{"name": "panic"}]}, {"option": "", "parameters": []},
    ],
}
say = lambda value: print(json.dumps(value), flush=True)
version = {"major": %(major)d, "minor": %(minor)d, "micro": 3}
say({"QMP": {"version": {"qemu": version, "package": "Debian 1:7"}, "capabilities": []}})
for line in sys.stdin:
    request = json.loads(line)
    name, arguments = request["execute"], request["arguments"]
    say({"event": "STOP", "timestamp": {}})
    if name == "qom-list-types":
        say({"return": [{"name": entry} for entry in TYPES[arguments["implements"]]]})
    elif name == "human-monitor-command":
        say({"return": TEXTS[arguments["command-line"]]})
    elif name in ANSWERS:
        say({"return": ANSWERS[name]})
    else:
        say({"error": {"class": "CommandNotFound", "desc": "no"}})
    if name == "quit":
        break
"""


@pytest.fixture(name="make")
def fixture_make(tmp_path):
    def make(text=FAKE, major=7, minor=2):
        path = tmp_path / "qemu-system-arm"
        path.write_text(
            text % {"python": sys.executable, "major": major, "minor": minor}
            if text is FAKE
            else text
        )
        path.chmod(0o755)
        return str(path)

    return make


def starts(path):
    return os.path.getsize(path + ".starts")


def test_what_is_detected(make, tmp_path):
    known = module.get_capabilities(make(), str(tmp_path / "cache"))
    assert known.version == (7, 2, 3)
    assert known.version_text == "7.2.3 (Debian 1:7)"
    assert known.machines["pc-i440fx-7.2"] == {
        "alias": "pc",
        "default": True,
        "cpu_max": 255,
        "hotpluggable_cpus": True,
    }
    assert known.machines["pc-1.0"]["deprecated"] is True
    assert known.default_machine == "pc-i440fx-7.2"
    assert [known.machine_name(name) for name in ("q35", "pc-1.0", "virt")] == [
        "pc-q35-7.2",
        "pc-1.0",
        None,
    ]
    assert (
        known.has_device("e1000") and known.has_device("virtio-net") and not known.has_device("igb")
    )
    assert [known.device_name(name) for name in ("virtio-net", "e1000", "igb")] == [
        "virtio-net-pci",
        "e1000",
        None,
    ]
    assert known.pci_devices == {"e1000", "virtio-net-pci", "rocker"}
    assert known.device_buses == {
        "ich9-ahci": "PCI",
        "e1000": "PCI",
        "rocker": "PCI",
        "virtio-net-pci": "PCI",
    }
    assert known.netdev_types == {"socket", "hubport"}
    assert known.has_netdev("socket") and not known.has_netdev("vde")
    assert known.accelerators == {"tcg", "kvm"} and known.has_kvm
    assert known.options == {"action": {"panic"}}
    assert known.has_option("action") and known.has_option("action", "panic")
    assert not known.has_option("action", "reboot") and not known.has_option("run-with")


def test_nic_models_take_a_netdev(make, tmp_path):
    assert module.nic_models(module.get_capabilities(make(), str(tmp_path / "cache"))) == [
        "e1000",
        "virtio-net-pci",
    ]


@pytest.mark.parametrize(
    "major, minor, json_object",
    [(5, 2, False), (6, 0, True), (6, 2, True), (10, 0, True)],
)
def test_versions(make, tmp_path, major, minor, json_object):
    known = module.get_capabilities(make(major=major, minor=minor), str(tmp_path / "cache"))
    assert known.json_object is json_object
    assert (
        known.at_least(major, minor)
        and known.at_least(major - 1, 9)
        and not known.at_least(major, minor + 1)
    )


def test_asked_once_and_remembered_whole(make, tmp_path):
    path, cache = make(), str(tmp_path / "cache")
    first, second = module.get_capabilities(path, cache), module.get_capabilities(path, cache)
    assert first == second
    assert {name: type(value) for name, value in first._asdict().items()} == {
        name: type(value) for name, value in second._asdict().items()
    }
    assert starts(path) == 1
    assert stat.S_IMODE(os.stat(cache).st_mode) == 0o700
    assert len(os.listdir(cache)) == 1


def test_another_binary_is_asked_anew(make, tmp_path):
    path, cache = make(), str(tmp_path / "cache")
    module.get_capabilities(path, cache)
    make(major=8)
    os.utime(path, ns=(1, 1))
    assert module.get_capabilities(path, cache).version[0] == 8
    assert starts(path) == 2
    assert len(os.listdir(cache)) == 1


def test_new_modules_are_seen(make, tmp_path, monkeypatch):
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.setattr(module, "_MODULE_FOLDERS", (str(modules),))
    path, cache = make(), str(tmp_path / "cache")
    module.get_capabilities(path, cache)
    os.utime(modules, ns=(1, 1))
    module.get_capabilities(path, cache)
    assert starts(path) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"format": 3}'])
def test_damaged_cache_is_ignored(make, tmp_path, damage):
    path, cache = make(), str(tmp_path / "cache")
    known = module.get_capabilities(path, cache)
    with open(module.cache_file(path, "capabilities", cache), "w", encoding="ascii") as stream:
        stream.write(damage)
    assert module.get_capabilities(path, cache) == known
    assert module.get_capabilities(path, cache) == known
    assert starts(path) == 2


@pytest.mark.parametrize(
    "answer", [None, [], "x", {}, {"version": [7, 2, 0]}, {"options": 3, "version": [1]}]
)
def test_foreign_answer_in_cache_is_ignored(make, tmp_path, answer):
    path, cache = make(), str(tmp_path / "cache")
    module.write_cached(
        module.cache_file(path, "capabilities", cache), module.binary_identity(path), answer
    )
    assert module.get_capabilities(path, cache).version == (7, 2, 3)


def test_unusable_cache_is_no_error(make, tmp_path):
    path = make()
    (tmp_path / "cache").write_text("a file")
    assert module.get_capabilities(path, str(tmp_path / "cache")) == module.get_capabilities(
        path, str(tmp_path / "cache")
    )
    assert starts(path) == 2


def test_cache_folder(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert module.cache_folder() == "/var/cache/vlab"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert module.cache_folder() == "/x/vlab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert module.cache_folder() == "/home/u/.cache/vlab"


@pytest.mark.parametrize(
    "script, text",
    [
        ("echo 'cannot load libfoo' >&2; exit 127", "cannot load libfoo"),
        ("exit 3", "code 3"),
        ("echo not json; cat", "does not answer as QEMU"),
        ("echo '{\"QMP\": {}}'; cat", "does not answer as QEMU"),
        ("echo 3", "does not answer as QEMU"),
        (
            'echo \'{"QMP": {"version": {"qemu": {"major": 7, "minor": 0, "micro": 0}}}}\'; '
            "echo gone >&2",
            "gone",
        ),
    ],
)
def test_binary_that_does_not_answer(make, tmp_path, script, text):
    path = make("#!/bin/sh\n%s\n" % script)
    with pytest.raises(HostError, match=text) as caught:
        module.get_capabilities(path, str(tmp_path / "cache"))
    assert caught.value.facts["cmd"][0] == path
    assert "stderr" in caught.value.facts
    assert not os.path.exists(str(tmp_path / "cache"))


def test_silent_binary_meets_the_deadline_and_is_ended(make, tmp_path):
    path = make("#!/bin/sh\necho $$ > %s\necho words >&2\nexec sleep 60\n" % (tmp_path / "pid"))
    begin = time.monotonic()
    with pytest.raises(HostError, match="no answer in time.*words"):
        module.get_capabilities(path, str(tmp_path / "cache"), timeout=0.5)
    assert time.monotonic() - begin < 5
    assert not os.path.exists("/proc/%d" % int((tmp_path / "pid").read_text()))


def test_missing_binary(tmp_path):
    with pytest.raises(HostError, match="No such file"):
        module.get_capabilities(str(tmp_path / "none"), str(tmp_path / "cache"))


def test_no_binary_at_all(make, tmp_path):
    with pytest.raises(HostError, match="cannot run"):
        module.get_capabilities(make("neither a script nor a program"), str(tmp_path / "cache"))
