# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The NICs of a kind by the names and numbers that other tools give them."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import NicNaming

_SHORT = re.compile(r"([A-Za-z-]+)(\d.*)")


def is_exact(naming: NicNaming, name: str) -> bool:
    """Return whether a NIC has exactly this name."""
    is_data = naming.number(name) is not None and naming.supports(name)
    return name in naming.management or is_data


def by_name(naming: NicNaming, name: str) -> str | None:
    """Return the NIC that a name of the system means, also a short one such as Gi0/1."""
    if is_exact(naming, name):
        return name
    match = _SHORT.fullmatch(name)
    if match and naming.prefix.lower().startswith(match.group(1).lower()):
        letters = re.match(r"[A-Za-z-]*", naming.prefix)
        full = (letters.group() if letters else "") + match.group(2)
        if naming.number(full) is not None and naming.supports(full):
            return full
    return None


def by_container_name(naming: NicNaming, name: str) -> str | None:
    """Return the NIC that containerlab calls so: eth0 is for management, others follow."""
    full = naming.full_name(name)
    return full if is_exact(naming, full) else by_name(naming, name)


def naming_of_names(names: list[str]) -> dict[str, Any]:
    """Return the nic settings of a kind whose NICs have these names in this order."""
    for skipped in (0, 1):
        pattern = _pattern(names[skipped:])
        if pattern:
            prefix, first, suffix = pattern
            settings = {
                "name": "%s{n}%s" % (prefix, suffix),
                "first": first,
                "max": len(names) - skipped,
                "min": len(names) - skipped,
                "fill_slots": True,
            }
            if skipped:
                settings["management"] = names[0]
            return settings
    # Names without a number that counts: all of them are listed.
    return {"name": "spare{n}", "management": names, "max": 1, "fill_slots": True}


def _pattern(names: list[str]) -> tuple[str, int, str] | None:
    """Return (prefix, first number, suffix) of names that count, None for others."""
    if not names:
        return None
    for match in reversed(list(re.finditer(r"0|[1-9]\d{0,2}", names[0]))):
        prefix, first, suffix = (
            names[0][: match.start()],
            int(match.group()),
            names[0][match.end() :],
        )
        if "{" not in names[0] and all(
            name == "%s%d%s" % (prefix, first + index, suffix) for index, name in enumerate(names)
        ):
            return prefix, first, suffix
    return None
