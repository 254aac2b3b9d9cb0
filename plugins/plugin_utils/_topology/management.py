# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The management network of a lab: a link to the outside for the management NIC of each node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    normalise_nic,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.user_link import SSH_PORT

# The key of a NIC's settings whose link is that of the lab: one of the topology takes its place.
OF_LAB = "link_of_lab"
_NIC = "mgmt"  # of a node whose kind has none
_DEFAULT: dict[str, Any] = {"type": "user", "forwards": [SSH_PORT]}


def add_management(nodes: Iterable[Node], given: Any, problems: Problems) -> None:
    """Give the management NICs of nodes the link that the topology has for them.

    given: management of the topology: a link, true for a user network, or nothing.
    """
    link = _link(given, problems)
    if link is None:
        return
    for node in nodes:
        name = _nic_name(node)
        if name is None:
            continue
        nics = dict(node.nic_settings)
        own = nics.get(name) or {}
        if own.get("link") is None:
            nics[name] = {**own, "link": dict(link), OF_LAB: True}
            node.settings["nics"] = nics


def without_link_of_lab(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a NIC without the link of the lab's management network."""
    if not settings.get(OF_LAB):
        return settings
    return {key: value for key, value in settings.items() if key not in ("link", OF_LAB)}


def _link(given: Any, problems: Problems) -> dict[str, Any] | None:
    """Return the link of management NICs, None for no network. Record what is wrong with it."""
    if given is None or given is False:
        return None
    link = dict(_DEFAULT if given is True else given)
    link.setdefault("type", _DEFAULT["type"])
    if link["type"] == "user" and "forwards" not in link:
        link["forwards"] = _DEFAULT["forwards"]
    if "forwards" in link:
        link["forwards"] = [
            {"guest_port": item} if isinstance(item, int) else item for item in link["forwards"]
        ]
    try:
        normalise_nic("management", {"link": link})
    except OptionError as error:
        problems.add(error.option.replace("management.link", "management"), "%s", error.reason)
        return None
    return link


def _nic_name(node: Node) -> str | None:
    """Return the management NIC of a node, None if it has none or another way to the outside."""
    naming = node.nic_naming
    if naming.management:
        return naming.management[0]
    is_outside = any(
        isinstance(settings, Mapping) and settings.get("link")
        for settings in node.nic_settings.values()
    )
    return _NIC if naming.supports(_NIC) and not is_outside else None
