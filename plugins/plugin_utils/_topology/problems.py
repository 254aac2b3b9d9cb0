# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Collect the errors of a topology, to report all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class TopologyError(Exception):
    """A topology that cannot be built.

    problems: (option path, message) pairs; a path looks like links[2].endpoints[0].
    """

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = list(dict.fromkeys(problems))
        count = len(self.problems)
        lines = "\n".join("  %s: %s" % problem for problem in self.problems)
        super().__init__(
            "the topology has %d error%s:\n%s" % (count, "" if count == 1 else "s", lines)
        )


class Problems:
    """The errors found so far. found: (option path, message) pairs."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, path: str, message: str, *values: Any) -> None:
        """Record an error of the option at path. values fill the placeholders of message."""
        self.found.append((path, message % values if values else message))

    def check(self) -> None:
        """Raise TopologyError if an error was recorded."""
        if self.found:
            raise TopologyError(self.found)
