# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The origin of a migration: it sends the disks and the memory of a running VM to another QEMU.

While it does, run.json has {"sending": {"to", "status"}}: the name of the target, and what the
guest did before. If a run is killed, the guest of a QEMU in the run state postmigrate may have
continued on the target, and only a run that asks the target lets it go on here. When the guest runs
on the target, receiving.json has {"moved": what it did} until the VM is removed.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
    MonitorTimeout,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json, write_json
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import no_such_vm
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import (
    Observation,
    observe,
    record_run,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import root_node
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    check_removal,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration import (
    cables,
    channel,
    copies,
    files,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration.removal import (
    captures,
    remove_vm,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.save import (
    SAVED_STATUSES,
    memory_reasons,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Command, Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Settings,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration.channel import (
        Channel,
    )

_PREFIX = "migrate-"  # of the jobs and nodes in QEMU
_SENT = "postmigrate"
_JOB_EVENTS = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", "BLOCK_JOB_ERROR")
_JOB_TIMEOUT = 60  # seconds to write the rest of a disk, or to cancel


class Origin:
    """The VM on the host that it leaves. The caller holds its lock, and closes it."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.observation: Observation = observe(folder)
        self.host = Host(folder)

    def close(self) -> None:
        """Close the monitor."""
        self.observation.close()

    @property
    def _monitor(self) -> Monitor:
        self.observation.check_monitor()
        monitor = self.observation.monitor
        if monitor is None:
            raise HostError("the VM %s does not run" % self.folder.name)
        return monitor

    @property
    def _definition(self) -> Definition:
        return self.observation.running

    @property
    def was_sent(self) -> bool:
        """Whether the guest may have continued on the target of a run that was killed."""
        is_sending = bool(self.observation.run.get("sending"))
        has_ended = not self.observation.alive or self.observation.status == _SENT
        return self._moved is not None or is_sending and has_ended

    @property
    def _moved(self) -> str | None:
        """What the guest did that has left, and whose QEMU may have ended."""
        record = read_json(self.folder.receiving)
        moved = record.get("moved") if isinstance(record, dict) else None
        return moved if isinstance(moved, str) else None

    # What is known before anything changes.

    def describe(self) -> tuple[dict[str, Any], bytes]:
        """Return what the target needs to know, and the files of the guest.

        Raises a VlabError with everything that keeps the VM from moving.
        """
        observation, folder = self.observation, self.folder
        observation.check_damage()
        self._check_movable()
        definition = self._definition
        self.host.find(definition["arch"], definition["qemu_binary"] or None)
        capabilities = self.host.capabilities
        names = [name for part in PARTS for name in part.state_files(definition, self.host)]
        moved = addresses.without_slots_at_start(copies.moved(definition))
        moved = dict(moved, ports={}, origin=None)
        del moved["origin"]
        result = {
            "definition": moved,
            "status": self.status,
            "machine_type": observation.run.get("machine_type")
            or capabilities.machine_name(definition["machine"]),
            "accel": observation.run.get("accel"),
            "qemu_version": list(self._monitor.version),
            "disks": copies.copied(folder, definition, self.host.qemu_img),
            "cables": cables.cables(definition, folder, capabilities),
            "captures": bool(captures(folder)),
        }
        return result, files.pack(folder, definition, names)

    @property
    def status(self) -> str:
        """What the guest did before a run that was killed, or does now."""
        sending = self.observation.run.get("sending")
        return self._moved or str(sending["status"] if sending else self.observation.status)

    def _check_movable(self) -> None:
        observation, folder = self.observation, self.folder
        if observation.status == "absent":
            raise OptionError("vm", no_such_vm(folder))
        observation.check_complete()
        observation.check_monitor()
        if not observation.alive:
            raise HostError(
                "the VM %s is %s, and only a running or a paused VM can be migrated: start it, or"
                " define it on the other hypervisor" % (folder.name, observation.status)
            )
        if self.status not in SAVED_STATUSES:
            raise HostError(
                "the VM %s is %s, and only a running or a paused one can be migrated"
                % (folder.name, observation.status)
            )
        reasons = copies.blockers(folder, self._definition)
        reasons += memory_reasons(observation, self._definition)
        slots = addresses.slots_at_start(self._definition)
        family = self._definition["family"]
        before = addresses.bus_arguments(family, slots)
        if before != addresses.bus_arguments(family, self._definition["slots"]):
            reasons.append(
                "devices were unplugged since its start, and a new QEMU would have fewer buses:"
                " restart it first"
            )
        if reasons:
            raise HostError("the VM %s cannot be migrated: %s" % (folder.name, "; ".join(reasons)))
        check_removal(folder)

    # Send.

    def send(
        self, to: str, target: Channel, disks: list[str], limits: dict[str, Any]
    ) -> dict[str, Any]:
        """Send the VM to the QEMU that waits for it; return figures. The guest stays stopped here.

        to: the name of the target. limits: {downtime: ms, bandwidth: bytes per second,
        timeout: seconds}. Raises a VlabError; then the guest runs on here.
        """
        self._check_movable()
        deadline = time.monotonic() + limits["timeout"]
        sending = {"to": to, "status": self.status}
        record_run(self.observation, sending=sending)
        self.host.find(self._definition["arch"], self._definition["qemu_binary"] or None)
        try:
            if target.key:
                flat = self.host.capabilities.json_object
                channel.add_key(self._monitor, self.folder, target.key, False, flat)
            self._copy_disks(target, disks, deadline)
            return self._send_memory(target, disks, limits, deadline)
        except VlabError as error:
            self._fail(error)
            raise

    def _fail(self, error: VlabError) -> None:
        """Let the guest run on after an error, to which what prevents that is added."""
        try:
            self.recover()
        except VlabError as second:
            error.message += ". It was not possible to let it run on: %s" % second.message

    def _copy_disks(self, target: Channel, disks: list[str], deadline: float) -> None:
        """Copy the disks, and keep the copies up to date from then on."""
        monitor, definition = self._monitor, self._definition
        bases = {disk["name"]: disk["backing_file"] for disk in definition["disks"]}
        for name in disks:
            copy = copies.node(definition, name)
            monitor.execute(
                "blockdev-add",
                {
                    "driver": "nbd",
                    "node-name": _PREFIX + copy,
                    "server": target.disk_server,
                    "export": copy,
                    **target.tls,
                },
            )
            monitor.execute(
                "blockdev-mirror",
                {
                    "job-id": _PREFIX + copy,
                    "device": root_node(monitor, copy),
                    "target": _PREFIX + copy,
                    "sync": "top" if bases[name] else "full",
                },
            )
        for name in disks:
            job = _PREFIX + copies.node(definition, name)
            what = "the disk %s was not copied" % name
            self._wait_for_job(job, ["BLOCK_JOB_READY"], deadline, what)

    def _wait_for_job(self, job: str, names: list[str], deadline: float, what: str) -> None:
        """Wait for an event of a job. Raises HostError if it fails, MonitorTimeout if it lasts."""
        left = max(0.001, deadline - time.monotonic())
        try:
            event = self._monitor.wait_event([*names, *_JOB_EVENTS], {"device": job}, timeout=left)
        except MonitorTimeout:
            raise MonitorTimeout("%s in time: raise timeout" % what)
        error = event["data"].get("error")
        if event["event"] not in names or error:
            raise HostError("%s: %s" % (what, error or event["event"]))

    def _send_memory(
        self, target: Channel, disks: list[str], limits: dict[str, Any], deadline: float
    ) -> dict[str, Any]:
        monitor, what = self._monitor, "the memory of the VM %s was not sent" % self.folder.name
        begin = time.monotonic()
        parameters = {
            "max-bandwidth": limits["bandwidth"] or memory.BANDWIDTH,
            "downtime-limit": limits["downtime"],
            **target.tls,
        }
        _execute_all(
            monitor,
            [
                ("migrate-set-capabilities", memory.capabilities(pauses=True)),
                ("migrate-set-parameters", parameters),
            ],
        )
        stop = time.monotonic()
        is_stopped = self._stop_emulated()
        monitor.execute("migrate", {"uri": target.uri})
        if is_stopped:
            # Until then, the QEMU of the target may do nothing but wait for the TLS handshake of
            # this one, which would do nothing but wait for the flush of a disk there.
            left = deadline - time.monotonic()
            memory.wait(monitor, left, what, "active", option="timeout")
            self._end_copies(disks)
        left = deadline - time.monotonic()
        memory.wait(monitor, left, what, "pre-switchover", option="timeout")
        if not is_stopped:
            stop = time.monotonic()
            self._end_copies(disks)
        cables.unplug(monitor, self._definition)
        monitor.execute("migrate-continue", {"state": "pre-switchover"})
        left = max(1, deadline - time.monotonic())
        memory.wait_until_sent(monitor, left, what, option="timeout")
        sent = monitor.execute("query-migrate")
        return {
            "memory_bytes": sent.get("ram", {}).get("transferred", 0),
            "memory_time": round(time.monotonic() - begin, 3),
            "stopped_for": round(time.monotonic() - stop, 4),
        }

    def _stop_emulated(self) -> bool:
        """Stop a guest that QEMU emulates; return whether it is one.

        While a guest runs under TCG, QEMU can miss a write to a page that it sends at that moment.
        The guest has the page as it was before, and crashes (QEMU, commit 9458a9a1df, describes the
        race for another reader of the dirty bitmap).
        """
        if self.observation.run.get("accel") == "kvm":
            return False
        self._monitor.execute("stop")
        return True

    def _end_copies(self, disks: list[str]) -> None:
        """Write the rest of the disks of the stopped guest, and close the copies."""
        monitor, nodes = self._monitor, [copies.node(self._definition, name) for name in disks]
        _execute_all(monitor, [("block-job-cancel", {"device": _PREFIX + node}) for node in nodes])
        deadline = time.monotonic() + _JOB_TIMEOUT
        for name, node in zip(disks, nodes):
            what = "the rest of the disk %s was not written" % name
            self._wait_for_job(_PREFIX + node, ["BLOCK_JOB_COMPLETED"], deadline, what)
        _execute_all(monitor, [("blockdev-del", {"node-name": _PREFIX + node}) for node in nodes])

    # Afterwards.

    def recover(self, is_certain: bool = False) -> None:
        """Let the guest go on here, as it was before it was to be sent. Raises a VlabError.

        A guest that was sent completely stays stopped, unless it is_certain that the target has
        not continued it.
        """
        sending = self.observation.run.get("sending")
        if not sending:
            return
        if not self.observation.alive:
            if is_certain:
                record_run(self.observation, sending=None)
            return
        monitor, definition = self._monitor, self._definition
        self.host.find(definition["arch"], definition["qemu_binary"] or None)
        memory.cancel(monitor)
        status = self.observation.status = monitor.execute("query-status")["status"]
        if status == _SENT and not is_certain:
            return
        self._cancel_copies()
        if status == "running":
            monitor.execute("stop")  # a card that sends while its link is away stalls
        cables.plug_again(monitor, definition, self.folder, self.host.capabilities)
        monitor.batch([("migrate-set-capabilities", memory.capabilities())])
        channel.remove_key(monitor, self.folder)
        if sending["status"] == "running":
            monitor.execute("cont")
        self.observation.status = sending["status"]
        record_run(self.observation, sending=None)

    def _cancel_copies(self) -> None:
        monitor = self._monitor
        jobs = [job["device"] for job in monitor.execute("query-block-jobs")]
        deadline = time.monotonic() + _JOB_TIMEOUT
        for job in jobs:
            if job.startswith(_PREFIX):
                with contextlib.suppress(MonitorError):
                    monitor.execute("block-job-cancel", {"device": job, "force": True})
        while True:
            left = [job["device"] for job in monitor.execute("query-block-jobs")]
            if not any(job.startswith(_PREFIX) for job in left) or time.monotonic() > deadline:
                break
            with contextlib.suppress(MonitorTimeout):
                monitor.wait_event(_JOB_EVENTS, timeout=0.05)
        names = {
            node["node-name"] for node in monitor.execute("query-named-block-nodes", {"flat": True})
        }
        monitor.batch(
            [
                ("blockdev-del", {"node-name": name})
                for name in sorted(names)
                if name.startswith(_PREFIX)
            ]
        )

    def remove(self, settings: Settings) -> list[str]:
        """End the QEMU that has sent its guest, and remove the VM; return warnings.

        Captures are kept.
        """
        write_json(self.folder.receiving, {"moved": self.status})
        self.close()
        remove_vm(self.folder, settings)
        kept = captures(self.folder)
        return ["%s has the captures of the VM %s" % (kept, self.folder.name)] if kept else []


def _execute_all(monitor: Monitor, commands: list[Command]) -> None:
    """Run commands at once. Raises the first error."""
    for reply in monitor.batch(commands):
        if isinstance(reply, MonitorError):
            raise reply
