# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that a VM serves by TFTP: what is refused, kept, written and removed."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import NEXT_START, RESTART
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media import tftp_files
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media.media import Media
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, argv, compose, values

USER = {"name": "mgmt", "link": {"type": "user"}}
SECRET = "hunter2"


def vm(files=None, nic="mgmt", nics=(USER,), **more):
    served = {"files": {"a.cfg": SECRET} if files is None else files, "nic": nic}
    return {"memory": "64M", "disks": [], "nics": list(nics), "tftp_files": served, **more}


@pytest.mark.parametrize(
    "given, option",
    [
        (vm(nic=None), "tftp_files.nic"),
        (vm(nic="eth1"), "tftp_files.nic"),
        (vm(nics=[{"name": "mgmt"}]), "tftp_files.nic"),
        (
            vm(nics=[{"name": "mgmt", "link": {"type": "user", "tftp": "/srv"}}]),
            "nics[mgmt].link.tftp",
        ),
        (vm({"../a": "x"}), "tftp_files.files"),
        (vm({"/a": "x"}), "tftp_files.files"),
        (vm({"a": "x", "a/b": "y"}), "tftp_files.files"),
        (vm({"a": {"base64": "!"}}), "tftp_files.files[a].base64"),
        (vm({"a": {"src": "x"}}), "tftp_files.files[a]"),
    ],
)
def test_what_is_refused(given, option):
    with pytest.raises(OptionError) as caught:
        compose(given)
    assert caught.value.facts["option"] == option


def test_the_definition_has_digests():
    made = compose(vm({"a.cfg": SECRET, "n": None, "d/b": {"base64": "AA=="}}))
    kept = made["tftp_files"]
    assert set(kept["files"]) == {"a.cfg", "d/b"} and kept["digested"]
    assert SECRET not in json.dumps(made)
    again = compose(vm({"a.cfg": SECRET, "d/b": {"base64": "AA=="}}), saved=made)
    assert again == made == compose({}, saved=made)
    assert compose({"tftp_files": {}}, saved=made)["tftp_files"] is None


def test_the_link_serves_the_folder(tmp_path):
    host = FakeHost(root=tmp_path)
    (backend,) = [word for word in values(argv(vm(), host=host), "-netdev") if "user" in word]
    assert host.folder.file("tftp") in backend


@pytest.mark.parametrize(
    "after, how",
    [
        (vm({"a.cfg": "other"}), NEXT_START),
        (vm({"b.cfg": SECRET}), NEXT_START),
        (vm(nic="b", nics=[USER, {"name": "b", "link": {"type": "user"}}]), RESTART),
        ({"tftp_files": {}}, RESTART),
    ],
)
def test_when_a_change_acts(after, how):
    saved = compose(vm())
    desired = compose(after, saved=saved)
    (change,) = [one for one in Media().compare(saved, desired) if one.option == "tftp_files"]
    assert change.how == how and SECRET not in str(change)
    assert not Media().compare(saved, compose(vm(), saved=saved))


def test_files_are_written_and_removed(tmp_path):
    host = FakeHost(root=tmp_path)
    host.folder.make()
    base = host.folder.file("tftp")
    made = compose(vm({"a.cfg": SECRET, "d/e/b": "b"}), host=host)
    assert len(tftp_files.write(made, host)) == 2
    assert not tftp_files.write(made, host)
    found = {
        os.path.relpath(os.path.join(folder, name), base): os.stat(os.path.join(folder, name))
        for folder, folders, names in os.walk(base)
        for name in [*folders, *names]
    }
    modes = {name: oct(status.st_mode & 0o777) for name, status in found.items()}
    assert modes == {"a.cfg": "0o600", "d": "0o700", "d/e": "0o700", "d/e/b": "0o600"}
    assert os.stat(base).st_mode & 0o777 == 0o700
    # A later run without contents finds them, and misses those that were deleted.
    later = FakeHost(root=tmp_path)
    assert not tftp_files.write(compose({}, saved=made, host=later), later)
    # A folder becomes a file, a file a folder.
    other = compose(vm({"d": "file", "a.cfg/x": "x"}), saved=made, host=host)
    tftp_files.write(other, host)
    with open(os.path.join(base, "d"), encoding="ascii") as stream:
        assert stream.read() == "file"
    assert sorted(os.listdir(base)) == ["a.cfg", "d"]
    os.unlink(os.path.join(base, "d"))
    with pytest.raises(OptionError, match="no longer exists"):
        tftp_files.write(other, later)
    none = compose({"tftp_files": {}}, saved=made, host=host)
    assert tftp_files.write(none, host) == ["remove %s" % base]
    assert not os.path.exists(base) and not tftp_files.write(none, host)


def test_a_snapshot_has_them(tmp_path):
    host = FakeHost(root=tmp_path)
    assert Media().state_files(compose(vm(), host=host), host) == ["tftp"]
