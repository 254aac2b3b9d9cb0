# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A drawing as SVG."""

from __future__ import annotations

import markupsafe

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.documents import fill, read
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.drawing import drawing_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.icons import SHAPES
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.words import width_of

_HEAD = 52  # for the lab's name
_MIDDLE = markupsafe.Markup(' text-anchor="middle"')
_END = markupsafe.Markup(' text-anchor="end"')


def svg(view, alone=True):
    """The picture of a View. alone: with style, name and background; without, it is part of a page that has them."""
    drawing = drawing_of(view)
    width = (
        max(drawing.width, 56 + width_of(view.name, 17, bold=True), 56 + width_of(view.summary, 12))
        if alone
        else drawing.width
    )
    return fill(
        "picture.svg.j2",
        view=view,
        style=markupsafe.Markup(read("picture.css")) if alone else None,
        role="img" if alone else "group",
        tag="g" if alone else "a",
        width=_round(width),
        height=_round(drawing.height + (_HEAD if alone else 0)),
        left=_round((width - drawing.width) / 2),
        top=_HEAD if alone else 0,
        wires=[_wire(wire) for wire in drawing.wires],
        segments=[_segment(card) for card in drawing.segments],
        nodes=[_node(card) for card in drawing.nodes],
    )


def _round(number):
    """The same digits everywhere, and no more than the eye sees."""
    rounded = round(number, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def _wire(wire):
    start, *points = ["%s %s" % (_round(x), _round(y)) for x, y in wire.points]
    link = wire.link
    return {
        "link": link,
        "path": "M%s%s%s" % (start, "C" if wire.curved else "L", " ".join(points)),
        "names": " ".join([end.node for end in link.ends]),
        "told": told_of(link),
        "words": [
            {
                "kind": "word-down" if word.part == "down" else word.part,
                "shown": word.shown,
                "x": _round(word.x),
                "y": _round(word.y + 3.3),
                "text": word.text,
            }
            for word in wire.words
        ],
    }


def told_of(link):
    """A link in words."""
    parts = [" ".join([str(end)] + end.addresses) for end in link.ends] + (
        [link.segment] if link.segment else []
    )
    return "%s%s" % (" -- ".join(parts), ", down" if link.down else "")


def _segment(card):
    box = card.box
    lines = [(card.title, "vl-title")] + [(line, "vl-line") for line in card.lines]
    first = box.y - 7.5 * (len(lines) - 1) + 4.5
    return {
        "name": card.thing.name,
        "told": ", ".join(["segment %s" % card.thing.name, card.thing.type] + card.thing.prefixes),
        **_frame(box),
        "lines": [
            {
                "text": text,
                "kind": kind,
                "x": _round(box.x),
                "y": _round(first + 15 * number),
                "anchor": _MIDDLE,
            }
            for number, (text, kind) in enumerate(lines)
        ],
    }


def _node(card):
    box, node = card.box, card.thing
    size, badge = (20, 8) if card.small else (24, 10)
    has_foot = card.foot is not None
    left, x, y = (
        box.left,
        box.left + (34 if card.small else 42),
        box.top + (19 if card.small else 22),
    )
    lines = [{"text": card.title, "kind": "vl-title", "x": _round(x), "y": _round(y), "anchor": ""}]
    dot = rule = None
    for number, text in enumerate(card.lines):
        is_state = card.small and node.state
        lines.append(
            {
                "text": text,
                "kind": "vl-state" if is_state else "vl-line",
                "x": _round(x),
                "y": _round(y + 15 * (number + 1)),
                "anchor": "",
            }
        )
        if is_state:
            dot = {"x": _round(box.right - 11), "y": _round(y - 4.5)}
    if has_foot:
        foot = box.bottom - 8
        rule = "M%s %sH%s" % (_round(left + 9), _round(box.bottom - 21), _round(box.right - 9))
        if card.foot[0]:
            dot = {"x": _round(left + 16), "y": _round(foot - 3.7)}
            lines.append(
                {
                    "text": card.foot[0],
                    "kind": "vl-state",
                    "x": _round(left + 25),
                    "y": _round(foot),
                    "anchor": "",
                }
            )
        if card.foot[1]:
            lines.append(
                {
                    "text": card.foot[1],
                    "kind": "vl-line",
                    "x": _round(box.right - 11),
                    "y": _round(foot),
                    "anchor": _END,
                }
            )
    about = (
        [node.kind]
        + (["AS %d" % node.asn] if node.asn else [])
        + node.loopbacks
        + [part for part in (node.state, node.hypervisor) if part]
    )
    # An icon is drawn in a square of 24, and leaves an eighth of the badge free around it.
    place = "translate(%s %s) scale(%s)" % (
        _round(left + 9 + size / 8),
        _round(box.top + badge + size / 8),
        size / 32,
    )
    return {
        "name": node.name,
        "icon": node.icon,
        "tone": node.tone,
        "label": ", ".join([node.name] + [part for part in (node.kind, node.state) if part]),
        "told": "%s: %s" % (node.name, ", ".join(about)),
        **_frame(box),
        "lines": lines,
        "dot": dot,
        "rule": rule,
        "shape": SHAPES[node.icon],
        "badge": {
            "x": _round(left + 9),
            "y": _round(box.top + badge),
            "size": size,
            "place": place,
        },
    }


def _frame(box):
    return {
        "x": _round(box.left),
        "y": _round(box.top),
        "width": _round(box.width),
        "height": _round(box.height),
    }
