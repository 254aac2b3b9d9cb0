# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The observation: what a VM is right now. Files are read, and a running QEMU is asked over one connection, in one batch."""

from __future__ import annotations

import os
import select
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
    MonitorClosed,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_json,
    read_text,
    tail,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    process_start_time,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.process import is_supervised, orphans

_QUESTIONS = [
    ("query-status", None),
    ("query-uuid", None),
    ("qom-list", {"path": "/machine/peripheral"}),
]

_ENDING = 5  # seconds for a QEMU on its way out, or in, to be gone, or there
_LOOK = 0.01


class Observation:
    """What is known of one VM.

    saved: the definition in vm.json or None. run: run.json or None. alive: our QEMU runs. status: absent, stopped, crashed, or
    QEMU's own word (running, paused, prelaunch, ...). running: the definition that the QEMU runs, corrected by what it told.
    orphan: the pid of a QEMU that a killed run started, or None. resume: "running" or "paused", where a run was killed in the middle
    of a power cycle. debris: a folder without a definition, which a killed run left.
    devices: {id: type} of its devices. media: {id: path or None} of its removable drives. monitor: open while alive, or None.
    exit_code: of the last run, None when unknown. log: the end of what QEMU said, where it crashed.
    silent: why the monitor of a QEMU that is ours does not answer, an exception, or None; its status is then unresponsive.
    """

    def __init__(self, folder):
        self.folder = folder
        self.saved = definitions.load(folder)
        self.run = read_json(folder.run)
        if self.run and isinstance(self.run.get("definition"), dict):
            definitions.migrate(self.run["definition"])
        self.alive = False
        self.status = "stopped" if self.saved else "absent"
        self.running = self.pid = self.start = self.exit_code = self.monitor = self.orphan = (
            self.silent
        ) = None
        self.resume = (self.run or {}).get("resume")
        self.debris = self.saved is None and folder.is_debris()
        self.devices, self.media = {}, {}
        self.log = ""

    def close(self):
        """Leave the monitor to the next client."""
        if self.monitor:
            self.monitor.close()
            self.monitor = None


def observe(folder):
    """Look at a VM. Raises HostError when a process that is not ours sits in its place, MonitorError when its monitor is none."""
    observation = Observation(folder)
    run = observation.run
    if not run or not run.get("pid"):
        _look_for_orphan(observation)
        return observation
    if run["boot_id"] != boot_id() or process_start_time(run["pid"]) != run["start"]:
        _look_for_orphan(observation)
        if not observation.resume:
            _tell_end(observation)
        return observation
    observation.pid, observation.start = run["pid"], run["start"]
    try:
        _ask(observation)
    except MonitorClosed:
        # It is ending: what it was a moment ago does not matter.
        if not wait_for_exit(observation.pid, observation.start, 5):
            raise
        observation.pid = observation.start = None
        _tell_end(observation)
        return observation
    except MonitorTimeout as error:
        # Its pid, its start and its socket tell that it is ours: it can still be ended.
        its = observation.monitor.peer_pid
        observation.close()
        if its != observation.pid:
            raise
        observation.alive, observation.status, observation.silent = True, "unresponsive", error
        observation.running = plain_copy(observation.run["definition"])
        observation.saved = observation.saved or observation.running
    except MonitorError:
        observation.close()
        raise
    return observation


def _look_for_orphan(observation):
    deadline = time.monotonic() + _ENDING
    while is_supervised(observation.folder):
        observation.orphan = next(iter(orphans(observation.folder)), None)
        if observation.orphan or time.monotonic() > deadline:
            break
        # Its first thread may have ended before the others, which hold its ports and files; or it is between fork and exec.
        select.select([], [], [], _LOOK)


def _ask(observation):
    monitor = observation.monitor = Monitor(observation.folder.qmp)
    monitor.connect()
    if monitor.peer_pid != observation.pid:
        raise HostError(
            "the socket %s belongs to process %s, not to the QEMU of the VM %s (process %d): a stranger is in its place; "
            "end it first"
            % (observation.folder.qmp, monitor.peer_pid, observation.folder.name, observation.pid)
        )
    # What is in removable drives is asked only where there are some: each question takes its time.
    drives = [
        option for option in ("cdroms", "floppies") if observation.run["definition"].get(option)
    ]
    status, uuid, peripheral, *blocks = monitor.batch(
        _QUESTIONS + ([("query-block", None)] if drives else [])
    )
    for answer in (status, uuid, peripheral):
        if isinstance(answer, MonitorError):
            raise answer
    if uuid["UUID"] != observation.run["uuid"]:
        raise HostError(
            "the QEMU of process %d has the UUID %s, not %s: it is not the VM %s"
            % (observation.pid, uuid["UUID"], observation.run["uuid"], observation.folder.name)
        )
    observation.alive, observation.status = True, status["status"]
    observation.devices = device_types(peripheral)
    observation.media = (
        _media(blocks[0]) if blocks and not isinstance(blocks[0], MonitorError) else {}
    )
    observation.running = plain_copy(observation.run["definition"])
    if observation.saved is None:
        observation.saved = observation.run["definition"]
    for part in PARTS:
        part.reconcile_observed(observation)


def device_types(peripheral):
    """{id: type} from qom-list /machine/peripheral, whose types read child<TYPE>."""
    return {
        entry["name"]: entry["type"][len("child<") : -1]
        for entry in peripheral
        if entry["type"].startswith("child<")
    }


def _media(blocks):
    media = {}
    for block in blocks:
        if block.get("removable"):
            parts = [
                part
                for part in block.get("qdev", "").split("/")
                if part not in ("", "machine", "peripheral")
            ]
            if parts:
                media[parts[0]] = block["inserted"]["file"] if block.get("inserted") else None
    return media


def _tell_end(observation):
    """How the last run ended: a host that was rebooted took it along, and that is no crash."""
    if observation.run["boot_id"] != boot_id():
        return
    code = (read_text(observation.folder.exit_code) or "").strip()
    observation.exit_code = int(code) if code.isdigit() else None
    if observation.exit_code != 0 or os.path.exists(observation.folder.pidfile):
        observation.status = "crashed"
        observation.log = tail(observation.folder.log)
