# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Write a lab as a self-contained HTML page: the picture, details of nodes, and tables."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import markupsafe

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.svg import svg
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.templates import (
    AUTO,
    read,
    render,
    style,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import Link, Node, View

_LINK_COLUMNS = ["From", "Address", "To", "Address", "Network"]


@dataclasses.dataclass
class LivePart:
    """What a page has that follows its lab: its style and script.

    writable: whether it has consoles and buttons for carriers. facts: names what it shows besides
    states.
    """

    style: str
    script: str
    writable: bool
    facts: str


def page(view: View, scheme: str = AUTO, live: LivePart | None = None) -> str:
    """Return the page of a View. scheme: AUTO, LIGHT or DARK. live: None for a file."""
    scripts = [read("page.js")] + ([live.script] if live else [])
    return render(
        "page.html.j2",
        view=view,
        live=live,
        policy=policy_of(scheme, live),
        style=markupsafe.Markup(_sheet(scheme, live)),
        scheme="light dark" if scheme == AUTO else scheme,
        scripts=[markupsafe.Markup(script) for script in scripts],
        picture=markupsafe.Markup(svg(view, scheme, standalone=False)),
        nodes=[_node(node, view) for node in view.nodes.values()],
        node_table=_node_table(view),
        link_columns=_LINK_COLUMNS + ["State"] * _has_link_states(view),
        link_rows=[_link_row(link, view) for link in view.links],
    )


def policy_of(scheme: str = AUTO, live: LivePart | None = None) -> str:
    """Return the content security policy of a page.

    A file loads nothing, and runs only its own style and script, whatever a name contains. A live
    page asks only its own server; its terminals set styles.
    """
    scripts, styles = ["'%s'" % _hash(read("page.js"))], ["'%s'" % _hash(_sheet(scheme, live))]
    if live:
        scripts.append("'%s'" % _hash(live.script))
        if live.writable:
            scripts.append("'self'")
            styles = ["'self'", "'unsafe-inline'"]
    policy = "default-src 'none'; img-src data:; style-src %s; script-src %s" % (
        " ".join(styles),
        " ".join(scripts),
    )
    return policy + ("; connect-src 'self'; base-uri 'none'; form-action 'none'" if live else "")


def _sheet(scheme: str, live: LivePart | None) -> str:
    sheet = style("picture.css", scheme) + style("page.css", scheme)
    return sheet + live.style if live else sheet


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-%s" % base64.b64encode(digest).decode("ascii")


def _node(node: Node, view: View) -> dict[str, Any]:
    links = view.links_of(node.name)
    connected = {end.nic for _link, end, _other in links}
    facts: list[tuple[str, list[Any]]] = [
        ("description", [node.description]),
        ("kind", [node.kind]),
        ("groups", node.groups),
        ("hypervisor", [node.hypervisor]),
        ("AS", [node.asn]),
        ("loopback", node.loopbacks),
        ("management", [node.management]),
        ("reached at", [address for nic in node.nics for address in nic.reachable_at]),
        *(
            (nic.name, [*nic.addresses, nic.outside])
            for nic in node.nics
            if nic.name not in connected
        ),
        ("forwards", [text for nic in node.nics for text in nic.forwards]),
        ("captures", _captures(node)),
    ]
    facts = [(name, [value for value in values if value]) for name, values in facts]
    return {
        "name": node.name,
        "state": node.state,
        "tone": node.tone,
        "console": node.console,
        "where": _where(node),
        "leaves": "; Ctrl-] leaves" if "escape=0x1d" in node.console else "",
        "facts": [(name, values) for name, values in facts if values],
        "links": [
            {
                "number": link.number,
                "nic": end.nic,
                "node": other.node if other else "",
                "to": str(other) if other else link.segment,
                "down": link.down,
                "captured": end.captured,
                "addresses": ", ".join(end.addresses),
            }
            for link, end, other in links
        ],
    }


def _where(node: Node) -> str:
    """Return where the command of a node's console has to run."""
    if node.console.startswith("ssh "):
        return "On the controller"
    return "On %s" % (node.hypervisor or "its hypervisor")


_NODE_COLUMNS: tuple[tuple[str, Callable[[Node], dict[str, Any]]], ...] = (
    ("State", lambda node: _cell([node.state], "tone-%s" % node.tone)),
    ("Description", lambda node: _cell([node.description], "long")),
    ("Kind", lambda node: _cell([node.kind])),
    ("Groups", lambda node: _cell(node.groups)),
    ("Hypervisor", lambda node: _cell([node.hypervisor])),
    ("AS", lambda node: _cell([node.asn])),
    ("Loopback", lambda node: _cell(node.loopbacks)),
    ("Management", lambda node: _cell([node.management])),
    ("Addresses", lambda node: _cell(_all_addresses(node))),
    ("Outside", lambda node: _cell(_all_outside(node))),
    ("Captures", lambda node: _cell(_captures(node), "long")),
    ("Console", lambda node: _cell([node.console], "long", code=True)),
)


def _all_addresses(node: Node) -> list[str]:
    return [
        "%s %s" % (nic.name, address)
        for nic in node.nics
        for address in nic.addresses + nic.reachable_at
    ]


def _all_outside(node: Node) -> list[str]:
    return [
        "%s %s" % (nic.name, ", ".join([nic.outside, *nic.forwards]))
        for nic in node.nics
        if nic.outside
    ]


def _captures(node: Node) -> list[str]:
    return ["%s: %s" % (nic.name, nic.capture) for nic in node.nics if nic.capture]


def _node_table(view: View) -> dict[str, Any]:
    """Return the table of nodes, without columns that are empty."""
    cells = {
        node.name: [make(node) for _title, make in _NODE_COLUMNS] for node in view.nodes.values()
    }
    used = [
        number
        for number in range(len(_NODE_COLUMNS))
        if any(row[number]["texts"] for row in cells.values())
    ]
    return {
        "columns": ["Node"] + [_NODE_COLUMNS[number][0] for number in used],
        "rows": [
            {"name": name, "cells": [row[number] for number in used]} for name, row in cells.items()
        ],
    }


def _has_link_states(view: View) -> bool:
    return view.has_states or any(link.down for link in view.links)


def _link_row(link: Link, view: View) -> dict[str, Any]:
    cells = []
    for side in link.sides:
        cells += [_cell([side]), _cell([] if isinstance(side, str) else side.addresses)]
    cells.append(_cell([*link.prefixes, *filter(None, [link.vlans])]))
    if _has_link_states(view):
        cells.append(_cell(["down"], "tone-bad") if link.down else _cell(["up"], "tone-up"))
    return {"number": link.number, "names": " ".join(end.node for end in link.ends), "cells": cells}


def _cell(values: Sequence[Any], style: str = "", code: bool = False) -> dict[str, Any]:
    texts = [str(value) for value in values if value]
    return {"texts": texts, "style": style or ("list" if len(texts) > 1 else ""), "code": code}
