# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Impaired links in a topology: of both directions, or of what one end sends."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._wire import parameters
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    End,
    Network,
    Segment,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

# In the settings of a NIC: what its end of a link or segment says.
OF_END = "impair"


def schema(description: str) -> dict[str, Any]:
    """Return the JSON schema of an impairment: the name of a preset, or a mapping."""
    return {
        "description": description,
        "oneOf": [{"enum": sorted(parameters.PRESETS)}, _mapping(parameters.SPEC)],
    }


def _mapping(spec: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, option in spec.items():
        if "choices" in option:
            properties[name] = {"enum": option["choices"]}
        elif "options" in option:
            properties[name] = _mapping(option["options"])
        else:
            is_whole = option["type"] == "int"
            properties[name] = {"type": "integer" if is_whole else ["number", "string"]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def check(given: Any, path: str, problems: Problems) -> None:
    """Record a problem of an impairment that a topology gives."""
    try:
        _normalised(given, path)
    except OptionError as error:
        problems.add(error.option, error.reason)


def impairment(network: Network, end: End, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the impairment of what an end of a link or segment sends; empty for none.

    What the end says replaces what the link says. settings: of the NIC.
    """
    given = settings.get(OF_END)
    if given is None:
        given = network.settings.get("impair")
    return _normalised(given, network.path + ".impair")


def check_end(network: Network, path: str, given: Any, problems: Problems) -> None:
    """Record a problem of an impairment that one end of a link or segment has."""
    if isinstance(network, Segment) and network.kind == "bridge":
        problems.add(
            path + ".impair",
            "a member of a bridge cannot be impaired: use a segment of type hub",
        )
    else:
        check(given, path + ".impair", problems)


def received(segment: Segment, path: str, given: Any, problems: Problems) -> dict[str, Any]:
    """Return the impairment of what a member receives from a segment; empty for none."""
    if given and segment.kind != "switch":
        problems.add(
            path + ".impair_received",
            "only what a switch sends can be impaired: use type: switch",
        )
        return {}
    try:
        normalised = _normalised(given, path + ".impair_received")
    except OptionError as error:
        problems.add(error.option, error.reason)
        return {}
    return normalised if parameters.is_impaired(normalised) else {}


def _normalised(given: Any, path: str) -> dict[str, Any]:
    if not given:
        return {}
    return parameters.normalise(path, {"preset": given} if isinstance(given, str) else given)
