# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a hypervisor lacks for its share of a lab, as rows of a table: {host, what, wanted, has}."""

from __future__ import annotations

QEMU_OVERHEAD = 48  # MiB of a QEMU besides its guest's memory (measured: 41 unshared)
_DISK = (
    64  # MiB for each new node: overlays begin small, this is what a guest writes while it boots
)


def row(host, what, desired, has):
    """A row of the table."""
    return {"host": host, "what": what, "wanted": desired, "has": has}


def resources(host, need, has):
    """Rows for memory, processors and disk space.

    need: {"memory_mb", "vcpus", "starting": number of nodes to be started, "memory_overcommit", "vcpu_ratio"}, the last two may be None.
    has: {"memory_available_mb", "cpus", "disk_free_mb"}.
    """
    rows = []
    room = int(has["memory_available_mb"] * (need.get("memory_overcommit") or 1))
    if need["memory_mb"] > room:
        rows.append(row(host, "memory", "%d MiB" % need["memory_mb"], "%d MiB" % room))
    ratio = need.get("vcpu_ratio")
    if ratio and need["starting"] and need["vcpus"] > ratio * has["cpus"]:
        rows.append(
            row(
                host,
                "vCPUs",
                str(need["vcpus"]),
                "%g (%d x %g)" % (ratio * has["cpus"], has["cpus"], ratio),
            )
        )
    disk = _DISK * need["starting"]
    if has.get("disk_free_mb", disk) < disk:
        rows.append(row(host, "disk space", "%d MiB" % disk, "%d MiB" % has["disk_free_mb"]))
    return rows


def table(rows):
    """Rows as text, for an error."""
    head = row("hypervisor", "lacks", "wanted", "has")
    widths = {key: max(len(each[key]) for each in [head] + rows) for key in head}
    return "\n".join(
        "  " + "  ".join(each[key].ljust(widths[key]) for key in head).rstrip()
        for each in [head] + rows
    )


def refusal(lab, rows):
    """The error's text."""
    return (
        "the lab %s does not fit, and nothing was touched:\n%s\nTake smaller nodes or other hypervisors, or see limits in the topology."
        % (lab, table(rows))
    )
