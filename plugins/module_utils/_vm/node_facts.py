# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Facts of the nodes of a lab beyond their VMs, for the inventory: kind, groups, addresses."""

from __future__ import annotations

import os
from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_json,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import NODE_FACTS, root_folder

# {name of the node: facts}
NodeFacts = Dict[str, Dict[str, Any]]


def _path(root: str | None, lab: str) -> str:
    return os.path.join(root_folder(root), lab, NODE_FACTS)


def read_node_facts(root: str | None, lab: str) -> NodeFacts:
    """Return the facts of a lab's nodes; nothing for VMs that no topology defines."""
    try:
        saved = read_json(_path(root, lab))
    except HostError:
        return {}
    nodes = saved.get("nodes") if isinstance(saved, dict) else None
    if not isinstance(nodes, dict):
        return {}
    return {name: facts for name, facts in nodes.items() if isinstance(facts, dict)}


def write_node_facts(root: str | None, lab: str, nodes: NodeFacts) -> None:
    """Save the facts in the lab's folder, which must exist."""
    if read_node_facts(root, lab) != nodes:
        write_json(_path(root, lab), {"format": 1, "nodes": nodes})


def remove_node_facts(root: str | None, lab: str) -> None:
    """Remove the facts, also if the lab's folder stays for disks that are kept."""
    remove_file(_path(root, lab))
