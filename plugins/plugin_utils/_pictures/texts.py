# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The lines of text on a card, and their approximate width, as fonts differ."""

from __future__ import annotations

import unicodedata

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import Node, View

TITLE_SIZE, LINE_SIZE = 13, 11

# A card shows no more links to the outside. Its tooltip and the page show all of them.
_MAX_OUTSIDE_LINES = 3

# State and hypervisor, at the bottom of a card.
Footer = tuple[str, str]


def card_texts(node: Node, view: View, small: bool) -> tuple[list[str], Footer | None]:
    """Return the lines below a node's name, and the footer of its card if it has one."""
    if small:
        return [node.state or main_address(node) or _kind_and_as(node)], None
    address = main_address(node)
    lines = [_kind_and_as(node)] + ([address] if address else [])
    lines += outside_texts(node)[:_MAX_OUTSIDE_LINES]
    hypervisor = node.hypervisor if len(view.hypervisors) > 1 or not node.state else ""
    return lines, (node.state, hypervisor) if node.state or hypervisor else None


def outside_texts(node: Node) -> list[str]:
    """Return the links of a node to the outside that are not drawn as lines."""
    texts = []
    for nic in node.nics:
        if nic.outside and not nic.is_shared:
            words = [nic.outside, *nic.forwards] + ["capture"] * bool(nic.capture)
            texts.append("%s: %s" % (nic.name, ", ".join(words)))
    return texts


def _kind_and_as(node: Node) -> str:
    return "%s \N{MIDDLE DOT} AS %d" % (node.kind, node.asn) if node.asn else node.kind


def main_address(node: Node) -> str:
    """Return the loopback of a node, else its management address, else the first of a NIC."""
    addresses = [
        *node.loopbacks,
        node.management,
        *(address for nic in node.nics for address in nic.addresses),
    ]
    return next((address for address in addresses if address), "")


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the approximate width of a text, rather too large than too small."""
    units = 0.0
    for letter in text:
        if unicodedata.east_asian_width(letter) in "WF":
            units += 1.05
        elif letter in "ijl.,:;|!'I()[] ":
            units += 0.34
        elif letter in "mwMW@%":
            units += 0.9
        else:
            units += 0.68 if letter.isupper() else 0.58
    return units * size * (1.07 if bold else 1)


def truncated(text: str, size: float, width: float, bold: bool = False) -> str:
    """Return the text, cut off if it is wider than width."""
    if text_width(text, size, bold) <= width:
        return text
    while text and text_width(text + "\N{HORIZONTAL ELLIPSIS}", size, bold) > width:
        text = text[:-1]
    return text + "\N{HORIZONTAL ELLIPSIS}"
