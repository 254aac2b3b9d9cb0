# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Route links between cards: straight lines, and curves around what is in their way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import graphviz
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.geometry import (
    Box,
    Point,
    crosses,
    curve_points,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.labels import Label, labels_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.tiers import Key
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import Link, View

# Between links at one side of a card, if there is enough space: horizontally and vertically.
PORT_GAP = 40
_VERTICAL_PORT_GAP = 20

_Edge = tuple[Key, Key]


@dataclasses.dataclass
class Route:
    """The route of a link: points of a line, or of cubic Bezier curves; and its labels."""

    link: Link
    points: list[Point]
    curved: bool = False
    labels: list[Label] = dataclasses.field(default_factory=list)

    @property
    def line(self) -> list[Point]:
        """The route as a line."""
        return curve_points(self.points) if self.curved else self.points


def route_links(
    view: View,
    boxes: Mapping[Key, Box],
    edges: Sequence[_Edge],
    stack_routes: Mapping[int, list[Point]],
) -> list[Route]:
    """Return the routes of all links. stack_routes: those that are decided already."""
    ports = _Ports(
        boxes, [None if number in stack_routes else edge for number, edge in enumerate(edges)]
    )
    ports.assign(view.tiered)
    routes = []
    for number, (link, (tail, head)) in enumerate(zip(view.links, edges)):
        if number in stack_routes:
            routes.append(Route(link, stack_routes[number]))
        elif tail == head:
            loop = _loop(boxes[tail], edges[:number].count((tail, head)))
            routes.append(Route(link, loop, curved=True))
        else:
            routes.append(Route(link, [ports.point(number, 0), ports.point(number, 1)]))
    blocked = [
        number
        for number, route in enumerate(routes)
        if not route.curved
        and number not in stack_routes
        and any(
            crosses(route.points, box) for key, box in boxes.items() if key not in edges[number]
        )
    ]
    detours = graphviz.routes(boxes, edges) if blocked else {}
    for number in blocked:
        if len(detours.get(number, ())) > 3:
            routes[number].points, routes[number].curved = detours[number], True
    for number, route in enumerate(routes):
        route.labels = labels_of(route.link, route.line, [boxes[key] for key in edges[number]])
    return routes


class _Ports:
    """The points where links leave their cards.

    They are on the side that faces the other card, in an order that avoids crossings.
    """

    def __init__(self, boxes: Mapping[Key, Box], edges: Sequence[_Edge | None]) -> None:
        self.boxes, self.edges = boxes, edges
        # {(number of the edge, end): (card, side, index at the side, count at the side)}
        self._positions: dict[tuple[int, int], tuple[Key, str, int, int]] = {}

    def assign(self, in_rows: bool) -> None:
        """Decide the sides of all links, and their order there."""
        sides: dict[tuple[Key, str], list[tuple[float, int, int]]] = {}
        for number, edge in enumerate(self.edges):
            if edge is None or edge[0] == edge[1]:
                continue
            for end in (0, 1):
                key, other = edge[end], edge[1 - end]
                side = self._side(key, other, in_rows)
                slope = self._slope(key, other, side)
                sides.setdefault((key, side), []).append((slope, number, end))
        for (key, side), ends in sides.items():
            for index, (_slope, number, end) in enumerate(sorted(ends)):
                self._positions[number, end] = key, side, index, len(ends)

    def _side(self, key: Key, other: Key, in_rows: bool) -> str:
        box, far = self.boxes[key], self.boxes[other]
        dx, dy = far.x - box.x, far.y - box.y
        distance = max(far.top - box.bottom, box.top - far.bottom)
        if in_rows:
            vertical = distance > 20
        else:
            steep = abs(dy) * (box.width + far.width) >= abs(dx) * (box.height + far.height) * 0.8
            vertical = steep and distance > 0
        if vertical:
            return "bottom" if dy > 0 else "top"
        return "right" if dx > 0 else "left"

    def _slope(self, key: Key, other: Key, side: str) -> float:
        box, far = self.boxes[key], self.boxes[other]
        dx, dy = far.x - box.x, far.y - box.y
        return dx / max(abs(dy), 1) if side in ("top", "bottom") else dy / max(abs(dx), 1)

    def point(self, number: int, end: int) -> Point:
        """Return the point where an end of an edge leaves its card."""
        key, side, index, count = self._positions[number, end]
        box = self.boxes[key]
        horizontal = side in ("top", "bottom")
        length = box.width if horizontal else box.height
        gap = (
            min((length - 24) / (count - 1), PORT_GAP if horizontal else _VERTICAL_PORT_GAP)
            if count > 1
            else 0
        )
        offset = (index - (count - 1) / 2) * gap
        if horizontal:
            return box.x + offset, box.bottom if side == "bottom" else box.top
        return box.right if side == "right" else box.left, box.y + offset


def _loop(box: Box, number: int) -> list[Point]:
    """Return the curve of a link from a card to itself, above it."""
    height, right = 62 + 16 * number, box.right - 8
    return [
        (right - 34, box.top),
        (right - 46, box.top - height),
        (right + 12, box.top - height),
        (right, box.top),
    ]
