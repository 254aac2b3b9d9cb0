# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The impairment of links, and what the processes that impair them have counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.nics import Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import View
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology

_UNITS = {
    "delay": "ms",
    "jitter": "ms",
    "loss": "%",
    "duplicate": "%",
    "corrupt": "%",
    "reorder": "%",
    "rate": "kbit/s",
}
_COUNTERS = ("lost", "dropped", "duplicated", "corrupted", "reordered", "send_errors")


def traffic_of(topology: Topology, view: View, vms: Sequence[Vm]) -> dict[int, list[str]]:
    """Return the lines about each impaired link: {number of the link: lines}."""
    nics = {(vm.get("name"), nic.get("name")): nic for vm in vms for nic in vm.get("nics") or ()}
    found: dict[int, list[str]] = {}
    for link in view.links:
        for end in link.ends:
            vm_name = topology.nodes[end.vm].nics[end.nic].vm_name
            impairment = nics.get((end.vm, vm_name), {}).get("impairment")
            if isinstance(impairment, Mapping):
                found.setdefault(link.number, []).append("%s: %s" % (end, _line(impairment)))
    return found


def _line(impairment: Mapping[str, Any]) -> str:
    asked = [
        "%s %s%s" % (name.replace("_", " "), value, " %s" % _UNITS[name] if name in _UNITS else "")
        for name, value in (impairment.get("asked") or {}).items()
        if value not in (None, 0, False)
    ]
    text = ", ".join(asked) or "no impairment"
    if impairment.get("status") == "ended":
        return text + "; its process has ended, which cuts the link"
    measured = impairment.get("measured")
    return "%s; %s" % (text, _counted(measured)) if isinstance(measured, Mapping) else text


def _counted(measured: Mapping[str, Any]) -> str:
    parts = [
        "%s frames in" % measured.get("frames_in", 0),
        "%s out" % measured.get("frames_out", 0),
        *(
            "%s %s" % (measured[name], name.replace("_", " "))
            for name in _COUNTERS
            if measured.get(name)
        ),
    ]
    if measured.get("delay_p50"):
        parts.append("median delay %s ms" % measured["delay_p50"])
    if measured.get("rate"):
        parts.append("%s kbit/s" % measured["rate"])
    return ", ".join(parts)
