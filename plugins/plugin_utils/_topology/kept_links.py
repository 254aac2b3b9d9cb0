# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Find the links of a topology in the record of its lab.

A link may name its NICs or not, and may have a name: it is recognised by what it has of these, and
by its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import Kept

_Entry = dict[str, Any]


class LinkRequest(NamedTuple):
    """A link as the topology gives it. ends: (node, NIC or None), in the order of the file."""

    name: str | None
    ends: Sequence[tuple[str, str | None]]


def sides(nodes: Sequence[str]) -> list[int]:
    """Return the numbers of the two ends of a link in the order in which a record has them."""
    return sorted(range(len(nodes)), key=lambda number: nodes[number])


def pair_of(nodes: Iterable[str]) -> str:
    """Return the key of the links between two nodes in a record."""
    return " ".join(sorted(nodes))


def find_links(kept: Kept, requests: Sequence[LinkRequest]) -> dict[int, _Entry]:
    """Return the entry in the record of each link that has one: {number of the link: entry}."""
    by_pair: dict[str, list[int]] = {}
    for number, request in enumerate(requests):
        by_pair.setdefault(pair_of(node for node, _nic in request.ends), []).append(number)
    found: dict[int, _Entry] = {}
    for pair, numbers in by_pair.items():
        entries = kept.links(pair)
        if entries:
            _match({number: requests[number] for number in numbers}, entries, found)
    return found


def _match(
    requests: dict[int, LinkRequest], entries: list[_Entry], found: dict[int, _Entry]
) -> None:
    """Match the links between two nodes with entries, the surest matches first."""
    rules: tuple[Callable[[LinkRequest, _Entry], bool], ...] = (
        lambda request, entry: request.name is not None and request.name == entry.get("name"),
        lambda request, entry: _named_nics(request) == 2 and _is_possible(request, entry),
        lambda request, entry: _named_nics(request) == 1 and _is_possible(request, entry),
        lambda request, entry: (
            request.name is None and entry.get("name") is None and _is_possible(request, entry)
        ),
        _is_possible,
    )
    remaining = list(entries)
    for rule in rules:
        for number, request in requests.items():
            if number in found:
                continue
            entry = next((entry for entry in remaining if rule(request, entry)), None)
            if entry is not None:
                found[number] = entry
                remaining.remove(entry)


def _named_nics(request: LinkRequest) -> int:
    return sum(nic is not None for _node, nic in request.ends)


def _is_possible(request: LinkRequest, entry: _Entry) -> bool:
    """Return whether a link has no other NICs than an entry."""
    nics = kept_nics([node for node, _nic in request.ends], entry)
    return all(nic in (None, kept) for (_node, nic), kept in zip(request.ends, nics))


def kept_nics(nodes: Sequence[str], entry: _Entry) -> list[str]:
    """Return the NICs of an entry, in the order of the nodes in the file."""
    nics = [""] * len(nodes)
    for side, number in enumerate(sides(nodes)):
        nics[number] = entry["nics"][side]
    return nics
