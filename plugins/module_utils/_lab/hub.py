# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Hubs: a segment as a QEMU without a machine. It needs no root, and its ports come and go while it runs."""

from __future__ import annotations

import os
import shutil

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    LIVE,
    Change,
    Item,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
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
    escape,
    keyval,
    netdev,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import process
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

SEGMENTS = ".segments"


class HubFolder(Folder):
    """The folder of a hub: that of its lab, .segments, its name."""

    def __init__(self, root, lab, name):
        super().__init__(root, lab, os.path.basename(name))
        self.path = os.path.join(self.root, lab, SEGMENTS, name)
        self._name_files()


class Hub:
    """One hub on its way from what it is to what is wanted.

    ports: {end: {local_address, local_port, remote_address, remote_port}}; None: the hub shall not be there.
    """

    def __init__(self, root, lab, name, ports):
        self.folder = HubFolder(root, lab, name)
        self.name, self.ports = name, ports
        self.run = read_json(self.folder.run)
        self.alive = bool(
            self.run
            and self.run["boot_id"] == boot_id()
            and process_start_time(self.run["pid"]) == self.run["start"]
        )
        self.has = self.run["ports"] if self.alive else {}

    def changes(self):
        """What is to be done, a Change for each port, and one for the hub."""
        path = ("segments", self.name)
        if self.ports is None:
            return (
                [Change(path, sorted(self.has), None, FILE)]
                if self.run or os.path.isdir(self.folder.path)
                else []
            )
        if not self.alive:
            return [Change(path, None, sorted(self.ports), FILE)]
        return [
            Change((*path, Item(end)), self._told(end), self.ports.get(end), LIVE)
            for end in sorted(set(self.has) | set(self.ports))
            if self._told(end) != self.ports.get(end)
        ]

    def _told(self, end):
        port = self.has.get(end)
        return {key: value for key, value in port.items() if key != "id"} if port else None

    def apply(self, start_timeout):
        """Bring the hub there. Raises VlabError."""
        if self.ports is None:
            self._remove()
        elif not self.alive:
            self._start(start_timeout)
        else:
            self._change()

    def _start(self, timeout):
        folder = self.folder
        folder.make()
        process.end_orphans(folder)
        remove_file(folder.qmp)
        numbered = {
            end: dict(port, id=number)
            for number, (end, port) in enumerate(sorted(self.ports.items()))
        }
        argv = [
            find_qemu()[0],
            "-machine",
            "none",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-pidfile",
            folder.pidfile,
            "-name",
            keyval("", {"guest": "hub " + self.name}),
            "-qmp",
            "unix:%s,server=on,wait=off" % escape(folder.qmp),
        ]
        for port in numbered.values():
            for backend in _backends(port):
                argv += netdev(backend)
        child = process.Child(argv, folder, {})
        try:
            with child.connect(timeout) as monitor:
                monitor.batch([])
                self._save(monitor.peer_pid, process_start_time(monitor.peer_pid), numbered)
        except VlabError:
            child.end()
            raise

    def _save(self, pid, start, ports):
        write_json(
            self.folder.run, {"pid": pid, "start": start, "boot_id": boot_id(), "ports": ports}
        )

    def _change(self):
        ports = dict(self.has)
        with Monitor(self.folder.qmp) as monitor:
            for change in self.changes():
                end = change.path[-1]
                if end in ports:
                    number = ports.pop(end)["id"]
                    monitor.batch(
                        [
                            ("netdev_del", {"id": "plug%d" % number}),
                            ("netdev_del", {"id": "link%d" % number}),
                        ]
                    )
                if end in self.ports:
                    number = next(
                        n
                        for n in range(len(ports) + 1)
                        if n not in {port["id"] for port in ports.values()}
                    )
                    port = dict(self.ports[end], id=number)
                    # What a killed run plugged in and did not record; elsewhere this is refused and does no harm.
                    monitor.batch(
                        [
                            ("netdev_del", {"id": "plug%d" % number}),
                            ("netdev_del", {"id": "link%d" % number}),
                        ]
                    )
                    for answer in monitor.batch(
                        [("netdev_add", backend) for backend in _backends(port)]
                    ):
                        if isinstance(answer, MonitorError):
                            raise answer
                    ports[end] = port
                self._save(self.run["pid"], self.run["start"], ports)

    def _remove(self):
        folder = self.folder
        if self.alive:
            process.kill(self.run["pid"], self.run["start"])
        process.end_orphans(folder)
        for path in (folder.path, folder.sockets):
            shutil.rmtree(path, ignore_errors=True)


def _backends(port):
    address = {
        "type": "socket",
        "id": "link%d" % port["id"],
        "udp": _joined(port["remote_address"], port["remote_port"]),
        "localaddr": _joined(port["local_address"], port["local_port"]),
    }
    return [
        address,
        {"type": "hubport", "id": "plug%d" % port["id"], "hubid": 0, "netdev": address["id"]},
    ]


def _joined(address, port):
    return "%s:%d" % ("[%s]" % address if ":" in address else address, port)


def existing(root, lab):
    """The names of the hubs that a lab has."""
    try:
        return sorted(
            entry.name for entry in os.scandir(os.path.join(root, lab, SEGMENTS)) if entry.is_dir()
        )
    except OSError:
        return []
