# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The unit, its instances and the kept code; a real start of it is in the target autostart."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json, write_json
from ansible_collections.vlab.qemu.plugins.module_utils._lab import autostart as lab_autostart
from ansible_collections.vlab.qemu.plugins.module_utils._lab import converge
from ansible_collections.vlab.qemu.plugins.module_utils._remote import kept_code
from ansible_collections.vlab.qemu.plugins.module_utils._vm import autostart
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import BY_NAME
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose


@pytest.fixture(name="where")
def fixture_where(tmp_path, monkeypatch):
    where = autostart.Locations(
        str(tmp_path / "units"), str(tmp_path / "root/.host/autostart"), "multi-user.target"
    )
    monkeypatch.setattr(autostart, "locations", lambda: where)
    return where


def wants(where):
    folder = os.path.join(where.units, "multi-user.target.wants")
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


@pytest.mark.parametrize(
    "path, name",
    [  # as systemd-escape --path of systemd 252 prints them
        ("/var/lib/vlab/default/r1", "var-lib-vlab-default-r1"),
        ("/srv/a-b/c_d", r"srv-a\x2db-c_d"),
        ("/home/ann/.local/x", r"home-ann-.local-x"),
        ("/.x", r"\x2ex"),
        ("/a b/é", r"a\x20b-\xc3\xa9"),
        ("/a%b:c.d", r"a\x25b:c.d"),
        ("/a\\b", r"a\x5cb"),
    ],
)
def test_names_of_instances(path, name):
    assert autostart.escape(path) == name


def test_the_unit(where):
    text = autostart.unit_text(where._replace(code='/a "b"/100%/$x'), "/usr/bin/python3")
    lines = text.splitlines()
    assert 'ExecStart="/usr/bin/python3" -I "/a \\"b\\"/100%%/$$x/start.py" %f' in lines
    assert "WantedBy=multi-user.target" in lines and "Description=VM or lab %f" in lines
    assert {"Type=oneshot", "RemainAfterExit=yes", "KillMode=process"} <= set(lines)


@pytest.mark.parametrize(
    "uid, units, target",
    [
        (0, "/etc/systemd/system", "multi-user.target"),
        (1000, "/home/ann/.config/systemd/user", "default.target"),
    ],
)
def test_locations(monkeypatch, uid, units, target):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("HOME", "/home/ann")
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    found = autostart.locations()
    assert (found.units, found.target) == (units, target)
    assert found.code.endswith("/vlab/.host/autostart")


def test_warnings(monkeypatch, tmp_path):
    monkeypatch.setattr(autostart, "_BOOTED", str(tmp_path))
    monkeypatch.setattr(autostart, "_LINGER", str(tmp_path))
    assert autostart.warnings() == [] or os.geteuid() != 0
    monkeypatch.setattr(autostart, "_BOOTED", str(tmp_path / "none"))
    assert "does not run systemd" in autostart.warnings()[0]
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert "loginctl enable-linger nobody" in autostart.warnings()[-1]


def test_instances_come_and_go(where):
    for path in ("/r/l/a", "/r/l/b"):
        assert not autostart.is_enabled(path)
        autostart.enable(path, "vm")
        autostart.enable(path, "vm")
        assert autostart.is_enabled(path)
    assert wants(where) == ["vlab-autostart@r-l-a.service", "vlab-autostart@r-l-b.service"]
    link = os.path.join(where.units, "multi-user.target.wants", wants(where)[0])
    assert os.path.realpath(link) == os.path.join(where.units, "vlab-autostart@.service")
    with open(link, encoding="utf-8") as stream:
        assert stream.read() == autostart.unit_text(where, sys.executable)
    autostart.disable("/r/l/a")
    assert wants(where) == ["vlab-autostart@r-l-b.service"] and os.path.exists(where.code)
    autostart.disable("/r/l/b")
    autostart.disable("/r/l/b")
    assert os.listdir(where.units) == [] and not os.path.exists(where.code)


