# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The interfaces on the host of tap links, also of those whose name was left to QEMU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import MonitorError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.links import is_direct
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import nic_ids

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

# A backend in the output of "info network": no QMP command reports it.
_TAP = re.compile(r"(\S+): index=\d+,type=tap,ifname=([^,\s]+)")


def interfaces(definition: Definition, observation: Observation) -> dict[str, str | None]:
    """Return {NIC: interface} for the tap links of a running VM; None if it cannot be found out."""
    taps = [nic for nic in definition["nics"] if nic["link"]["type"] == "tap"]
    if not taps or not observation.alive:
        return {}
    chosen: dict[str, str] = {}
    if not all(nic["link"].get("interface") for nic in taps):
        chosen = _chosen(observation)
    found = {}
    for nic in taps:
        ids = nic_ids(definition, nic["name"])
        backend = ids.port if is_direct(nic["link"]) else ids.link
        found[nic["name"]] = nic["link"].get("interface") or chosen.get(backend)
    return found


def _chosen(observation: Observation) -> dict[str, str]:
    """Return {backend: interface} as QEMU has them."""
    if observation.monitor is None:
        return {}
    try:
        text = observation.monitor.execute(
            "human-monitor-command", {"command-line": "info network"}
        )
    except MonitorError:
        return {}  # a report does not fail for a name
    return dict(_TAP.findall(text))
