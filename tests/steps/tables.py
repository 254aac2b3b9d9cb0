# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the tasks of a target. Keywords that the steps do not support are an error."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from ansible.parsing.dataloader import DataLoader

LOADER = DataLoader()
TARGETS = pathlib.Path(__file__).resolve().parents[1] / "integration/targets"
# The keywords that a task or a block may have besides the module.
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
    """The tasks of a target contain something that the steps do not support."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A task or, with `block`, a block of tasks."""

    name: str
    words: dict[str, Any]  # the keywords with their values
    module: str = ""
    options: Any = None
    block: tuple[Task, ...] = ()
    rescue: tuple[Task, ...] = ()
    always: tuple[Task, ...] = ()


@dataclasses.dataclass(frozen=True)
class Role:
    """A target, which is a role."""

    name: str

    @property
    def folder(self) -> pathlib.Path:
        """Return the folder of the target."""
        return TARGETS / self.name

    def tasks(self, file: str = "main.yml") -> tuple[Task, ...]:
        """Read a file of tasks."""
        path = self.folder / "tasks" / (file if file.endswith(".yml") else file + ".yml")
        return read_tasks(_load(path) or [], path)

    def variables(self, kind: str) -> dict[str, Any]:
        """Read the variables of the folder `defaults` or `vars`."""
        path = self.folder / kind / "main.yml"
        found: dict[str, Any] = _load(path) if path.exists() else {}
        return found

    def dependencies(self) -> list[Role]:
        """Return the targets that run before this one."""
        path = self.folder / "meta/main.yml"
        meta = _load(path) if path.exists() else {}
        return [Role(str(name)) for name in (meta or {}).get("dependencies", [])]


def _load(path: pathlib.Path) -> Any:
    """Read a YAML file whose texts may be templates."""
    if not path.is_file():
        raise TableError("%s does not exist" % path)
    return LOADER.load_from_file(str(path), trusted_as_template=True)


def read_tasks(entries: list[dict[str, Any]], path: pathlib.Path) -> tuple[Task, ...]:
    """Check and convert the tasks of a file."""
    return tuple(_read(entry, path) for entry in entries)


def _read(entry: dict[str, Any], path: pathlib.Path) -> Task:
    """Check and convert one task or block."""
    name = entry.get("name", "")
    unknown = set(entry.get("loop_control", ())) - LOOP_CONTROL
    if "block" in entry:
        unknown |= set(entry) - BLOCK
        if not unknown:
            parts = {
                key: read_tasks(entry.get(key) or [], path) for key in ("block", "rescue", "always")
            }
            words = {key: entry[key] for key in entry if key not in parts}
            return Task(
                name,
                words,
                block=parts["block"],
                rescue=parts["rescue"],
                always=parts["always"],
            )
        modules: list[str] = []
    else:
        modules = [key for key in entry if "." in key]
        unknown |= set(entry) - TASK - set(modules)
    if unknown or len(modules) != 1:
        raise TableError(
            "%s: %s: the steps do not support %s"
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
