# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Place boxes and route edges with Graphviz.

Its program dot gets numbers instead of names.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ProgramError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.geometry import Box, Point

_TIMEOUT = 120
_POINTS_PER_INCH = 72.0
_Key = TypeVar("_Key", bound=Hashable)


def place_in_rows(
    boxes: Mapping[_Key, Box], edges: Sequence[tuple[_Key, _Key]], rows: Sequence[Sequence[_Key]]
) -> None:
    """Place boxes in rows, each from left to right as given, and the others where they fit."""
    ids = _ids(boxes)
    # A link between neighbours of a row needs space for its labels.
    is_beside = any(
        tail != head and boxes[tail].row is not None and boxes[tail].row == boxes[head].row
        for tail, head in edges
    )
    lines = [
        "digraph lab {",
        "graph [nodesep=%s, ranksep=1.2, splines=line]" % (1.3 if is_beside else 0.36),
        *_graph(boxes, edges, "->"),
    ]
    for row in rows:
        lines.append("{ rank=same; %s }" % "; ".join(ids[key] for key in row))
        lines += [
            "%s -> %s [style=invis]" % (ids[first], ids[second])
            for first, second in zip(row, row[1:])
        ]
    lines += [
        "%s -> %s [style=invis, weight=0]" % (ids[above[0]], ids[below[0]])
        for above, below in zip(rows, rows[1:])
    ]
    _place(boxes, _layout(lines, "dot"))


def place_freely(boxes: Mapping[_Key, Box], edges: Sequence[tuple[_Key, _Key]]) -> None:
    """Place boxes so that those with a common edge are near each other."""
    size = max(box.width + box.height for box in boxes.values()) / 2
    length = "len=%.2f" % ((size + 70) / _POINTS_PER_INCH)
    lines = [
        "graph lab {",
        'graph [overlap=false, sep="+26,26", mode=major, start=1, splines=line]',
        *_graph(boxes, edges, "--", length),
    ]
    _place(boxes, _layout(lines, "neato"))


def routes(boxes: Mapping[_Key, Box], edges: Sequence[tuple[_Key, _Key]]) -> dict[int, list[Point]]:
    """Return routes of edges around boxes, which stay where they are.

    They are points of cubic curves: {number of the edge: points}.
    """
    lines = [
        "graph lab {",
        "graph [splines=true, notranslate=true]",
        *_graph(boxes, edges, "--", fixed=True),
    ]
    return {
        int(edge["id"][1:]): [_point(point) for point in edge["pos"].split(" ")]
        for edge in _layout(lines, "neato", "-n").get("edges", ())
        if edge.get("pos")
    }


def _ids(boxes: Iterable[_Key]) -> dict[_Key, str]:
    return {key: "n%d" % number for number, key in enumerate(boxes)}


def _graph(
    boxes: Mapping[_Key, Box],
    edges: Sequence[tuple[_Key, _Key]],
    joint: str,
    edge_attributes: str = "",
    fixed: bool = False,
) -> list[str]:
    """Return nodes and edges as lines of the DOT language. fixed: keep the boxes in place."""
    ids = _ids(boxes)
    lines = [
        'node [shape=box, fixedsize=true, label=""]',
        "edge [dir=none%s]" % (edge_attributes and ", " + edge_attributes),
    ]
    for key, box in boxes.items():
        position = ', pos="%.2f,%.2f"' % (box.x, -box.y) if fixed else ""
        width = (box.width if fixed else box.width + box.margin) / _POINTS_PER_INCH
        height = box.height / _POINTS_PER_INCH
        lines.append("%s [width=%.3f, height=%.3f%s]" % (ids[key], width, height, position))
    return lines + [
        "%s %s %s [id=e%d]" % (ids[tail], joint, ids[head], number)
        for number, (tail, head) in enumerate(edges)
    ]


def _layout(lines: Sequence[str], engine: str, *options: str) -> dict[str, Any]:
    """Return the layout of a graph, of which lines lacks the last brace, as Graphviz's JSON."""
    layout: dict[str, Any] = json.loads(
        _run_dot("\n".join([*lines, "}", ""]), "-K" + engine, "-Tjson", *options)
    )
    return layout


def _place(boxes: Mapping[_Key, Box], layout: Mapping[str, Any]) -> None:
    positions = {entry["name"]: entry["pos"] for entry in layout["objects"] if "pos" in entry}
    for key, node_id in _ids(boxes).items():
        boxes[key].x, boxes[key].y = _point(positions[node_id])


def _point(text: str) -> Point:
    x, y = text.rstrip("!").split(",")[:2]
    return float(x), -float(y)


def _run_dot(text: str, *arguments: str) -> str:
    command = ["dot", *arguments]
    try:
        result = subprocess.run(
            command,
            input=text,
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=_TIMEOUT,
            env=dict(os.environ, LC_ALL="C"),
        )
    except FileNotFoundError:
        raise VlabError(
            "graphviz is required to draw a lab, but its program dot is not in the PATH of the "
            "controller: install the package graphviz (Debian, Ubuntu, Fedora, Red Hat), or use "
            "the format mermaid, which does not need it"
        ) from None
    except OSError as error:
        raise VlabError("cannot start graphviz: dot: %s" % error.strerror) from error
    except subprocess.TimeoutExpired:
        raise VlabError(
            "graphviz did not finish the layout in %d s: use the format mermaid" % _TIMEOUT
        ) from None
    if result.returncode:
        raise ProgramError(
            "graphviz could not draw the lab: %s"
            % (result.stderr.strip() or "dot ended with exit code %d" % result.returncode),
            cmd=command,
            rc=result.returncode,
            stderr=result.stderr,
        )
    return result.stdout
