# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option that is a path: an image is relative to a folder, everything else is absolute."""

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.converge import LabRun
from ansible_collections.vlab.qemu.plugins.module_utils._lab.facts import hypervisor_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.disk_jobs import converge_jobs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import (
    image_folder,
    with_image_paths,
)
from ansible_collections.vlab.qemu.tests.unit.vm_world import compose

SMALL = {"memory": "16", "disks": []}
IMAGES = [
    {"kernel": "PATH"},
    {"kernel": "/k", "initrd": "PATH"},
    {"bios_image": "PATH"},
    {"disks": [{"name": "d", "path": "PATH", "size": "1M"}]},
    {"disks": [{"name": "d", "backing_file": "PATH"}]},
    {"cdroms": [{"name": "c", "path": "PATH"}]},
    {"floppies": [{"name": "f", "path": "PATH"}]},
]
LINKS = [
    ("unix", "path", {"remote_path": "/s"}),
    ("unix", "remote_path", {"path": "/s"}),
    ("vde", "path", {}),
    ("user", "tftp", {}),
    ("tap", "script", {}),
    ("tap", "down_script", {}),
    ("bridge", "helper", {"bridge": "br0"}),
]
OTHERS = [
    ({"fds": [{"set": 1, "path": "PATH"}]}, "fds[0].path"),
    ({"disks": [{"name": "d", "size": "1M", "secret_file": "PATH"}]}, "disks[d].secret_file"),
    (
        {
            "nics": [
                {
                    "name": "e",
                    "link": {"type": "user"},
                    "capture": {"enabled": True, "path": "PATH"},
                }
            ]
        },
        "nics[e].capture.path",
    ),
    *(
        (
            {"nics": [{"name": "e", "link": {"type": kind, key: "PATH", **more}}]},
            "nics[e].link." + key,
        )
        for kind, key, more in LINKS
    ),
]


def filled(given, path):
    """Return options with a path in the place of PATH."""
    if isinstance(given, dict):
        return {key: filled(value, path) for key, value in given.items()}
    if isinstance(given, list):
        return [filled(value, path) for value in given]
    return path if given == "PATH" else given


def paths_in(spec):
    """Return the names of the options of type path, as NAME or NAME.SUBOPTION."""
    found = set()
    for name, option in spec.items():
        if option["type"] == "path":
            found.add(name)
        found |= {"%s.%s" % (name, inner) for inner in paths_in(option.get("options", {}))}
    return found


def test_no_option_that_is_a_path_is_missing():
    """A new one belongs to the tables above."""
    known = {"kernel", "initrd", "bios_image", "disks.path", "disks.backing_file"}
    known |= {"disks.secret_file", "nics.capture.path", "fds.path"}
    known |= {"nics.link." + key for _kind, key, _more in LINKS}
    assert paths_in(definitions.argument_spec()) == known


@pytest.mark.parametrize("given", IMAGES)
def test_an_image_is_looked_up_in_the_folder(given):
    relative = compose(SMALL, **with_image_paths(filled(given, "sub/i.raw"), "/srv/images"))
    absolute = compose(SMALL, **filled(given, "/srv/images/sub/i.raw"))
    assert relative == absolute
    for wrong in ("https://x/i.raw", "i.raw\n", "  "):
        with pytest.raises(OptionError):
            with_image_paths(filled(given, wrong), "/srv/images")
    with pytest.raises(OptionError, match="relative path"):
        compose(SMALL, **filled(given, "i.raw"))


def test_an_empty_text_and_what_is_no_text_are_left_as_they_are():
    given = {"kernel": "", "initrd": None, "disks": [{"name": "d", "path": "", "size": "1M"}, 5]}
    assert with_image_paths(given, "/i") == given
    assert with_image_paths({"disks": "x", "memory": 1}, "/i") == {"disks": "x", "memory": 1}


def test_the_error_names_the_item():
    with pytest.raises(OptionError, match=r"^disks\[d\]\.path: 'http://x' is a URL"):
        with_image_paths({"disks": [{"name": "d", "path": "http://x"}]}, "/i")


@pytest.mark.parametrize("given, option", OTHERS)
def test_other_paths_are_absolute(given, option):
    given = dict(given, nics=[dict(nic, index=1) for nic in given.get("nics", ())])
    compose(SMALL, **filled(given, "/x"))
    with pytest.raises(OptionError) as caught:
        compose(SMALL, **with_image_paths(filled(given, "x"), "/i"))
    assert (caught.value.option, caught.value.reason) == (
        option,
        "'x' is a relative path: give an absolute one",
    )


def test_the_folder(tmp_path):
    assert image_folder("/var/lib/vlab", None) == image_folder("/var/lib/vlab", "")
    assert image_folder("/var/lib/vlab", None) == "/var/lib/vlab/images"
    assert image_folder("/var/lib/vlab", "/srv/i/") == "/srv/i"
    with pytest.raises(OptionError, match="^image_dir: 'i' is a relative path"):
        image_folder("/var/lib/vlab", "i")
    with pytest.raises(OptionError, match="^root: 'x' is a relative path"):
        Folder("x", "l", "n")


def test_the_nodes_of_a_lab(tmp_path):
    node = {"name": "r1", "state": "present", "options": {"kernel": "k", "nics": []}}
    params = {"lab": "t", "root": str(tmp_path), "vms": [node], "purge": False, "state": "present"}
    (run,) = LabRun(dict(params), False).nodes.values()
    assert run.node["options"]["kernel"] == str(tmp_path / "images/k")
    (run,) = LabRun(dict(params, image_dir="/srv/i"), False).nodes.values()
    assert run.node["options"]["kernel"] == "/srv/i/k"
    node["options"]["kernel"] = "ftp://k"
    with pytest.raises(OptionError, match="^nodes.r1.kernel: 'ftp://k' is a URL"):
        LabRun(dict(params), False)


def test_files_of_a_lab(tmp_path):
    (tmp_path / "here").touch()
    asked = ["here", "there", str(tmp_path / "here")]
    assert hypervisor_facts(str(tmp_path), "t", asked, str(tmp_path))[0]["missing_files"] == [
        "there"
    ]


def test_a_backup(tmp_path):
    params = {
        "backup": "http://x",
        "backup_timeout": 1,
        "vm": "v",
        "lab": "l",
        "root": str(tmp_path),
    }
    with pytest.raises(OptionError, match="^backup: 'http://x' is a URL"):
        converge_jobs(params, True)
