# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""Changes: what a plan is made of, and the one source of changed, diff and the returned changes."""

from __future__ import annotations

from typing import Any, NamedTuple

LIVE = "live"
RESTART = "restart"
FILE = "file"


class Change(NamedTuple):
    """One difference between what is and what shall be.

    option: its path, such as nics[eth0].link. before, after: the values, None for "not there".
    how: LIVE (while the VM runs), RESTART (needs a power cycle of a running VM), FILE (no running VM is concerned).
    part, verb, key: who applies it to a running VM, and on what.
    reason: why it is not LIVE, where a user would wonder.
    """

    option: str
    before: Any = None
    after: Any = None
    how: str = RESTART
    part: str = ""
    verb: str = "set"
    key: str = ""
    reason: str = ""

    def result(self):
        """The change as a module returns it."""
        told = {"option": self.option, "before": self.before, "after": self.after, "how": self.how}
        if self.reason:
            told["reason"] = self.reason
        return told


def before_after(changes):
    """The diff of a module: one entry per option on either side."""
    return {"before": {c.option: c.before for c in changes if c.before is not None},
            "after": {c.option: c.after for c in changes if c.after is not None}}


def differing(before, after):
    """The keys whose values differ between two dicts, sorted; a missing key counts as None."""
    return sorted(key for key in set(before) | set(after) if before.get(key) != after.get(key))
