# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a hypervisor lacks for its share of a lab, as a table."""

from __future__ import annotations

from typing import Any, Dict, Sequence

QEMU_OVERHEAD = 48  # MiB of a QEMU besides its guest's memory (measured: 41 unshared)
# MiB for each new node: overlays begin small; this is what a guest writes while it boots.
_DISK_PER_NODE = 64

# {host, what, wanted, has}, all texts.
Row = Dict[str, str]


def row(host: str, what: str, desired: str, has: str) -> Row:
    """Return a row of the table."""
    return {"host": host, "what": what, "wanted": desired, "has": has}


def resource_rows(host: str, need: dict[str, Any], has: dict[str, Any]) -> list[Row]:
    """Return rows for memory, CPUs and disk space that a host lacks.

    need: {"memory_mb", "vcpus", "starting": number of nodes to be started, "memory_overcommit",
    "vcpu_ratio"}; the last two may be None. has: {"memory_available_mb", "cpus", "disk_free_mb"}.
    """
    rows = []
    memory = int(has["memory_available_mb"] * (need.get("memory_overcommit") or 1))
    if need["memory_mb"] > memory:
        rows.append(row(host, "memory", "%d MiB" % need["memory_mb"], "%d MiB" % memory))
    ratio = need.get("vcpu_ratio")
    if ratio and need["starting"] and need["vcpus"] > ratio * has["cpus"]:
        vcpus = "%g (%d x %g)" % (ratio * has["cpus"], has["cpus"], ratio)
        rows.append(row(host, "vCPUs", str(need["vcpus"]), vcpus))
    disk = _DISK_PER_NODE * need["starting"]
    if has.get("disk_free_mb", disk) < disk:
        rows.append(row(host, "disk space", "%d MiB" % disk, "%d MiB" % has["disk_free_mb"]))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return rows as text, for an error."""
    all_rows = [row("hypervisor", "lacks", "wanted", "has"), *rows]
    widths = {key: max(len(each[key]) for each in all_rows) for key in all_rows[0]}
    return "\n".join(
        "  " + "  ".join(each[key].ljust(width) for key, width in widths.items()).rstrip()
        for each in all_rows
    )


def shortage_message(lab: str, rows: Sequence[Row]) -> str:
    """Return the error message for rows."""
    return (
        "the lab %s does not fit, and nothing was changed:\n%s\n"
        "Use smaller nodes or other hypervisors, or see limits in the topology."
        % (lab, table(rows))
    )
