# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Observe a VM: read its files, and ask its running QEMU over one connection, in one batch."""

from __future__ import annotations

import os
import re
import select
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorClosed,
    MonitorError,
    MonitorTimeout,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text, write_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    process_start_time,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.process import (
    is_qemu_of,
    is_supervised,
    orphans,
    qemu_output,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        RunRecord,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_QUERIES: list[tuple[str, Any]] = [
    ("query-status", None),
    ("query-uuid", None),
    ("qom-list", {"path": "/machine/peripheral"}),
]

_TRANSITION_TIMEOUT = 5  # seconds for a starting QEMU to appear, or an ending one to disappear
_DELETED_TIMEOUT = 0.5  # seconds for a QEMU to end whose socket was deleted
_POLL_INTERVAL = 0.01


class Observation:
    """The observed state of one VM.

    saved: the definition in vm.json, or None.
    run: the record in run.json, empty if the VM has not run or was stopped.
    alive: whether the recorded QEMU runs. pid, start: its process, None if it does not run.
    status: absent, stopped, crashed, damaged, unresponsive, suspended (its state is saved), or as
      QEMU reports it (running, paused, suspended: by ACPI, ...).
    suspended: whether the state of the guest is saved, so that the next start continues it.
    running: the definition that QEMU runs, corrected by what QEMU reports; else empty.
    devices: {id: type}. media: {id: path or None} of the removable drives.
    monitor: open while alive, else None.
    damage: why a saved file cannot be used; the status is then damaged, and the VM can only be
    removed.
    monitor_error: why the monitor of our QEMU does not answer; its status is then unresponsive.
    orphan: the pid of a QEMU that a killed run started, or None.
    resume: "running" or "paused", if a run was killed in the middle of a power cycle, else None.
    lost_definition: whether vm.json is missing, though QEMU runs.
    debris: whether a killed run left a folder without a definition.
    reverting: the snapshot to which a killed run was returning the VM, or None.
    receiving: whether the guest arrives from another host, or has left for one, and a killed run
    has not completed that.
    exit_code: of the last run, None if unknown. log: the end of QEMU's log, if it crashed.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.damage: HostError | None = None
        self.saved: Definition | None = None
        self.run: RunRecord = {}
        try:
            self.saved = definitions.load(folder)
        except HostError as error:
            self.damage = error
        try:
            self.run = definitions.load_run(folder)
        except HostError as error:
            self.damage = self.damage or error
        self.alive = False
        self.status: str = "stopped" if self.saved else "absent"
        self.running: Definition = {}
        self.pid: int | None = None
        self.start: int | None = None
        self.monitor: Monitor | None = None
        self.monitor_error: VlabError | None = None
        self.orphan: int | None = None
        self.resume: str | None = self.run.get("resume")
        self.debris = self.saved is None and folder.is_debris()
        self.suspended = os.path.exists(folder.suspended)
        self.reverting = (read_text(folder.reverting) or "").strip() or None
        self.receiving = os.path.exists(folder.receiving)
        self.lost_definition = False
        self.exit_code: int | None = None
        self.devices: dict[str, str] = {}
        self.media: dict[str, str | None] = {}
        self.log = ""

    def restore_saved(self) -> None:
        """Take the definition that a running QEMU was started with as the saved one."""
        self.saved = addresses.without_slots_at_start(plain_copy(self.run["definition"]))
        self.lost_definition = self.damage is None

    def check_damage(self) -> None:
        """Raise HostError for a VM with a damaged file."""
        if self.damage:
            raise self.damage_error

    @property
    def damage_error(self) -> HostError:
        """The error of a damaged VM that was to change."""
        damage = self.damage or HostError("the VM %s is damaged" % self.folder.name)
        return HostError(damage.message + ". The state absent removes the VM", **damage.facts)

    @property
    def open_monitor(self) -> Monitor:
        """The monitor. Raises MonitorClosed without one."""
        if self.monitor is None:
            raise self._no_monitor()
        return self.monitor

    def _no_monitor(self) -> MonitorClosed:
        return MonitorClosed("the monitor of the VM %s is not open" % self.folder.name)

    def check_monitor(self) -> None:
        """Raise the error of a running VM whose monitor does not answer."""
        if self.alive and self.monitor is None:
            raise self.monitor_error or self._no_monitor()

    def check_complete(self) -> None:
        """Raise HostError for a VM in the middle of a return to a snapshot, or of a migration."""
        if self.receiving or self.run.get("sending") and not self.alive:
            raise HostError(
                "the VM %s moves from one hypervisor to another: wait for the run of qemu_migrate,"
                " or repeat it if it was interrupted" % self.folder.name
            )
        if self.reverting:
            raise HostError(
                "a run that returned the VM %s to the snapshot %s was interrupted: repeat it with"
                " qemu_snapshot and state: reverted" % (self.folder.name, self.reverting)
            )

    def close(self) -> None:
        """Close the monitor, which serves one client at a time."""
        if self.monitor:
            self.monitor.close()
            self.monitor = None


def observe(folder: Folder) -> Observation:
    """Observe a VM.

    A QEMU whose monitor does not answer is unresponsive, whatever the reason. Raises HostError or
    MonitorError only if the process in run.json is no QEMU of this VM.
    """
    observation = Observation(folder)
    _observe_run(observation)
    if observation.suspended and observation.saved and not observation.alive:
        observation.status = "suspended"
    if observation.damage:
        observation.status = "damaged"
    return observation


def record_run(observation: Observation, **values: Any) -> None:
    """Change values in the record of the run, and save it. None removes a value."""
    run = dict(observation.run, **values)
    for key, value in values.items():
        if value is None:
            del run[key]
    observation.run = run
    write_json(observation.folder.run, run)


def _observe_run(observation: Observation) -> None:
    folder, run = observation.folder, observation.run
    if not run.get("pid"):
        _find_orphan(observation)
        return
    if run["boot_id"] != boot_id() or process_start_time(run["pid"]) != run["start"]:
        _find_orphan(observation)
        if not observation.resume:
            _find_exit_reason(observation)
        return
    pid, start = observation.pid, observation.start = run["pid"], run["start"]
    monitor = observation.monitor = Monitor(folder.qmp)
    try:
        _query(observation, monitor)
    except (HostError, MonitorError) as error:
        observation.close()
        # QEMU may be about to end.
        if isinstance(error, MonitorClosed) and wait_for_exit(pid, start, _ending_timeout(folder)):
            observation.pid = observation.start = None
            _find_exit_reason(observation)
        else:
            # It can be ended without its monitor, if the process is our QEMU.
            is_peer = isinstance(error, MonitorTimeout) and monitor.peer_pid == pid
            if not is_peer and not is_qemu_of(folder, pid):
                raise
            _set_unresponsive(observation, pid, error)


def _ending_timeout(folder: Folder) -> float:
    """Return how long to wait for the end of a QEMU that has closed its monitor.

    The socket of a QEMU that ends stays until another one starts.
    """
    return _TRANSITION_TIMEOUT if os.path.lexists(folder.qmp) else _DELETED_TIMEOUT


def _set_unresponsive(observation: Observation, pid: int, error: VlabError) -> None:
    error.message += (
        ". The states restarted, stopped and absent end its process (%d) without the monitor" % pid
    )
    observation.alive, observation.status = True, "unresponsive"
    observation.monitor_error = error
    observation.devices, observation.media = {}, {}
    observation.running = plain_copy(observation.run["definition"])
    if observation.saved is None:
        observation.restore_saved()


def _find_orphan(observation: Observation) -> None:
    deadline = time.monotonic() + _TRANSITION_TIMEOUT
    while is_supervised(observation.folder):
        observation.orphan = next(iter(orphans(observation.folder)), None)
        if observation.orphan or time.monotonic() > deadline:
            break
        # Its main thread may end before the threads that hold its ports and files; or it is
        # between fork and exec.
        select.select([], [], [], _POLL_INTERVAL)


def _query(observation: Observation, monitor: Monitor) -> None:
    run = observation.run
    monitor.connect()
    _check_peer(observation, monitor)
    # Only VMs with removable drives pay for the query of their media.
    has_drives = any(run["definition"].get(option) for option in ("cdroms", "floppies"))
    status, uuid, peripheral, *blocks = monitor.batch(
        _QUERIES + ([("query-block", None)] if has_drives else [])
    )
    for reply in (status, uuid, peripheral):
        if isinstance(reply, MonitorError):
            raise reply
    if uuid["UUID"] != run["uuid"]:
        raise HostError(
            "the QEMU of process %s has the UUID %s, not %s: it is not the VM %s"
            % (observation.pid, uuid["UUID"], run["uuid"], observation.folder.name)
        )
    observation.alive, observation.status = True, status["status"]
    observation.devices = device_types(peripheral)
    if blocks and not isinstance(blocks[0], MonitorError):
        observation.media = _media(blocks[0])
    observation.running = plain_copy(run["definition"])
    if observation.saved is None:
        observation.restore_saved()
    for part in PARTS:
        part.reconcile_observed(observation)


def _check_peer(observation: Observation, monitor: Monitor) -> None:
    if monitor.peer_pid != observation.pid:
        raise HostError(
            "the socket %s belongs to process %s, not to the QEMU of the VM %s (process %s): "
            "another process is using this socket; end it first"
            % (observation.folder.qmp, monitor.peer_pid, observation.folder.name, observation.pid)
        )


def device_types(peripheral: list[dict[str, str]]) -> dict[str, str]:
    """Return {id: type} from qom-list /machine/peripheral, whose types read child<TYPE>."""
    return {
        entry["name"]: entry["type"][len("child<") : -1]
        for entry in peripheral
        if entry["type"].startswith("child<")
    }


def _media(blocks: list[dict[str, Any]]) -> dict[str, str | None]:
    media = {}
    for block in blocks:
        if block.get("removable"):
            # Either an id, or a QOM path such as /machine/peripheral/ID/....
            names = [
                name
                for name in block.get("qdev", "").split("/")
                if name not in ("", "machine", "peripheral")
            ]
            if names:
                media[names[0]] = block["inserted"]["file"] if block.get("inserted") else None
    return media


def _find_exit_reason(observation: Observation) -> None:
    """Find out how the last run ended. A reboot of the host is no crash."""
    if observation.run["boot_id"] != boot_id():
        return
    code = (read_text(observation.folder.exit_code) or "").strip()
    observation.exit_code = int(code) if re.fullmatch("[0-9]{1,3}", code) else None
    if observation.exit_code != 0 or os.path.exists(observation.folder.pidfile):
        observation.status = "crashed"
        observation.log = qemu_output(observation.folder, observation.run.get("argv", []))
