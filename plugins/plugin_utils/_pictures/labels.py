# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The labels of links: names of NICs, prefixes, and whether a link is down."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.geometry import (
    Box,
    Point,
    crosses,
    line_length,
    point_along,
    point_between,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.texts import text_width
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import Link

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.routing import Route

_SIZE = 9.5
# From a card to the labels at its links.
_DISTANCE = 13


@dataclasses.dataclass
class Label:
    """A text at a link, centred at x, y. part: nic, prefix or down.

    group: labels of one group are all shown or all hidden, so that a picture is consistent.
    """

    x: float
    y: float
    text: str
    group: Hashable
    part: str
    shown: bool = True

    @property
    def box(self) -> Box:
        """The area that it covers."""
        return Box(text_width(self.text, _SIZE) + 4, _SIZE + 3, None, self.x, self.y)


def labels_of(link: Link, line: Sequence[Point], boxes: Sequence[Box]) -> list[Label]:
    """Return the labels of a link along line: at both ends the NICs, between them its prefix.

    boxes: the cards at the ends.
    """
    rows = tuple(box.row for box in boxes)
    labels = []
    for number, end in enumerate(link.ends):
        x, y = _nic_position(line if number == 0 else line[::-1], boxes[number], end.nic)
        labels.append(Label(x, y, end.nic, ("nic", rows, number), "nic"))
    x, y = point_along(line, line_length(line) / 2)
    if link.down:
        labels.append(Label(x, y, "down", None, "down"))
    elif link.prefixes and not link.segment:
        labels.append(Label(x, y, link.prefixes[0], ("prefix", rows), "prefix"))
    return labels


def _nic_position(line: Sequence[Point], box: Box, text: str) -> Point:
    """Return the position of a NIC's label: all those of one side of a card are in a row."""
    x, y = line[0]
    if x in (box.left, box.right):
        x, y = point_along(line, 9 + text_width(text, _SIZE) / 2)
        return x, y - 8
    for first, second in zip(line, line[1:]):
        if abs(second[1] - y) >= _DISTANCE:
            share = (_DISTANCE - abs(first[1] - y)) / abs(second[1] - first[1])
            return point_between(first, second, share)
    return point_along(line, _DISTANCE)


def hide_overlaps(routes: Sequence[Route], boxes: Sequence[Box], small: bool) -> None:
    """Hide labels that would cover something. The picture still shows them on hovering."""
    lines = [route.line for route in routes]
    labels = [
        (number, label)
        for part in ("down", "nic", "prefix")
        for number, route in enumerate(routes)
        for label in route.labels
        if label.part == part
    ]
    hidden = set()
    taken = list(boxes)
    for number, label in labels:
        if label.group in hidden:
            continue
        box = label.box
        free = not any(box.overlaps(other) for other in taken)
        # The label of a NIC may touch neighbouring links; that of a prefix may not.
        if free and label.part == "prefix":
            free = not any(
                crosses(line, box) for other, line in enumerate(lines) if other != number
            )
        if free and not (small and label.part == "down"):
            taken.append(box)
        elif label.group:
            hidden.add(label.group)
        else:
            label.shown = False
    for _number, label in labels:
        label.shown = label.shown and label.group not in hidden
