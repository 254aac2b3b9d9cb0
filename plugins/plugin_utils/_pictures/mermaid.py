# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Write a lab as a Mermaid flowchart, which needs no other program."""

from __future__ import annotations

import re

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.templates import (
    AUTO,
    DARK,
    LIGHT,
    printable,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.texts import (
    main_address,
    outside_texts,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import (
    Link,
    Node,
    Segment,
    View,
)

_PLAIN = re.compile(r"[\w .,:/()+-]", re.ASCII)
_THEMES: dict[str, tuple[str, ...]] = {
    AUTO: (),
    LIGHT: ("config:", "  theme: default"),
    DARK: ("config:", "  theme: dark"),
}
_STYLES = """\
  classDef up stroke:#1a9c55,stroke-width:2px
  classDef held stroke:#c98a00,stroke-width:2px
  classDef off stroke:#8b95a5,stroke-width:2px,stroke-dasharray:5 4
  classDef absent stroke:#8b95a5,stroke-width:1px,stroke-dasharray:2 4
  classDef bad stroke:#d1373f,stroke-width:3px
  classDef unknown stroke:#8b95a5
"""


def mermaid(view: View, scheme: str = AUTO) -> str:
    """Return the source of a View's flowchart. scheme: AUTO is that of the viewer."""
    node_ids = {name: "n%d" % number for number, name in enumerate(view.nodes)}
    segment_ids = {name: "s%d" % number for number, name in enumerate(view.segments)}
    lines = [
        "---",
        'title: "%s"' % _quoted(view.title),
        *_THEMES[scheme],
        "---",
        "flowchart %s" % ("TB" if view.tiered else "LR"),
    ]
    for name, node in view.nodes.items():
        style = ":::%s" % node.tone if node.tone else ""
        text = "<br/>".join(map(_quoted, _node_texts(node)))
        lines.append('  %s["%s"]%s' % (node_ids[name], text, style))
    for name, segment in view.segments.items():
        texts = [name, *segment.prefixes, *filter(None, [segment.uplink])]
        text = "<br/>".join(map(_quoted, texts))
        lines.append("  %s%s" % (segment_ids[name], _shape(segment) % text))
    lines += [_link_line(link, view, node_ids, segment_ids) for link in view.links]
    return "\n".join(lines) + "\n" + (_STYLES if view.has_states else "")


def _shape(segment: Segment) -> str:
    if segment.outside:
        return '[["%s"]]'
    return '{{"%s"}}' if segment.type == "switch" else '(["%s"])'


def _link_line(
    link: Link, view: View, node_ids: dict[str, str], segment_ids: dict[str, str]
) -> str:
    ends = list(link.ends)
    # The first one is drawn above.
    ends.sort(key=lambda end: view.nodes[end.node].tier or 0)
    ids = [node_ids[end.node] for end in ends]
    ids += [segment_ids[name] for name in (link.first_segment, link.segment) if name]
    nics = [end.nic + " (capture)" * end.captured for end in ends]
    middle = [*link.prefixes, *filter(None, [link.vlans]), *(["down"] * link.down)]
    texts = [*nics[:1], *middle, *nics[1:]] or [" "]
    joint = "-.-" if link.down else "---"
    return '  %s %s|"%s"| %s' % (ids[0], joint, " · ".join(map(_quoted, texts)), ids[1])


def _node_texts(node: Node) -> list[str]:
    kind = node.kind + (", AS %s" % node.asn if node.asn else "")
    address = ", ".join(node.loopbacks) or main_address(node)
    state = ", ".join(filter(None, (node.state, node.hypervisor)))
    texts = [node.title, kind, address, *outside_texts(node), state]
    return [text for text in texts if text]


def _quoted(text: str) -> str:
    """Return a text for use within quotes, with entities for all special characters."""
    return "".join(
        letter if _PLAIN.match(letter) or not letter.isascii() else "#%d;" % ord(letter)
        for letter in printable(text)
    )
