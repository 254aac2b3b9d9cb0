# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of files is in no result and no log of a module."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils import basic

from ansible_collections.vlab.qemu.plugins.module_utils import _module
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.masking import without_contents
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import vm_argument_spec

SECRET = "hunter2-and-more"
SECRETS = {
    "cloud_init": {"user_data": {"password": SECRET}, "meta_data": SECRET, "bus": "scsi"},
    "config_drive": {"files": {"a": SECRET, "b": {"base64": SECRET}}, "label": "x"},
    "tftp_files": {"files": {"a": SECRET}, "nic": "x"},
}


@pytest.mark.parametrize(
    "params, shown",
    [
        ({"name": "r1"}, {"name": "r1"}),
        ({"cloud_init": None, "config_drive": {}}, {"cloud_init": None, "config_drive": {}}),
        ({"cloud_init": "{'user_data': 1}"}, {"cloud_init": "M"}),
        ({"config_drive": {"files": None}}, {"config_drive": {"files": None}}),
        (
            SECRETS,
            {
                "cloud_init": {"user_data": {"password": "M"}, "meta_data": "M", "bus": "scsi"},
                "config_drive": {"files": {"a": "M", "b": "M"}, "label": "x"},
                "tftp_files": {"files": {"a": "M"}, "nic": "x"},
            },
        ),
        ({"share": '{"vms": []}'}, {"share": "M"}),
        (None, None),
    ],
)
def test_masked_options(params, shown):
    text = json.dumps(without_contents(params)).replace("VALUE_SPECIFIED_IN_NO_LOG_PARAMETER", "M")
    assert json.loads(text) == shown


def fails(module):
    raise VlabError("it fails")


@pytest.mark.parametrize(
    "work, more",
    [
        (lambda module: {"changed": False, "seen": module.params["cloud_init"]["bus"]}, {}),
        (lambda module: {"changed": False, "failed": True, "msg": "no"}, {}),
        (fails, {}),
        (fails, {"no_such_option": 1}),
    ],
)
def test_neither_the_result_nor_the_log_shows_contents(work, more, monkeypatch, capsys):
    logged = []
    monkeypatch.setattr(
        basic.AnsibleModule, "log", lambda self, msg, log_args=None: logged.append(msg)
    )
    args = {"ANSIBLE_MODULE_ARGS": dict(SECRETS, name="r1", **more)}
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(args).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
    with pytest.raises(SystemExit):
        _module.run_module(work, argument_spec=vm_argument_spec())
    result = capsys.readouterr().out
    assert SECRET not in result  # newer versions of ansible-core leave the invocation out
    assert SECRET not in json.dumps(logged)
    assert bool(logged) != bool(more)
