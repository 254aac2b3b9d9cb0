# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a hypervisor is sent of a lab."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lab import Lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lab_migrations import without_links
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lazy import Lazy
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import host_shares
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.config_drive import (
    Content,
    Render,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.node_facts import facts_of_nodes

Share = dict[str, Any]


class _NeedsHost(Exception):
    """A share has files that only the worker of its host can read or render."""


def share_of(
    lab: Lab, host: str, state: str, states: Mapping[str, str], check_mode: bool, render: Render
) -> Share:
    """Return the share of a host, without what is the same for all hosts.

    state: of the task. states: {node: its state in this call}. render: see host_shares.
    """
    topology = lab.topology
    if state == "absent" and not lab.only:
        share: Share = {"lab": topology.name, "vms": [], "segments": []}
    else:
        placed = dict(lab.placed)
        if check_mode:
            # Nothing was migrated: the hosts that have the VMs plan their other changes.
            placed.update((move.node, move.origin) for move in lab.moves)
        share = dict(
            host_shares.share_for(topology, placed, host, lab.endpoints, states, lab.runs, render)
        )
        for vm in share["vms"]:
            if placed[vm["name"]] != lab.placed[vm["name"]]:
                vm["options"] = without_links(vm["options"])
            # A later phase of this run starts it: its neighbours keep their carriers.
            vm["later"] = states[vm["name"]] != lab.states[vm["name"]]
            if state == "absent" and vm["name"] not in (lab.only or ()):
                # Without images, its other options are not complete. It only loses peers.
                vm["options"] = {"nics": vm["options"]["nics"]}
        share["node_facts"] = facts_of_nodes(topology, [vm["name"] for vm in share["vms"]])
    share["limits"] = topology.data["limits"]
    return share


def with_shares(lab: Lab, hosts: Iterable[str], state: str, check_mode: bool) -> Lab:
    """Return a lab with the shares of those hosts that need no variables and files of their own.

    So the other workers need not unpickle the topology.
    """
    shares = {}
    for host in () if lab.phases else hosts:
        try:
            share = share_of(lab, host, state, lab.states, check_mode, _rendered)
        except _NeedsHost:
            continue
        shares[host] = Lazy(share)
    return lab._replace(shares=shares)


def ready_content(content: Any) -> Content | None:
    """Return the content of a file of a node, None if it has to be read or rendered first."""
    found: Content = content
    return found if isinstance(content, str) or "base64" in content else None


def _rendered(_node: Node, content: Any) -> Content:
    found = ready_content(content)
    if found is None:
        raise _NeedsHost
    return found
