# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation says what the code does."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS, PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.report import report
from ansible_collections.vlab.qemu.tests.unit import documents
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted

SENTENCES = {
    "live": "made live",
    "restart": "needs? a restart",
    "none": "not concern a running VM",
    "never": "Cannot be changed",
}


def _script(name):
    spec = importlib.util.spec_from_file_location(name, documents.ROOT / f"scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLE = _script("options_table")
RETURN_DOCS = _script("return_docs")


def document(option):
    """The documented option of qemu_vm, such as nics[].link, and its description as one text."""
    first, _list, second = option.partition("[].")
    found = documents.options("qemu_vm")[first]
    if second:
        found = found["suboptions"][second]
    text = found["description"]
    return found, " ".join(text if isinstance(text, list) else [text])


@pytest.mark.parametrize("module", documents.MODULES)
def test_every_option_is_documented(module):
    def compare(spec, documented, where):
        assert set(spec) == set(documented), where
        for name, entry in spec.items():
            if entry.get("options"):
                compare(entry["options"], documented[name]["suboptions"], "%s.%s" % (where, name))

    compare(documents.argument_spec(module)["argument_spec"], documents.options(module), module)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_has_a_fragment_with_its_options(part):
    beside = {"media": {"purge_disks"}, "network": {"purge_nics"}}.get(part.name, set())
    assert (
        set(documents.fragment("vlab.qemu." + part.name)["options"]) == set(part.options) | beside
    )


@pytest.mark.parametrize("row", TABLE.rows(), ids=lambda row: row[0])
def test_options_say_how_a_change_reaches_a_running_vm(row):
    option, _default, how = row
    name = option.partition(":")[0].strip("`")
    _found, text = document(name)
    word = re.split("[;, ]", how)[0]
    assert re.search(SENTENCES[word], text)
    for other in set(SENTENCES) - {word}:
        assert other in how or not re.search(SENTENCES[other], text)


@pytest.mark.parametrize(
    "option",
    [
        name
        for name, option in OPTIONS.items()
        if isinstance(option.default, (bool, int)) or option.default
    ],
)
def test_options_say_their_defaults(option):
    _found, text = document(option)
    default = OPTIONS[option].default
    shown = default if isinstance(default, str) else json.dumps(default)
    if not isinstance(default, (dict, list)) or not default:
        assert "V(%s)" % shown in text


def test_a_changed_default_is_no_default_key():
    """Omitted options stay unchanged, so an option of a VM has no default in Ansible."""
    for option in OPTIONS:
        assert "default" not in document(option)[0]


def test_the_table_in_the_guide_is_up_to_date():
    assert TABLE.main(["--check"]) == 0


def test_the_shared_entries_of_return_are_up_to_date():
    assert RETURN_DOCS.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("qemu_vm", ("vm", "contains", "{}", "contains")),
        ("qemu_vm_info", ("vms", "contains", "{}", "contains")),
    ],
)
@pytest.mark.parametrize("option", ["nics", "disks"])
def test_every_suboption_of_a_nic_and_a_disk_is_returned(module, path, option):
    found = documents.part(module, "RETURN")
    for step in path:
        found = found[step.format(option)]
    assert set(documents.options("qemu_vm")[option]["suboptions"]) <= set(found)


@pytest.mark.parametrize(
    ("module", "entry", "option"), [("qemu_nic", "nic", "nics"), ("qemu_disk", "disk", "disks")]
)
def test_the_small_modules_return_every_suboption(module, entry, option):
    found = documents.part(module, "RETURN")[entry]["contains"]
    assert set(documents.options("qemu_vm")[option]["suboptions"]) <= set(found)


def _reported():
    host = FakeHost()
    given = {
        "cdroms": [{"name": "cd"}],
        "floppies": [{"name": "fd"}],
        "consoles": [{}, {"type": "tcp"}],
        "guest_agent": True,
        "disks": [{"name": "root", "size": "1G"}, {"name": "over", "backing_file": "/base"}],
        "display": {"type": "vnc"},
        "nics": [
            {
                "name": "eth0",
                "link": {
                    "type": "user",
                    "forwards": [
                        {
                            "guest_port": 22,
                            "guest_address": "10.0.2.9",
                            "protocol": "tcp",
                            "host_address": "127.0.0.1",
                            "host_port": "auto",
                        }
                    ],
                },
            }
        ],
    }
    definition = granted(compose(given, host=host))
    observation = Observation(host.folder)
    observation.alive, observation.run = (
        True,
        {"pid": 1, "argv": ["q"], "accel": "tcg", "accel_reason": "asked for"},
    )
    return report(observation, definition)


def _compare(result, contains, where):
    if contains is None:
        return
    for entry in result if isinstance(result, list) else [result]:
        assert set(entry) <= set(contains), where
        always = {key for key, text in contains.items() if text["returned"] == "always"}
        assert always <= set(entry), where
        for key, text in contains.items():
            if key in entry:
                _compare(entry[key], text.get("contains"), "%s.%s" % (where, key))


def test_what_is_returned_of_a_vm_is_documented():
    result = _reported()
    contains = documents.part("qemu_vm", "RETURN")["vm"]["contains"]
    _compare(result, contains, "vm")
    for key in contains:
        assert key in result


def test_both_modules_return_the_same_for_a_vm():
    one = documents.part("qemu_vm", "RETURN")["vm"]["contains"]
    other = documents.part("qemu_vm_info", "RETURN")["vms"]["contains"]
    assert {key for key in other if key not in one} == {"agent_error", "definition", "error"}
    other["nics"]["contains"].pop("guest_name")
    assert json.dumps(one).replace("RV(vm.", "RV(vms[].") == json.dumps(
        {key: other[key] for key in one}
    )
