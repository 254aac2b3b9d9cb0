# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of messages: values as users write them, and names that are similar."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.testing import patch_module_args
from ansible_collections.vlab.qemu.plugins.module_utils import _module
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown, with_hint
from ansible_collections.vlab.qemu.plugins.module_utils._remote.code_bundle import cache_failure
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import vm_argument_spec


@pytest.mark.parametrize(
    "value, text",
    [
        ("a'b", '"a\'b"'),
        ("", "''"),
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (1.5, "1.5"),
        ({"a": None, "b": [True]}, '{"a": null, "b": [true]}'),
        ([1, "x"], '[1, "x"]'),
        (1 << 64, "the number"),
        ([10**5000], "the value"),
        ({1: {2, 3}}, '{"1": "{2, 3}"}'),
        ({(1, 2): 3}, "{}"),
        ("x" * 100, "'" + "x" * 59 + "..."),
    ],
)
def test_values_are_shown_as_users_write_them(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    "given, hint",
    [
        ({"memry": 1}, "memry (did you mean memory?). Supported parameters include: "),
        ({"cpu_s": 1}, "(did you mean cpus?)"),
        ({"disks": [{"name": "a", "siz": "1G"}]}, "disks.siz (did you mean disks.size?)"),
        (
            {"nics": [{"name": "a", "link": {"type": "user", "forward": []}}]},
            "(did you mean nics.link.forwards?)",
        ),
        ({"memry": 1, "machin": 1}, "(did you mean machine, memory?)"),
        ({"qqqqq": 1}, "qqqqq. Supported parameters include: "),
    ],
)
def test_similar_options_are_named(given, hint):
    spec = vm_argument_spec()
    checked = ArgumentSpecValidator(spec).validate({"name": "r1", **given})
    message = with_hint(checked.error_messages[-1], checked.unsupported_parameters, spec)
    assert hint in message


def test_a_module_names_similar_options(capsys):
    with patch_module_args({"rood": "/x"}), pytest.raises(SystemExit):
        _module.run_module(lambda module: {}, argument_spec={"root": {"type": "path"}})
    result = json.loads(capsys.readouterr().out)
    assert result["failed"] and "rood (did you mean root?). Supported" in result["msg"]


def test_a_module_that_fails_later_keeps_its_message(capsys):
    with patch_module_args({}), pytest.raises(SystemExit):
        _module.run_module(lambda module: {"failed": True, "msg": "no"}, argument_spec={})
    assert json.loads(capsys.readouterr().out)["msg"] == "no"


@pytest.mark.parametrize(
    "error, reason",
    [
        (
            PermissionError(13, "Permission denied", "/var/cache/vlab"),
            "/var/cache/vlab: Permission denied",
        ),
        (PermissionError("others can write to it"), "others can write to it"),
    ],
)
def test_a_cache_that_cannot_be_written_is_named_without_errno(error, reason):
    assert cache_failure(error) == "cannot cache the collection's code on this host: " + reason
