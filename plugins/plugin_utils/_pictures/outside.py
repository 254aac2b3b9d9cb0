# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What NICs are connected to outside the lab, and their forwarded ports, as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The suboptions that name what a link leads to.
_NAMES: dict[str, tuple[str, ...]] = {
    "bridge": ("bridge",),
    "tap": ("interface",),
    "mcast": ("group", "port"),
    "vde": ("path",),
    "udp": ("remote_address", "remote_port"),
    "stream": ("remote_address", "remote_port", "path"),
    "unix": ("remote_path",),
}
# What several NICs can be connected to.
_SHARED = ("bridge", "tap", "mcast", "vde")


def link_type(link: Mapping[str, Any] | None) -> str:
    """Return the type of a link to the outside, empty without one."""
    if not link:
        return ""
    kind = str(link.get("type") or ("udp" if "peer" in link else "none"))
    return "" if kind == "none" else kind


def destination(link: Mapping[str, Any] | None) -> str:
    """Return what a link leads to, such as bridge br0; empty if it is not connected."""
    kind = link_type(link)
    if not kind or not link:
        return ""
    if link.get("peer"):
        return "%s %s" % (kind, link["peer"])
    names = [str(link[key]) for key in _NAMES.get(kind, ()) if link.get(key)]
    return " ".join([kind, ":".join(names)]).strip()


def is_shared(link: Mapping[str, Any] | None) -> bool:
    """Return whether a link leads to something with a name that others can be connected to."""
    kind = link_type(link)
    return kind in _SHARED and destination(link) != kind


def forwards(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return forwarded ports, as a link or qemu_vm_info has them, as texts such as 2222 → 22."""
    return [_forward(entry) for entry in entries]


def _forward(entry: Mapping[str, Any]) -> str:
    host = entry.get("host_address")
    # The loopback address is the default.
    prefix = "" if host in (None, "", "127.0.0.1") else "%s:" % host
    text = "%s%s \N{RIGHTWARDS ARROW} %s" % (
        prefix,
        entry.get("host_port") or "auto",
        entry.get("guest_port"),
    )
    return text + (" udp" if entry.get("protocol") == "udp" else "")
