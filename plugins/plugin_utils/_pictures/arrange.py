# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Which layout a lab gets: rows for tiers, a circle for a ring, else what graphviz finds."""

from __future__ import annotations

import math

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import layout
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.layout import Box
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key

_WIDE = 10  # nodes beside each other, from which on those behind one node are stacked
_GAP = 10
_INDENT = 22


def arrange(view, boxes, edges, small):
    """Give every box its place. edges: pairs of keys of boxes. Returns the points of edges that go to stacked boxes: {number: points}."""
    if view.tiered:
        return _in_tiers(boxes, edges, small)
    ring = _ring(boxes, edges)
    if ring:
        _circle([boxes[key] for key in ring])
    else:
        layout.freely(boxes, edges)
        _straighten(
            list(boxes.values()),
            [(boxes[tail], boxes[head]) for tail, head in edges if tail != head],
        )
    return {}


def _in_tiers(boxes, edges, small):
    stacks = _stacks(boxes, edges) if small else {}
    stacked = {key for keys in stacks.values() for key in keys}
    shown = {key: box for key, box in boxes.items() if key not in stacked}
    for parent, keys in stacks.items():
        some = boxes[keys[0]]
        shown["stack", parent] = Box(
            some.width + _INDENT, len(keys) * (some.height + _GAP) - _GAP, some.row
        )
    pairs = [
        (tail, head) if (shown[tail].row or 0) <= (shown[head].row or 0) else (head, tail)
        for tail, head in edges
        if tail not in stacked and head not in stacked and tail != head
    ]
    pairs += [(parent, ("stack", parent)) for parent in stacks]
    for key, box in shown.items():
        # The words at a fan of wires need more than the card.
        box.room = 50 if not small and sum(tail == key for tail, _head in pairs) > 1 else 0
    rows = _rows(shown, pairs)
    layout.in_rows(shown, pairs, rows)
    _centre(shown, pairs, rows)
    _set_apart(shown, pairs, small)
    trunks = {}
    for parent, keys in stacks.items():
        trunks.update(_unstack(boxes, edges, parent, keys, shown["stack", parent]))
    return trunks


def _set_apart(boxes, pairs, small):
    """Give rows the distance that the wires between them need: more for a fabric than for a tree."""
    levels = sorted({round(box.y) for box in boxes.values()})
    rows = [[key for key, box in boxes.items() if round(box.y) == level] for level in levels]
    row_of = {key: number for number, row in enumerate(rows) for key in row}
    y = 0.0
    for number, row in enumerate(rows):
        wires = [
            pair
            for pair in pairs
            if min(row_of[key] for key in pair) < number <= max(row_of[key] for key in pair)
        ]
        # Steep enough that wires can be told from each other.
        far = max((abs(boxes[tail].x - boxes[head].x) for tail, head in wires), default=0)
        is_tree = len(wires) <= len(row)
        gap = (34 if small else 84) if is_tree else min(max(112.0, 0.17 * far), 240.0)
        height = max(boxes[key].height for key in row)
        stacks = row[0][0] == "stack"
        y += gap + height / 2 if number else 0
        for key in row:
            # What is not as high as its row hangs from the top of it.
            boxes[key].y = y - (height - boxes[key].height) / 2 if stacks else y
        y += height / 2


def _straighten(boxes, pairs):
    """Turn what graphviz found a little, where most edges are nearly level or upright, and put the first box to the upper left."""
    turns = [4 * math.atan2(head.y - tail.y, head.x - tail.x) for tail, head in pairs]
    across, along = sum(map(math.sin, turns)), sum(map(math.cos, turns))
    angle = math.atan2(across, along) / 4
    before = [(box.x, box.y) for box in boxes]
    if turns and math.hypot(across, along) > 0.6 * len(turns) and abs(angle) < 0.3:
        for box in boxes:
            box.x, box.y = (
                box.x * math.cos(angle) + box.y * math.sin(angle),
                box.y * math.cos(angle) - box.x * math.sin(angle),
            )
        if any(
            first.overlaps(second, 12)
            for number, first in enumerate(boxes)
            for second in boxes[number + 1 :]
        ):
            for box, (x, y) in zip(boxes, before):
                box.x, box.y = x, y
    middle_x, middle_y = (
        sum(box.x for box in boxes) / len(boxes),
        sum(box.y for box in boxes) / len(boxes),
    )
    flip_x, flip_y = (
        (-1 if boxes[0].x > middle_x + 1 else 1),
        (-1 if boxes[0].y > middle_y + 1 else 1),
    )
    for box in boxes:
        box.x, box.y = flip_x * box.x, flip_y * box.y


