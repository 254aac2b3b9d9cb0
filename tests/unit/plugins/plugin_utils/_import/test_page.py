# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about imports shows what the importers do."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import FORMATS
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import schema
from ansible_collections.vlab.qemu.tests.unit import documents
from ansible_collections.vlab.qemu.tests.unit.imported_labs import imported_text

PAGE = (documents.ROOT / "docs/import.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"<!-- import: (\w+)(?:, kinds_map: ([^\n]*?))? -->\n```\w*\n(.*?)```\n\nbecomes:\n\n"
    r"```yaml\n(.*?)```",
    PAGE,
    re.DOTALL,
)


def test_each_format_has_an_example():
    assert [example[0] for example in EXAMPLES] == list(FORMATS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[0])
def test_an_example_becomes_what_the_page_shows(example):
    name, kinds_map, source, result = example
    lab = imported_text(source, kinds_map=json.loads(kinds_map or "{}"))
    assert lab.report["format"] == name
    assert lab.topology == yaml.safe_load(result)
    assert lab.topology_yaml().startswith(schema.EDITOR_LINE + "\n")
