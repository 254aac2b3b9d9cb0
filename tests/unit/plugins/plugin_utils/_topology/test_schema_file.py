# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The schema for editors matches the validation and has all descriptions; topologies name it."""

from __future__ import annotations

import importlib.util
import json
import re

import jsonschema
import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import schema
from ansible_collections.vlab.qemu.tests.unit import documents


def _script():
    spec = importlib.util.spec_from_file_location(
        "topology_schema", documents.ROOT / "scripts/topology_schema.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
FILE = documents.ROOT / SCRIPT.PATH
SCHEMA = json.loads(FILE.read_text(encoding="utf-8"))
VALIDATORS = [
    jsonschema.Draft202012Validator(found) for found in (SCHEMA, schema.topology_schema())
]


def _topologies():
    """Return the beginnings of the topologies in pages, and of the templates in roles."""
    pages = [*documents.ROOT.glob("docs/*.md"), *documents.ROOT.glob("roles/*/README.md")]
    for page in [documents.ROOT / "README.md", *sorted(pages)]:
        text = page.read_text(encoding="utf-8")
        # Files of other tools.
        text = re.sub(r"^<!-- import: .*?^```.*?^```", "", text, flags=re.S | re.M)
        for number, block in enumerate(re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.S | re.M)):
            if re.search(r"^name:", block, re.M) and re.search(r"^nodes:", block, re.M):
                yield pytest.param(block, id="%s-%d" % (page.name, number))
    for path in sorted(documents.ROOT.glob("roles/*/templates/topology.yml.j2")):
        text = re.sub(r"\{#.*?#\}\n", "", path.read_text(encoding="utf-8"), flags=re.S)
        yield pytest.param(text, id=path.parts[-3])


def _undocumented(entry, path=""):
    for name, inner in entry.get("properties", {}).items():
        if "description" not in inner and "$ref" not in inner:
            yield "%s.%s" % (path, name)
        yield from _undocumented(inner, "%s.%s" % (path, name))
    for key in ("items", "additionalProperties"):
        if isinstance(entry.get(key), dict):
            yield from _undocumented(entry[key], path + "[]")
    for form in entry.get("oneOf", ()):
        yield from _undocumented(form, path)


def test_the_file_is_up_to_date():
    assert FILE.read_text(encoding="utf-8") == SCRIPT.text(), "run python scripts/topology_docs.py"


def test_the_file_is_a_schema_with_its_address_and_title():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"].endswith("/" + SCRIPT.PATH) and SCHEMA["title"]


def test_all_settings_have_a_description():
    parts = {"": SCHEMA, **SCHEMA["$defs"]}
    assert [name for path, part in parts.items() for name in _undocumented(part, path)] == []
    text = json.dumps(SCHEMA)
    assert "The memory of the guest" in text and not re.search(r"\b(R?[CEIMOPV]|R?V)\(", text)


def test_mappings_have_titles():
    titles = re.findall(r'"title": "([^"]+)"', FILE.read_text(encoding="utf-8"))
    assert set(SCRIPT.TITLES.values()) <= set(titles)


@pytest.mark.parametrize("text", list(_topologies()))
def test_a_topology_names_its_schema(text):
    assert text.splitlines()[0] == schema.EDITOR_LINE
    if "{{" not in text and "{%" not in text:
        assert [list(validator.iter_errors(yaml.safe_load(text))) for validator in VALIDATORS] == [
            [],
            [],
        ]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a b"},
        {"name": "lab\n"},
        {"nodes": {}},
        {"nodes": {"r1": {"memroy": 1}}},
        {"nodes": {"r1": []}},
        {"nodes": {"r1": {"nics": {"eth0": {"index": 1}}}}},
        {"nodes": {"r1": {"disks": [{"size": "1G"}]}}},
        {"links": [{"endpoints": ["a"]}]},
        {"links": [3]},
        {"kinds": {"x": {"vm": {"nics": []}}}},
        {"segments": {"s": {"members": ["a"], "type": "vlan"}}},
        {"addressing": {"link_length": 25}},
        {"defaults": {"groups": ["x"]}},
    ],
    ids=json.dumps,
)
def test_it_refuses_what_the_validation_refuses(change):
    given = {"name": "lab", "nodes": {"r1": None, "r2": {}}}
    assert [validator.is_valid(given) for validator in VALIDATORS] == [True, True]
    given.update(change)
    assert [validator.is_valid(given) for validator in VALIDATORS] == [False, False]
