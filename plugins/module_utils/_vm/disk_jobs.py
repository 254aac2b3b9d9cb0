# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Internal snapshots and backups of one disk of a VM, whether the VM runs or not.

A running QEMU has the image open and is asked by QMP; otherwise qemu-img works on the image.
Source: QEMU, qapi/block-core.json, docs/interop/live-block-operations.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    LIVE,
    Change,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    MonitorError,
    MonitorTimeout,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    remove_file,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import encryption
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_qemu_img
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image import describe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_plan import plan_snapshots
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import image_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import disks
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.bases import disk_path
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    users_of,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import Disk

SPEC: dict[str, dict[str, Any]] = {
    "backup": {"type": "path"},
    "backup_timeout": {"type": "int", "default": 3600},
}
OPTIONS = ("backup", "snapshots", "restore_snapshot")
# Seconds: QEMU writes the metadata of the whole image, or derives the keys of an encrypted one.
_SNAPSHOT_TIMEOUT = 300.0
_CANCEL_TIMEOUT = 30.0
_MAX_TIMEOUT = 1000000


class DiskState(NamedTuple):
    """The observed disk.

    disk: None if it does not exist yet. snapshots: the names of the internal ones.
    """

    disk: Disk | None
    path: str
    runs: bool
    snapshots: list[str]
    has_backup: bool


def is_requested(params: Params) -> bool:
    """Return whether the options ask for a snapshot or a backup."""
    return any(params.get(option) is not None for option in OPTIONS)


def plan_jobs(params: Params, state: DiskState) -> list[Change]:
    """Plan the jobs: a pure function. Raises OptionError for what cannot be done."""
    disk = state.disk or {"format": params["format"] or "qcow2", "snapshot": params["snapshot"]}
    facts = {"format": disk["format"], "snapshots": [{"name": name} for name in state.snapshots]}
    if params["snapshots"] is not None and disk["snapshot"]:
        raise OptionError(
            "snapshots", "the disk has snapshot: true, so nothing is written to its image"
        )
    changes = plan_snapshots(params, {**params, "path": state.path, "format": None}, facts)
    if state.runs and params["restore_snapshot"]:
        raise OptionError(
            "restore_snapshot",
            "QEMU cannot restore the snapshot of a disk while the guest uses it: stop the VM first",
        )
    if params["backup"] and not state.has_backup:
        changes.append(Change(("backup",), None, params["backup"], FILE, verb="backup"))
    return [change._replace(how=LIVE) for change in changes] if state.runs else changes


def converge_jobs(params: Params, check_mode: bool) -> tuple[list[Change], list[dict[str, Any]]]:
    """Take the snapshots and the backup of a VM's disk; return the changes and the snapshots.

    Raises VlabError.
    """
    check_number("backup_timeout", params["backup_timeout"], 1, _MAX_TIMEOUT, "a time in seconds")
    folder = Folder(params.get("root"), params["lab"], params["vm"])
    if params["backup"]:
        images = image_folder(folder.root, params.get("image_dir"))
        params = dict(params, backup=absolute_path("backup", params["backup"], images))
    with folder.locked(False, settings_of(params)["lock_timeout"], check_mode):
        observation = observe(folder)
        try:
            observation.check_damage()
            observation.check_monitor()
            definition = observation.running if observation.alive else observation.saved
            job = _Jobs(params, folder, definition or {}, observation.monitor)
            changes = plan_jobs(params, job.observe())
            job.check(changes)
            if not check_mode:
                job.apply(changes)
            return changes, job.snapshots()
        finally:
            observation.close()


