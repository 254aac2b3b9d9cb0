# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Arrange the boxes of a lab: as given, in rows by tier, as a circle for a ring, or freely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import graphviz
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.geometry import (
    Box,
    Point,
    any_overlap,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.tiers import Key
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key

# From this number of nodes with a single link on, those behind one node are stacked.
_MIN_STACKED = 10
_STACK_GAP = 10
_STACK_INDENT = 22
_LABEL_MARGIN = 50
_CIRCLE_GAP = 46
_MIN_RADIUS = 125.0
# Cards are wider than high, and so is the circle.
_CIRCLE_STRETCH = 1.35
# Between cards whose places are given; and how much larger than its cards a picture can be then.
_GIVEN_GAP = 46
_MAX_SPACE = 60
_STEP = 100.0

Boxes = Mapping[Key, Box]
Edge = tuple[Key, Key]


def arrange(
    boxes: Boxes, edges: Sequence[Edge], tiered: bool, small: bool
) -> dict[int, list[Point]]:
    """Place every box. Return the routes of the edges to stacked boxes: {number: points}."""
    if tiered:
        return _arrange_tiers(boxes, edges, small)
    ring = _ring(boxes, edges)
    if ring:
        _place_on_circle([boxes[key] for key in ring])
    else:
        graphviz.place_freely(boxes, edges)
        _straighten(
            list(boxes.values()),
            [(boxes[tail], boxes[head]) for tail, head in edges if tail != head],
        )
    return {}


def place_as_given(boxes: Boxes, edges: Sequence[Edge], given: Mapping[Key, Point]) -> bool:
    """Place every box where a topology has it, as near to each other as they can be.

    Boxes without a place come between their neighbours. Return False, with nothing placed, if two
    boxes have the same place, or the picture would be too large.
    """
    if not given or not all(math.isfinite(x) and math.isfinite(y) for x, y in given.values()):
        return False
    places = dict(given)
    neighbours = _neighbours(boxes, edges)
    for key in boxes:
        if key not in places:
            points = [given[other] for other in neighbours[key] if other in given]
            places[key] = _place_between(points, places)
    scale = _scale_for(boxes, places)
    if scale is None:
        return False
    for key, box in boxes.items():
        box.x, box.y = places[key][0] * scale, places[key][1] * scale
        box.row = None
    return True


def _place_between(points: Sequence[Point], places: Mapping[Key, Point]) -> Point:
    """Return the place between points, or above it if that is taken."""
    x = sum(point[0] for point in points) / max(len(points), 1)
    y = sum(point[1] for point in points) / max(len(points), 1)
    while any(math.dist((x, y), place) < _STEP / 2 for place in places.values()):
        y -= _STEP
    return x, y


def _scale_for(boxes: Boxes, places: Mapping[Key, Point]) -> float | None:
    """Return how much to scale places so that no box overlaps another, None if it is too much."""
    scale, keys = 0.0, list(boxes)
    for number, key in enumerate(keys):
        for other in keys[number + 1 :]:
            (x, y), (other_x, other_y) = places[key], places[other]
            dx, dy = abs(x - other_x), abs(y - other_y)
            width = (boxes[key].width + boxes[other].width) / 2 + _GIVEN_GAP
            height = (boxes[key].height + boxes[other].height) / 2 + _GIVEN_GAP
            if not dx and not dy:
                return None
            scale = max(scale, min(width / dx if dx else math.inf, height / dy if dy else math.inf))
    area = sum((box.width + _GIVEN_GAP) * (box.height + _GIVEN_GAP) for box in boxes.values())
    xs, ys = zip(*places.values())
    needed = (max(xs) - min(xs)) * (max(ys) - min(ys)) * scale * scale
    return None if needed > _MAX_SPACE * area else scale


def _arrange_tiers(boxes: Boxes, edges: Sequence[Edge], small: bool) -> dict[int, list[Point]]:
    stacks = _stacks(boxes, edges) if small else {}
    stacked = {key for keys in stacks.values() for key in keys}
    placed = {key: box for key, box in boxes.items() if key not in stacked}
    # A stack is placed as one box, under the name of the node above it.
    stack_key: dict[Key, Key] = {parent: ("stack", "(%s)" % parent[1]) for parent in stacks}
    for parent, keys in stacks.items():
        first = boxes[keys[0]]
        placed[stack_key[parent]] = Box(
            first.width + _STACK_INDENT,
            len(keys) * (first.height + _STACK_GAP) - _STACK_GAP,
            first.row,
        )
    pairs = [
        (tail, head) if (placed[tail].row or 0) <= (placed[head].row or 0) else (head, tail)
        for tail, head in edges
        if tail not in stacked and head not in stacked and tail != head
    ]
    pairs += list(stack_key.items())
    for key, box in placed.items():
        # The labels of several links need more space than the card.
        links = sum(tail == key for tail, _head in pairs)
        box.margin = _LABEL_MARGIN if not small and links > 1 else 0
    rows = _rows(placed, pairs)
    graphviz.place_in_rows(placed, pairs, rows)
    _centre_rows(placed, pairs, rows)
    _space_rows(placed, pairs, small)
    routes = {}
    for parent, keys in stacks.items():
        routes.update(_unstack(boxes, edges, parent, keys, placed[stack_key[parent]]))
    return routes


def _space_rows(boxes: Boxes, pairs: Sequence[Edge], small: bool) -> None:
    """Give rows the distance that the links between them need: more for a fabric than a tree."""
    levels = sorted({round(box.y) for box in boxes.values()})
    rows = [[key for key, box in boxes.items() if round(box.y) == level] for level in levels]
    row_of = {key: number for number, row in enumerate(rows) for key in row}
    y = 0.0
    for number, row in enumerate(rows):
        crossing = [
            pair
            for pair in pairs
            if min(row_of[key] for key in pair) < number <= max(row_of[key] for key in pair)
        ]
        # Steep enough to distinguish the links.
        span = max((abs(boxes[tail].x - boxes[head].x) for tail, head in crossing), default=0)
        is_tree = len(crossing) <= len(row)
        gap = (34 if small else 84) if is_tree else min(max(112.0, 0.17 * span), 240.0)
        height = max(boxes[key].height for key in row)
        is_stacks = row[0][0] == "stack"
        y += gap + height / 2 if number else 0
        for key in row:
            # Lower stacks are aligned to the top of the row.
            boxes[key].y = y - (height - boxes[key].height) / 2 if is_stacks else y
        y += height / 2


def _straighten(boxes: Sequence[Box], pairs: Sequence[tuple[Box, Box]]) -> None:
    """Rotate the layout so that edges that are nearly level or upright become so.

    Then mirror it so that the first box is at the upper left.
    """
    turns = [4 * math.atan2(head.y - tail.y, head.x - tail.x) for tail, head in pairs]
    sine, cosine = sum(map(math.sin, turns)), sum(map(math.cos, turns))
    angle = math.atan2(sine, cosine) / 4
    before = [(box.x, box.y) for box in boxes]
    if turns and math.hypot(sine, cosine) > 0.6 * len(turns) and abs(angle) < 0.3:
        for box in boxes:
            box.x, box.y = (
                box.x * math.cos(angle) + box.y * math.sin(angle),
                box.y * math.cos(angle) - box.x * math.sin(angle),
            )
        if any_overlap(boxes, 12):
            for box, (x, y) in zip(boxes, before):
                box.x, box.y = x, y
    middle_x = sum(box.x for box in boxes) / len(boxes)
    middle_y = sum(box.y for box in boxes) / len(boxes)
    flip_x = -1 if boxes[0].x > middle_x + 1 else 1
    flip_y = -1 if boxes[0].y > middle_y + 1 else 1
    for box in boxes:
        box.x, box.y = flip_x * box.x, flip_y * box.y


def _rows(boxes: Boxes, pairs: Sequence[Edge]) -> list[list[Key]]:
    """Return the boxes of each tier from left to right: near their neighbours above, by name."""
    tiers = sorted({box.row for box in boxes.values() if box.row is not None})
    rows = [[key for key in boxes if boxes[key].row == tier] for tier in tiers]
    position: dict[Key, float] = {}

    def sort_key(key: Key) -> tuple[float, list[tuple[int, int, str]]]:
        above = [
            position[other]
            for pair in pairs
            if key in pair
            for other in pair
            if other != key and other in position
        ]
        return sum(above) / len(above) if above else 0.5, natural_key(key[1])

    for row in rows:
        row.sort(key=sort_key)
        position.update({key: (number + 0.5) / len(row) for number, key in enumerate(row)})
    return rows


def _centre_rows(boxes: Boxes, pairs: Sequence[Edge], rows: Sequence[Sequence[Key]]) -> None:
    """Centre rows whose boxes all have the same neighbours below, such as spines.

    For Graphviz, one position of them is as good as another.
    """
    middle = [
        (min(boxes[key].left for key in row) + max(boxes[key].right for key in row)) / 2
        for row in rows
    ]
    for number in range(len(rows) - 2, -1, -1):
        below = [frozenset(head for tail, head in pairs if tail == key) for key in rows[number]]
        if len(set(below)) == 1 and below[0]:
            shift = middle[number + 1] - middle[number]
            middle[number] += shift
            for key in rows[number]:
                boxes[key].x += shift


def _neighbours(boxes: Boxes, edges: Sequence[Edge]) -> dict[Key, list[Key]]:
    neighbours: dict[Key, list[Key]] = {key: [] for key in boxes}
    for tail, head in edges:
        neighbours[tail].append(head)
        neighbours[head].append(tail)
    return neighbours


def _stacks(boxes: Boxes, edges: Sequence[Edge]) -> dict[Key, list[Key]]:
    """Return the nodes to stack: {node: those below it that have no other link}."""
    stacks: dict[tuple[Key, int], list[Key]] = {}
    for key, others in _neighbours(boxes, edges).items():
        if len(others) == 1 and key[0] == others[0][0] == "node":
            row, row_above = boxes[key].row or 0, boxes[others[0]].row or 0
            if row_above < row:
                stacks.setdefault((others[0], row), []).append(key)
    if sum(map(len, stacks.values())) < _MIN_STACKED:
        return {}
    found: dict[Key, list[Key]] = {}
    for (parent, _row), keys in stacks.items():
        if len(keys) > 1 and parent not in found:
            found[parent] = sorted(keys, key=lambda key: natural_key(key[1]))
    return found


def _unstack(
    boxes: Boxes, edges: Sequence[Edge], parent: Key, keys: Sequence[Key], stack: Box
) -> dict[int, list[Point]]:
    """Place the boxes of a stack below each other. Return the routes of their edges."""
    above = boxes[parent]
    stack.x = above.left + stack.width / 2
    x = stack.left + _STACK_INDENT / 3
    y = stack.top
    routes = {}
    for key in keys:
        box = boxes[key]
        box.x, box.y = stack.left + _STACK_INDENT + box.width / 2, y + box.height / 2
        y += box.height + _STACK_GAP
        number = next(number for number, edge in enumerate(edges) if key in edge)
        points = [(x, above.bottom), (x, box.y), (box.left, box.y)]
        routes[number] = points if edges[number][0] == parent else points[::-1]
    return routes


def _ring(boxes: Boxes, edges: Sequence[Edge]) -> list[Key] | None:
    """Return the keys of all boxes in the order of their ring, None if they are not a ring."""
    neighbours = {key: set(others) for key, others in _neighbours(boxes, edges).items()}
    if len(boxes) < 3 or any(
        len(others) != 2 or key in others for key, others in neighbours.items()
    ):
        return None

    def by_name(key: Key) -> list[tuple[int, int, str]]:
        return natural_key(key[1])

    start = min(boxes, key=by_name)
    ring = [start, min(neighbours[start], key=by_name)]
    while len(ring) < len(boxes):
        following = next(key for key in neighbours[ring[-1]] if key != ring[-2])
        if following == start:
            return None
        ring.append(following)
    return ring


def _place_on_circle(boxes: Sequence[Box]) -> None:
    """Place boxes on an ellipse, clockwise from the top, as near as they can be."""
    radius = 40.0
    _place_at_radius(boxes, radius)
    while any_overlap(boxes, _CIRCLE_GAP):
        radius *= 1.06
        _place_at_radius(boxes, radius)
    if radius < _MIN_RADIUS:
        for box in boxes:
            box.x, box.y = box.x * _MIN_RADIUS / radius, box.y * _MIN_RADIUS / radius


def _place_at_radius(boxes: Sequence[Box], radius: float) -> None:
    for number, box in enumerate(boxes):
        angle = 2 * math.pi * number / len(boxes)
        box.x = round(_CIRCLE_STRETCH * radius * math.sin(angle), 2)
        box.y = round(-radius * math.cos(angle), 2)
