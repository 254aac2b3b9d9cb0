# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Everything that is wrong with a topology, told at once."""

from __future__ import annotations


class TopologyError(Exception):
    """A topology that cannot be built. problems: list of (place, message), place such as links[2].endpoints[0]."""

    def __init__(self, problems):
        self.problems = list(dict.fromkeys(problems))
        count = len(self.problems)
        super().__init__(
            "the topology has %d mistake%s:\n%s"
            % (
                count,
                "" if count == 1 else "s",
                "\n".join("  %s: %s" % problem for problem in self.problems),
            )
        )


class Problems:
    """Mistakes as they are found."""

    def __init__(self):
        self.found = []

    def add(self, place, message, *values):
        """Note a mistake at a place of the file."""
        self.found.append((place, message % values if values else message))

    def check(self):
        """Raise TopologyError when there are any."""
        if self.found:
            raise TopologyError(self.found)