def test_runs_at_the_same_time(where):
    """The unit and the code stay as long as there is an instance."""

    def work(path):
        for _round in range(20):
            autostart.enable(path, "vm")
            assert os.path.exists(autostart._link(where, path))  # of the unit that it points to
            assert os.path.exists(where.code + "/start.py")
            autostart.disable(path)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, "/r/l/%d" % number) for number in range(3)]:
            done.result()
    assert os.listdir(where.units) == [] and not os.path.exists(os.path.dirname(where.code))


def test_a_folder_that_cannot_be_written(where):
    with open(where.units, "w", encoding="ascii"):
        pass
    with pytest.raises(HostError, match="^cannot set autostart: "):
        autostart.enable("/r/l/a", "vm")


def test_the_kept_code_runs_alone(where, tmp_path):
    """With nothing but Python: it says that there is no such VM, and no such lab."""
    autostart.enable("/r/l/a", "vm")
    autostart.enable("/r/l", "lab")
    words = [sys.executable, "-I", os.path.join(where.code, "start.py")]

    def run(path):
        done = subprocess.run([*words, path], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr.strip()

    (tmp_path / "l/r1").mkdir(parents=True)
    assert run(str(tmp_path / "l/a")) == (
        1,
        "vm: the lab l has no VM a under %s: it has none" % tmp_path,
    )
    write_json(str(tmp_path / "l/.autostart.json"), {"format": 1, "vms": 5})
    code, text = run(str(tmp_path / "l"))
    assert code == 1 and text.endswith("is damaged or missing: run qemu_lab again, which writes it")


def test_code_is_replaced_only_by_other_code(tmp_path, monkeypatch):
    folder, sources = str(tmp_path / "code/vm"), {"a/b.py": b"1", "a/c.py": b"2"}
    monkeypatch.setattr(kept_code, "_sources", lambda: sources)
    kept_code.keep(folder)
    before = os.stat(folder).st_ino
    del sources["a/c.py"]  # Ansible packs less for another module
    kept_code.keep(folder)
    assert os.stat(folder).st_ino == before and sorted(os.listdir(folder + "/a")) == [
        "b.py",
        "c.py",
    ]
    sources["a/b.py"] = b"3"
    kept_code.keep(folder)
    assert os.listdir(folder + "/a") == ["b.py"] and os.listdir(tmp_path / "code") == ["vm"]


def test_the_option(where, tmp_path):
    host = FakeHost(root=str(tmp_path / "root"))
    part, small = BY_NAME["autostart"], {"memory": "16", "disks": []}
    off, on = compose(small, host=host), compose(small, host=host, autostart=True)
    (change,) = part.compare(off, on)
    assert (change.option, change.before, change.after, change.how) == (
        "autostart",
        False,
        True,
        LIVE,
    )
    assert part.pending(off, host) == []
    (pending,) = part.pending(on, host)
    assert (pending.before, pending.after) == (False, True)
    part.prepare(on, host)
    assert part.pending(on, host) == [] and autostart.is_enabled(host.folder.path)
    assert part.pending(off, host)[0].after is False
    live = SimpleNamespace(folder=host.folder)
    part.refresh(off, live)
    assert not autostart.is_enabled(host.folder.path)
    part.refresh(on, live)
    assert autostart.is_enabled(host.folder.path)
    part.prepare(off, host)
    assert not autostart.is_enabled(host.folder.path)


def node(name, state, **more):
    return {"name": name, "state": state, "options": {"kernel": "/secret"}, **more}


def lab_params(*nodes, **more):
    return {"state": "started", "vms": list(nodes), "segments": [], "limits": {}, **more}


def test_a_lab_is_saved_as_it_was_started(where, tmp_path):
    folder = tmp_path / "r/l"
    folder.mkdir(parents=True)

    def run(*nodes, **more):
        made = lab_autostart.LabAutostart(str(folder), lab_params(*nodes, **more))
        changes = [(change.before, change.after) for change in made.changes]
        made.apply()
        saved = read_json(str(folder / ".autostart.json"))
        return changes, saved and {vm["name"]: vm["state"] for vm in saved["vms"]}

    assert run(node("a", "started")) == ([], None)
    after = {"a": "ready"}
    first = [node("a", "started", ready={"agent": True}), node("b", "present", after=after)]
    assert run(*first, autostart=True) == (
        [(False, True)],
        {"a": "started", "b": "stopped"},
    )
    assert run(*first, autostart=True)[0] == []
    assert run(node("a", "keep"), node("b", "started", after=after)) == (
        [],
        {"a": "started", "b": "started"},
    )
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "vm.json").touch()
    found = lab_autostart.params_of(str(folder))
    assert (found["lab"], found["root"], found["state"]) == ("l", str(tmp_path / "r"), "started")
    assert [(vm["name"], vm["state"], vm["after"]) for vm in found["vms"]] == [
        ("a", "started", {}),
        ("b", "started", after),
    ]
    assert all(vm["options"] == {} for vm in found["vms"])
    run(node("a", "stopped"), node("b", "started", after=after))
    assert [
        (vm["name"], vm["state"], vm["after"]) for vm in lab_autostart.params_of(folder)["vms"]
    ] == [
        ("a", "keep", {}),
        ("b", "started", {}),
    ]
    os.unlink(folder / "b/vm.json")
    assert [vm["name"] for vm in lab_autostart.params_of(folder)["vms"]] == ["a"]
    assert run(state="absent") == ([(True, False)], None)
    assert wants(where) == []


