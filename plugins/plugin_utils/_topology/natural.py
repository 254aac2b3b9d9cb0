# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Sort names as people do: r2 before r10."""

from __future__ import annotations

import re


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares the numbers in names as numbers."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


def trailing_number(name: str) -> int | None:
    """Return the number at the end of a name, None if it ends otherwise."""
    kind, number, _text = natural_key(name)[-1]
    return number if kind == 0 else None
