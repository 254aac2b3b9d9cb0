# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How a VM begins, changes and ends the captures of its NICs.

A capture with a size is rotated: QEMU writes it to a spool, which a process of the VM copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import object_add
from ansible_collections.vlab.qemu.plugins.module_utils._vm import rotations
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import nic_devices
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.captures import (
    capture_path,
    is_rotated,
    keep_earlier,
    make_capture_folder,
    spool_path,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import (
    Nic,
    NicIds,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

_ROTATION = "rotation"  # in an observed definition: set if the process has ended


# Observe and plan.


def observe(observation: Observation) -> None:
    """Correct the rotations of the recorded definition by what their process has."""
    running = observation.running
    running.pop(_ROTATION, None)
    rotated = [nic for nic in running["nics"] if is_rotated(nic)]
    if not rotated:
        return
    if not rotations.is_running(observation.folder):
        running[_ROTATION] = "ended"
    found = rotations.configured(observation.folder)
    for nic in rotated:
        actual = found.get(nic["name"])
        if actual:
            numbers = {"size": actual["size"], "count": actual["count"]}
            nic["capture"] = {**nic["capture"], **numbers}
        else:
            running[_ROTATION] = "ended"


def dead_rotation(running: Definition, desired: Definition, part: str) -> list[Change]:
    """Return the change of a VM whose process has ended."""
    if not running.get(_ROTATION) or not any(map(is_rotated, desired["nics"])):
        return []
    return [Change(("nics", _ROTATION), running[_ROTATION], "running", LIVE, part, _ROTATION)]


# Apply.


def prepare(definition: Definition, host: Host) -> None:
    """Keep earlier captures: QEMU is to begin new files. Raises HostError."""
    for warning in rotations.end(host.folder):
        host.warn(warning)
    for nic in definition["nics"]:
        _prepare(nic, host.folder)


def _prepare(nic: Nic, folder: Folder) -> None:
    if is_rotated(nic):
        make_capture_folder(folder, capture_path(folder, nic))
        rotations.prepare(folder, nic["name"])
    elif nic["capture"]:
        keep_earlier(folder, capture_path(folder, nic))


def start_rotation(definition: Definition, live: Live) -> None:
    """Start the process of a VM whose definition needs one. Raises HostError."""
    found = {
        nic["name"]: _rotation(nic, live.folder) for nic in definition["nics"] if is_rotated(nic)
    }
    if found:
        rotations.update(live.folder, live.pid, found)
    live.running.pop(_ROTATION, None)


def end_rotation(host: Host) -> None:
    """After QEMU, copy what is left. What cannot be copied stays for the next start."""
    try:
        warnings = rotations.end(host.folder)
    except HostError as error:
        warnings = [error.message]
    for warning in warnings:
        host.warn(warning)


def change_capture(nic: Nic, ids: NicIds, desired: Definition, live: Live) -> None:
    """Capture a NIC as it is to be captured now."""
    if _keeps_spool(nic, live):
        rotations.update(live.folder, live.pid, {nic["name"]: _rotation(nic, live.folder)})
        return
    live.monitor.batch([("object-del", {"id": ids.capture})])
    stop_capture(nic["name"], live)
    if nic["capture"]:
        start_capture(nic, desired, live)


def start_capture(nic: Nic, definition: Definition, live: Live) -> None:
    """Start the capture of a NIC. Raises a VlabError."""
    _prepare(nic, live.folder)
    capture = nic_devices.capture_filter(nic, definition, live.folder)
    live.monitor.execute("object-add", object_add(capture, live.capabilities.json_object))
    if not is_rotated(nic):
        return
    try:
        rotations.update(live.folder, live.pid, {nic["name"]: _rotation(nic, live.folder)})
    except VlabError:
        live.monitor.batch([("object-del", {"id": capture["id"]})])
        raise


def stop_capture(name: str, live: Live) -> None:
    """End the rotation of a NIC whose capture QEMU has ended. Raises HostError."""
    warning = rotations.stop(live.folder, live.pid, name)
    if warning:
        live.host.warn(warning)


def _rotation(nic: Nic, folder: Folder) -> dict[str, Any]:
    return {
        "spool": spool_path(folder, nic["name"]),
        "path": capture_path(folder, nic),
        "size": nic["capture"]["size"],
        "count": nic["capture"]["count"],
    }


def _keeps_spool(nic: Nic, live: Live) -> bool:
    """Return whether QEMU captures as it is to, and only the files differ.

    A killed run may have changed it without a record: all definitions must agree.
    """
    earlier = [by_name(one.get("nics", ())).get(nic["name"]) for one in [live.running, *live.past]]
    return is_rotated(nic) and all(
        one is not None
        and is_rotated(one)
        and all(one["capture"][key] == nic["capture"][key] for key in ("path", "snaplen"))
        for one in earlier
    )


# Result.


def report(nic: Nic, observation: Observation) -> dict[str, Any] | None:
    """Return the capture of a NIC as it is reported."""
    if not nic["capture"]:
        return None
    entry = dict(nic["capture"], path=capture_path(observation.folder, nic))
    if is_rotated(nic) and observation.alive:
        entry["rotation"] = rotations.state(observation.folder)
    return entry
