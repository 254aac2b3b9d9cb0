# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How a kind calls its NICs, and in which order its system finds them."""

from __future__ import annotations

_MOST = 250


class NicNaming:
    """The NICs that a kind has. shape: the kind's nic."""

    def __init__(self, shape):
        management = shape.get("management") or []
        self.management = [management] if isinstance(management, str) else list(management)
        self.head, _number, self.tail = shape.get("name", "eth{n}").partition("{n}")
        self.first, self.maximum = shape.get("first", 1), shape.get("max", _MOST)
        self.minimum, self.block_size = shape.get("min", 0), shape.get("block_size", 1)
        self.fill_slots = bool(shape.get("fill_slots"))

    def __str__(self):
        last = self.first + self.maximum - 1
        return ", ".join(self.management + ["%s to %s" % (self.name(self.first), self.name(last))])

    def name(self, number):
        """What the data NIC of a number is called."""
        return "%s%d%s" % (self.head, number, self.tail)

    def number(self, name):
        """The number of a data NIC; None for other names."""
        middle = name[len(self.head) : len(name) - len(self.tail)]
        if name in self.management or not (
            middle.isascii()
            and middle.isdigit()
            and len(middle) < 5
            and self.name(int(middle)) == name
        ):
            return None
        return int(middle)

    def has(self, name):
        """Whether the system can have a NIC of that name: where it counts its cards, the name must say which."""
        number = self.number(name)
        if number is None:
            return name in self.management or not self.fill_slots
        return self.first <= number < self.first + self.maximum

    def names(self):
        """The data NICs, in their order."""
        return (self.name(number) for number in range(self.first, self.first + self.maximum))

    def position(self, name):
        """The place of a NIC among the cards; None where that does not matter."""
        if not self.fill_slots:
            return None
        if name in self.management:
            return self.management.index(name)
        return len(self.management) + self.number(name) - self.first

    def order(self, name):
        """A key that sorts names as the system finds them: management, data NICs, others."""
        number = self.number(name)
        if name in self.management:
            return 0, self.management.index(name), name
        return (2, 0, name) if number is None else (1, number, name)

    def missing(self, names):
        """The NICs that must be there besides: those before the data NICs, those in holes, and spare ones, which take a link that is
        added while the node runs."""
        numbers = {number for number in map(self.number, names) if number is not None}
        wanted = max(numbers, default=self.first - 1) - self.first + 1
        spare = []
        if self.fill_slots or self.block_size > 1 or self.minimum:
            # One is spare at least, except where the system counts its cards.
            full = wanted + (self.block_size > 1 and not self.fill_slots)
            upto = min(
                max(-(-full // self.block_size) * self.block_size, self.minimum), self.maximum
            )
            spare = [
                self.name(number)
                for number in range(self.first, self.first + upto)
                if number not in numbers
            ]
        return [name for name in self.management if name not in names] + spare
