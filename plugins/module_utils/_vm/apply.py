# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Apply a plan to one VM.

After each step the files describe the VM as it is, so that the next run can continue a killed one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    LaunchError,
    MonitorClosed,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    remove_temporary,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._vm import (
    autostart,
    addresses,
    buses,
    ports,
    process,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import remove_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.guest_start import start
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.launch import (
    end_run,
    kill,
    remove_run_files,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import record_run
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import BY_NAME, PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.bases import (
    disk_path,
    images_in,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    check_removal,
)

from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import Reservation
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import clock, suspend

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Settings,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.plan import Plan
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest


class Applier:
    """Takes the steps of a plan, and keeps the observation up to date.

    desired: the definition, None for a VM that is removed.
    actions: what was done, as text for the user. stopped_by: how QEMU was ended, or None.
    """

    def __init__(
        self,
        host: Host,
        observation: Observation,
        desired: Definition | None,
        plan: Plan,
        settings: Settings,
    ) -> None:
        self.host, self.folder, self.observation = host, host.folder, observation
        # Only a plan that removes the VM has no definition, and none of its steps reads it.
        self.desired: Definition = {} if desired is None else desired
        self.plan, self.settings = plan, settings
        self.actions: list[str] = []
        self.stopped_by: str | None = None
        self._is_cleared = False

    def check(self) -> None:
        """Raise a VlabError for anything that would prevent the plan, before any change."""
        if self.observation.monitor_error and "stop" not in self.plan.steps:
            raise self.observation.monitor_error
        if "suspend" in self.plan.steps:
            suspend.check(self.observation)
        changed = {change.path[0] for change in self.plan.changes if change.verb != "remove"}
        for part in PARTS:
            part.check_files(self.desired, None if self.plan.starts else changed)
        if self.plan.starts:
            for part in PARTS:
                part.check_start(self.desired, self.host)
        elif "live" in self.plan.steps and self.observation.pid is not None:
            for part in PARTS:
                mine = [c for c in self.plan.changes if c.is_live and c.part == part.name]
                part.check_live(mine, self.desired, self.observation.pid)
        if not self.settings["keep_disks"]:
            self._check_removal()
        elif "remove" in self.plan.steps:
            suspend.check_no_clones(self.folder)

    def _check_removal(self) -> None:
        """Raise ImageError if another VM uses an image that the plan removes."""
        if "remove" in self.plan.steps:
            check_removal(self.folder)
            return
        before = self.observation.running or self.observation.saved
        removed = [
            disk_path(self.folder, by_name(before["disks"])[change.item])
            for change in self.plan.changes
            if before and change.part == "storage" and change.verb == "remove"
            if change.item in by_name(before["disks"])
        ]
        inside = [path for path in removed if os.path.dirname(path) == self.folder.path]
        if inside:
            check_removal(self.folder, inside)

    def apply(self, defer_resume: bool = False) -> None:
        """Take the steps of the plan. defer_resume: leave a VM that is started paused."""
        for path in (self.folder.definition, self.folder.run):
            remove_temporary(path)
        if not self.observation.run and not process.is_supervised(self.folder):
            remove_run_files(self.folder)
        files = set(os.listdir(self.folder.path)) if os.path.isdir(self.folder.path) else set()
        self._delete_forgotten_files()
        saved = self.observation.saved
        is_new = saved is None
        running = self.observation.running if self.observation.alive else None
        before = addresses.without_slots_at_start(plain_copy(running)) if running else None
        was_running = self.observation.status == "running"
        if saved is not None and self.desired:
            ports.restore(self.folder, definitions.port_requests(saved), saved["ports"])
        try:
            for step in self.plan.steps:
                if not (step == "resume" and self.plan.starts and defer_resume):
                    _STEPS[step](self)
        except LaunchError as error:
            self._undo_define(is_new, files)
            if before and "define" in self.plan.steps:
                raise self._start_again(error, before, was_running)
            raise

    def _start_again(self, error: LaunchError, before: Definition, resume: bool) -> LaunchError:
        """Start a VM that ran with the definition it had, after a failed restart.

        Return the error with what became of it.
        """
        host = Host(self.folder)
        try:
            host.find(before["arch"], before["qemu_binary"] or None)
            for part in PARTS:
                part.check_start(before, host)
            self.host, self.desired = host, before
            self._start()
            if resume:
                self.resume()
        except VlabError as second:
            error.message += "\nThe VM does not start with its former definition either: %s" % (
                second.message
            )
        else:
            error.message += "\nThe VM was started again with its former definition"
        return error

    def resume(self) -> None:
        """Let the guest run. Raises LaunchError if it does not."""
        if self.observation.resume and not self.plan.starts:
            suspend.cancel(self.observation)
        self._monitor.execute("cont")
        status = self._monitor.execute("query-status")["status"]
        if status not in ("running", "inmigrate", "shutdown"):
            raise LaunchError(
                "the guest of the VM %s does not run: QEMU reports %s" % (self.folder.name, status),
                cmd=self.observation.run["argv"],
                log=process.qemu_output(self.folder, self.observation.run["argv"]),
            )
        self.observation.status = status
        if self.observation.run.pop("resume", None):
            write_json(self.folder.run, self.observation.run)
        if self.host.saved_memory and not self.host.is_template:
            self.host.warnings += clock.set_guest_clock(self.folder, self.desired, self._monitor)
        self.actions.append("resume")

    def refresh(self) -> None:
        """Set what every run sets in a VM that runs."""
        if self.observation.alive and self.desired and self.observation.monitor:
            live = self._live_vm()
            for part in PARTS:
                part.refresh(self.desired, live)

    @property
    def _monitor(self) -> Monitor:
        return self.observation.open_monitor

    @property
    def _pid(self) -> int:
        pid = self.observation.pid
        if pid is None:
            raise MonitorClosed("the VM %s does not run" % self.folder.name)
        return pid

    def _live_vm(self) -> Live:
        observation = self.observation
        return Live(
            self.host,
            self._monitor,
            self._pid,
            observation.running,
            observation.devices,
            self.settings["unplug_timeout"],
        )

    # Definition and files.

    def _define(self) -> None:
        requests, held = definitions.port_requests(self.desired), self.desired["ports"]
        if definitions.lacks_ports(self.desired) or not ports.are_registered(
            self.folder, requests, held
        ):
            self.desired["ports"] = ports.claim(self.folder, requests)
        stops = "stop" in self.plan.steps
        if stops or not self.observation.alive:
            if self.observation.alive:
                self._stop()
            self._clear()
            if self.host.clone:
                self.host.clone.make_files(self.host.qemu_img)
                self.observation.suspended = self.host.clone.has_memory
            self._prepare()
        definitions.save(self.folder, self.desired)
        if self.observation.status == "absent":
            self.observation.status = "stopped"

    def _prepare(self) -> None:
        for part in PARTS:
            self.actions += part.prepare(self.desired, self.host)
        for change in self.plan.changes:
            if change.verb == "remove":
                self._delete_files(change, self.observation.running or self.observation.saved)

    def _delete_files(self, change: Change, definition: Definition | None) -> None:
        if definition and not self.settings["keep_disks"]:
            BY_NAME[change.part].delete_files(change, definition, self.host)

    def _delete_forgotten_files(self) -> None:
        """Delete the files of items that a killed run was removing when their QEMU ended.

        The record of the run still has them, the definition has them no more.
        """
        saved, ran = self.observation.saved, self.observation.run.get("definition")
        if not saved or not ran or self.observation.alive:
            return
        for part in PARTS:
            for change in part.compare(ran, saved):
                if change.verb == "remove":
                    self._delete_files(change, ran)

    def _undo_define(self, is_new: bool, files: set[str]) -> None:
        """After a failed start, remove a new VM, or restore the definition of one that existed."""
        if is_new:
            ports.release(self.folder)
            autostart.disable(self.folder.path)
            remove_folder(self.folder, {self.folder.file(name) for name in files})
            self.observation.status = "absent"
        elif "define" in self.plan.steps:
            definitions.save(self.folder, self._previous_definition())

    def _previous_definition(self) -> Definition:
        """Return the definition before this run, with the ports that the VM holds by now."""
        saved = self.observation.saved or {}
        return dict(saved, ports=dict(self.desired["ports"], **saved["ports"]))

    def _clear(self) -> None:
        if self._is_cleared:
            return
        self._is_cleared = True
        for pid in process.end_orphans(self.folder):
            self.actions.append("end the QEMU that a killed run left (process %d)" % pid)

    def _remove(self) -> None:
        process.end_orphans(self.folder)
        # Before the definition goes: after a kill in between, the next run finds the VM.
        ports.release(self.folder)
        autostart.disable(self.folder.path)
        remove_folder(self.folder, self._kept_images())
        self.observation.status = "absent"
        self.actions.append("remove %s" % self.folder.path)

    def _kept_images(self) -> set[str]:
        if not self.settings["keep_disks"]:
            return set()
        saved = self.observation.saved
        if saved is None:
            return set(images_in(self.folder))
        if any(disk.get("image") for disk in saved["disks"]):
            suspend.merge_disks(self.observation, self.host)
        disks = (self.observation.saved or saved)["disks"]
        return {disk_path(self.folder, disk) for disk in disks}

    # Live changes.

    def _change_live(self) -> None:
        """Make the LIVE changes. If one fails, the saved definition stays what it was."""
        observation, live = self.observation, self._live_vm()
        live.past = [observation.run["definition"], observation.saved or {}]
        live.record_resume = lambda state: record_run(observation, resume=state)
        try:
            with Reservation() as reservation:
                self._reserve_live_ports(reservation, live)
                for change in self.plan.changes:
                    if change.is_live:
                        self._change_one(change, live)
        except VlabError:
            definitions.save(self.folder, self._previous_definition())
            raise
        observation.running = addresses.with_slots_at_start(
            plain_copy(self.desired), addresses.slots_at_start(live.running)
        )
        self._save_run(observation.running)
        definitions.save(self.folder, self.desired)

    def _reserve_live_ports(self, reservation: Reservation, live: Live) -> None:
        """Reserve the UDP ports that the running QEMU is going to bind."""
        bound = {entry[1:] for entry in self._listeners(live.running)}
        new = [entry for entry in self._listeners(self.desired) if entry[1:] not in bound]
        ports.reserve_live(reservation, new, live.pid)

    def _listeners(self, definition: Definition) -> list[tuple[PortRequest, str, int]]:
        requests = definitions.port_requests(definition) + definitions.private_ports(definition)
        return ports.listeners(self.folder, requests, definition["ports"])

    def _change_one(self, change: Change, live: Live) -> None:
        BY_NAME[change.part].apply(change, self.desired, live)
        self.actions.append("change %s" % change.option)
        removed_from = None
        if change.verb == "remove":
            removed_from = plain_copy(live.last_with(change.path[0], change.item))
        # Before the record forgets the item: after a kill in between, the next run deletes them.
        self._delete_files(change, removed_from)
        adopt(change, live.running, self.desired)
        self._save_run(live.running)

    def _save_run(self, running: Definition) -> None:
        record_run(self.observation, definition=running, resume=None)

    # Stop.

    def _stop(self) -> None:
        observation = self.observation
        if not observation.alive:
            if not self.plan.starts:
                end_run(self.host, self.observation)
            return
        if self.plan.starts:
            # If this run is killed now, the next one starts the VM again.
            resume = "running" if "resume" in self.plan.steps else "paused"
            write_json(self.folder.run, dict(observation.run, resume=resume))
        self.stopped_by = process.shut_down(
            observation.monitor,
            self._pid,
            observation.start,
            self.settings["shutdown"],
            (observation.running or observation.saved or {})["family"],
            observation.status,
        )
        self.actions.append("stop (%s)" % self.stopped_by)
        end_run(self.host, self.observation, keep_record=self.plan.starts)

    # Start.

    def _start(self) -> None:
        """Start QEMU paused and set it up; its monitor stays open."""
        folder, desired = self.folder, self.desired
        self._clear()
        if "define" not in self.plan.steps:
            for part in PARTS:
                self.actions += part.prepare(desired, self.host)
        requests, private = definitions.port_requests(desired), definitions.private_ports(desired)
        try:
            with ports.ports_for_start(folder, requests, desired["ports"], private) as allocated:
                if allocated != desired["ports"]:
                    desired["ports"] = allocated
                    definitions.save(folder, desired)
                resumes = "resume" in self.plan.steps
                start(self.host, self.observation, desired, self.settings, resumes)
        except VlabError:
            kill(self.host, self.observation)
            raise
        if self.observation.suspended:
            suspend.discard(self.folder)  # from now on the guest is in QEMU
        self.actions.append("start from a template" if self.host.is_template else "start")

    # Saved state.

    def _suspend(self) -> None:
        """Save the state of the guest, and end QEMU."""
        observation = self.observation
        if not observation.suspended:
            suspend.save(self.host, observation, self.settings["save_timeout"])
        policy = dict(self.settings["shutdown"], acpi=False)
        family, status = observation.running["family"], observation.status
        process.shut_down(observation.monitor, self._pid, observation.start, policy, family, status)
        end_run(self.host, self.observation)
        observation.status, observation.suspended = "suspended", True
        self.actions.append("suspend")

    def _discard(self) -> None:
        """Delete the saved state of a suspended VM."""
        suspend.discard(self.folder)
        self.observation.status, self.observation.suspended = "stopped", False
        self.actions.append("discard the saved state")

    # Power of a running VM.

    def _wake(self) -> None:
        """Wake a guest from ACPI S3, on which cont has no effect.

        Raises MonitorError if it sleeps on.
        """
        self._monitor.execute("system_wakeup")
        status = self._monitor.execute("query-status")["status"]
        if status != "running":
            self._monitor.wait_event(["WAKEUP"])
            status = self._monitor.execute("query-status")["status"]
        self.observation.status = status
        self.actions.append("wake")

    def _pause(self) -> None:
        self._monitor.execute("stop")
        self.observation.status = "paused"
        self.actions.append("pause")

    def _reset(self) -> None:
        self._monitor.execute("system_reset")
        self.actions.append("reset")


_STEPS = {
    "clear": Applier._clear,
    "define": Applier._define,
    "live": Applier._change_live,
    "discard": Applier._discard,
    "suspend": Applier._suspend,
    "stop": Applier._stop,
    "start": Applier._start,
    "resume": Applier.resume,
    "wake": Applier._wake,
    "pause": Applier._pause,
    "reset": Applier._reset,
    "remove": Applier._remove,
}


def adopt(change: Change, running: Definition, desired: Definition) -> None:
    """Enter one change into running, the definition that the VM runs."""
    running["ports"] = desired["ports"]
    option, name = change.path[0], change.item
    if not name:
        running[option] = desired[option]
        return
    slot = "%s/%s" % (option, name)
    if change.verb == "remove":
        running[option] = [item for item in running[option] if item["name"] != name]
        running["slots"].pop(slot, None)
        running["slots"].pop(buses.usb_key(slot), None)
    elif change.verb == "add":
        running[option] = running[option] + [plain_copy(by_name(desired[option])[name])]
        for key in {slot, buses.usb_key(slot)} & set(desired["slots"]):
            running["slots"][key] = desired["slots"][key]
        running["bases"] = dict(desired.get("bases", {}))
    else:
        key = change.path[-1]
        by_name(running[option])[name][key] = plain_copy(by_name(desired[option])[name][key])
