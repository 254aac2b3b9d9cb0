# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""No message has an OSError as Python writes it: [Errno 13] Permission denied: 'file'."""

from __future__ import annotations

import ast

import pytest
from ansible_collections.vlab.qemu.tests.unit import documents

FILES = sorted((documents.ROOT / "plugins").rglob("*.py"))
SYSTEM_ERRORS = {"OSError", "PermissionError", "FileNotFoundError", "UnicodeDecodeError"}


def raw_errors(source):
    """Return the lines of exceptions with a whole error of the system in their message."""
    lines = []
    for handler in ast.walk(ast.parse(source)):
        if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type:
            caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
            if caught & SYSTEM_ERRORS:
                lines += [
                    value.lineno
                    for statement in handler.body
                    for raised in ast.walk(statement)
                    if isinstance(raised, ast.Raise)
                    for node in ast.walk(raised)
                    for value in formatted(node)
                    if isinstance(value, ast.Name) and value.id == handler.name
                ]
    return lines


def formatted(node):
    """Return the values that an expression turns into text."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
    if isinstance(node, ast.FormattedValue):
        return [node.value]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.args if node.func.id in ("str", "repr") else []
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(documents.ROOT)))
def test_errors_of_the_system_are_not_shown_raw(path):
    assert raw_errors(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text", ['X("%s" % error)', 'X("%s: %s" % (1, error))', 'X(f"{error}")', "X(str(error))"]
)
def test_the_check_finds_them(text):
    source = "try:\n    pass\nexcept (OSError, KeyError) as error:\n    raise " + text
    assert raw_errors(source) == [4]
    assert raw_errors(source.replace("OSError", "LookupError")) == []
