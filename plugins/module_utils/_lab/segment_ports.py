# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What hubs and switches have in common: a folder, UDP ports, and the plan of their changes."""

from __future__ import annotations

import os
import shutil
from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    LIVE,
    Change,
    Item,
    changed_keys,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import Reservation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest, reserve_live

SEGMENTS = ".segments"

# {local_address, local_port, remote_address, remote_port}; of a hub, "id", its number in QEMU, if
# it exists; of a switch, "vlans", and "impair", what becomes of the frames that it sends there.
Port = Dict[str, Any]
# {"ports": {name: Port}}; of a hub, "uplink": a link as qemu_vm keeps it, if it has one; of a
# switch, "ageing" in seconds.
Settings = Dict[str, Any]


class SegmentFolder(Folder):
    """The folder of a hub or switch, in .segments of the lab's folder."""

    def __init__(self, root: str, lab: str, name: str) -> None:
        super().__init__(root, lab, os.path.basename(name))
        self._set_paths(os.path.join(self.root, lab, SEGMENTS, name))

    def remove(self) -> None:
        """Remove the files of a segment that does not run."""
        for path in (self.path, self.sockets):
            shutil.rmtree(path, ignore_errors=True)


def plan_segment(
    name: str, exists: bool, running: Settings | None, desired: Settings | None
) -> list[Change]:
    """Plan a segment: changes of a running one, or one change for all of it.

    exists: whether it has files. running: None if it does not run. desired: None to remove it.
    """
    path = ("segments", name)
    if desired is None:
        return [Change(path, sorted((running or {}).get("ports", ())), None, FILE)] * exists
    if running is None:
        return [Change(path, None, sorted(desired["ports"]), FILE)]
    before, after = running["ports"], desired["ports"]
    changes = [
        Change((*path, key), running.get(key), desired.get(key), LIVE)
        for key in changed_keys(running, desired)
        if key != "ports"
    ]
    for port in sorted(set(before) | set(after)):
        changes += _port_changes((*path, Item(port)), before.get(port), after.get(port))
    return changes


def _port_changes(path: tuple[str, ...], before: Port | None, after: Port | None) -> list[Change]:
    if before is not None:
        before = {key: value for key, value in before.items() if key != "id"}
    if before == after:
        return []
    if before and after and set(changed_keys(before, after)) <= {"vlans", "impair"}:
        return [
            Change((*path, key), before.get(key), after.get(key), LIVE)
            for key in changed_keys(before, after)
        ]
    return [Change(path, before, after, LIVE)]


def reserve_ports(
    reservation: Reservation, segment: str, ports: dict[str, Port], pid: int = 0
) -> None:
    """Reserve the UDP ports that a segment is going to bind. pid: of its program if it runs.

    Raises HostError.
    """
    requests = []
    for name, port in ports.items():
        address, number = port["local_address"], int(port["local_port"])
        option = "segments[%s].ports[%s]" % (segment, name)
        request = PortRequest(name, "udp", address, number, option, True)
        requests.append((request, address, number))
    reserve_live(reservation, requests, pid)


def new_places(running: dict[str, Port], desired: dict[str, Port]) -> dict[str, Port]:
    """Return the desired ports that receive where no running one does."""
    bound = {(port["local_address"], port["local_port"]) for port in running.values()}
    return {
        name: port
        for name, port in desired.items()
        if (port["local_address"], port["local_port"]) not in bound
    }


def existing_segments(root: str, lab: str) -> list[str]:
    """Return the names of the segments that a lab has."""
    try:
        return sorted(
            entry.name for entry in os.scandir(os.path.join(root, lab, SEGMENTS)) if entry.is_dir()
        )
    except OSError:
        return []
