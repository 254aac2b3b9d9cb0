# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the tasks of a target: the part of Ansible's task language that the steps know. Anything else is an error."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from ansible.parsing.dataloader import DataLoader

LOADER = DataLoader()
TARGETS = pathlib.Path(__file__).resolve().parents[1] / "integration/targets"
# What a task or a block may say beside the module and its options.
TASK = {
    "name",
    "register",
    "vars",
    "loop",
    "loop_control",
    "when",
    "failed_when",
    "changed_when",
    "until",
    "retries",
    "delay",
    "async",
    "poll",
    "check_mode",
    "diff",
    "become",
    "become_user",
    "environment",
    "ignore_errors",
    "args",
    "module_defaults",
}
BLOCK = {
    "name",
    "block",
    "rescue",
    "always",
    "when",
    "vars",
    "module_defaults",
    "become",
    "become_user",
    "environment",
    "check_mode",
    "diff",
}
LOOP_CONTROL = {"label", "loop_var", "index_var"}


class TableError(Exception):
    """A table says what the steps do not know."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A task or, with `block`, a block of them."""

    name: str
    words: dict[str, Any]
    module: str = ""
    options: Any = None
    block: tuple["Task", ...] = ()
    rescue: tuple["Task", ...] = ()
    always: tuple["Task", ...] = ()


@dataclasses.dataclass(frozen=True)
class Role:
    """A target, as a role."""

    name: str

    @property
    def folder(self) -> pathlib.Path:
        return TARGETS / self.name

    def tasks(self, file: str = "main.yml") -> tuple[Task, ...]:
        path = self.folder / "tasks" / (file if file.endswith(".yml") else file + ".yml")
        return read_tasks(_load(path) or [], path)

    def variables(self, kind: str) -> dict[str, Any]:
        """Those of the folder `defaults` or `vars`."""
        path = self.folder / kind / "main.yml"
        return _load(path) if path.exists() else {}

    def dependencies(self) -> list["Role"]:
        path = self.folder / "meta/main.yml"
        meta = _load(path) if path.exists() else {}
        return [Role(str(name)) for name in (meta or {}).get("dependencies", [])]


def _load(path: pathlib.Path) -> Any:
    if not path.is_file():
        raise TableError("%s: there is no such file" % path)
    return LOADER.load_from_file(str(path), trusted_as_template=True)


def read_tasks(entries: list[dict[str, Any]], path: pathlib.Path) -> tuple[Task, ...]:
    return tuple(_read(entry, path) for entry in entries)


def _read(entry: dict[str, Any], path: pathlib.Path) -> Task:
    name = entry.get("name", "")
    unknown = set(entry.get("loop_control", ())) - LOOP_CONTROL
    if "block" in entry:
        unknown |= set(entry) - BLOCK
        if not unknown:
            parts = {
                key: read_tasks(entry.get(key) or [], path) for key in ("block", "rescue", "always")
            }
            return Task(name, {key: entry[key] for key in entry if key not in parts}, **parts)
        modules: list[str] = []
    else:
        modules = [key for key in entry if "." in key]
        unknown |= set(entry) - TASK - set(modules)
    if unknown or len(modules) != 1:
        raise TableError(
            "%s: %s: the steps do not know %s"
            % (path, name, ", ".join(sorted(unknown or modules or ["a task without a module"])))
        )
    module = modules[0]
    options = entry[module] if entry[module] is not None else entry.get("args", {})
    if "args" in entry and entry[module] is not None:
        given = entry[module] if isinstance(entry[module], dict) else {"_raw_params": entry[module]}
        options = {**given, **entry["args"]}
    return Task(
        name, {key: entry[key] for key in entry if key not in (module, "args")}, module, options
    )
