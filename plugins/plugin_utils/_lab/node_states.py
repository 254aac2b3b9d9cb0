# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Which nodes a run of qemu_lab is for, and the states that it brings them into."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible.errors import AnsibleActionFail

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import placement
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology


def chosen_nodes(nodes: Sequence[str] | None) -> list[str] | None:
    """Return the option nodes; None for all. Raises AnsibleActionFail for an empty list."""
    if nodes is None:
        return None
    if not nodes:
        raise AnsibleActionFail("nodes: an empty list names no node; leave it out for all of them")
    return [name.strip() for name in nodes]


def states_of(
    topology: Topology, state: str, only: Sequence[str] | None, facts: placement.Facts
) -> dict[str, str]:
    """Return {node: state} for a run with this state, limited to some nodes or not."""
    existing: dict[str, Any] = {}
    for found in facts.values():
        existing.update(found.get("vms", {}))
    states: dict[str, str] = {}
    for name, node in topology.nodes.items():
        if only and name not in only:
            stopped = existing.get(name, {}).get("status") in ("stopped", "crashed")
            states[name] = "present" if stopped else "keep"
        elif state == "started":
            states[name] = node.settings.get("state") or state
        else:
            states[name] = state
    return states


def states_in_phase(
    states: Mapping[str, str], phases: Mapping[str, int], phase: int
) -> dict[str, str]:
    """Return the states in which nodes of later phases are not started yet."""
    return {
        name: "present" if state in ("started", "paused") and phases.get(name, 0) > phase else state
        for name, state in states.items()
    }
