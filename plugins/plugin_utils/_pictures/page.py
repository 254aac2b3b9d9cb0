# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A lab as one HTML page that needs nothing else: the picture, what is known of each node, and both again as tables."""

from __future__ import annotations

import base64
import hashlib

import markupsafe

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.documents import fill, read
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.svg import svg


def page(view):
    """The page of a View."""
    style, script = read("picture.css") + read("page.css"), read("page.js")
    # Nothing is fetched, and nothing runs but this style and this script, whatever a name may hold.
    policy = "default-src 'none'; img-src data:; style-src '%s'; script-src '%s'" % (
        _hash(style),
        _hash(script),
    )
    return fill(
        "page.html.j2",
        view=view,
        policy=policy,
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        picture=markupsafe.Markup(svg(view, alone=False)),
        nodes=[_node(node, view) for node in view.nodes.values()],
        node_table=_node_table(view),
        link_columns=["From", "Address", "To", "Address", "Network"]
        + ["State"] * _tells_links(view),
        link_rows=[_link_row(link, view) for link in view.links],
    )


def _hash(text):
    return "sha256-%s" % base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode(
        "ascii"
    )


def _node(node, view):
    facts = [
        ("kind", [node.kind]),
        ("groups", node.groups),
        ("hypervisor", [node.hypervisor]),
        ("AS", [node.asn]),
        ("loopback", node.loopbacks),
        ("management", [node.management]),
        ("reached at", [reach for nic in node.nics for reach in nic.reach]),
    ]
    facts = [(word, [value for value in values if value]) for word, values in facts]
    wired = {end.nic for _link, end, _other in view.links_of(node.name)}
    outside = [
        (nic.name, nic.addresses) for nic in node.nics if nic.addresses and nic.name not in wired
    ]
    return {
        "name": node.name,
        "state": node.state,
        "tone": node.tone,
        "console": node.console,
        "hypervisor": node.hypervisor,
        "leaves": "; Ctrl-] leaves" if "escape=0x1d" in node.console else "",
        "facts": [fact for fact in facts + outside if fact[1]],
        "links": [
            {
                "number": link.number,
                "nic": end.nic,
                "node": other.node if other else "",
                "to": str(other) if other else link.segment,
                "down": link.down,
                "addresses": ", ".join(end.addresses),
            }
            for link, end, other in view.links_of(node.name)
        ],
    }


def _node_table(view):
    """The columns that tell something of any node."""
    columns = [
        ("State", lambda node: _cell(node.state, node.tone)),
        ("Kind", lambda node: _cell(node.kind)),
        ("Groups", lambda node: _cell(", ".join(node.groups))),
        ("Hypervisor", lambda node: _cell(node.hypervisor)),
        ("AS", lambda node: _cell(node.asn or "")),
        ("Loopback", lambda node: _cell(", ".join(node.loopbacks))),
        ("Management", lambda node: _cell(node.management or "")),
        (
            "Addresses",
            lambda node: _cell(
                ", ".join(
                    "%s %s" % (nic.name, address)
                    for nic in node.nics
                    for address in nic.addresses + nic.reach
                )
            ),
        ),
        ("Console", lambda node: _cell(node.console, code=True)),
    ]
    rows = [
        {"name": node.name, "cells": [make(node) for _title, make in columns]}
        for node in view.nodes.values()
    ]
    told = [
        number
        for number in range(len(columns))
        if any(row["cells"][number]["text"] for row in rows)
    ]
    for row in rows:
        row["cells"] = [row["cells"][number] for number in told]
    return {"columns": ["Node"] + [columns[number][0] for number in told], "rows": rows}


def _tells_links(view):
    return view.has_states or any(link.down for link in view.links)


def _link_row(link, view):
    first, second = link.ends[0], None if link.segment else link.ends[1]
    cells = [
        _cell(first),
        _cell(", ".join(first.addresses)),
        _cell(second or link.segment),
        _cell(", ".join(second.addresses) if second else ""),
        _cell(", ".join(link.prefixes)),
    ]
    if _tells_links(view):
        cells.append(_cell("down", "bad") if link.down else _cell("up", "up"))
    return {"number": link.number, "names": " ".join(end.node for end in link.ends), "cells": cells}


def _cell(text, tone="", code=False):
    return {
        "text": str(text),
        "style": "tone-%s" % tone if tone else "long" if code or ", " in str(text) else "",
        "code": code and bool(text),
    }
