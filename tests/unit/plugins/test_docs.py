# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Quotes and pictures in docs/ match the code, and the markers of its examples are valid."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re

import pytest
from ansible_collections.vlab.qemu.tests.unit import documents

ROOT = documents.ROOT
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Of Ansible itself, and of its helper for missing libraries.
NOT_OURS = (
    "Cannot resolve 'vlab.qemu....' to an action or module",
    "Failed to import the required Python library (...)",
)


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUNNER = _load(ROOT / "tests/integration/targets/docs_examples/files/run_examples.py")


def _quoted():
    """The messages in the tables of troubleshooting.md."""
    table = False
    for line in (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            table = False
        elif line.startswith("| message |"):
            table = True
        elif table and not line.startswith("|---"):
            yield line.split(" | ")[0].lstrip("| ")


@functools.lru_cache(maxsize=None)
def _texts():
    """Every text of the code that a message can be made of; what is filled in is "..."."""
    found = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.sub(r"%[-\d.]*[sdrg]", "...", node.value))
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        text = re.sub(r"\{\{.*?\}\}", "...", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        found.add(" ".join(text.split()))
    return found


def _parts(message):
    """What stands between "..." in a message."""
    return [part for part in (piece.strip(" :,.'()") for piece in message.split("...")) if part]


@pytest.mark.parametrize("message", [message for message in _quoted() if message not in NOT_OURS])
def test_a_quoted_message_is_in_the_code(message):
    missing = [part for part in _parts(message) if not any(part in text for text in _texts())]
    assert not missing


def test_messages_are_quoted_once():
    quoted = list(_quoted())
    assert len(quoted) > 80 and len(quoted) == len(set(quoted))


def test_architecture_diagram_shows_existing_modules():
    shown = set(
        re.findall(
            r'class="module"[^>]*>(\w+)<',
            (ROOT / "docs/images/architecture.svg").read_text(encoding="utf-8"),
        )
    )
    existing = {path.stem.lstrip("_") for path in (ROOT / "plugins").rglob("*.py")}
    existing |= {path.name for path in (ROOT / "plugins").iterdir()} | {"inventory", "connection"}
    assert len(shown) > 30 and not shown - existing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_marks_are_understood(page):
    text = page.read_text(encoding="utf-8")
    marks = re.findall(r"^ *<!-- *(?:run|file)\b.*$", text, re.MULTILINE)
    assert len(list(RUNNER.blocks(text))) == len(marks)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "```" in page.read_text(encoding="utf-8")],
    ids=lambda page: page.name,
)
def test_a_page_with_examples_has_one_that_runs_or_says_why_not(page):
    text = page.read_text(encoding="utf-8")
    assert "<!-- run: " in text or re.search(r"^<!-- not run: \w+", text, re.MULTILINE)


def test_security_names_tests_that_exist():
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    prefixes = {
        "U/": "tests/unit/plugins/module_utils/",
        "I/": "tests/integration/targets/",
        "tests/": "tests/",
    }
    named = re.findall(r"`(U/|I/|tests/)([\w./]+)`", text)
    assert len(named) > 30
    assert not [rest for head, rest in named if not (ROOT / (prefixes[head] + rest)).exists()]
