# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Names in braces in the data of a kind, which stand for values of the node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine import derived_uuid
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology

_PLACEHOLDER = re.compile(
    r"\{(name|lab|uuid|management|loopback|config|boot|tftp|address|file|vars\.[^{}]+)\}"
)


def placeholder_values(topology: Topology, node: Node) -> dict[str, str]:
    """Return the values of the placeholders for a node."""
    values = {
        "name": node.name,
        "lab": topology.name,
        "uuid": node.uuid or derived_uuid(topology.name, node.name),
        "management": node.management,
        "loopback": node.loopback,
    }
    values.update(("vars.%s" % name, value) for name, value in node.settings["vars"].items())
    return {name: "" if value is None else str(value) for name, value in values.items()}


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """Return value with the placeholders in all its strings replaced.

    A var that the node does not have is empty. Other names that values lacks stay as they are.
    """
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: _value(match, values), value)
    if isinstance(value, list):
        return [filled(entry, values) for entry in value]
    if isinstance(value, dict):
        return {key: filled(entry, values) for key, entry in value.items()}
    return value


def _value(match: re.Match[str], values: Mapping[str, str]) -> str:
    name = match.group(1)
    return values.get(name, "" if name.startswith("vars.") else match.group())


def used_in(value: Any) -> Iterator[str]:
    """Yield the names of the placeholders in all strings of value."""
    if isinstance(value, str):
        yield from _PLACEHOLDER.findall(value)
    elif isinstance(value, (list, dict)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from used_in(entry)
