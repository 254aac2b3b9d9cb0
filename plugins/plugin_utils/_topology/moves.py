# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Nodes that have a VM on another hypervisor than the one where they are placed.

A VM without memory, disks and snapshots is created again where its node is placed. Any other would
lose them: it is migrated if that is allowed, else it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import address_of_root
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.endpoints import UdpEndpoints
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.host_shares import nic_options
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    End,
    Link,
    Node,
    Segment,
    Topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placement import (
    Facts,
    Placement,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_RUNNING = ("running", "paused")
_NOT_MOVABLE = ("stopped", "crashed", "suspended", "damaged", "unresponsive", "unknown")


class OtherEnd(NamedTuple):
    """The NIC at the other end of a link, and its link after the move. root: of its hypervisor."""

    hypervisor: str
    root: str
    node: str
    nic: str
    link: dict[str, Any]


class Move(NamedTuple):
    """A VM on another hypervisor than its node.

    origin, target: hypervisors. status: of the VM, has_both: whether the target has one as well,
    which a migration that was cut off leaves. root, to_root: of the two hypervisors. nics: the
    links on the target. neighbours: the links of other VMs. The last four are of a migration.
    """

    node: str
    origin: str
    target: str
    status: str
    has_both: bool
    root: str = ""
    to_root: str = ""
    nics: tuple[dict[str, Any], ...] = ()
    neighbours: tuple[OtherEnd, ...] = ()


def find_moves(placed: Placement, facts: Facts) -> list[Move]:
    """Return the VMs with a state that are not on the hypervisor of their node."""
    return [
        Move(name, host, placed[name], vm["status"], name in vms_of(facts, placed[name]))
        for host in facts
        for name, vm in sorted(vms_of(facts, host).items())
        if placed.get(name, host) != host and vm.get("has_state", True)
    ]


def vms_of(facts: Facts, host: str) -> Mapping[str, dict[str, Any]]:
    """Return the VMs of the lab on a hypervisor."""
    vms: Mapping[str, dict[str, Any]] = facts.get(host, {}).get("vms", {})
    return vms


def check_moves(
    moves: Iterable[Move], allowed: bool, topology: Topology, facts: Facts, problems: Problems
) -> None:
    """Report the VMs that are not to be migrated, or cannot be."""
    for move in moves:
        reason = _obstacle(move, topology.nodes[move.node], facts)
        if reason is None and allowed:
            continue
        problems.add(
            "nodes.%s.hypervisor" % move.node,
            "its VM is %s on %s, and the topology places it on %s, %s. %s",
            move.status,
            move.origin,
            move.target,
            "which has one as well" if move.has_both else "where it would be created again",
            reason
            or "Set hypervisor to %s, or set allow_migration (lab_allow_migration of the role) to "
            "true to migrate it"
            % move.origin,
        )


def _obstacle(move: Move, node: Node, facts: Facts) -> str | None:
    """Return why a VM cannot be migrated, None if nothing is known against it."""
    if move.has_both and move.status not in _RUNNING:
        return None  # the rest of a migration that was cut off, or qemu_migrate refuses it
    if move.status in _NOT_MOVABLE:
        return (
            "Only a running or a paused VM can be migrated: set hypervisor to %s, start it there "
            "and set allow_migration (lab_allow_migration of the role) to true, or remove it there"
            % move.origin
        )
    for nic in node.nics.values():
        if isinstance(nic.network, Segment) and nic.network.kind == "bridge":
            return (
                "It cannot be migrated, because its NIC %s is in the bridge %s: set hypervisor "
                "to %s, or use type: hub" % (nic.name, nic.network.name, move.origin)
            )
    if move.target not in facts:
        return "To migrate it, run qemu_lab_info on %s as well" % move.target
    return None


def planned_moves(
    moves: Iterable[Move],
    topology: Topology,
    endpoints: UdpEndpoints,
    runs: Mapping[str, bool],
    facts: Facts,
) -> list[Move]:
    """Return the moves with the folders of labs, and the links that they change.

    runs: {node: whether it runs after the run of the lab}.
    """
    moves = list(moves)
    moving = {move.node for move in moves}
    planned = []
    for move in moves:
        node, to_root = topology.nodes[move.node], facts[move.target]["root"]
        nics = tuple(
            {"name": nic.vm_name, "link": _link(node, nic.name, endpoints, runs, to_root)}
            for nic in node.nics.values()
            if nic.network is not None
        )
        others = tuple(
            OtherEnd(
                host,
                facts[host]["root"],
                end.node,
                topology.nodes[end.node].nics[end.nic].vm_name,
                _link(topology.nodes[end.node], end.nic, endpoints, runs, facts[host]["root"]),
            )
            for end in _other_ends(node)
            for host in [endpoints.placed[end.node]]
            if end.node not in moving
            and vms_of(facts, host).get(end.node, {}).get("status") in _RUNNING
        )
        planned.append(
            move._replace(
                root=facts[move.origin]["root"], to_root=to_root, nics=nics, neighbours=others
            )
        )
    return planned


def _other_ends(node: Node) -> list[End]:
    return [
        nic.network.other(node.name, nic.name)
        for nic in node.nics.values()
        if isinstance(nic.network, Link)
    ]


def _link(
    node: Node, nic: str, endpoints: UdpEndpoints, runs: Mapping[str, bool], root: str
) -> dict[str, Any]:
    """Return the link of a NIC as its VM gets it below a root."""
    link: dict[str, Any] = dict(nic_options(node, node.nics[nic], endpoints, runs)["link"])
    for option in ("local_address", "remote_address"):
        link[option] = address_of_root(root, link[option])
    return link
