# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Hubs: a segment as a QEMU without a machine.

A hub needs no root, and its ports come and go while it runs.
"""

from __future__ import annotations

import os
import shutil
from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    LIVE,
    Change,
    Item,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_json,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    process_start_time,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_qemu
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    endpoint,
    escape,
    keyval,
    netdev,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import process, shapes
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import Reservation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest, reserve_live

SEGMENTS = ".segments"

# {local_address, local_port, remote_address, remote_port}; "id", its number in QEMU, if it exists.
Port = Dict[str, Any]


class HubFolder(Folder):
    """The folder of a hub, in .segments of the lab's folder."""

    def __init__(self, root: str, lab: str, name: str) -> None:
        super().__init__(root, lab, os.path.basename(name))
        self._set_paths(os.path.join(self.root, lab, SEGMENTS, name))


def plan_hub(
    name: str, exists: bool, running: dict[str, Port] | None, desired: dict[str, Port] | None
) -> list[Change]:
    """Plan a hub: a change for each port of a running one, or one for the hub.

    exists: whether it has files. running: {end: port}, None if it does not run.
    desired: {end: port}, None to remove the hub.
    """
    path = ("segments", name)
    if desired is None:
        return [Change(path, sorted(running or {}), None, FILE)] if exists else []
    if running is None:
        return [Change(path, None, sorted(desired), FILE)]
    before = {
        end: {key: value for key, value in port.items() if key != "id"}
        for end, port in running.items()
    }
    return [
        Change((*path, Item(end)), before.get(end), desired.get(end), LIVE)
        for end in sorted(set(before) | set(desired))
        if before.get(end) != desired.get(end)
    ]


