# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A drawing: where cards, wires and their words are, without saying how they are painted."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, List, Optional, Tuple

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import arrange
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.layout import Box, ways_around
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.words import (
    LINE,
    TITLE,
    cut,
    lines_of,
    width_of,
)

_MARGIN = 28
_MANY = 30  # nodes, from which on they are drawn small
_ICON = 40
_STEP = 40  # between wires at one side of a card, where there is room
_SMALL = 9.5
_AWAY = 13  # from a card to the words at its wires


@dataclasses.dataclass
class Card:
    """A node or a segment in its place. foot: state and hypervisor, below the lines."""

    thing: Any
    box: Box
    title: str
    lines: List[str]
    foot: Optional[Tuple[str, str]] = None
    small: bool = False


@dataclasses.dataclass
class Word:
    """A text at a wire. group: words that are shown all or none, so that a picture is not half labelled."""

    x: float
    y: float
    text: str
    group: Any
    part: str
    shown: bool = True

    @property
    def box(self):
        """What it covers."""
        return Box(width_of(self.text, _SMALL) + 4, _SMALL + 3, None, self.x, self.y)


@dataclasses.dataclass
class Wire:
    """A link: its points, or those of a curve (cubic, as graphviz has them), and its words."""

    link: Any
    points: List[Tuple[float, float]]
    curved: bool
    words: List[Word]


@dataclasses.dataclass
class Drawing:
    """Everything with its place; the upper left corner is 0, 0."""

    width: float
    height: float
    nodes: List[Card]
    segments: List[Card]
    wires: List[Wire]


def drawing_of(view):
    """The Drawing of a View."""
    small = len(view.nodes) + len(view.segments) > _MANY
    cards = _cards(view, small)
    edges = [
        (
            ("node", link.ends[0].node),
            ("segment", link.segment) if link.segment else ("node", link.ends[1].node),
        )
        for link in view.links
    ]
    boxes = {key: card.box for key, card in cards.items()}
    trunks = arrange.arrange(view, boxes, edges, small)
    wires = _wires(view, boxes, edges, trunks)
    _keep_readable(wires, list(boxes.values()), small)
    everything = list(boxes.values()) + [
        Box(0, 0, None, x, y) for wire in wires for x, y in wire.points
    ]
    everything += [word.box for wire in wires for word in wire.words if word.shown]
    left, top = (
        min(box.left for box in everything) - _MARGIN,
        min(box.top for box in everything) - _MARGIN,
    )
    width, height = (
        max(box.right for box in everything) + _MARGIN - left,
        max(box.bottom for box in everything) + _MARGIN - top,
    )
    for box in boxes.values():
        box.x, box.y = box.x - left, box.y - top
    for wire in wires:
        wire.points = [(x - left, y - top) for x, y in wire.points]
        for word in wire.words:
            word.x, word.y = word.x - left, word.y - top
    return Drawing(
        width,
        height,
        [cards["node", name] for name in view.nodes],
        [cards["segment", name] for name in view.segments],
        wires,
    )


def _cards(view, small):
    told = {node.name: lines_of(node, view, small) for node in view.nodes.values()}
    rows = max(len(lines) for lines, _foot in told.values())
    has_foot = any(foot for _lines, foot in told.values())
    widest = max(
        [width_of(node, TITLE, bold=True) for node in told]
        + [width_of(line, LINE) for lines, _foot in told.values() for line in lines]
        + [
            width_of("  ".join(foot), LINE) + 22 - _ICON + 14
            for _lines, foot in told.values()
            if foot
        ]
    )
    width = min(max(widest + _ICON + 14, 84 if small else 118), 210)
    height = 32 + 15 * rows + (18 if has_foot else 0) if not small else 26 + 14 * rows
    room = width - _ICON - 12
    cards = {}
    for node in view.nodes.values():
        lines, foot = told[node.name]
        box = Box(_wide_enough(view, node, width), height, node.tier)
        lines = [cut(line, LINE, room) for line in lines]
        cards["node", node.name] = Card(
            node, box, cut(node.name, TITLE, room, bold=True), lines, foot, small
        )
    for segment in view.segments.values():
        lines = segment.prefixes[:1]
        wide = (
            max(
                width_of(segment.name, TITLE, bold=True),
                *(width_of(line, LINE) for line in lines or [""]),
            )
            + 44
        )
        box = Box(min(max(wide, 100), 210), 26 + 15 * len(lines), segment.tier)
        cards["segment", segment.name] = Card(
            segment, box, cut(segment.name, TITLE, 170, bold=True), lines
        )
    return cards


