# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The variables of a node in templates."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    End,
    Link,
    Nic,
    Node,
    Topology,
)


def template_variables(topology: Topology, node: Node) -> dict[str, Any]:
    """Return a node as plain data for templates, with the NICs of its modules."""
    return {
        "name": node.name,
        "kind": node.kind,
        "groups": node.groups,
        "loopback": node.loopback,
        "loopback6": node.loopback6,
        "management": node.management,
        "asn": node.asn,
        "nics": [_nic(topology, vm, nic) for vm, nic in node.system_nics],
        "vars": node.settings.get("vars") or {},
    }


def _nic(topology: Topology, node: Node, nic: Nic) -> dict[str, Any]:
    network = nic.network
    peer = network.other(node.name, nic.name) if isinstance(network, Link) else None
    return {
        "name": nic.name,
        "mac": nic.mac,
        "addresses": list(nic.addresses),
        "wire": network.name if network is not None else None,
        "peer": _peer(topology, peer) if peer else None,
        "vars": (network.settings.get("vars") or {}) if network is not None else {},
    }


def _peer(topology: Topology, end: End) -> dict[str, Any]:
    vm = topology.nodes[end.node]
    node = topology.nodes[vm.system]
    return {
        "node": node.name,
        "nic": end.nic,
        "addresses": list(vm.nics[end.nic].addresses),
        "asn": node.asn,
        "groups": node.groups,
        "loopback": node.loopback,
    }
