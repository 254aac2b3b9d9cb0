# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Write a lab as SVG."""

from __future__ import annotations

from typing import Any, cast

import markupsafe

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.drawing import Card, drawing_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.geometry import Box
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.icons import SHAPES
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.routing import Route
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.templates import (
    AUTO,
    render,
    style,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.texts import (
    outside_texts,
    text_width,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import (
    Link,
    Node,
    Segment,
    View,
)

_HEADING_HEIGHT = 52
_LINE_HEIGHT = 15
_MIDDLE = markupsafe.Markup(' text-anchor="middle"')
_END = markupsafe.Markup(' text-anchor="end"')


def svg(view: View, scheme: str = AUTO, standalone: bool = True) -> str:
    """Return the picture of a View.

    scheme: AUTO, LIGHT or DARK. standalone: with style, heading and background; without them, it
    is part of a page.
    """
    drawing = drawing_of(view)
    width = drawing.width
    if standalone:
        heading = max(text_width(view.title, 17, bold=True), text_width(view.summary, 12))
        width = max(width, 56 + heading)
    top = _HEADING_HEIGHT if standalone else 0
    return render(
        "picture.svg.j2",
        view=view,
        style=markupsafe.Markup(style("picture.css", scheme)) if standalone else None,
        role="img" if standalone else "group",
        tag="g" if standalone else "a",
        width=_rounded(width),
        height=_rounded(drawing.height + top),
        left=_rounded((width - drawing.width) / 2),
        top=top,
        links=[_link(route) for route in drawing.routes],
        segments=[_segment(card) for card in drawing.segments],
        nodes=[_node(card) for card in drawing.nodes],
    )


def _rounded(number: float) -> float:
    """Return number with one decimal at most, so that the output is the same everywhere."""
    rounded = round(number, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def _link(route: Route) -> dict[str, Any]:
    start, *points = ["%s %s" % (_rounded(x), _rounded(y)) for x, y in route.points]
    link = route.link
    return {
        "number": link.number,
        "down": link.down,
        "path": "M%s%s%s" % (start, "C" if route.curved else "L", " ".join(points)),
        "names": " ".join([end.node for end in link.ends]),
        "tooltip": link_tooltip(link),
        "labels": [
            {
                "kind": label.style or label.part,
                "shown": label.shown,
                "x": _rounded(label.x),
                "y": _rounded(label.y + 3.3),
                "text": label.text,
            }
            for label in route.labels
        ],
    }


def link_tooltip(link: Link) -> str:
    """Return what is shown when one points at a link."""
    parts = [
        " ".join([str(end), *end.addresses, *["(capture)"] * end.captured]) for end in link.ends
    ]
    parts += [name for name in (link.first_segment, link.segment) if name]
    vlans = ", " + link.vlans if link.vlans else ""
    return " -- ".join(parts) + vlans + (", down" if link.down else "")


def _line(text: str, kind: str, x: float, y: float, anchor: str = "") -> dict[str, Any]:
    return {"text": text, "kind": kind, "x": _rounded(x), "y": _rounded(y), "anchor": anchor}


def _segment(card: Card) -> dict[str, Any]:
    box, segment = card.box, cast(Segment, card.subject)
    texts = [(card.title, "vl-title")] + [(line, "vl-line") for line in card.lines]
    first = box.y - _LINE_HEIGHT / 2 * (len(texts) - 1) + 4.5
    return {
        "name": segment.name,
        "outside": segment.outside,
        "is_switch": segment.type == "switch",
        "tooltip": (
            "%s, outside the lab" % segment.name
            if segment.outside
            else ", ".join(
                [
                    "segment %s" % segment.name,
                    segment.type,
                    *segment.prefixes,
                    *filter(None, [segment.uplink, segment.description]),
                ]
            )
        ),
        **_frame(box),
        "lines": [
            _line(text, kind, box.x, first + _LINE_HEIGHT * number, _MIDDLE)
            for number, (text, kind) in enumerate(texts)
        ],
    }


def _node(card: Card) -> dict[str, Any]:
    box, node = card.box, cast(Node, card.subject)
    x, y = box.left + (34 if card.small else 42), box.top + (19 if card.small else 22)
    is_state = card.small and bool(node.state)
    lines = [_line(card.title, "vl-title", x, y)]
    lines += [
        _line(text, "vl-state" if is_state else "vl-line", x, y + _LINE_HEIGHT * number)
        for number, text in enumerate(card.lines, 1)
    ]
    rule, dot = None, _dot(box.right - 11, y - 4.5) if is_state and card.lines else None
    if card.footer is not None:
        state, hypervisor = card.footer
        base = box.bottom - 8
        rule = "M%s %sH%s" % tuple(map(_rounded, (box.left + 9, box.bottom - 21, box.right - 9)))
        if state:
            dot = _dot(box.left + 16, base - 3.7)
            lines.append(_line(state, "vl-state", box.left + 25, base))
        if hypervisor:
            lines.append(_line(hypervisor, "vl-line", box.right - 11, base, _END))
    return {
        "name": node.name,
        "icon": node.icon,
        "tone": node.tone,
        **node_texts(node),
        **_frame(box),
        "lines": lines,
        "dot": dot,
        "rule": rule,
        "shape": SHAPES[node.icon],
        "badge": _badge(card),
    }


def _dot(x: float, y: float) -> dict[str, float]:
    return {"x": _rounded(x), "y": _rounded(y)}


def node_texts(node: Node) -> dict[str, str]:
    """Return the texts of a node that are read out, and shown when one points at it."""
    parts = [
        node.kind,
        "AS %d" % node.asn if node.asn else "",
        *node.loopbacks,
        node.state,
        node.hypervisor,
        *outside_texts(node),
        node.description,
    ]
    return {
        "label": ", ".join(filter(None, (node.name, node.kind, node.state))),
        "tooltip": "%s: %s" % (node.name, ", ".join(filter(None, parts))),
    }


def _badge(card: Card) -> dict[str, Any]:
    """Return the square with the icon of a node."""
    size, top = (20, 8) if card.small else (24, 10)
    x, y = card.box.left + 9, card.box.top + top
    # An icon has a size of 24, and leaves an eighth of the badge free at each side.
    transform = "translate(%s %s) scale(%s)" % (
        _rounded(x + size / 8),
        _rounded(y + size / 8),
        size / 32,
    )
    return {"x": _rounded(x), "y": _rounded(y), "size": size, "transform": transform}


def _frame(box: Box) -> dict[str, float]:
    return {
        "x": _rounded(box.left),
        "y": _rounded(box.top),
        "width": _rounded(box.width),
        "height": _rounded(box.height),
    }