def _wide_enough(view, node, width):
    """A node of a tier is as wide as its wires to one side need, up to a point."""
    if node.tier is None:
        return width
    below = [
        other
        for _link, _end, other in view.links_of(node.name)
        if other and (view.nodes[other.node].tier or 0) > node.tier
    ]
    return max(width, min(len(below) * _STEP + 16, 2 * width))


def _wires(view, boxes, edges, trunks):
    ports = _Ports(
        view, boxes, [None if number in trunks else edge for number, edge in enumerate(edges)]
    )
    wires = []
    for number, (link, (tail, head)) in enumerate(zip(view.links, edges)):
        if number in trunks:
            wires.append(Wire(link, trunks[number], False, []))
        elif tail == head:
            wires.append(
                Wire(link, _loop(boxes[tail], edges[:number].count((tail, head))), True, [])
            )
        else:
            wires.append(Wire(link, [ports.point(number, 0), ports.point(number, 1)], False, []))
    blocked = [
        number
        for number, wire in enumerate(wires)
        if not wire.curved
        and number not in trunks
        and any(
            _crosses(wire.points, box) for key, box in boxes.items() if key not in edges[number]
        )
    ]
    ways = ways_around(boxes, edges) if blocked else {}
    for number in blocked:
        if len(ways.get(number, ())) > 3:
            wires[number].points, wires[number].curved = ways[number], True
    for number, wire in enumerate(wires):
        wire.words = _words(wire, [boxes[key] for key in edges[number]])
    return wires


class _Ports:
    """Where wires leave their cards: on the side that looks to the other card, in the order in which these are seen."""

    def __init__(self, view, boxes, edges):
        self.boxes, self.edges = boxes, edges
        self.rows = view.tiered
        self.sides = {}
        for number, edge in enumerate(edges):
            for end in (0, 1) if edge and edge[0] != edge[1] else ():
                self.sides.setdefault((edge[end], self._side(edge[end], edge[1 - end])), []).append(
                    (number, end)
                )
        for (key, side), ends in self.sides.items():
            ends.sort(key=lambda entry, key=key, side=side: self._seen(key, side, *entry))
        self.place_of = {
            entry: (key, side, place, len(ends))
            for (key, side), ends in self.sides.items()
            for place, entry in enumerate(ends)
        }

    def _side(self, key, other):
        box, far = self.boxes[key], self.boxes[other]
        dx, dy = far.x - box.x, far.y - box.y
        between = max(far.top - box.bottom, box.top - far.bottom)
        if (
            between > 20
            if self.rows
            else abs(dy) * (box.width + far.width) >= abs(dx) * (box.height + far.height) * 0.8
            and between > 0
        ):
            return "bottom" if dy > 0 else "top"
        return "right" if dx > 0 else "left"

    def _seen(self, key, side, number, end):
        box, far = self.boxes[key], self.boxes[self.edges[number][1 - end]]
        dx, dy = far.x - box.x, far.y - box.y
        return (dx / max(abs(dy), 1) if side in ("top", "bottom") else dy / max(abs(dx), 1)), number

    def point(self, number, end):
        """The point where a wire leaves its card."""
        key, side, place, count = self.place_of[number, end]
        box = self.boxes[key]
        length = box.width if side in ("top", "bottom") else box.height
        step = (
            min((length - 24) / (count - 1), _STEP if side in ("top", "bottom") else 20)
            if count > 1
            else 0
        )
        along = (place - (count - 1) / 2) * step
        if side in ("top", "bottom"):
            return box.x + along, box.bottom if side == "bottom" else box.top
        return box.right if side == "right" else box.left, box.y + along


def _loop(box, number):
    """A wire from a card to itself, above it."""
    high, right = 62 + 16 * number, box.right - 8
    return [
        (right - 34, box.top),
        (right - 46, box.top - high),
        (right + 12, box.top - high),
        (right, box.top),
    ]


