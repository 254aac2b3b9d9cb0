# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Facts about nodes that the hypervisor keeps for the inventory.

Vars are left out: they may hold passwords.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placeholders import (
    filled,
    placeholder_values,
)

# Facts of a kind that say how Ansible reaches its nodes; see _connection_vars.kind_variables.
_ACCESS = ("user", "python", "new_host_keys", "sftp")


def node_facts(topology: Topology, node: Node) -> dict[str, Any]:
    """Return the facts of a node as plain data. Those of a module name its node only."""
    if node.part_of:
        return {"kind": node.kind, "part_of": node.part_of, "nics": []}
    of_kind = node.kind_spec["facts"]
    facts = {
        "kind": node.kind,
        "description": description_of(topology, node) or None,
        "groups": node.groups,
        "network_os": of_kind.get("ansible_network_os") or None,
        "access": {key: of_kind[key] for key in _ACCESS if key in of_kind} or None,
        "loopback": node.loopback,
        "loopback6": node.loopback6,
        "management": node.management,
        "asn": node.asn,
        "nics": [
            {
                "name": nic.name,
                "vm_nic": nic.vm_name,
                "mac": nic.mac,
                "addresses": list(nic.addresses),
                **({"vm": vm.name} if vm is not node else {}),
            }
            for vm, nic in node.system_nics
        ],
    }
    return {key: value for key, value in facts.items() if value is not None}


def description_of(topology: Topology, node: Node) -> str:
    """Return the description of a node; vars in it are left out."""
    text = node.settings.get("description")
    if not text:
        return ""
    values = placeholder_values(topology, node)
    shown = {name: value for name, value in values.items() if not name.startswith("vars.")}
    return str(filled(text, shown))


def facts_of_nodes(topology: Topology, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the facts of the nodes with these names: {name: facts}."""
    return {name: node_facts(topology, topology.nodes[name]) for name in names}
