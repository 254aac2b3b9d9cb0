# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The settings of nodes of containerlab: their levels, and variables in their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report

_CONTAINER = "it concerns the container, not the guest"
OF_THE_CONTAINER = {
    key: _CONTAINER
    for key in (
        "aliases auto-remove binds cap-add certificate cgroupns-mode cmd cpu cpu-set credentials "
        "devices dns enforce-startup-config entrypoint env-files extras healthcheck "
        "image-pull-policy ipc-mode kernel-modules memory network-mode pid-mode ports privileged "
        "publish restart-policy runtime sandbox security-opts shm-size suppress-startup-config "
        "sysctls tmpfs ulimits user"
    ).split()
}
_DEEP = ("env", "labels", "config", "stages")
_JOINED = ("exec",)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?:(:?[-=])([^{}]*))?\}|([A-Za-z_]\w*))")
_MAX_TEXT = 4096


class Variables:
    """The variables $NAME, ${NAME}, ${NAME:=default} and ${NAME:-default} in texts."""

    def __init__(self, file: str, values: Mapping[str, str]) -> None:
        self._file, self._values = file, values

    def replaced(self, text: str, place: str) -> str:
        """Return a text with the values of its variables. Raise LabFileError for one without."""
        if "$" not in text:
            return text

        def value(match: re.Match[str]) -> str:
            braced, operator, default, bare = match.groups()
            name = braced or bare
            if name in self._values and (self._values[name] or operator not in (":=", ":-")):
                return str(self._values[name])
            if operator is None:
                reason = "the variable %s has no value: set it in the option variables" % name
                raise LabFileError(self._file, [(place, reason)])
            return default or ""

        return _VARIABLE.sub(value, text[:_MAX_TEXT])


class Layers:
    """The levels of settings: defaults, the kind, the group, the node. Later ones override."""

    def __init__(self, report: Report, topology: Fields) -> None:
        self._report = report
        self._defaults = topology.fields("defaults")
        self._kinds = topology.fields("kinds")
        self._groups = topology.fields("groups")
        self._used: dict[str, list[Fields]] = {}
        for parent in (self._kinds, self._groups):
            for name in parent.data:
                parent.fields(name)  # fails if it is no mapping

    def of_node(self, name: str, own: Fields) -> Fields:
        """Return the settings of a node from all levels."""
        group = own.data.get("group", self._defaults.data.get("group"))
        kind = own.data.get("kind")
        levels = [self._defaults]
        if isinstance(group, str) and group in self._groups.data:
            levels.append(self._groups.fields(group))
            kind = kind or levels[-1].data.get("kind")
        kind = kind or self._defaults.data.get("kind")
        if isinstance(kind, str) and kind in self._kinds.data:
            levels.insert(1, self._kinds.fields(kind))
        merged: dict[str, Any] = {}
        for level in [*levels, own]:
            for key, value in level.data.items():
                old = merged.get(key)
                if key in _DEEP and isinstance(old, dict) and isinstance(value, dict):
                    merged[key] = _merged(old, value)
                elif key in _JOINED and isinstance(old, list) and isinstance(value, list):
                    merged[key] = [*old, *(item for item in value if item not in old)]
                elif value is not None or key not in merged:
                    merged[key] = value
        for level in levels:
            self._used.setdefault(level.path, []).append(own)
        return Fields(self._report, own.path, merged)

    def report_levels(self) -> None:
        """Record the settings of all levels: nodes have them."""
        levels = [("topology.defaults", self._defaults)]
        for parent in (self._kinds, self._groups):
            levels += [(parent.place(name), parent.fields(name)) for name in parent.data]
        for path, level in levels:
            for key in level.data:
                place = level.place(key)
                if path in self._used:
                    nodes = len(self._used[path])
                    self._report.mapped(place, "the same setting of %d nodes" % nodes)
                else:
                    self._report.dropped(place, "no node uses it")


def _merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in override.items():
        old = result.get(key)
        nested = isinstance(old, dict) and isinstance(value, dict)
        result[key] = _merged(old or {}, value) if nested else value
    return result
