# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The snapshots of one VM, or of all VMs of a lab on this hypervisor at one moment."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Iterable

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change, module_diff
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number
from ansible_collections.vlab.qemu.plugins.module_utils._lab.parallel import (
    failure_facts,
    failure_lines,
    failures,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    check_name,
    root_folder,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    vm_names,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.run import SnapshotRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.save import check_space
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

_MAX_WORKERS = 64  # threads: they wait for QEMU
_MAX_WAIT = 60  # seconds that stop_at may be ahead


def folders_of(root: str | None, lab: str, vm: str | None) -> list[Folder]:
    """Return the folders of a VM, or of all VMs of a lab in the order of their names."""
    root = root_folder(root)
    check_name("lab", lab)
    if vm is not None:
        return [Folder(root, lab, vm)]
    return [Folder(root, lab, name) for found, name in vm_names(root) if found == lab]


class LabSnapshots:
    """One run on the snapshots of several VMs. params: the options of qemu_snapshot."""

    def __init__(self, params: Params, check_mode: bool) -> None:
        self.params, self.check_mode = params, check_mode
        _check(params)
        settings = settings_of(params)
        self.lock_timeout: int = settings["lock_timeout"]
        folders = folders_of(params["root"], params["lab"], params["vm"])
        if not folders and params["state"] != "absent":
            raise OptionError("lab", "there are no VMs in the lab %s" % params["lab"])
        self.runs = [SnapshotRun(folder, params, settings) for folder in folders]
        self.figures: dict[str, Any] = {}

    def run(self) -> Result:
        """Do what the options ask for; return the module's result. Raises VlabError."""
        with contextlib.ExitStack() as stack:
            for run in self.runs:
                stack.enter_context(run.folder.locked(False, self.lock_timeout, self.check_mode))
                stack.callback(run.close)
            self._for_each(SnapshotRun.observe, "observe")
            self._for_each(SnapshotRun.make_plan, "plan")
            taking = [run for run in self.runs if run.plan.take]
            pids = [run.observation.pid or 0 for run in taking if run.saves_memory]
            for run in taking[:1]:  # they are all on one file system
                check_space(os.path.dirname(run.folder.path), pids)
            if not self.check_mode:
                self._for_each(SnapshotRun.discard_incomplete, "clean up")
                self._take(taking)
                self._revert([run for run in self.runs if run.reverter])
                self._for_each(SnapshotRun.remove, "remove the snapshots of")
            return self._result()

    def _take(self, runs: list[SnapshotRun]) -> None:
        """Stop all guests, save them side by side, and let them run again."""
        if not runs:
            return
        savers = {run.name: run.saver for run in runs if run.saver}
        stopped: dict[str, float] = {}

        def pause(run: SnapshotRun) -> None:
            savers[run.name].pause()
            stopped[run.name] = time.monotonic()

        try:
            self._for_each(lambda run: savers[run.name].prepare(), "prepare", runs)
            self._wait()
            self._for_each(pause, "stop", runs)
            self._for_each(
                lambda run: savers[run.name].save(
                    self.params["description"], self.params["save_timeout"]
                ),
                "save",
                runs,
            )
        except VlabError:
            self._for_each(lambda run: savers[run.name].abandon(), "continue", runs)
            for run in runs:
                with contextlib.suppress(VlabError):
                    run.discard_own()
            raise
        self._for_each(lambda run: savers[run.name].resume(), "continue", runs)
        self.figures = {
            "skew": round(max(stopped.values()) - min(stopped.values()), 4),
            "pause": round(time.monotonic() - min(stopped.values()), 4),
            "bytes": sum(savers[run.name].state.size() for run in runs),
        }

    def _wait(self) -> None:
        """Wait for the moment at which all hypervisors stop their guests."""
        moment = self.params["stop_at"]
        if moment is not None:
            threading.Event().wait(max(0, min(moment - time.time(), _MAX_WAIT)))

    def _revert(self, runs: list[SnapshotRun]) -> None:
        reverters = {run.name: run.reverter for run in runs if run.reverter}
        steps: list[tuple[str, Callable[[SnapshotRun], None]]] = [
            ("stop", lambda run: reverters[run.name].stop()),
            ("replace", lambda run: reverters[run.name].replace_files(run.host.qemu_img)),
            ("start", lambda run: reverters[run.name].start()),
            ("continue", lambda run: reverters[run.name].resume()),
        ]
        for run in runs:
            run.observation.close()  # the steps observe the VM again
        for what, step in steps:
            self._for_each(step, what, runs)

    def _for_each(
        self,
        function: Callable[[SnapshotRun], None],
        what: str,
        runs: Iterable[SnapshotRun] | None = None,
    ) -> None:
        """Call function for the VMs, all at a time; raise one error for all that failed."""
        chosen = list(self.runs if runs is None else runs)
        if len(chosen) == 1:
            function(chosen[0])
            return
        failed = failures(chosen, function, _MAX_WORKERS)
        if failed:
            raise VlabError(
                "cannot %s %d of the VMs of the lab:\n%s"
                % (what, len(failed), failure_lines(failed)),
                failed_vms=failure_facts(failed),
            )

    def _result(self) -> Result:
        changes: list[Change] = []
        for run in self.runs:
            is_one = self.params["vm"] is not None
            changes += [
                change if is_one else change._replace(path=(run.name, *change.path))
                for change in run.changes
            ]
        return {
            "changed": bool(changes),
            "changes": [change.result() for change in changes],
            "diff": module_diff(changes),
            "snapshots": [entry for run in self.runs for entry in run.report()],
            "warnings": [warning for run in self.runs for warning in run.warnings],
            **self.figures,
        }


def _check(params: Params) -> None:
    """Raise OptionError for options that do not fit each other."""
    if params["name"] is None and params["state"] == "reverted":
        raise OptionError("name", "it is required with state: reverted")
    if params["name"] is not None:
        check_name("name", params["name"])
    elif params["state"] == "present" and params["keep"] is None and not params["purge"]:
        raise OptionError("name", "give the name of the snapshot, or keep or purge to remove some")
    elif params["state"] == "absent" and not params["purge"]:
        raise OptionError("name", "give the name of the snapshot, or purge: true to remove all")
    if params["keep"] is not None:
        check_number("keep", params["keep"], 0, 1000000, "a number of snapshots")
    check_number("save_timeout", params["save_timeout"], 1, 1000000, "a time in seconds")


def converge_snapshots(params: Params, check_mode: bool) -> Result:
    """Do what qemu_snapshot is asked for; return the module's result. Raises VlabError."""
    return LabSnapshots(params, check_mode).run()
