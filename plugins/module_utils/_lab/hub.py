# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Hubs: a segment as a QEMU without a machine.

A hub needs no root, and its ports come and go while it runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change, Item
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
from ansible_collections.vlab.qemu.plugins.module_utils._lab.segment_ports import (
    Port,
    SegmentFolder,
    Settings,
    new_places,
    plan_segment,
    reserve_ports,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_qemu
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import get_capabilities
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    endpoint,
    escape,
    keyval,
    netdev,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import process, shapes
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.backends import (
    LinkContext,
    backend,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import Reservation

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.links import Link

_UPLINK = "-uplink"  # in the names of its backends


class Hub:
    """One hub. desired: None to remove the hub. changes: the plan."""

    def __init__(self, root: str, lab: str, name: str, desired: Settings | None) -> None:
        self.folder = SegmentFolder(root, lab, name)
        self.name, self.desired = name, desired
        self.changes: list[Change] = []
        self._record: dict[str, Any] = {}
        self._running: Settings | None = None

    def observe(self) -> None:
        """Find out whether the hub runs, and which ports it has."""
        self._record = self._read_record()
        is_alive = (
            bool(self._record)
            and self._record["boot_id"] == boot_id()
            and process_start_time(self._record["pid"]) == self._record["start"]
        )
        self._running = _settings_of(self._record) if is_alive else None

    def _read_record(self) -> dict[str, Any]:
        """Return the record of the run. A damaged one counts as missing for a hub to remove."""
        try:
            record = read_json(self.folder.run)
            wrong = shapes.hub("", record) if record is not None else None
            if wrong is not None:
                raise shapes.damaged(self.folder.run, wrong)
        except HostError:
            if self.desired is None:
                return {}  # the removal ends its process as that of a killed run
            raise
        return record or {}

    def plan(self) -> None:
        """Plan the changes."""
        exists = bool(self._record) or os.path.isdir(self.folder.path)
        self.changes = plan_segment(self.name, exists, self._running, self.desired)

    @property
    def changes_existing(self) -> bool:
        """Whether the plan changes or removes a hub that existed before this run."""
        return bool(self.changes) and bool(self._record)

    def apply(self, start_timeout: int) -> None:
        """Make the changes. Raises VlabError."""
        if self.desired is None:
            self._remove()
        elif self._running is None:
            self._start(start_timeout, self.desired)
        else:
            self._change(self._running, self.desired)

    def _start(self, timeout: int, desired: Settings) -> None:
        folder = self.folder
        folder.make()
        process.end_orphans(folder)
        remove_file(folder.qmp)
        ports = {
            end: dict(port, id=number)
            for number, (end, port) in enumerate(sorted(desired["ports"].items()))
        }
        argv = [find_qemu()[0], "-machine", "none", "-nodefaults", "-no-user-config"]
        argv += ["-display", "none", "-pidfile", folder.pidfile]
        argv += ["-name", keyval("", {"guest": "hub " + self.name})]
        argv += ["-qmp", "unix:%s,server=on,wait=off" % escape(folder.qmp)]
        backends = [each for port in ports.values() for each in _backends(port)]
        for each in backends + self._uplink_backends(desired.get("uplink")):
            argv += netdev(each)
        with Reservation() as reservation:
            reserve_ports(reservation, self.name, ports)
            child = process.Child(argv, folder, {})
            try:
                with child.connect(timeout) as monitor:
                    monitor.batch([("query-status", None)])  # by then QEMU has bound its ports
                    pid = monitor.peer_pid
                    identity = {"pid": pid, "start": process_start_time(pid)}
                    self._save(identity, dict(desired, ports=ports))
            except VlabError:
                child.end()
                raise

    def _uplink_backends(self, uplink: Link | None) -> list[dict[str, Any]]:
        """Return the backends that connect the hub with the network of the host."""
        if uplink is None:
            return []
        capabilities = get_capabilities(find_qemu()[0])
        # The uplink of a switch is a hub, whose name ends with a period and a word.
        option = "segments.%s.uplink" % self.name.partition(".")[0]
        context = LinkContext("", "", "", {}, capabilities, option)
        return _plugged(_UPLINK, backend("link" + _UPLINK, uplink, context))

    def _save(self, record: dict[str, Any], settings: Settings) -> None:
        identity = {"pid": record["pid"], "start": record["start"], "boot_id": boot_id()}
        write_json(self.folder.run, {**identity, **settings})

    def _change(self, running: Settings, desired: Settings) -> None:
        settings = dict(running, ports=dict(running["ports"]))
        new = new_places(running["ports"], desired["ports"])
        with Monitor(self.folder.qmp) as monitor, Reservation() as reservation:
            reserve_ports(reservation, self.name, new, self._record["pid"])
            for change in self.changes:
                name = change.path[-1]
                if isinstance(name, Item):
                    _change_port(monitor, settings["ports"], name, change.after)
                else:
                    self._change_uplink(monitor, settings, change.after)
                self._save(self._record, settings)

    def _change_uplink(self, monitor: Monitor, settings: Settings, uplink: Link | None) -> None:
        backends = self._uplink_backends(uplink)
        if settings.pop("uplink", None) is not None:
            # Whatever a killed run leaves, the next one plugs it again.
            self._save(self._record, settings)
        _unplug(monitor, _UPLINK)
        _plug(monitor, backends)
        if uplink is not None:
            settings["uplink"] = uplink

    def _remove(self) -> None:
        if self._running is not None:
            process.kill(self._record["pid"], self._record["start"])
        process.end_orphans(self.folder)
        self.folder.remove()


def _settings_of(record: dict[str, Any]) -> Settings:
    return {key: record[key] for key in ("ports", "uplink") if key in record}


def _change_port(monitor: Monitor, ports: dict[str, Port], name: str, desired: Port | None) -> None:
    if name in ports:
        _unplug(monitor, str(ports.pop(name)["id"]))
    if desired is not None:
        used = {port["id"] for port in ports.values()}
        number = next(n for n in range(len(used) + 1) if n not in used)
        # A killed run may have left this port unrecorded.
        _unplug(monitor, str(number))
        port = dict(desired, id=number)
        _plug(monitor, _backends(port))
        ports[name] = port


def _plug(monitor: Monitor, backends: list[dict[str, Any]]) -> None:
    for reply in monitor.batch([("netdev_add", each) for each in backends]):
        if isinstance(reply, MonitorError):
            raise reply


def _unplug(monitor: Monitor, suffix: str) -> None:
    """Remove a port. QEMU refuses it if it does not exist, which does no harm."""
    monitor.batch([("netdev_del", {"id": kind + suffix}) for kind in ("plug", "link")])


def _backends(port: Port) -> list[dict[str, Any]]:
    suffix = str(port["id"])
    socket = {
        "type": "socket",
        "id": "link" + suffix,
        "udp": endpoint(port["remote_address"], port["remote_port"]),
        "localaddr": endpoint(port["local_address"], port["local_port"]),
    }
    return _plugged(suffix, socket)


def _plugged(suffix: str, link: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a backend and the port of the hub that it is plugged into."""
    plug = {"type": "hubport", "id": "plug" + suffix, "hubid": 0, "netdev": link["id"]}
    return [link, plug]
