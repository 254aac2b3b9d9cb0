# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Python files of the collection import, themselves and through other files of it."""

from __future__ import annotations

import functools
import pathlib
from typing import Optional

import checks

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLLECTION = "ansible_collections.vlab.qemu"
# Code that imports nothing of Ansible. Most of its tests do not either, and give the same result
# with every ansible-core.
PACKAGES = ("_import", "_pictures", "_topology")


def tests_without_ansible() -> list[pathlib.Path]:
    """Return the test files of PACKAGES that do not need Ansible."""
    return [
        path
        for package in PACKAGES
        for path in sorted((ROOT / "tests/unit/plugins/plugin_utils" / package).rglob("test_*.py"))
        if way_to_ansible(path) is None
    ]


def way_to_ansible(path: pathlib.Path) -> Optional[list[str]]:
    """Return the imports that lead from a file to Ansible: files, then a module; else None."""
    came_from: dict[pathlib.Path, Optional[pathlib.Path]] = {path: None}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for name in sorted(imported(file)):
            if name.split(".")[0] == "ansible":
                way = [name]
                step: Optional[pathlib.Path] = file
                while step is not None:
                    way.insert(0, step.name)
                    step = came_from[step]
                return way
            found = file_of(name)
            if found and found not in came_from:
                came_from[found] = file
                waiting.append(found)
    return None


def importers_of(names: list[str]) -> list[str]:
    """Return the files of plugins that import one of some files themselves. names: from ROOT."""
    changed = {ROOT / name for name in names if name.startswith("plugins/")}
    if not changed:
        return []
    return [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "plugins").rglob("*.py"))
        if changed & {file_of(name) for name in imported(path)}
    ]


@functools.lru_cache(maxsize=None)
def imported(path: pathlib.Path) -> frozenset[str]:
    """Return all that a file imports, anywhere in it."""
    return imported_by(path.read_text(encoding="utf-8"), path)


def imported_by(text: str, path: pathlib.Path) -> frozenset[str]:
    """Return what the text of a file imports: modules, and maybe names in them."""
    names: set[str] = set()
    for _line, module, imports in checks.import_statements(text, path.relative_to(ROOT)):
        names.update([module, *(f"{module}.{name}" for name in imports)] if module else imports)
    return frozenset(names)


def file_of(name: str) -> Optional[pathlib.Path]:
    """Return the file of a module of the collection, None for other names."""
    if not name.startswith(COLLECTION + "."):
        return None
    path = ROOT / (name[len(COLLECTION) + 1 :].replace(".", "/") + ".py")
    return path if path.is_file() else None
