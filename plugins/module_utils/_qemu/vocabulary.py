# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The words that a QEMU binary understands: CPU models, properties of types, and its options.

Each is asked for when an option uses it, and cached until the binary changes. Where the binary
gives no answer, nothing is offered, and QEMU decides at the start.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Callable, Dict, FrozenSet, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import run_program
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binary_session import Ask, ask_binary
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import (
    binary_identity,
    cache_file,
    read_cached,
    write_cached,
)

_TIMEOUT = 30  # seconds for an answer
_MAX_REFUSALS = 64  # that the cache keeps
_OPTION = re.compile(r"^-([A-Za-z0-9][\w-]*)", re.MULTILINE)

Names = FrozenSet[str]


class Vocabulary:
    """The words of the QEMU binary at path. cache: the folder, default cache_folder()."""

    def __init__(self, path: str, cache: str | None = None) -> None:
        self.path = path
        self._identity = binary_identity(path)
        self._file = cache_file(path, "words", cache)
        cached = read_cached(self._file, self._identity)
        self._answers: Dict[str, Any] = cached if isinstance(cached, dict) else {}

    def cpu_models(self) -> Optional[Dict[str, str]]:
        """Return the QOM type of each CPU model; None if unknown."""
        models = self._answer("cpu-models", lambda: self._query(_cpu_models))
        if not isinstance(models, dict) or not models:
            return None
        return {str(name): str(kind) for name, kind in models.items()}

    def cpu_properties(self, model: str) -> Optional[Names]:
        """Return the properties, which include the flags, of a CPU model; None if unknown."""
        kind = (self.cpu_models() or {}).get(model)
        return self._properties("device-list-properties", kind) if kind else None

    def device_properties(self, device_type: str) -> Optional[Names]:
        """Return the properties of a device type; None if unknown."""
        return self._properties("device-list-properties", device_type)

    def machine_properties(self, machine: str) -> Optional[Names]:
        """Return the properties of a machine type, by its real name; None if unknown."""
        return self._properties("qom-list-properties", machine + "-machine")

    def refusal(self, words: list[str]) -> str:
        """Return what QEMU says of command line words that it does not have; else an empty text.

        It checks the names of all options, and whether each has its value, before it obeys the
        first one, which is -version here.
        """
        digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()
        key = "refusal " + digest[:32]
        kept = [name for name in list(self._answers) if name.startswith("refusal ")]
        for name in kept[:-_MAX_REFUSALS]:
            self._answers.pop(name, None)
        text = self._answer(key, lambda: self._try(words))
        return text if isinstance(text, str) else ""

    def options(self) -> Names:
        """Return the names of the command line options, as far as its help lists them."""
        try:
            return frozenset(_OPTION.findall(self._run(["-help"])[1]))
        except VlabError:
            return frozenset()

    def _answer(self, key: str, find: Callable[[], Any]) -> Any:
        """Return the answer of the cache; without one, find it and cache it unless it is None."""
        if key not in self._answers:
            answer = find()
            if answer is None:
                return None
            self._answers[key] = answer
            write_cached(self._file, self._identity, dict(self._answers))
        return self._answers[key]

    def _query(self, question: Callable[[Ask], Any]) -> Any:
        try:
            return ask_binary(self.path, lambda ask, version: question(ask), _TIMEOUT)
        except HostError:
            return None  # some builds abort at some types

    def _properties(self, command: str, kind: str) -> Optional[Names]:
        names = self._answer(
            "properties " + kind,
            lambda: self._query(lambda ask: _names(ask(command, typename=kind))),
        )
        return frozenset(map(str, names)) if isinstance(names, list) and names else None

    def _try(self, words: list[str]) -> str | None:
        try:
            code, _out, err = self._run(["-no-user-config", "-version", *words])
        except VlabError:
            return None
        lines = [line for line in err.splitlines() if line.strip()]
        return lines[-1].partition(": ")[2] or lines[-1] if code and lines else ""

    def _run(self, words: list[str]) -> tuple[int, str, str]:
        return run_program([self.path, *words], _TIMEOUT, accept=(0, 1))


def _cpu_models(ask: Ask) -> dict[str, str]:
    # Some architectures do not have this command.
    models = ask("query-cpu-definitions") or []
    return {model["name"]: model["typename"] for model in models if "typename" in model}


def _names(properties: Any) -> list[str]:
    return sorted(entry["name"] for entry in properties or [])
