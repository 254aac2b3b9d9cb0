# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EXAMPLES of the modules are valid: the argument spec has each option, suboption and value."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.vlab.qemu.tests.unit import documents

# What a variable stands for, by the type of its option.
VARIABLE = {"dict": {}, "list": [], "int": 1, "bool": True}
KEYWORDS = {
    "name",
    "register",
    "run_once",
    "loop",
    "check_mode",
    "diff",
    "failed_when",
    "changed_when",
    "when",
    "vars",
    "delegate_to",
    "become",
    "no_log",
}


def filled(value, item):
    """An option with {{ item }} as Ansible would fill it in."""
    if isinstance(value, dict):
        return {key: filled(content, item) for key, content in value.items()}
    if isinstance(value, list):
        return [filled(content, item) for content in value]
    return value.replace("{{ item }}", str(item)) if isinstance(value, str) else value


def cases():
    for module in documents.MODULES:
        for task in documents.part(module, "EXAMPLES"):
            for key in task:
                # Options from a variable are known only when the task runs.
                if key.startswith("vlab.qemu.") and not isinstance(task[key], str):
                    for item in task.get("loop", [None]):
                        yield pytest.param(
                            key[len("vlab.qemu.") :],
                            filled(task[key] or {}, item),
                            id="%s: %s" % (module, task["name"]),
                        )


@pytest.mark.parametrize("module, given", list(cases()))
def test_options_are_in_the_argument_spec(module, given):
    asked = documents.argument_spec(module)
    given = {
        key: VARIABLE.get(asked["argument_spec"].get(key, {}).get("type"), value)
        if re.fullmatch(r"\{\{[^}]*\}\}", str(value))
        else value
        for key, value in given.items()
    }
    rules = {
        key: asked[key]
        for key in (
            "mutually_exclusive",
            "required_together",
            "required_one_of",
            "required_if",
            "required_by",
        )
        if key in asked
    }
    assert (
        ArgumentSpecValidator(asked["argument_spec"], **rules).validate(given).error_messages == []
    )


@pytest.mark.parametrize("module", documents.MODULES)
def test_examples_are_named_tasks(module):
    tasks = documents.part(module, "EXAMPLES")
    assert len([task for task in tasks if "vlab.qemu." + module in task]) > 0
    for task in tasks:
        actions = set(task) - KEYWORDS
        assert task.get("name") and len(actions) == 1, task
        assert actions.pop().count(".") == 2, task
