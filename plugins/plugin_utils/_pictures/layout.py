# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Where things are: graphviz is asked by its program dot, with numbers instead of names."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from typing import Dict, List, Optional, Tuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ProgramError,
    VlabError,
)

_SECONDS = 120
_INCH = 72.0


@dataclasses.dataclass
class Box:
    """Something to be placed: its size, and, if it has one, its row from the top. x, y: its middle. room: what it wants beside itself."""

    width: float
    height: float
    row: Optional[int] = None
    x: float = 0.0
    y: float = 0.0
    room: float = 0.0

    @property
    def left(self):
        """Its left side."""
        return self.x - self.width / 2

    @property
    def right(self):
        """Its right side."""
        return self.x + self.width / 2

    @property
    def top(self):
        """Its upper side."""
        return self.y - self.height / 2

    @property
    def bottom(self):
        """Its lower side."""
        return self.y + self.height / 2

    def overlaps(self, other, gap=0.0):
        """Whether it has something in common with another, or is nearer than the gap."""
        return (
            abs(self.x - other.x) * 2 < self.width + other.width + 2 * gap
            and abs(self.y - other.y) * 2 < self.height + other.height + 2 * gap
        )


def in_rows(boxes: Dict[str, Box], edges: List[Tuple[str, str]], rows: List[List[str]]):
    """Place boxes in rows, each from left to right as given, and boxes in no row where they fit."""
    ids = _ids(boxes)
    text = [
        "digraph lab {",
        "graph [nodesep=0.36, ranksep=1.2, splines=line]",
        *_graph(boxes, edges, "->"),
    ]
    for row in rows:
        text.append("{ rank=same; %s }" % "; ".join(ids[name] for name in row))
        text += [
            "%s -> %s [style=invis]" % (ids[first], ids[second])
            for first, second in zip(row, row[1:])
        ]
    text += [
        "%s -> %s [style=invis, weight=0]" % (ids[above[0]], ids[below[0]])
        for above, below in zip(rows, rows[1:])
    ]
    _place(text, "dot", boxes)


def freely(boxes: Dict[str, Box], edges: List[Tuple[str, str]]):
    """Place boxes so that those with an edge are near each other."""
    size = max(box.width + box.height for box in boxes.values()) / 2
    text = [
        "graph lab {",
        'graph [overlap=false, sep="+26,26", mode=major, start=1, splines=line]',
        *_graph(boxes, edges, "--", "len=%.2f" % ((size + 70) / _INCH)),
    ]
    _place(text, "neato", boxes)


def ways_around(boxes: Dict[str, Box], edges: List[Tuple[str, str]]):
    """The ways of edges around boxes that stand where they are, as points of cubic curves: {number of the edge: points}."""
    told = _place(
        [
            "graph lab {",
            "graph [splines=true, notranslate=true]",
            *_graph(boxes, edges, "--", pins=True),
        ],
        "neato",
        None,
        "-n",
    )
    ways = {}
    for edge in told.get("edges", ()):
        if edge.get("pos"):
            ways[int(edge["id"][1:])] = [_point(point) for point in edge["pos"].split(" ")]
    return ways


def _ids(boxes):
    return {name: "n%d" % number for number, name in enumerate(boxes)}


def _graph(boxes, edges, joint, more="", pins=False):
    """The nodes and edges as lines of graphviz' language."""
    ids = _ids(boxes)
    lines = [
        'node [shape=box, fixedsize=true, label=""]',
        "edge [dir=none%s]" % (more and ", " + more),
    ]
    for name, box in boxes.items():
        pin = ', pos="%.2f,%.2f"' % (box.x, -box.y) if pins else ""
        width = box.width if pins else box.width + box.room
        lines.append(
            "%s [width=%.3f, height=%.3f%s]" % (ids[name], width / _INCH, box.height / _INCH, pin)
        )
    return lines + [
        "%s %s %s [id=e%d]" % (ids[tail], joint, ids[head], number)
        for number, (tail, head) in enumerate(edges)
    ]


def _place(lines, engine, boxes, *more):
    """Ask graphviz, and put the boxes where it says, if there are any to be put somewhere."""
    told = _ask("\n".join(lines + ["}", ""]), "-K" + engine, "-Tjson", *more)
    if boxes:
        place_of = {entry["name"]: entry["pos"] for entry in told["objects"] if "pos" in entry}
        for name, number in _ids(boxes).items():
            boxes[name].x, boxes[name].y = _point(place_of[number])
    return told


def _point(text):
    x, y = text.rstrip("!").split(",")[:2]
    return float(x), -float(y)


def _ask(text, *arguments):
    command = ["dot", *arguments]
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=_SECONDS,
            env=dict(os.environ, LC_ALL="C"),
        )
    except FileNotFoundError:
        raise VlabError(
            "graphviz is needed to draw a lab, but its program dot is not in the PATH of the controller: install the package "
            "graphviz (Debian, Ubuntu, Fedora, Red Hat), or ask for the format mermaid, which needs none"
        ) from None
    except OSError as error:
        raise VlabError("graphviz could not be started: dot: %s" % error.strerror) from error
    except subprocess.TimeoutExpired:
        raise VlabError(
            "graphviz did not find a place for everything in %d s; ask for the format mermaid"
            % _SECONDS
        ) from None
    if done.returncode:
        raise ProgramError(
            "graphviz could not draw the lab: %s"
            % (done.stderr.strip() or "dot ended with %d" % done.returncode),
            cmd=command,
            rc=done.returncode,
            stderr=done.stderr,
        )
    return json.loads(done.stdout)