def test_a_lab_that_is_stopped_by_its_name(where, tmp_path):
    """Without a topology, only the states change."""
    lab_autostart.LabAutostart(
        str(tmp_path), lab_params(node("a", "started", after={"b": "started"}), autostart=True)
    ).apply()
    by_name = lab_params(state="stopped", by_name=True)
    lab_autostart.LabAutostart(str(tmp_path), by_name).apply()
    (vm,) = read_json(str(tmp_path / ".autostart.json"))["vms"]
    assert vm == {"name": "a", "state": "stopped", "after": {"b": "started"}}
    lab_autostart.LabAutostart(str(tmp_path), dict(by_name, autostart=False)).apply()
    assert wants(where) == []
    with pytest.raises(OptionError, match="^autostart: give the topology"):
        lab_autostart.LabAutostart(str(tmp_path), dict(by_name, autostart=True))


def test_segments_are_saved_before_the_run_changes_them(where, tmp_path):
    segments = [{"name": "s", "ports": {"a:e": {"local_address": "127.64.0.1"}}}]
    params = lab_params(autostart=True, segments=segments)
    made = lab_autostart.LabAutostart(str(tmp_path), params)
    segments[0]["ports"]["a:e"]["local_address"] = "127.99.0.1"
    made.apply()
    saved = read_json(str(tmp_path / ".autostart.json"))
    assert saved["segments"][0]["ports"]["a:e"]["local_address"] == "127.64.0.1"
    assert "secret" not in str(saved)


def test_the_start_itself_saves_nothing(where, tmp_path):
    made = lab_autostart.LabAutostart(str(tmp_path), lab_params(autostart=True))
    made.apply()
    before = read_json(str(tmp_path / ".autostart.json"))
    params = lab_autostart.params_of(str(tmp_path))
    again = lab_autostart.LabAutostart(str(tmp_path), dict(params, vms=[node("x", "started")]))
    assert again.changes == []
    again.apply()
    assert read_json(str(tmp_path / ".autostart.json")) == before


def test_a_start_that_fails(where, tmp_path, monkeypatch):
    """The journal has what was done before."""

    def converge_lab(params, check_mode):
        raise HostError("b is not ready", progress=["a is ready", "b is running"])

    lab_autostart.LabAutostart(str(tmp_path), lab_params(autostart=True)).apply()
    monkeypatch.setattr(converge, "converge_lab", converge_lab)
    with pytest.raises(SystemExit, match="^a is ready\nb is running\nb is not ready$"):
        lab_autostart.start(str(tmp_path))
