# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The results of qemu_lab on the controller: those of several phases as one, and short diffs."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.host_action import Result


def joined_results(first: Result, second: Result) -> Result:
    """Return the results of two runs of the module as one."""
    if not first:
        return second
    joined = dict(second, changed=bool(first.get("changed") or second.get("changed")))
    for key in ("changes", "warnings"):
        joined[key] = (first.get(key) or []) + (second.get(key) or [])
    one, two = first.get("actions") or {}, second.get("actions") or {}
    joined["actions"] = {name: one.get(name, []) + two.get(name, []) for name in {**one, **two}}
    if first.get("diff") and second.get("diff"):
        joined["diff"] = {
            side: {**first["diff"][side], **second["diff"][side]} for side in ("before", "after")
        }
    return joined


def short_diff(diff: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a diff with one entry for each new node, instead of one for each of its options.

    The commands that are run in it are shown as well.
    """
    states = {key.rpartition(".state")[0]: diff["after"][key] for key in _new_states(diff)}
    short = {
        side: {
            key: value
            for key, value in entries.items()
            if key.partition(".")[0] not in states or key.partition(".")[2] == "exec"
        }
        for side, entries in diff.items()
    }
    short["after"].update((name, "new node, %s" % state) for name, state in states.items())
    return short


def _new_states(diff: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        key
        for key, before in diff["before"].items()
        if before == "absent" and key.endswith(".state") and key in diff["after"]
    ]
