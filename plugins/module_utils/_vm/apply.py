# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Applying a plan to one VM. After each step the files say what is true, so that a killed run can be taken up by the next."""

from __future__ import annotations

import contextlib
import os
import shutil
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LaunchError,
    MonitorError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    remove_file,
    remove_temporary,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    process_start_time,
    find_processes,
    run_program,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import (
    command_line,
    definition as definitions,
    ports,
    process,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import device_types
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import BY_NAME, PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import log_size


class Applier:
    """One VM on its way from what was seen to what is wanted. settings: shutdown, start_timeout, unplug_timeout, keep_disks.

    hold: leave a VM that is started before its guest's first instruction.
    """

    def __init__(self, host, observation, desired, plan, settings):
        self.host, self.folder, self.observation, self.desired, self.plan, self.settings = (
            host,
            host.folder,
            observation,
            desired,
            plan,
            settings,
        )
        self.actions = []
        self.stopped_by = None
        self.live = None
        self.is_cleared = False
        self.hold = "hold" in plan.steps
        self.console_from = 0

    def run(self):
        """Do every step of the plan, in its order."""
        for path in (self.folder.definition, self.folder.run):
            remove_temporary(path)
        if self.observation.run is None and not process.is_supervised(self.folder):
            self._remove_run_files()
        there = set(os.listdir(self.folder.path)) if os.path.isdir(self.folder.path) else set()
        is_new = self.observation.saved is None
        try:
            for step in self.plan.steps:
                _STEPS[step](self)
        except LaunchError:
            self._take_back(is_new, there)
            raise

    def _take_back(self, is_new, there):
        """After a start that failed: a new VM leaves nothing behind, one that was there before its definition as it was."""
        if is_new:
            ports.release(self.folder)
            remove_folder(self.folder, {self.folder.file(name) for name in there})
            self.observation.status = "absent"
        elif "define" in self.plan.steps:
            definitions.save(self.folder, self._undone())

    def check(self):
        """Whatever can be known to prevent the plan, before anything is done."""
        if self.observation.silent and "stop" not in self.plan.steps:
            raise self.observation.silent
        if "start" in self.plan.steps:
            for part in PARTS:
                part.check_start(self.desired, self.host)

    def refresh(self):
        """Set what every run sets in a VM that runs."""
        observation = self.observation
        if observation.alive and self.desired and observation.monitor:
            live = Live(
                self.host,
                observation.monitor,
                observation.pid,
                observation.running,
                observation.devices,
                self.settings["unplug_timeout"],
            )
            for part in PARTS:
                part.refresh(self.desired, live)

    def _define(self):
        if definitions.lacks_ports(self.desired):
            self.desired["ports"] = ports.claim(
                self.folder, definitions.port_requests(self.desired)
            )
        if not self.observation.alive or "stop" in self.plan.steps:
            if "stop" in self.plan.steps and self.observation.alive:
                self._stop()
            self._clear()
            self._prepare()
        definitions.save(self.folder, self.desired)
        if self.observation.status == "absent":
            self.observation.status = "stopped"

    def _clear(self):
        if self.is_cleared:
            return
        self.is_cleared = True
        for pid in process.end_orphans(self.folder):
            self.actions.append("end the QEMU that a killed run left (process %d)" % pid)

    def _prepare(self):
        for part in PARTS:
            self.actions += part.prepare(self.desired, self.host)
        for change in self.plan.changes:
            if change.verb == "remove" and not self.settings["keep_disks"]:
                BY_NAME[change.part].delete_files(
                    change, self.observation.running or self.observation.saved, self.host
                )

    def _live(self):
        """Make the changes that a running VM takes; when one fails, the definition stays what it was."""
        observation = self.observation
        self.live = Live(
            self.host,
            observation.monitor,
            observation.pid,
            observation.running,
            observation.devices,
            self.settings["unplug_timeout"],
        )
        self.live.past = [observation.run["definition"], observation.saved]
        try:
            for change in self.plan.changes:
                if change.how == LIVE:
                    BY_NAME[change.part].apply(change, self.desired, self.live)
                    self.actions.append("change %s" % change.option)
                    before = (
                        self.live.last_with(*change.path[:2]) if change.verb == "remove" else None
                    )
                    before = plain_copy(before)
                    adopt(change, self.live.running, self.desired)
                    self._save_run(self.live.running)
                    if change.verb == "remove" and not self.settings["keep_disks"]:
                        BY_NAME[change.part].delete_files(change, before, self.host)
        except VlabError:
            definitions.save(self.folder, self._undone())
            raise
        observation.running = plain_copy(self.desired)
        self._save_run(observation.running)
        definitions.save(self.folder, self.desired)

    def _undone(self):
        """The definition before this run, with the ports that the VM holds by now."""
        return dict(
            self.observation.saved,
            ports=dict(self.desired["ports"], **self.observation.saved["ports"]),
        )

    def _save_run(self, running):
        self.observation.run = {
            key: value
            for key, value in dict(self.observation.run, definition=running).items()
            if key != "resume"
        }
        write_json(self.folder.run, self.observation.run)

    def _stop(self):
        observation = self.observation
        restart = "start" in self.plan.steps
        if not observation.alive:
            if not restart:
                self.forget_run()
            return
        if restart:
            # Should we be killed now, whoever comes next knows that it was running.
            write_json(
                self.folder.run,
                dict(observation.run, resume="paused" if "hold" in self.plan.steps else "running"),
            )
        family = (observation.running or observation.saved)["family"]
        self.stopped_by = process.shut_down(
            observation.monitor,
            observation.pid,
            observation.start,
            self.settings["shutdown"],
            family,
            observation.status,
        )
        self.actions.append("stop (%s)" % self.stopped_by)
        self.forget_run(keep_record=restart)

    def forget_run(self, keep_record=False):
        """After QEMU has ended: what belonged to that run goes, with keep_record but for run.json."""
        observation = self.observation
        observation.close()
        for part in PARTS:
            part.release(observation.running or observation.saved, self.host)
        if not keep_record:
            remove_file(self.folder.run)
        self._remove_run_files()
        observation.alive, observation.run, observation.status, observation.pid = (
            False,
            None,
            "stopped",
            None,
        )

    def _remove_run_files(self):
        for path in (self.folder.pidfile, self.folder.exit_code):
            remove_file(path)

    def _start(self):
        self.launch()
        if not self.hold:
            self.resume()

    def launch(self):
        """Start QEMU, stopped; set what must be set before the guest's first instruction; leave its monitor open."""
        host, folder, desired = self.host, self.folder, self.desired
        self._clear()
        if "define" not in self.plan.steps:
            for part in PARTS:
                self.actions += part.prepare(desired, host)
        ports.check_free(desired, definitions.port_requests(desired))
        self._clear_sockets()
        for part in PARTS:
            part.before_launch(desired, host)
        self._end_helper_processes()
        for argv in self._helper_processes():
            # It goes on by itself once its socket is there: QEMU connects at its start.
            run_program(argv, timeout=self.settings["start_timeout"])
        argv = command_line.build(desired, host)
        self.console_from = log_size(folder, desired)
        child = process.Child(argv, folder, desired["environment"])
        try:
            monitor = child.connect(self.settings["start_timeout"])
            self.observation.monitor = monitor
            self._settle(child, monitor)
        except VlabError as error:
            self.observation.close()
            child.end()
            self._forget_start()
            if isinstance(error, MonitorError):
                raise child.failure(error.message)
            raise
        self.actions.append("start")

    def _helper_processes(self):
        return [argv for part in PARTS for argv in part.helper_processes(self.desired, self.host)]

    def _end_helper_processes(self):
        """End the programs that a start without a QEMU left behind."""
        for argv in self._helper_processes():
            for pid in find_processes(*argv[1:]):
                process.kill(pid, process_start_time(pid))

    def _settle(self, child, monitor):
        desired, observation, host = self.desired, self.observation, self.host
        pid = monitor.peer_pid
        live = self.live = Live(
            host, monitor, pid, plain_copy(desired), {}, self.settings["unplug_timeout"]
        )
        status, peripheral = monitor.batch(
            [("query-status", None), ("qom-list", {"path": "/machine/peripheral"})]
        )
        live.devices = device_types(peripheral)
        for part in PARTS:
            part.verify(desired, live)
            part.before_continue(desired, live)
        live.flush()
        observation.run = {
            "pid": pid,
            "start": process_start_time(pid),
            "boot_id": boot_id(),
            "uuid": desired["uuid"],
            "argv": child.argv,
            "qemu_version": host.capabilities.version_text,
            "accel": host.accel,
            "accel_reason": host.accel_reason,
            "started": int(time.time()),
            "console_from": self.console_from,
            "definition": desired,
        }
        write_json(self.folder.run, observation.run)
        observation.pid, observation.start, observation.devices = (
            pid,
            observation.run["start"],
            live.devices,
        )
        observation.running, observation.alive, observation.status = (
            plain_copy(desired),
            True,
            status["status"],
        )

    def _forget_start(self):
        self._end_helper_processes()
        self._clear_sockets()
        for part in PARTS:
            part.release(self.desired, self.host)
        remove_file(self.folder.run)
        self._remove_run_files()

    def _clear_sockets(self):
        """A QEMU that was killed leaves its sockets; nobody listens there."""
        make_folder(self.folder.sockets)
        for entry in os.scandir(self.folder.sockets):
            if entry.name.endswith(".sock"):
                remove_file(entry.path)

    def _hold(self):
        """Nothing to do: a start leaves the guest before its first instruction."""

    def _resume(self):
        self.resume()

    def resume(self):
        """Let the guest run. Raises LaunchError when it does not."""
        monitor = self.observation.monitor
        monitor.execute("cont")
        status = monitor.execute("query-status")["status"]
        if status not in ("running", "inmigrate", "shutdown"):
            raise LaunchError(
                "the guest of the VM %s does not run: QEMU says %s" % (self.folder.name, status),
                cmd=self.observation.run["argv"],
                log=process.tail(self.folder.log),
            )
        self.observation.status = status
        self.actions.append("resume")

    def _pause(self):
        self.observation.monitor.execute("stop")
        self.observation.status = "paused"
        self.actions.append("pause")

    def _reset(self):
        self.observation.monitor.execute("system_reset")
        self.actions.append("reset")

    def _remove(self):
        folder = self.folder
        process.end_orphans(folder)
        keep = set()
        if self.settings["keep_disks"]:
            from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.bases import (
                disk_path,
                images_in,
            )

            keep = (
                {disk_path(folder, disk) for disk in self.observation.saved["disks"]}
                if self.observation.saved
                else images_in(folder)
            )
        ports.release(folder)
        remove_folder(folder, keep)
        self.observation.status = "absent"
        self.actions.append("remove %s" % folder.path)


# What each step of a plan does.
_STEPS = {
    "clear": Applier._clear,
    "define": Applier._define,
    "live": Applier._live,
    "stop": Applier._stop,
    "start": Applier._start,
    "hold": Applier._hold,
    "resume": Applier._resume,
    "pause": Applier._pause,
    "reset": Applier._reset,
    "remove": Applier._remove,
}


def remove_folder(folder, keep):
    """Remove a VM's folder but for the files in keep; the lab's folder, too, when nothing is left in it.

    The definition and the lock go last: until then the next run sees that there is something to remove.
    """
    try:
        if folder.sockets != folder.path:
            shutil.rmtree(folder.sockets, ignore_errors=True)
        last = (folder.definition, folder.file("lock"))
        for entry in os.scandir(folder.path) if os.path.isdir(folder.path) else ():
            if entry.path in keep or entry.path in last:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        for path in last:
            remove_file(path)
        with contextlib.suppress(OSError):
            os.rmdir(folder.path)
            folder.leave_lab()
    except OSError as error:
        raise HostError(
            "cannot remove %s: %s" % (error.filename, error.strerror), path=error.filename
        )


def adopt(change, running, desired):
    """Enter one change into the definition that the VM runs."""
    running["ports"] = desired["ports"]
    option, name = change.path[0], change.item
    if not name:
        running[option] = desired[option]
        return
    slot = "%s/%s" % (option, name)
    if change.verb == "remove":
        running[option] = [item for item in running[option] if item["name"] != name]
        running["slots"].pop(slot, None)
    elif change.verb == "add":
        running[option] = running[option] + [plain_copy(by_name(desired[option])[name])]
        running["slots"][slot] = desired["slots"][slot]
        running["bases"] = dict(desired.get("bases", {}))
    else:
        key = change.path[-1]
        by_name(running[option])[name][key] = plain_copy(by_name(desired[option])[name][key])
