# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages about topologies and kinds match the code."""

from __future__ import annotations

import importlib.util
import re

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    kinds,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.template_variables import (
    template_variables,
)
from ansible_collections.vlab.qemu.tests.unit import documents
from ansible_collections.vlab.qemu.tests.unit.imported_labs import share_of


def _script():
    spec = importlib.util.spec_from_file_location(
        "topology_docs", documents.ROOT / "scripts/topology_docs.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
PAGES = {page: (documents.ROOT / page).read_text(encoding="utf-8") for page in SCRIPT.PAGES}
EXAMPLES = [
    yaml.safe_load(text)
    for text in re.findall(r"```yaml\n(.*?)```", PAGES["docs/topology.md"], re.DOTALL)
]


@pytest.mark.parametrize("page", SCRIPT.PAGES)
def test_a_page_is_up_to_date(page):
    generated = PAGES[page].partition(SCRIPT.BEGIN)[2].partition(SCRIPT.END)[0]
    assert generated == "\n%s\n" % SCRIPT.PAGES[page](), "run python scripts/topology_docs.py"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
def test_an_example_is_valid(example):
    topology = builder.build(example)
    images = {name: {"disk": "/x"} for name in [*kinds.shipped(), "debian", "appliance"]}
    made = share_of(topology, images, lambda node, content: str(content))
    assert len(made["vms"]) == len(example["nodes"])


def test_addresses_of_the_examples():
    topology = builder.build(
        next(example for example in EXAMPLES if example["name"] == "addresses")
    )
    assert [node.loopback for node in topology.nodes.values()] == [
        "10.255.0.1",
        "10.255.0.99",
        None,
    ]
    assert topology.links[0].prefix.endswith("/31") and topology.links[1].prefix == "192.0.2.0/30"


def test_the_page_lists_the_variables_of_templates():
    topology = builder.build(
        next(example for example in EXAMPLES if example["name"] == "templates")
    )
    text = " ".join(
        PAGES["docs/topology.md"].partition("### Templates")[2].partition("```")[0].split()
    )
    seen = template_variables(topology, topology.nodes["r1"])
    for names in (seen, seen["nics"][0], seen["nics"][0]["peer"]):
        for name in names:
            assert "`%s`" % name in text, name
