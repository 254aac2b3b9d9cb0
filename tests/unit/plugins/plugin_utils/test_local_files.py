# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of qemu_vm: files of the controller."""

from __future__ import annotations

import base64

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.vlab.qemu.plugins.plugin_utils._local_files import with_files

BINARY = bytes(range(256))


@pytest.fixture
def find(tmp_path):
    (tmp_path / "x.tar").write_bytes(BINARY)

    def find(folder, name):
        assert folder == "files"
        if not (tmp_path / name).exists():
            raise AnsibleError("Could not find")
        return str(tmp_path / name)

    return find


def test_sources_become_contents(find):
    encoded = {"base64": base64.b64encode(BINARY).decode()}
    args = {
        "name": "r1",
        "cloud_init": {"user_data": {"src": "x.tar"}, "bus": "scsi"},
        "config_drive": {"files": {"a": {"src": "x.tar"}, "b": {"src": "x", "c": 1}, "d": "text"}},
        "tftp_files": {"files": {"a": {"src": "x.tar"}}, "nic": "eth0"},
    }
    assert with_files(args, find) == {
        "name": "r1",
        "cloud_init": {"user_data": encoded, "bus": "scsi"},
        "config_drive": {"files": {"a": encoded, "b": {"src": "x", "c": 1}, "d": "text"}},
        "tftp_files": {"files": {"a": encoded}, "nic": "eth0"},
    }
    assert args["cloud_init"]["user_data"] == {"src": "x.tar"}


@pytest.mark.parametrize(
    "args",
    [{}, {"cloud_init": None}, {"cloud_init": "text", "config_drive": {"files": None}}, {"a": 1}],
)
def test_other_options_stay_as_they_are(args, find):
    assert with_files(args, find) == args


@pytest.mark.parametrize("source", ["none.tar", 5, None])
def test_a_missing_file(source, find):
    with pytest.raises(
        AnsibleActionFail, match=r"config_drive.files\[a\]: cannot read .*there is no"
    ):
        with_files({"config_drive": {"files": {"a": {"src": source}}}}, find)
