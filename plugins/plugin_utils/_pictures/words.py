# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The words on a card, and about how wide they are: fonts differ, so that nothing depends on them."""

from __future__ import annotations

import unicodedata

TITLE, LINE = 13, 11


def lines_of(node, view, small):
    """The lines below a node's name, and its foot: state and hypervisor, or None."""
    hypervisor = node.hypervisor if len(view.hypervisors) > 1 or not node.state else ""
    if small:
        return [node.state or address_of(node) or _about(node)], None
    lines = [_about(node)] + [line for line in [address_of(node)] if line]
    return lines, (node.state, hypervisor) if node.state or hypervisor else None


def _about(node):
    return "%s \N{MIDDLE DOT} AS %d" % (node.kind, node.asn) if node.asn else node.kind


def address_of(node):
    """What it is known by: its loopback, else its management address, else the first of a NIC."""
    known = (
        node.loopbacks
        + [node.management]
        + [address for nic in node.nics for address in nic.addresses]
    )
    return next((address for address in known if address), "")


def width_of(text, size, bold=False):
    """About how wide a text is, rather more than less."""
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


def cut(text, size, room, bold=False):
    """The text, or as much of it as fits."""
    if width_of(text, size, bold) <= room:
        return text
    while text and width_of(text + "\N{HORIZONTAL ELLIPSIS}", size, bold) > room:
        text = text[:-1]
    return text + "\N{HORIZONTAL ELLIPSIS}"
