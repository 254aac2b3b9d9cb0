# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Compute the positions of cards, links and labels, independent of the output format."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Union

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures import arrange
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.geometry import Box, Point
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.labels import hide_overlaps
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.routing import (
    PORT_GAP,
    Route,
    route_links,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.texts import (
    LINE_SIZE,
    TITLE_SIZE,
    Footer,
    card_texts,
    text_width,
    truncated,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.tiers import Key
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import (
    Link,
    Node,
    Segment,
    View,
)

_MARGIN = 28
# Above this number of nodes and segments, cards are small.
_MAX_LARGE_CARDS = 30
_ICON_SIZE = 40
_MIN_CARD_WIDTH, _MIN_SMALL_CARD_WIDTH, _MIN_SEGMENT_WIDTH = 118, 84, 100
_MAX_CARD_WIDTH = 210
# How much further from each other cards can be, for the labels of short links.
_SCALES = (1.0, 1.15, 1.3, 1.5)
_SEGMENT_TITLE_WIDTH = 170


@dataclasses.dataclass
class Card:
    """A node or a segment with its position. footer: below the lines."""

    subject: Union[Node, Segment]
    box: Box
    title: str
    lines: list[str]
    footer: Footer | None = None
    small: bool = False


@dataclasses.dataclass
class Drawing:
    """All positions; 0, 0 is the upper left corner."""

    width: float
    height: float
    nodes: list[Card]
    segments: list[Card]
    routes: list[Route]


def drawing_of(view: View) -> Drawing:
    """Return the Drawing of a View."""
    small = len(view.nodes) + len(view.segments) > _MAX_LARGE_CARDS
    cards = {**_node_cards(view, small), **_segment_cards(view)}
    edges = [_edge(link) for link in view.links]
    boxes = {key: card.box for key, card in cards.items()}
    stack_routes: dict[int, list[Point]] = {}
    if arrange.place_as_given(boxes, edges, _given_places(view)):
        view = dataclasses.replace(view, tiered=False)
    else:
        stack_routes = arrange.arrange(boxes, edges, view.tiered, small)
    routes = _routes_with_labels(view, boxes, edges, stack_routes, small)
    width, height = _move_to_origin(boxes, routes)
    return Drawing(
        width,
        height,
        [cards["node", name] for name in view.nodes],
        [cards["segment", name] for name in view.segments],
        routes,
    )


def _given_places(view: View) -> dict[Key, Point]:
    """Return where the topology places nodes and segments, empty unless it places all nodes."""
    subjects: dict[Key, Union[Node, Segment]] = {
        **{("node", name): node for name, node in view.nodes.items()},
        **{("segment", name): segment for name, segment in view.segments.items()},
    }
    if not all(node.position for node in view.nodes.values()):
        return {}
    return {key: each.position for key, each in subjects.items() if each.position}


def _edge(link: Link) -> tuple[Key, Key]:
    first, second = [
        ("segment", side) if isinstance(side, str) else ("node", side.node) for side in link.sides
    ]
    return first, second


def _routes_with_labels(
    view: View,
    boxes: Mapping[Key, Box],
    edges: Sequence[tuple[Key, Key]],
    stack_routes: Mapping[int, list[Point]],
    small: bool,
) -> list[Route]:
    """Return the routes of all links. Spread the boxes if hidden labels then have a place."""
    places = [(box.x, box.y) for box in boxes.values()]
    scales = _SCALES if not small and not view.tiered else _SCALES[:1]

    def routes_at(scale: float) -> tuple[int, list[Route]]:
        for box, (x, y) in zip(boxes.values(), places):
            box.x, box.y = x * scale, y * scale
        routes = route_links(view, boxes, edges, stack_routes)
        return hide_overlaps(routes, list(boxes.values()), small), routes

    best: int | None = None
    best_scale = scales[0]
    for scale in scales:
        hidden, routes = routes_at(scale)
        if best is None or hidden < best:
            best, best_scale = hidden, scale
        if not hidden:
            return routes
    return routes_at(best_scale)[1]


def _move_to_origin(boxes: Mapping[Key, Box], routes: list[Route]) -> tuple[float, float]:
    """Move everything so that 0, 0 is the upper left corner. Return the width and height."""
    extent = list(boxes.values())
    extent += [Box(0, 0, None, x, y) for route in routes for x, y in route.points]
    extent += [label.box for route in routes for label in route.labels if label.shown]
    left = min(box.left for box in extent) - _MARGIN
    top = min(box.top for box in extent) - _MARGIN
    width = max(box.right for box in extent) + _MARGIN - left
    height = max(box.bottom for box in extent) + _MARGIN - top
    for box in boxes.values():
        box.x, box.y = box.x - left, box.y - top
    for route in routes:
        route.points = [(x - left, y - top) for x, y in route.points]
        for label in route.labels:
            label.x, label.y = label.x - left, label.y - top
    return width, height


def _node_cards(view: View, small: bool) -> dict[Key, Card]:
    texts = {node.name: card_texts(node, view, small) for node in view.nodes.values()}
    rows = max(len(lines) for lines, _footer in texts.values())
    has_footer = any(footer for _lines, footer in texts.values())
    height = 26 + 14 * rows if small else 32 + 15 * rows + (18 if has_footer else 0)
    titles = [node.title for node in view.nodes.values()]
    width = _card_width(titles, texts.values(), small)
    text_space = width - _ICON_SIZE - 12
    cards = {}
    for node in view.nodes.values():
        lines, footer = texts[node.name]
        cards["node", node.name] = Card(
            node,
            Box(_width_for_links(view, node, width), height, node.tier),
            truncated(node.title, TITLE_SIZE, text_space, bold=True),
            [truncated(line, LINE_SIZE, text_space) for line in lines],
            footer,
            small,
        )
    return cards


def _card_width(
    titles: Iterable[str], texts: Iterable[tuple[list[str], Footer | None]], small: bool
) -> float:
    """Return the width that all texts fit in, within limits."""
    widths = [text_width(title, TITLE_SIZE, bold=True) for title in titles]
    for lines, footer in texts:
        widths += [text_width(line, LINE_SIZE) for line in lines]
        if footer:
            widths.append(text_width("  ".join(footer), LINE_SIZE) + 22 - _ICON_SIZE + 14)
    minimum = _MIN_SMALL_CARD_WIDTH if small else _MIN_CARD_WIDTH
    return min(max(max(widths) + _ICON_SIZE + 14, minimum), _MAX_CARD_WIDTH)


def _width_for_links(view: View, node: Node, width: float) -> float:
    """Return the width of a card; it grows with the links to lower tiers, up to a limit."""
    if node.tier is None:
        return width
    below = [
        other
        for _link, _end, other in view.links_of(node.name)
        if other and (view.nodes[other.node].tier or 0) > node.tier
    ]
    return max(width, min(len(below) * PORT_GAP + 16, 2 * width))


def _segment_cards(view: View) -> dict[Key, Card]:
    cards: dict[Key, Card] = {}
    for segment in view.segments.values():
        lines = [*segment.prefixes[:1], *filter(None, [segment.uplink])]
        widths = [text_width(segment.name, TITLE_SIZE, bold=True)]
        widths += [text_width(line, LINE_SIZE) for line in lines]
        width = min(max(max(widths) + 44, _MIN_SEGMENT_WIDTH), _MAX_CARD_WIDTH)
        cards["segment", segment.name] = Card(
            segment,
            Box(width, 26 + 15 * len(lines), segment.tier),
            truncated(segment.name, TITLE_SIZE, _SEGMENT_TITLE_WIDTH, bold=True),
            lines,
        )
    return cards
