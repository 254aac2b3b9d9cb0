# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Launch the QEMU of one VM, with its helper programs, and record the run."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    MonitorClosed,
    MonitorError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    find_processes,
    process_start_time,
    run_program,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import (
    addresses,
    command_line,
    process,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import device_types
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import log_size
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import suspend

if TYPE_CHECKING:
    from typing import Any

    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Settings,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation


class Launch:
    """One launch of the QEMU of a VM, which is left paused with its monitor open.

    observation: is brought up to date. resumes: whether the same run of the module lets the guest
    run.
    """

    def __init__(
        self,
        host: Host,
        observation: Observation,
        desired: Definition,
        settings: Settings,
        resumes: bool,
    ) -> None:
        self.host, self.folder, self.observation = host, host.folder, observation
        self.desired, self.settings, self.resumes = desired, settings, resumes

    def run(self) -> None:
        """Launch QEMU and set it up. If that fails, nothing of it is left. Raises VlabError."""
        host, folder, desired = self.host, self.folder, self.desired
        self._remove_sockets()
        argv = self._prepare()
        console_from = host.console_from
        if console_from is None:
            console_from = log_size(folder, desired)
        try:
            child = process.Child(argv, folder, desired["environment"], host.descriptors)
        finally:
            host.close_descriptors()
        try:
            self.observation.monitor = child.connect(self.settings["start_timeout"])
            self._set_up(self.observation.monitor, argv, console_from)
        except VlabError as error:
            self.observation.close()
            child.end()
            self._undo()
            if isinstance(error, MonitorError):
                raise child.failure(error.message)
            raise

    def _prepare(self) -> list[str]:
        """Start the helper programs; return the command line of QEMU."""
        host, desired = self.host, self.desired
        try:
            for part in PARTS:
                part.before_launch(desired, host)
            self._end_helper_processes()
            for argv in self._helper_processes():
                # It goes to the background once its socket exists, which QEMU connects to.
                run_program(argv, timeout=self.settings["start_timeout"])
            return command_line.build(desired, host)
        except VlabError:
            for part in PARTS:
                part.release(desired, host)
            raise

    def _set_up(self, monitor: Monitor, argv: list[str], console_from: int) -> None:
        """Set up a QEMU that was just started, and record it."""
        desired, observation, host = self.desired, self.observation, self.host
        pid = monitor.peer_pid
        if pid is None:
            raise MonitorClosed("the QEMU of the VM %s has ended" % self.folder.name)
        start = process_start_time(pid)
        if host.saved_memory:
            suspend.load(monitor, host, self.settings["save_timeout"])
        status, peripheral = monitor.batch(
            [("query-status", None), ("qom-list", {"path": "/machine/peripheral"})]
        )
        live = Live(
            host,
            monitor,
            pid,
            plain_copy(desired),
            device_types(peripheral),
            self.settings["unplug_timeout"],
        )
        for part in PARTS:
            part.verify(desired, live)
            part.before_continue(desired, live)
        live.flush()
        observation.run = self._record(pid, start, argv, console_from)
        write_json(self.folder.run, observation.run)
        observation.pid, observation.start, observation.devices = pid, start, live.devices
        observation.running = plain_copy(observation.run["definition"])
        observation.alive, observation.status = True, status["status"]

    def _record(
        self, pid: int, start: int | None, argv: list[str], console_from: int
    ) -> dict[str, Any]:
        """Return the record of this run of QEMU."""
        desired, host = self.desired, self.host
        record = {
            "pid": pid,
            "start": start,
            "boot_id": boot_id(),
            "uuid": desired["uuid"],
            "argv": argv,
            "qemu_version": host.capabilities.version_text,
            "accel": host.accel,
            "accel_reason": host.accel_reason,
            "machine_type": host.machine_type or host.capabilities.machine_name(desired["machine"]),
            "started": int(time.time()),
            "console_from": console_from,
            "definition": addresses.with_slots_at_start(desired, plain_copy(desired["slots"])),
        }
        if self.resumes:
            # If this run is killed before the guest runs, the next one lets it run.
            record["resume"] = "running"
        return record

    def _undo(self) -> None:
        self._end_helper_processes()
        self._remove_sockets()
        for part in PARTS:
            part.release(self.desired, self.host)
        remove_file(self.folder.run)
        remove_run_files(self.folder)

    def _helper_processes(self) -> list[list[str]]:
        return [argv for part in PARTS for argv in part.helper_processes(self.desired, self.host)]

    def _end_helper_processes(self) -> None:
        """End the helper programs of an earlier start without a QEMU."""
        for argv in self._helper_processes():
            for pid in find_processes(*argv[1:]):
                process.kill(pid, process_start_time(pid))

    def _remove_sockets(self) -> None:
        """Remove the sockets that a killed QEMU left."""
        make_folder(self.folder.sockets)
        for entry in os.scandir(self.folder.sockets):
            if entry.name.endswith(".sock"):
                remove_file(entry.path)


def remove_run_files(folder: Folder) -> None:
    """Remove the files that the supervisor of a QEMU that has ended left."""
    for path in (folder.pidfile, folder.exit_code):
        remove_file(path)


def kill(host: Host, observation: Observation) -> None:
    """End a QEMU that was launched, and whose guest has not run."""
    if observation.alive and observation.pid is not None:
        process.kill(observation.pid, observation.start)
        end_run(host, observation)


def end_run(host: Host, observation: Observation, keep_record: bool = False) -> None:
    """After QEMU has ended, release and remove what belonged to its run."""
    observation.close()
    for part in PARTS:
        part.release(observation.running or observation.saved or {}, host)
    if not keep_record:
        remove_file(host.folder.run)
    remove_run_files(host.folder)
    observation.alive, observation.status = False, "stopped"
    observation.run, observation.pid = {}, None
