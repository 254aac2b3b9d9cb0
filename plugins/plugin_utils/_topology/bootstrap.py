# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How a node gets its first configuration if its kind has a script for it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console
from ansible_collections.vlab.qemu.plugins.module_utils._console.script import Script
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.config_drive import Render
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kinds import KindSpec
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placeholders import (
    filled,
    placeholder_values,
    used_in,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.tftp_delivery import uses_tftp

# Where a script types the config of the node.
_CONFIG = "config"


def takes_config(script: Mapping[str, Any]) -> bool:
    """Whether a script types the config of the node."""
    return _CONFIG in used_in(script.get("steps"))


def is_typed(settings: Mapping[str, Any], spec: KindSpec) -> bool:
    """Whether the script of its kind is typed for a node with these settings."""
    script = spec["bootstrap"]
    if settings.get("bootstrap") is not None:
        return bool(settings["bootstrap"])
    if not script.get("steps"):
        return False
    if not takes_config(script):
        return True
    is_on_drive = spec["config"].get("file") and not uses_tftp(spec)
    return settings.get("config") is not None and not is_on_drive


def check_script(path: str, script: Mapping[str, Any], problems: Problems) -> None:
    """Record what is wrong with the bootstrap of a kind. path: of the kind."""
    if not script:
        return
    if not script.get("steps"):
        problems.add(path + ".bootstrap", "it needs steps")
        return
    try:
        Script(Console(""), script, path="bootstrap.")
    except OptionError as error:
        problems.add("%s.%s" % (path, error.option), "%s", error.reason)


def check_node(path: str, settings: Mapping[str, Any], spec: KindSpec, problems: Problems) -> None:
    """Record what a node lacks for the script of its kind. path: of the node."""
    steps = spec["bootstrap"].get("steps")
    if not steps:
        if settings.get("bootstrap"):
            problems.add(path + ".bootstrap", "the kind %s has no bootstrap", settings["kind"])
        return
    names = {name for name in used_in(steps) if name.startswith("vars.")}
    missing = [name for name in sorted(names) if settings["vars"].get(name[5:]) is None]
    if missing:
        problems.add(
            path,
            "the bootstrap of the kind %s needs %s",
            settings["kind"],
            ", ".join(missing),
        )


def script_of(topology: Topology, node: Node, render: Render) -> dict[str, Any]:
    """Return the script of a node with its values; empty if nothing is typed.

    Raises TopologyError for a config that is not text.
    """
    if not is_typed(node.settings, node.kind_spec):
        return {}
    values = placeholder_values(topology, node)
    values[_CONFIG] = ""
    script = node.kind_spec["bootstrap"]
    config = node.settings.get("config")
    if config is not None and takes_config(script):
        values[_CONFIG] = _text("nodes.%s.config" % node.name, render(node, config))
    filled_script: dict[str, Any] = filled(script, values)
    return filled_script


def _text(option: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    try:
        return base64.b64decode(content["base64"]).decode("utf-8")
    except ValueError:
        problems = Problems()
        problems.add(option, "it is not UTF-8 text, and is typed on a console")
        problems.check()
        raise