def _rows(boxes, pairs):
    """The boxes of each tier from left to right: near those above that they are connected with, else by name."""
    rows = [
        [key for key in boxes if boxes[key].row == row]
        for row in sorted({box.row for box in boxes.values() if box.row is not None})
    ]
    place = {}
    for row in rows:

        def wanted(key):
            above = [
                place[other]
                for pair in pairs
                if key in pair
                for other in pair
                if other != key and other in place
            ]
            return sum(above) / len(above) if above else 0.5, natural_key(str(key[-1]))

        row.sort(key=wanted)
        place.update({key: (number + 0.5) / len(row) for number, key in enumerate(row)})
    return rows


def _centre(boxes, pairs, rows):
    """Put rows whose boxes all have the same neighbours below, such as spines, in the middle: graphviz finds any place as good."""
    middle = {
        number: (min(boxes[key].left for key in row) + max(boxes[key].right for key in row)) / 2
        for number, row in enumerate(rows)
    }
    for number in range(len(rows) - 2, -1, -1):
        below = [frozenset(head for tail, head in pairs if tail == key) for key in rows[number]]
        if len(set(below)) == 1 and below[0]:
            shift = middle[number + 1] - middle[number]
            middle[number] += shift
            for key in rows[number]:
                boxes[key].x += shift


def _stacks(boxes, edges):
    """{key: keys of those behind it} where several have no other link, and there are many of them."""
    neighbours = {key: [] for key in boxes}
    for tail, head in edges:
        neighbours[tail].append(head)
        neighbours[head].append(tail)
    stacks = {}
    for key, others in neighbours.items():
        parent = others[0] if len(others) == 1 else None
        if parent and key[0] == parent[0] == "node" and boxes[parent].row < boxes[key].row:
            stacks.setdefault((parent, boxes[key].row), []).append(key)
    if sum(map(len, stacks.values())) < _WIDE:
        return {}
    found = {}
    for (parent, _row), keys in stacks.items():
        if len(keys) > 1 and parent not in found:
            found[parent] = sorted(keys, key=lambda key: natural_key(key[1]))
    return found


def _unstack(boxes, edges, parent, keys, stack):
    """Place the boxes of a stack below each other, and their edges along its left side."""
    above = boxes[parent]
    stack.x = above.left + stack.width / 2
    x = stack.left + _INDENT / 3
    y = stack.top
    trunks = {}
    for key in keys:
        box = boxes[key]
        box.x, box.y = stack.left + _INDENT + box.width / 2, y + box.height / 2
        y += box.height + _GAP
        number = next(number for number, edge in enumerate(edges) if key in edge)
        points = [(x, above.bottom), (x, box.y), (box.left, box.y)]
        trunks[number] = points if edges[number][0] == parent else points[::-1]
    return trunks


def _ring(boxes, edges):
    """The keys of all boxes in the order of the ring that they are, or None."""
    neighbours = {key: set() for key in boxes}
    for tail, head in edges:
        neighbours[tail].add(head)
        neighbours[head].add(tail)
    if len(boxes) < 3 or any(
        len(others) != 2 or key in others for key, others in neighbours.items()
    ):
        return None
    start = min(boxes, key=lambda key: natural_key(key[1]))
    ring = [start, min(neighbours[start], key=lambda key: natural_key(key[1]))]
    while len(ring) < len(boxes):
        following = [key for key in neighbours[ring[-1]] if key != ring[-2]][0]
        if following == start:
            return None
        ring.append(following)
    return ring


def _circle(boxes):
    """Place boxes on an ellipse, the first at the top, and then clockwise."""
    radius = 40.0
    while True:
        for number, box in enumerate(boxes):
            angle = 2 * math.pi * number / len(boxes)
            # Cards are wider than high, and so is the ring.
            box.x, box.y = (
                round(1.35 * radius * math.sin(angle), 2),
                round(-radius * math.cos(angle), 2),
            )
        if not any(
            first.overlaps(second, 46)
            for number, first in enumerate(boxes)
            for second in boxes[number + 1 :]
        ):
            break
        radius *= 1.06
    least = 125.0
    if radius < least:
        for box in boxes:
            box.x, box.y = box.x * least / radius, box.y * least / radius
