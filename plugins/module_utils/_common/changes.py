# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Changes: what a plan is made of, and the one source of changed, diff and the returned changes."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

LIVE = "live"
RESTART = "restart"
FILE = "file"


class Item(str):
    """The name of an item of a list, in a path: it is shown in brackets."""


class Change(NamedTuple):
    """One difference between what is and what shall be.

    path: where it is, such as ("nics", Item("eth0"), "link"). before, after: the values, None for "not there".
    how: LIVE (while the VM runs), RESTART (needs a power cycle of a running VM), FILE (no running VM is concerned).
    part, verb: who applies it to a running VM, and how.
    reason: why it is not LIVE, where a user would wonder.
    """

    path: Tuple[str, ...]
    before: Any = None
    after: Any = None
    how: str = RESTART
    part: str = ""
    verb: str = "set"
    reason: str = ""

    @property
    def option(self) -> str:
        """The path as users read it, such as nics[eth0].link."""
        return "".join(
            "[%s]" % step if isinstance(step, Item) else "." + step for step in self.path
        )[not isinstance(self.path[0], Item) :]

    @property
    def item(self) -> str:
        """The name of the item of a list that it is about; empty when it is about none."""
        return self.path[1] if len(self.path) > 1 and isinstance(self.path[1], Item) else ""

    def result(self) -> Dict[str, Any]:
        """The change as a module returns it."""
        told = {"option": self.option, "before": self.before, "after": self.after, "how": self.how}
        if self.reason:
            told["reason"] = self.reason
        return told


def module_diff(changes: Iterable[Change]) -> Dict[str, Dict[str, Any]]:
    """The diff of a module: one entry per option on either side."""
    return {
        "before": {c.option: c.before for c in changes if c.before is not None},
        "after": {c.option: c.after for c in changes if c.after is not None},
    }


def changed_keys(before: Dict[str, Any], after: Dict[str, Any]) -> List[str]:
    """The keys whose values differ between two dicts, sorted; a missing key counts as None."""
    return sorted(key for key in set(before) | set(after) if before.get(key) != after.get(key))
