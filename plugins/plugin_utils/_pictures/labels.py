# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The labels of links: names of NICs, prefixes, and whether a link is down."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

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
# Between labels one above the other.
_ROW = 14
# If more than one in this number of a group is hidden, all of them are.
_HIDDEN_SHARE = 8


@dataclasses.dataclass
class Label:
    """A text at a link, centred at x, y. part: nic, prefix or down.

    group: labels of which most are shown or all are hidden, so that a picture is consistent.
    places: where else it can be. style: how it is shown, if not as all of its part.
    """

    x: float
    y: float
    text: str
    group: Hashable
    part: str
    places: list[Point] = dataclasses.field(default_factory=list)
    style: str = ""
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
        text = end.nic + ", capture" * end.captured
        (x, y), *places = _nic_places(line if number == 0 else line[::-1], boxes[number], text)
        style = "word-capture" if end.captured else ""
        labels.append(Label(x, y, text, ("nic", rows, number), "nic", places, style))
    (x, y), *places = _middle_places(line)
    if link.down:
        labels.append(Label(x, y, "down", None, "down", places, "word-down"))
    elif link.vlans:
        labels.append(Label(x, y, link.vlans, ("vlans", rows), "prefix", places))
    elif link.prefixes and not link.segment:
        labels.append(Label(x, y, link.prefixes[0], ("prefix", rows), "prefix", places))
    return labels


def _middle_places(line: Sequence[Point]) -> list[Point]:
    """Return where a label between the ends can be: on the line, else above or below it."""
    length = line_length(line)
    on_line = [point_along(line, length * share) for share in (0.5, 0.4, 0.6)]
    x, y = on_line[0]
    return [*on_line, (x, y - _ROW), (x, y + _ROW), (x, y - 2 * _ROW), (x, y + 2 * _ROW)]


def _nic_places(line: Sequence[Point], box: Box, text: str) -> list[Point]:
    """Return where a NIC's label can be: all those of one side of a card are in a row."""
    x, y = line[0]
    if x in (box.left, box.right):
        x, y = point_along(line, 9 + text_width(text, _SIZE) / 2)
        return [(x, y - 8), (x, y + 8)]
    places = []
    for distance in (_DISTANCE, _DISTANCE + _ROW):
        for first, second in zip(line, line[1:]):
            if abs(second[1] - y) >= distance:
                share = (distance - abs(first[1] - y)) / abs(second[1] - first[1])
                places.append(point_between(first, second, share))
                break
    return places or [point_along(line, _DISTANCE)]


def hide_overlaps(routes: Sequence[Route], boxes: Sequence[Box], small: bool) -> int:
    """Move labels that would cover something, and hide those without another place.

    Return how many are hidden. The picture still shows them on hovering.
    """
    lines = [_bounded(route.line) for route in routes]
    labels = [
        (number, label)
        for part in ("down", "nic", "prefix")
        for number, route in enumerate(routes)
        for label in route.labels
        if label.part == part
    ]
    taken = list(boxes)
    for number, label in labels:
        label.shown = not (small and label.part == "down") and _place(label, taken, lines, number)
        if label.shown:
            taken.append(label.box)
    groups: dict[Hashable, list[Label]] = {}
    for _number, label in labels:
        if label.group:
            groups.setdefault(label.group, []).append(label)
    for group in groups.values():
        if sum(not label.shown for label in group) * _HIDDEN_SHARE > len(group):
            for label in group:
                label.shown = False
    return sum(not label.shown for _number, label in labels)


class _Bounded(NamedTuple):
    """A line, with the sides of the smallest box around it."""

    line: Sequence[Point]
    left: float
    right: float
    top: float
    bottom: float


def _bounded(line: Sequence[Point]) -> _Bounded:
    xs, ys = zip(*line)
    return _Bounded(line, min(xs), max(xs), min(ys), max(ys))


def _place(label: Label, taken: Sequence[Box], lines: Sequence[_Bounded], own: int) -> bool:
    """Move a label to the first of its places that is free. Return whether there is one.

    own: the number of its line.
    """
    width, height = label.box.width, label.box.height
    for x, y in [(label.x, label.y), *label.places]:
        # As in Box.overlaps, without a call for each box: a large picture has thousands.
        if any(
            abs(x - other.x) * 2 < width + other.width
            and abs(y - other.y) * 2 < height + other.height
            for other in taken
        ):
            continue
        # The label of a NIC may touch neighbouring links; that of a prefix may not.
        box = Box(width, height, None, x, y)
        if label.part == "prefix" and _is_crossed(box, lines, own):
            continue
        label.x, label.y = x, y
        return True
    return False


def _is_crossed(box: Box, lines: Sequence[_Bounded], own: int) -> bool:
    """Return whether a line other than its own goes through the box of a label."""
    left, right, top, bottom = box.left, box.right, box.top, box.bottom
    return any(
        line.left <= right
        and line.right >= left
        and line.top <= bottom
        and line.bottom >= top
        and number != own
        and crosses(line.line, box)
        for number, line in enumerate(lines)
    )