def _words(wire, boxes):
    """The NICs at both ends, and the network, or that it is down, between them."""
    link = wire.link
    line = _curve(wire.points) if wire.curved else wire.points
    rows = tuple(box.row for box in boxes)
    words = [
        Word(
            *_beside(line if number == 0 else line[::-1], boxes[number], end.nic),
            end.nic,
            ("nic", rows, number),
            "nic",
        )
        for number, end in enumerate(link.ends)
    ]
    middle = _along(line, _length(line) / 2)
    if link.down:
        words.append(Word(*middle, "down", None, "down"))
    elif link.prefixes and not link.segment:
        words.append(Word(*middle, link.prefixes[0], ("prefix", rows), "prefix"))
    return words


def _beside(line, box, text):
    """Where the word for a NIC is: on its wire, all those of one side of a card in a row, so that they do not meet."""
    x, y = line[0]
    if x in (box.left, box.right):
        x, y = _along(line, 9 + width_of(text, _SMALL) / 2)
        return x, y - 8
    for first, second in zip(line, line[1:]):
        if abs(second[1] - y) >= _AWAY:
            share = (_AWAY - abs(first[1] - y)) / abs(second[1] - first[1])
            return first[0] + (second[0] - first[0]) * share, first[1] + (
                second[1] - first[1]
            ) * share
    return _along(line, _AWAY)


def _keep_readable(wires, boxes, small):
    """Show words only where they cover nothing: what is not shown is still told when somebody points at it."""
    lines = [_curve(wire.points) if wire.curved else wire.points for wire in wires]
    words = [
        (number, word)
        for part in ("down", "nic", "prefix")
        for number, wire in enumerate(wires)
        for word in wire.words
        if word.part == part
    ]
    hidden = set()
    taken = list(boxes)
    for number, word in words:
        if word.group in hidden:
            continue
        box = word.box
        clear = not any(box.overlaps(other) for other in taken)
        # A NIC's word may touch the neighbouring wires of a fan; a network's may not.
        if clear and word.part == "prefix":
            clear = not any(
                _crosses(line, box) for other, line in enumerate(lines) if other != number
            )
        if clear and not (small and word.part == "down"):
            taken.append(box)
        elif word.group:
            hidden.add(word.group)
        else:
            word.shown = False
    for _number, word in words:
        word.shown = word.shown and word.group not in hidden


def _length(line):
    return sum(math.dist(first, second) for first, second in zip(line, line[1:]))


def _along(line, distance):
    """The point of a line that is so far from its start."""
    for first, second in zip(line, line[1:]):
        step = math.dist(first, second)
        if distance <= step and step:
            share = distance / step
            return first[0] + (second[0] - first[0]) * share, first[1] + (
                second[1] - first[1]
            ) * share
        distance -= step
    return line[-1]


def _curve(points):
    """Points along a curve of cubic pieces."""
    line = [points[0]]
    for start in range(0, len(points) - 3, 3):
        a, b, c, d = points[start : start + 4]
        for step in range(1, 13):
            t = step / 12
            s = 1 - t
            line.append(
                tuple(
                    s * s * s * a[axis]
                    + 3 * s * s * t * b[axis]
                    + 3 * s * t * t * c[axis]
                    + t * t * t * d[axis]
                    for axis in (0, 1)
                )
            )
    return line


def _crosses(line, box):
    """Whether a line goes through a box."""
    return any(_piece_crosses(first, second, box) for first, second in zip(line, line[1:]))


def _piece_crosses(first, second, box):
    left, right, top, bottom = box.left, box.right, box.top, box.bottom
    if (
        max(first[0], second[0]) < left
        or min(first[0], second[0]) > right
        or max(first[1], second[1]) < top
        or min(first[1], second[1]) > bottom
    ):
        return False
    # Liang and Barsky: the part of the piece that is inside of all four sides.
    dx, dy = second[0] - first[0], second[1] - first[1]
    start, end = 0.0, 1.0
    for step, room in (
        (-dx, first[0] - left),
        (dx, right - first[0]),
        (-dy, first[1] - top),
        (dy, bottom - first[1]),
    ):
        if step == 0:
            if room < 0:
                return False
        elif step < 0:
            start = max(start, room / step)
        else:
            end = min(end, room / step)
    return start < end
