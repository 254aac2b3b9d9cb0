# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Migrate the VMs of a lab whose nodes have another hypervisor now, before the shares are run.

One worker of the task does it for all hypervisors, and the others wait for its results.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleError

from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.to_file import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.migration import (
    Migration,
    Neighbour,
    Options,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.play_hypervisors import (
    PlayHypervisors,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.run_cache import RunCache
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.host_action import Result
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.moves import Move

# As qemu_migrate has them by default.
_LIMITS = {
    "downtime": ARGUMENTS["downtime"]["default"],
    "bandwidth": 0,
    "timeout": ARGUMENTS["timeout"]["default"],
}
_OVERHEAD = 120  # seconds for each migration beside the limit of its copy


def migrate_once(
    folder: str,
    words: Sequence[Any],
    moves: Sequence[Move],
    connect: Callable[[], PlayHypervisors],
    common: Mapping[str, Any],
) -> dict[str, Result]:
    """Migrate VMs, or wait for the worker that does; return {node: the result of qemu_migrate}.

    The migrations after one that failed are not begun. folder: of this run of Ansible. words: what
    identifies the task. common: lab, check_mode, allow_container, lock_timeout and start_timeout.
    """

    def compute() -> dict[str, Result]:
        results: dict[str, Result] = {}
        with connect() as hypervisors:
            for move in moves:
                try:
                    results[move.node] = _migrate(move, hypervisors, common)
                except AnsibleError as error:
                    results[move.node] = {"failed": True, "msg": error.message}
                    break
        return results

    timeout = len(moves) * (_LIMITS["timeout"] + _OVERHEAD)
    text = json.dumps(["migrations", *words, moves], default=str)
    key = hashlib.sha256(text.encode("utf-8")).hexdigest()
    found: dict[str, Result] = RunCache(folder, timeout).get(key, compute)
    return found


def _migrate(move: Move, hypervisors: PlayHypervisors, common: Mapping[str, Any]) -> Result:
    """Migrate a VM; return the result. Raises AnsibleError."""
    lab = common["lab"]
    options = Options(
        move.node,
        lab,
        move.root,
        move.to_root,
        {
            "host": hypervisors.address(move.target, move.origin),
            "port": None,
            "nics": list(move.nics),
            "allow_container": common["allow_container"],
        },
        True,
        dict(_LIMITS),
        {name: common[name] for name in ("lock_timeout", "start_timeout")},
        common["check_mode"],
    )
    neighbours = [
        Neighbour(
            hypervisors.get(end.hypervisor),
            {"root": end.root, "lab": lab, "vm": end.node},
            {"name": end.nic, "link": end.link},
        )
        for end in move.neighbours
    ]
    origin = hypervisors.get(move.origin)
    target = hypervisors.get(move.target, "target")
    result: Result = Migration(origin, target, neighbours, options).run()
    return result


def result_of(host: str, moves: Sequence[Move], results: Mapping[str, Result]) -> Result:
    """Return the result of a host: of the migrations from it, empty if it had none.

    All hosts fail if a migration has failed.
    """
    total: Result = {
        "changed": False,
        "changes": [],
        "warnings": [],
        "diff": {"before": {}, "after": {}},
    }
    for move in moves:
        result = results.get(move.node, {})
        if result.get("failed"):
            message = "nodes.%s.hypervisor: it could not be migrated from %s to %s: %s"
            values = (move.node, move.origin, move.target, result["msg"])
            return dict(total, failed=True, msg=message % values)
        if move.origin != host or not result:
            continue
        total["changed"] |= result["changed"]
        total["warnings"] += ["%s: %s" % (move.node, text) for text in result["warnings"]]
        for change in result["changes"]:
            option = "%s.%s" % (move.node, change["option"])
            total["changes"].append(dict(change, option=option))
            for side in ("before", "after"):
                total["diff"][side][option] = change[side]
    return total if total["changes"] or total["warnings"] else {}


def without_links(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a VM without what its migration changes: where its links go."""
    moved = ("link", "link_down", "segment", "peer")
    nics = [
        {name: value for name, value in nic.items() if name not in moved} for nic in options["nics"]
    ]
    return dict(options, nics=nics)
