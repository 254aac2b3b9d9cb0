# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The lab as a flowchart of Mermaid, which needs no other program here."""

from __future__ import annotations

import re

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.documents import plain
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.words import address_of

_HARMLESS = re.compile(r"[\w .,:/()+-]", re.ASCII)
_STYLES = """\
  classDef up stroke:#1a9c55,stroke-width:2px
  classDef held stroke:#c98a00,stroke-width:2px
  classDef off stroke:#8b95a5,stroke-width:2px,stroke-dasharray:5 4
  classDef absent stroke:#8b95a5,stroke-width:1px,stroke-dasharray:2 4
  classDef bad stroke:#d1373f,stroke-width:3px
  classDef unknown stroke:#8b95a5
"""


def mermaid(view):
    """The text of a View as a diagram."""
    lines = [
        "---",
        'title: "%s"' % quoted(view.name),
        "---",
        "flowchart %s" % ("TB" if view.tiered else "LR"),
    ]
    order = list(view.nodes.values())
    ids = {node.name: "n%d" % number for number, node in enumerate(order)}
    for node in order:
        tone = ":::%s" % node.tone if node.tone else ""
        lines.append(
            '  %s["%s"]%s' % (ids[node.name], "<br/>".join(map(quoted, _words(node))), tone)
        )
    hubs = {name: "s%d" % number for number, name in enumerate(view.segments)}
    for name, segment in view.segments.items():
        lines.append(
            '  %s(["%s"])' % (hubs[name], "<br/>".join(map(quoted, [name] + segment.prefixes)))
        )
    tiers = {node.name: node.tier or 0 for node in order}
    for link in view.links:
        first, second = link.ends[0], None if link.segment else link.ends[1]
        if second and tiers[first.node] > tiers[second.node]:
            # What comes first is drawn above.
            first, second = second, first
        words = (
            [first.nic] + link.prefixes + ["down"] * link.down + ([second.nic] if second else [])
        )
        lines.append(
            '  %s %s|"%s"| %s'
            % (
                ids[first.node],
                "-.-" if link.down else "---",
                " · ".join(map(quoted, words)),
                ids[second.node] if second else hubs[link.segment],
            )
        )
    return "\n".join(lines) + "\n" + (_STYLES if view.has_states else "")


def _words(node):
    about = [node.kind] + (["AS %s" % node.asn] if node.asn else [])
    known = ", ".join(node.loopbacks) or address_of(node)
    return [
        part
        for part in (
            node.name,
            ", ".join(about),
            known,
            ", ".join(filter(None, (node.state, node.hypervisor))),
        )
        if part
    ]


def quoted(text):
    """A text inside of Mermaid's quotes. Its entities take the place of all that could end it or mean something."""
    return "".join(
        letter if _HARMLESS.match(letter) or not letter.isascii() else "#%d;" % ord(letter)
        for letter in plain(text)
    )
