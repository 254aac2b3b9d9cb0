# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How a running VM gets other links, and how its wires follow.

A wire that comes or goes changes the backend of a NIC, but not its cable: the guest sees no carrier
change, and stands still meanwhile, because a NIC that sends into an empty hub stalls for ever.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import wires
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import (
    dhcp_changes,
    nic_devices,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.backends import udp_ends
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.links import (
    backend_of,
    without_impairment,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import (
    Nic,
    NicIds,
    has_carrier,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

_WIRES = "wires"  # in an observed definition: set if the process of the wires has ended


def is_impaired(nic: Nic) -> bool:
    """Return whether a NIC has an impaired link."""
    return "impair" in nic["link"]


def set_carrier(nic: Nic, ids: NicIds, live: Live) -> None:
    """Let the guest see the carrier that it shall see."""
    live.monitor.execute("set_link", {"name": ids.nic, "up": has_carrier(nic)})


# Observe and plan.


def observe(observation: Observation) -> None:
    """Correct the impairments of the recorded definition by what the process says."""
    running = observation.running
    running.pop(_WIRES, None)
    impaired = [nic for nic in running["nics"] if is_impaired(nic)]
    if not impaired:
        return
    found = wires.measured(observation.folder)
    if found is None:
        running[_WIRES] = "ended"
        return
    for nic in impaired:
        actual = found.get(nic["name"], {}).get("settings", {}).get("parameters")
        if actual is None:
            nic["link"] = without_impairment(nic["link"])
        elif actual != nic["link"]["impair"]:
            nic["link"] = dict(nic["link"], impair=actual)


def dead_wires(running: Definition, desired: Definition, part: str) -> list[Change]:
    """Return the change of a VM whose process of the wires has ended."""
    if not running.get(_WIRES) or not any(map(is_impaired, desired["nics"])):
        return []
    return [Change(("nics", _WIRES), running[_WIRES], "running", LIVE, part, _WIRES)]


# Apply.


def start_wires(definition: Definition, live: Live) -> None:
    """Start the process of a VM whose definition needs one. Raises HostError."""
    desired = _wires(definition, live)
    if desired:
        wires.update(live.folder, live.pid, desired)
    live.running.pop(_WIRES, None)


def change_link(nic: Nic, ids: NicIds, desired: Definition, live: Live) -> None:
    """Connect a NIC to another link, or impair its link otherwise.

    If that fails, the NIC keeps the link that it has.
    """
    old = by_name(live.running["nics"]).get(nic["name"])
    try:
        if _keeps_backend(nic, live):
            set_wire(nic, desired, live)
            dhcp_changes.start(nic, ids, dhcp_changes.qemu_of(live))
        else:
            _connect(nic, ids, desired, live, _is_same_cable(old, nic))
    except VlabError:
        if old is not None:
            # A change before this one may have released ports of the old link.
            ports = {key: port for one in live.past for key, port in one.get("ports", {}).items()}
            before = dict(live.running, ports={**ports, **live.running["ports"]})
            with contextlib.suppress(VlabError):
                _connect(old, ids, before, live, _is_same_cable(old, nic))
        raise


def set_wire(nic: Nic, definition: Definition, live: Live) -> None:
    """Give a NIC the wire that it is to have, or remove it. Raises HostError."""
    found = wires.measured(live.folder)
    if found is None:
        changed = _wires(definition, live)
    else:
        changed = {name: entry["settings"] for name, entry in found.items()}
    changed.pop(nic["name"], None)
    if is_impaired(nic):
        changed[nic["name"]] = _wire(nic, definition, live)
    if changed or found is not None:
        wires.update(live.folder, live.pid, changed)


def remove_wire(name: str, live: Live) -> None:
    """Remove the wire of a NIC that the VM does not have any more."""
    found = wires.measured(live.folder)
    if found is None:
        others = [nic for nic in live.running["nics"] if nic["name"] != name]
        if not any(map(is_impaired, others)):
            wires.end(live.folder, 0)  # what a killed run left
    elif name in found:
        wires.update(
            live.folder,
            live.pid,
            {other: entry["settings"] for other, entry in found.items() if other != name},
        )


def _wires(definition: Definition, live: Live) -> wires.Wires:
    return {
        nic["name"]: _wire(nic, definition, live) for nic in definition["nics"] if is_impaired(nic)
    }


def _wire(nic: Nic, definition: Definition, live: Live) -> dict[str, Any]:
    context = nic_devices.link_context(nic, definition, live.folder, live.capabilities)
    ends = udp_ends(nic["link"], context)
    return {
        "listen": list(ends.wire or ()),
        "local": list(ends.local),
        "remote": list(ends.remote),
        "parameters": nic["link"]["impair"],
    }


def _keeps_backend(nic: Nic, live: Live) -> bool:
    """Return whether QEMU has the backend already, and only the wire changes.

    A killed run may have changed it without a record: all definitions must agree.
    """
    earlier = [by_name(one.get("nics", ())).get(nic["name"]) for one in [live.running, *live.past]]
    return all(
        one is not None and _is_same_cable(one, nic) and is_impaired(one) == is_impaired(nic)
        for one in earlier
    )


def _is_same_cable(old: Nic | None, new: Nic) -> bool:
    return old is not None and backend_of(old["link"]) == backend_of(new["link"])


def _connect(
    nic: Nic, ids: NicIds, definition: Definition, live: Live, is_same_cable: bool
) -> None:
    if is_impaired(nic):
        set_wire(nic, definition, live)
    if is_same_cable:
        with live.paused():
            _replace_backends(nic, ids, definition, live)
    else:
        live.monitor.execute("set_link", {"name": ids.nic, "up": False})
        _replace_backends(nic, ids, definition, live)
        if has_carrier(nic):
            set_carrier(nic, ids, live)
    if not is_impaired(nic):
        remove_wire(nic["name"], live)


def _replace_backends(nic: Nic, ids: NicIds, definition: Definition, live: Live) -> None:
    dhcp_changes.stop(nic["name"], ids, dhcp_changes.qemu_of(live))
    # Also removes what a killed run left; QEMU refuses to delete what does not exist.
    live.monitor.batch([("netdev_del", {"id": ids.plug}), ("netdev_del", {"id": ids.link})])
    created = nic_devices.backends(nic, definition, live.folder, live.capabilities)
    for backend in created[1:]:
        live.monitor.execute("netdev_add", backend)
    dhcp_changes.start(nic, ids, dhcp_changes.qemu_of(live))


# Result.


def add_report(entries: list[dict[str, Any]], observation: Observation) -> None:
    """Add to the reported NICs with impaired links what was measured."""
    impaired = [entry for entry in entries if is_impaired(entry)]
    if not impaired or not observation.alive:
        return
    state, found = wires.state(observation.folder), wires.measured(observation.folder) or {}
    for entry in impaired:
        wire = found.get(entry["name"], {})
        entry["impairment"] = {
            **state,
            "status": "running" if wire else "ended",
            "asked": wire.get("settings", {}).get("parameters", entry["link"]["impair"]),
            "measured": wire.get("measured"),
        }
