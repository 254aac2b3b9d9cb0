# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Changes: what a plan consists of. changed, diff and the returned changes come from this list."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

LIVE = "live"
NEXT_START = "next start"
RESTART = "restart"
FILE = "file"


class Item(str):
    """The name of a list item, in a path. It is shown in brackets."""


class Change(NamedTuple):
    """One difference between the current and the desired state.

    path: where it is, such as ("nics", Item("eth0"), "link"). before, after: None if missing.
    how: LIVE (while the VM runs), NEXT_START (made while the VM runs, and the guest sees it at its
    next start), RESTART (a running VM needs a power cycle), FILE (does not affect a running VM).
    part, verb: the part that applies it to a running VM, and its operation.
    reason: why it is not LIVE, where that is not obvious.
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
    def is_live(self) -> bool:
        """Whether it is made while the VM runs."""
        return self.how in (LIVE, NEXT_START)

    @property
    def shown_option(self) -> str:
        """The option as a diff shows it, with when the change has an effect."""
        return self.option + (" (at the next start)" if self.how == NEXT_START else "")

    @property
    def item(self) -> str:
        """The name of the list item that changes; empty if it is not an item."""
        return self.path[1] if len(self.path) > 1 and isinstance(self.path[1], Item) else ""

    def result(self) -> Dict[str, Any]:
        """Return the change as a module reports it."""
        result = {
            "option": self.option,
            "before": self.before,
            "after": self.after,
            "how": self.how,
        }
        if self.reason:
            result["reason"] = self.reason
        return result


def module_diff(changes: Iterable[Change]) -> Dict[str, Dict[str, Any]]:
    """Return the diff of a module: one entry for each option on either side."""
    return {
        "before": {c.shown_option: c.before for c in changes if c.before is not None},
        "after": {c.shown_option: c.after for c in changes if c.after is not None},
    }


def changed_keys(before: Dict[str, Any], after: Dict[str, Any]) -> List[str]:
    """Return the sorted keys whose values differ; a missing key counts as None."""
    return sorted(key for key in set(before) | set(after) if before.get(key) != after.get(key))