class _Jobs:
    """The snapshots and the backup of one disk. monitor: of a VM that runs, else None."""

    def __init__(
        self, params: Params, folder: Folder, definition: dict[str, Any], monitor: Monitor | None
    ) -> None:
        self.params, self.folder, self.monitor = params, folder, monitor
        self.qemu_img = QemuImg(find_qemu_img())
        self.disk: Disk = by_name(definition.get("disks", ())).get(params["name"], {})
        self.path = disk_path(folder, self.disk) if self.disk else ""
        self.identifier = ""
        if self.disk:
            slot = definition["slots"][disks.slot_key(self.disk["name"])]
            self.identifier = addresses.identifier(slot)

    def observe(self) -> DiskState:
        """Observe the disk and the backup."""
        backup = self.params["backup"]
        return DiskState(
            self.disk or None,
            self.path,
            self.monitor is not None,
            [entry["name"] for entry in self.snapshots()],
            bool(backup) and os.path.lexists(backup),
        )

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the internal snapshots of the image, as the modules return them."""
        if not self.path or not os.path.exists(self.path):
            return []
        snapshots: list[dict[str, Any]] = describe(self.path, self.qemu_img)["snapshots"]
        return snapshots

    def check(self, changes: list[Change]) -> None:
        """Raise ImageError for a snapshot that would change the base image of a VM."""
        if any(change.verb != "backup" for change in changes) and self.path:
            base_of = [
                user for user in users_of(self.folder.root, self.path) if user.role == "base"
            ]
            if base_of:
                raise ImageError(
                    "snapshots: %s is the %s, and nobody may write to a base"
                    % (self.path, base_of[0]),
                    path=self.path,
                )

    def apply(self, changes: list[Change]) -> None:
        """Make the changes. Raises ImageError, MonitorError and ProgramError."""
        for change in changes:
            if change.verb == "backup":
                self._back_up(change.after)
            elif self.monitor:
                self._change_snapshot_live(self.monitor, change)
            else:
                self._change_snapshot(change)

    @property
    def _secret(self) -> str | None:
        """The file with the passphrase of the image, if the image itself is encrypted."""
        secret: str | None = self.disk["secret_file"]
        return secret

    def _change_snapshot(self, change: Change) -> None:
        if change.verb == "restore_snapshot":
            self.qemu_img.snapshot_apply(self.path, change.after, self._secret)
        elif change.verb == "create_snapshot":
            self.qemu_img.snapshot_create(self.path, change.after, self._secret)
        else:
            self.qemu_img.snapshot_delete(self.path, change.before, self._secret)

    def _change_snapshot_live(self, monitor: Monitor, change: Change) -> None:
        deletes = change.verb == "delete_snapshot"
        command = "blockdev-snapshot-%sinternal-sync" % ("delete-" if deletes else "")
        name = change.before if deletes else change.after
        node = disks.root_node(monitor, self.identifier)
        try:
            monitor.execute(command, {"device": node, "name": name}, timeout=_SNAPSHOT_TIMEOUT)
        except MonitorError as error:
            error.message = "snapshots: %s" % error.message
            raise

    def _back_up(self, path: str) -> None:
        """Make a full copy of the disk, which appears at path when it is complete."""
        make_folder(os.path.dirname(path))
        if self.monitor:
            self._back_up_live(self.monitor, path)
            return
        self.qemu_img.convert(
            self.path,
            path,
            "qcow2",
            source_format=self.disk["format"],
            secret=self._secret,
            source_secret=self._secret,
        )

    def _back_up_live(self, monitor: Monitor, path: str) -> None:
        # A killed run may have left both its job and its file.
        job = self.identifier + "-backup"
        temporary = os.path.join(os.path.dirname(path), ".%s.new" % os.path.basename(path))
        self._end_job(monitor, job)
        remove_file(temporary)
        node = disks.root_node(monitor, self.identifier)
        try:
            size = self._size(monitor, node)
            self.qemu_img.create(temporary, "qcow2", size, secret=self._secret)
            with self._target(monitor, job, temporary):
                self._run_job(monitor, job, node, path)
            self._publish(temporary, path)
        finally:
            remove_file(temporary)

    def _size(self, monitor: Monitor, name: str) -> int:
        """Return the size of a block node."""
        for node in monitor.execute("query-named-block-nodes", {"flat": True}):
            if node.get("node-name") == name:
                return int(node["image"]["virtual-size"])
        raise OptionError(
            "name", "the running VM does not have the disk %s yet: restart it" % self.disk["name"]
        )

    @contextlib.contextmanager
    def _target(self, monitor: Monitor, node: str, path: str) -> Iterator[None]:
        """Open an image in QEMU as a block node."""
        options: dict[str, Any] = {"driver": "qcow2", "file": encryption.file_node(path)}
        if self._secret:
            options = encryption.node_options(path, "qcow2", disks.secret_id(self.identifier))
        options["node-name"] = node
        monitor.execute("blockdev-add", options, timeout=_SNAPSHOT_TIMEOUT)
        try:
            yield
        finally:
            monitor.batch([("blockdev-del", {"node-name": node})])

    def _run_job(self, monitor: Monitor, job: str, node: str, path: str) -> None:
        """Copy the disk as it is now, while the guest goes on writing. Raises ImageError."""
        arguments = {"job-id": job, "device": node, "target": job, "sync": "full"}
        monitor.execute("blockdev-backup", arguments)
        try:
            event = monitor.wait_event(
                ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"],
                {"device": job},
                timeout=self.params["backup_timeout"],
            )
        except MonitorTimeout:
            self._end_job(monitor, job)
            raise ImageError(
                "backup: the disk %s was not copied to %s within %d s: increase backup_timeout"
                % (self.disk["name"], path, self.params["backup_timeout"]),
                path=path,
            )
        data = event["data"]
        if data.get("error") or event["event"] == "BLOCK_JOB_CANCELLED":
            raise ImageError(
                "backup: the disk %s was not copied to %s. QEMU said: %s"
                % (self.disk["name"], path, data.get("error") or "the job was cancelled"),
                path=path,
            )

    @staticmethod
    def _end_job(monitor: Monitor, job: str) -> None:
        """Cancel a job that may run, and delete its node."""
        cancelled = monitor.batch([("block-job-cancel", {"device": job, "force": True})])[0]
        if not isinstance(cancelled, MonitorError):
            with contextlib.suppress(MonitorTimeout):
                monitor.wait_event(
                    ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"],
                    {"device": job},
                    timeout=_CANCEL_TIMEOUT,
                )
        monitor.batch([("blockdev-del", {"node-name": job})])

    @staticmethod
    def _publish(temporary: str, path: str) -> None:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise ImageError("backup: %s exists already and is not overwritten" % path, path=path)
        except OSError:  # not every file system has hard links
            os.rename(temporary, path)
