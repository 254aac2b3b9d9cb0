# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Boxes, lines and curves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

Point = tuple[float, float]


@dataclasses.dataclass
class Box:
    """A rectangle with its centre at x, y.

    row: its row from the top, if it has one. margin: additional width to keep free for labels.
    """

    width: float
    height: float
    row: int | None = None
    x: float = 0.0
    y: float = 0.0
    margin: float = 0.0

    @property
    def left(self) -> float:
        """The x of the left side."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """The x of the right side."""
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        """The y of the upper side."""
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        """The y of the lower side."""
        return self.y + self.height / 2

    def overlaps(self, other: Box, gap: float = 0.0) -> bool:
        """Return whether the distance to another box is less than gap."""
        return (
            abs(self.x - other.x) * 2 < self.width + other.width + 2 * gap
            and abs(self.y - other.y) * 2 < self.height + other.height + 2 * gap
        )


def any_overlap(boxes: Sequence[Box], gap: float) -> bool:
    """Return whether two of the boxes are nearer to each other than gap."""
    return any(
        first.overlaps(second, gap)
        for number, first in enumerate(boxes)
        for second in boxes[number + 1 :]
    )


def line_length(line: Sequence[Point]) -> float:
    """Return the length of a line through points."""
    return sum(math.dist(first, second) for first, second in zip(line, line[1:]))


def point_between(first: Point, second: Point, share: float) -> Point:
    """Return the point at this share of the way from first to second."""
    return first[0] + (second[0] - first[0]) * share, first[1] + (second[1] - first[1]) * share


def point_along(line: Sequence[Point], distance: float) -> Point:
    """Return the point of a line at this distance from its start."""
    for first, second in zip(line, line[1:]):
        step = math.dist(first, second)
        if distance <= step and step:
            return point_between(first, second, distance / step)
        distance -= step
    return line[-1]


def curve_points(points: Sequence[Point]) -> list[Point]:
    """Return a line along a curve of cubic Bezier segments."""
    line = [points[0]]
    for start in range(0, len(points) - 3, 3):
        a, b, c, d = points[start : start + 4]
        for step in range(1, 13):
            t = step / 12
            s = 1 - t
            x, y = (
                s * s * s * a[axis]
                + 3 * s * s * t * b[axis]
                + 3 * s * t * t * c[axis]
                + t * t * t * d[axis]
                for axis in (0, 1)
            )
            line.append((x, y))
    return line


def crosses(line: Sequence[Point], box: Box) -> bool:
    """Return whether a line goes through a box."""
    return any(_segment_crosses(first, second, box) for first, second in zip(line, line[1:]))


def _segment_crosses(first: Point, second: Point, box: Box) -> bool:
    left, right, top, bottom = box.left, box.right, box.top, box.bottom
    if (
        max(first[0], second[0]) < left
        or min(first[0], second[0]) > right
        or max(first[1], second[1]) < top
        or min(first[1], second[1]) > bottom
    ):
        return False
    # Liang-Barsky: clip the segment at each of the four sides.
    dx, dy = second[0] - first[0], second[1] - first[1]
    start, end = 0.0, 1.0
    for step, distance in (
        (-dx, first[0] - left),
        (dx, right - first[0]),
        (-dy, first[1] - top),
        (dy, bottom - first[1]),
    ):
        if step == 0:
            if distance < 0:
                return False
        elif step < 0:
            start = max(start, distance / step)
        else:
            end = min(end, distance / step)
    return start < end