class Hub:
    """One hub. ports: {end: Port}, None to remove the hub. changes: the plan."""

    def __init__(self, root: str, lab: str, name: str, ports: dict[str, Port] | None) -> None:
        self.folder = HubFolder(root, lab, name)
        self.name, self.ports = name, ports
        self.changes: list[Change] = []
        self._record: dict[str, Any] = {}
        self._running: dict[str, Port] | None = None

    def observe(self) -> None:
        """Find out whether the hub runs, and which ports it has."""
        self._record = self._read_record()
        is_alive = (
            bool(self._record)
            and self._record["boot_id"] == boot_id()
            and process_start_time(self._record["pid"]) == self._record["start"]
        )
        self._running = self._record["ports"] if is_alive else None

    def _read_record(self) -> dict[str, Any]:
        """Return the record of the run. A damaged one counts as missing for a hub to remove."""
        try:
            record = read_json(self.folder.run)
            wrong = shapes.hub("", record) if record is not None else None
            if wrong is not None:
                raise shapes.damaged(self.folder.run, wrong)
        except HostError:
            if self.ports is None:
                return {}  # the removal ends its process as that of a killed run
            raise
        return record or {}

    def plan(self) -> None:
        """Plan the changes."""
        exists = bool(self._record) or os.path.isdir(self.folder.path)
        self.changes = plan_hub(self.name, exists, self._running, self.ports)

    @property
    def changes_existing(self) -> bool:
        """Whether the plan changes or removes a hub that existed before this run."""
        return bool(self.changes) and bool(self._record)

    def apply(self, start_timeout: int) -> None:
        """Make the changes. Raises VlabError."""
        if self.ports is None:
            self._remove()
        elif self._running is None:
            self._start(start_timeout, self.ports)
        else:
            self._change_ports(self._running)

    def _start(self, timeout: int, desired: dict[str, Port]) -> None:
        folder = self.folder
        folder.make()
        process.end_orphans(folder)
        remove_file(folder.qmp)
        ports = {
            end: dict(port, id=number) for number, (end, port) in enumerate(sorted(desired.items()))
        }
        argv = [find_qemu()[0], "-machine", "none", "-nodefaults", "-no-user-config"]
        argv += ["-display", "none", "-pidfile", folder.pidfile]
        argv += ["-name", keyval("", {"guest": "hub " + self.name})]
        argv += ["-qmp", "unix:%s,server=on,wait=off" % escape(folder.qmp)]
        for port in ports.values():
            for backend in _backends(port):
                argv += netdev(backend)
        with Reservation() as reservation:
            self._reserve(reservation, ports)
            child = process.Child(argv, folder, {})
            try:
                with child.connect(timeout) as monitor:
                    monitor.batch([("query-status", None)])  # by then QEMU has bound its ports
                    pid = monitor.peer_pid
                    self._save({"pid": pid, "start": process_start_time(pid)}, ports)
            except VlabError:
                child.end()
                raise

    def _reserve(self, reservation: Reservation, ports: dict[str, Port], pid: int = 0) -> None:
        """Reserve the UDP ports that the hub is going to bind. pid: of its QEMU if it runs."""
        requests = []
        for end, port in ports.items():
            address, number = port["local_address"], int(port["local_port"])
            option = "segments[%s].ports[%s]" % (self.name, end)
            request = PortRequest(end, "udp", address, number, option, True)
            requests.append((request, address, number))
        reserve_live(reservation, requests, pid)

    def _save(self, record: dict[str, Any], ports: dict[str, Port]) -> None:
        identity = {"pid": record["pid"], "start": record["start"], "boot_id": boot_id()}
        write_json(self.folder.run, dict(identity, ports=ports))

    def _change_ports(self, running: dict[str, Port]) -> None:
        ports = dict(running)
        bound = {(port["local_address"], port["local_port"]) for port in ports.values()}
        new = {
            change.path[-1]: change.after
            for change in self.changes
            if change.after is not None
            and (change.after["local_address"], change.after["local_port"]) not in bound
        }
        with Monitor(self.folder.qmp) as monitor, Reservation() as reservation:
            self._reserve(reservation, new, self._record["pid"])
            for change in self.changes:
                end = change.path[-1]
                if end in ports:
                    _unplug(monitor, ports.pop(end)["id"])
                if change.after is not None:
                    used = {port["id"] for port in ports.values()}
                    number = next(n for n in range(len(used) + 1) if n not in used)
                    # A killed run may have left this port unrecorded.
                    _unplug(monitor, number)
                    ports[end] = dict(change.after, id=number)
                    _plug(monitor, ports[end])
                self._save(self._record, ports)

    def _remove(self) -> None:
        folder = self.folder
        if self._running is not None:
            process.kill(self._record["pid"], self._record["start"])
        process.end_orphans(folder)
        for path in (folder.path, folder.sockets):
            shutil.rmtree(path, ignore_errors=True)


def _plug(monitor: Monitor, port: Port) -> None:
    for reply in monitor.batch([("netdev_add", backend) for backend in _backends(port)]):
        if isinstance(reply, MonitorError):
            raise reply


def _unplug(monitor: Monitor, number: int) -> None:
    """Remove a port. QEMU refuses it if it does not exist, which does no harm."""
    monitor.batch(
        [("netdev_del", {"id": "plug%d" % number}), ("netdev_del", {"id": "link%d" % number})]
    )


def _backends(port: Port) -> list[dict[str, Any]]:
    link = "link%d" % port["id"]
    return [
        {
            "type": "socket",
            "id": link,
            "udp": endpoint(port["remote_address"], port["remote_port"]),
            "localaddr": endpoint(port["local_address"], port["local_port"]),
        },
        {"type": "hubport", "id": "plug%d" % port["id"], "hubid": 0, "netdev": link},
    ]


def existing_segments(root: str, lab: str) -> list[str]:
    """Return the names of the hubs and bridges that a lab has."""
    try:
        return sorted(
            entry.name for entry in os.scandir(os.path.join(root, lab, SEGMENTS)) if entry.is_dir()
        )
    except OSError:
        return []
