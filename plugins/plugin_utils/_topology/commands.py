# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The commands of a node that are run once it is ready, and how its system takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._console.login import Login
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placeholders import (
    filled,
    placeholder_values,
    used_in,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

# How command lines refuse a command; such an answer is short.
REFUSAL = (
    r"^\s*(\^|%|error:|bad command|syntax error|unknown (command|action)|invalid (input|command))"
    r"|command not found|: not found$"
)
_OF_LOGIN = [field for field in Login._fields if field not in ("prompt", "retry")]
_SECRETS = ("password", "new_password")


def check_node(path: str, settings: Mapping[str, Any], problems: Problems) -> None:
    """Record vars that the commands of a node use and that it does not have. path: of the node."""
    names = {name[5:] for name in used_in(settings["exec"]) if name.startswith("vars.")}
    missing = sorted(name for name in names if settings["vars"].get(name) is None)
    if missing:
        needed = ", ".join("vars." + name for name in missing)
        problems.add(path + ".exec", "the commands need %s", needed)


def commands_of(topology: Topology, node: Node) -> dict[str, Any]:
    """Return the commands of a node as Commands takes them, empty without any.

    A system with a guest agent runs them in a shell, unless it has a command line of its own.
    """
    commands = node.settings["exec"]
    if not commands:
        return {}
    values, facts = placeholder_values(topology, node), node.kind_spec["facts"]
    is_cli = bool(facts.get("ansible_network_os"))
    login = filled(_login(node), values)
    secrets = [values.get(name, "") for name in used_in(commands) if name.startswith("vars.")]
    secrets += [login[key] for key in _SECRETS if login.get(key)]
    script = node.kind_spec["bootstrap"]
    return {
        "commands": filled(commands, values),
        "shown": commands,
        "secrets": sorted({secret for secret in secrets if secret}),
        "agent": bool(node.settings.get("guest_agent")) and not is_cli,
        "console": script.get("console"),
        "cli": is_cli,
        "login": login,
        "errors": script.get("errors") or "(?i)" + REFUSAL,
    }


def _login(node: Node) -> dict[str, Any]:
    """Return how to log in on the console: as the script of the kind does, else by facts and vars.

    Without a user of its own, the node has that of its kind.
    """
    script, own = node.kind_spec["bootstrap"], node.settings["vars"]
    steps = [step for step in script.get("steps") or () if step.get("login")]
    login: dict[str, Any]
    if steps:
        given = steps[-1]["login"]
        login = {key: given[key] for key in _OF_LOGIN if given.get(key) is not None}
        prompt = steps[-1].get("until") or script.get("prompt")
    else:
        login = {"user": str(own.get("user") or node.kind_spec["facts"].get("user") or "root")}
        if own.get("password"):
            login["password"] = str(own["password"])
        prompt = script.get("prompt")
    return {**login, "prompt": prompt} if prompt else login
