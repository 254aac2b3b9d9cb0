# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The names of a kind's NICs, and the order in which its system numbers them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_MAX_NICS = 250
_NUMBER = "(0|[1-9][0-9]{0,3})"
_ETH_PATTERN = "eth{n}"
_ETH = re.compile("eth" + _NUMBER)


SLOT = "{slot}"


class NicNaming:
    """The NICs that a kind supports. settings: the kind's nic.

    Management NICs come first, then data NICs. Where a system names these by slots, their numbers
    count on over all slots.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        management = settings.get("management") or []
        self.management: list[str] = (
            [management] if isinstance(management, str) else list(management)
        )
        self.pattern: str = settings.get("name", _ETH_PATTERN)
        self.prefix = re.split(r"\{(?:n|slot)\}", self.pattern)[0]
        self.per_slot: int | None = settings.get("per_slot") if SLOT in self.pattern else None
        self.first: int = settings.get("first", 1)
        self.maximum: int = settings.get("max", _MAX_NICS)
        self.minimum: int = settings.get("min", 0)
        self.block_size: int = settings.get("block_size", 1)
        self.fill_slots = bool(settings.get("fill_slots"))

    def __str__(self) -> str:
        if not self.maximum:
            return ", ".join(self.management) or "none"
        last = self.first + self.maximum - 1
        return ", ".join(self.management + ["%s to %s" % (self.name(self.first), self.name(last))])

    def name(self, number: int) -> str:
        """Return the name of a data NIC."""
        slot = 0
        if self.per_slot:
            slot, rest = divmod(number - self.first, self.per_slot)
            number = self.first + rest
        return self.pattern.replace("{n}", str(number), 1).replace(SLOT, str(slot), 1)

    def number(self, name: str) -> int | None:
        """Return the number of a data NIC, None for other names."""
        match = self._parser.fullmatch(name)
        if match is None or name in self.management:
            return None
        number = int(match["n"])
        if self.per_slot:
            number += int(match["slot"]) * self.per_slot
        return number if self.name(number) == name else None

    def index(self, name: str) -> int | None:
        """Return the index of a data NIC among all that the system can have, None for others."""
        number = self.number(name)
        index = -1 if number is None else number - self.first
        return index if 0 <= index < self.maximum else None

    @functools.cached_property
    def _parser(self) -> re.Pattern[str]:
        """What the name of a data NIC matches, with its number as n."""
        text = re.escape(self.pattern)
        for key in ("n", "slot"):
            text = text.replace(re.escape("{%s}" % key), "(?P<%s>%s)" % (key, _NUMBER), 1)
        return re.compile(text)

    def supports(self, name: str) -> bool:
        """Return whether the system can have a NIC of this name.

        Where the slot decides the name, only management and data NICs have one.
        """
        number = self.number(name)
        if number is None:
            return name in self.management or not self.fill_slots
        return self.first <= number < self.first + self.maximum

    def names(self) -> Iterator[str]:
        """Return the names of all data NICs in order."""
        return (self.name(number) for number in range(self.first, self.first + self.maximum))

    def at(self, position: int) -> str | None:
        """Return the NIC at a position: management NICs come first. None without such a NIC."""
        if position < len(self.management):
            return self.management[position]
        index = position - len(self.management)
        return self.name(self.first + index) if index < self.maximum else None

    def full_name(self, name: str) -> str:
        """Return the NIC that containerlab calls so; other names are returned unchanged.

        There, eth0 is the management NIC and eth1 the first one for data. A system without a
        management NIC uses its first data NIC for that.
        """
        match = _ETH.fullmatch(name)
        if not match or self.supports(name) or self.pattern == _ETH_PATTERN:
            return name
        number = int(match.group(1))
        before = max(len(self.management), 1) - 1 if number else 0
        return self.at(number + before) or name

    def position(self, name: str) -> int | None:
        """Return the index of a NIC among all NICs, None where the slot does not matter."""
        if not self.fill_slots:
            return None
        if name in self.management:
            return self.management.index(name)
        number = self.number(name)
        if number is None:
            raise ValueError(name)  # supports() rejects such names
        return len(self.management) + number - self.first

    def sort_key(self, name: str) -> tuple[int, int, str]:
        """Return a key that sorts names: management NICs, data NICs by number, others."""
        number = self.number(name)
        if name in self.management:
            return 0, self.management.index(name), name
        return (2, 0, name) if number is None else (1, number, name)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return the NICs that a node needs besides these.

        They are the management NICs, those that fill gaps between numbers, and spare ones,
        which take a link that is added while the node runs.
        """
        present = set(names)
        numbers = {number for number in map(self.number, present) if number is not None}
        used = max(numbers, default=self.first - 1) - self.first + 1
        unused = []
        if self.fill_slots or self.block_size > 1 or self.minimum:
            # At least one NIC is spare, except where the slot decides the name.
            needed = used + (self.block_size > 1 and not self.fill_slots)
            blocks = -(-needed // self.block_size)
            count = min(max(blocks * self.block_size, self.minimum), self.maximum)
            unused = [
                self.name(number)
                for number in range(self.first, self.first + count)
                if number not in numbers
            ]
        return [name for name in self.management if name not in present] + unused


class SystemNaming(NicNaming):
    """The NICs of a system of several VMs: those for management, then the data NICs of all VMs.

    settings: of the node itself. modules: those of its modules, whose management NICs are internal.
    """

    def __init__(self, settings: Mapping[str, Any], modules: Iterable[Mapping[str, Any]]) -> None:
        super().__init__(settings)
        self.parts = [NicNaming(settings), *map(NicNaming, modules)]
        with_data = self.parts[self.data_part]
        self.pattern, self.prefix = with_data.pattern, with_data.prefix
        self.first, self.maximum = 0, sum(part.maximum for part in self.parts)
        self.fill_slots = True  # no NICs besides these

    @property
    def data_part(self) -> int:
        """The number of the first VM that has data NICs."""
        return next((number for number, part in enumerate(self.parts) if part.maximum), 0)

    def part_with(self, name: str) -> int:
        """Return the number of the VM that has a NIC: 0, the node itself, also for others."""
        for number, part in enumerate(self.parts):
            if name in part.management and not number or part.index(name) is not None:
                return number
        return 0

    def name(self, number: int) -> str:
        """Return the name of a data NIC, counted from 0 over all VMs."""
        for part in self.parts:
            if number < part.maximum:
                return part.name(part.first + number)
            number -= part.maximum
        raise ValueError(number)

    def number(self, name: str) -> int | None:
        """Return the number of a data NIC, None for other names."""
        before = 0
        for part in self.parts:
            index = part.index(name)
            if index is not None:
                return before + index
            before += part.maximum
        return None


def naming_of(spec: Mapping[str, Any]) -> NicNaming:
    """Return the naming of all NICs that a node of a complete kind has."""
    if not spec["modules"]:
        return NicNaming(spec["nic"])
    return SystemNaming(spec["nic"], [module["nic"] for module in spec["modules"].values()])
