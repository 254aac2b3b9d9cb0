# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Changes of the addresses of nodes, as a user reads them."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, Change, Item
from ansible_collections.vlab.qemu.plugins.module_utils._vm.node_facts import NodeFacts

_KEYS = ("loopback", "loopback6", "management", "asn")


def address_changes(before: NodeFacts, after: NodeFacts) -> list[Change]:
    """Return the changes of nodes that are in both: of their addresses and AS numbers.

    before: as read from a file.
    """
    changes = []
    for name in after:
        if name not in before:
            continue
        old, new = _addresses(before[name]), _addresses(after[name])
        for path in {**old, **new}:
            if old.get(path) != new.get(path):
                changes.append(Change((name, *path), old.get(path), new.get(path), FILE))
    return changes


def _addresses(facts: Dict[str, Any]) -> Dict[tuple[str, ...], Any]:
    """Return the addresses of a node: {path: value}."""
    found: Dict[tuple[str, ...], Any] = {(key,): facts[key] for key in _KEYS if key in facts}
    nics = facts.get("nics")
    for nic in nics if isinstance(nics, list) else ():
        addresses = nic.get("addresses") if isinstance(nic, dict) else None
        if isinstance(addresses, list) and addresses:
            found["nics", Item(nic.get("name")), "addresses"] = ", ".join(map(str, addresses))
    return found
