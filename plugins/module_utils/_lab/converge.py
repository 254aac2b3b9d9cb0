# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""One hypervisor's share of a lab: all its VMs and hubs through the same plan and apply as one VM, many at a time."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import socket
import threading

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import module_diff
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab import hub
from ansible_collections.vlab.qemu.plugins.module_utils._lab.bridge import Bridge
from ansible_collections.vlab.qemu.plugins.module_utils._lab.facts import room
from ansible_collections.vlab.qemu.plugins.module_utils._lab.start_scheduler import StartScheduler
from ansible_collections.vlab.qemu.plugins.module_utils._lab.readiness import check_ready
from ansible_collections.vlab.qemu.plugins.module_utils._lab.shortages import (
    QEMU_OVERHEAD,
    refusal,
    resources,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.node_facts import (
    forget_about,
    write_about,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.apply import Applier
from ansible_collections.vlab.qemu.plugins.module_utils._vm.container import refuse_start
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    default_root,
    remove_lab,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.plan import plan, starts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.report import report
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of

# The parts that tell what the result has of each VM: a large lab has a long one.
_TOLD_BY = [part for part in PARTS if part.name in ("machine", "consoles", "network")]
_HANDS = 8  # threads that look at VMs, change and stop them: they mostly wait for QEMU


class Job:
    """One VM of the lab. node: {"name", "state", "options", "ready", "after"}."""

    def __init__(self, root, lab, node):
        self.folder = Folder(root, lab, node["name"])
        self.name, self.state, self.node = node["name"], node["state"], node
        self.ready, self.after = node.get("ready") or {}, node.get("after") or {}
        self.host = Host(self.folder)
        self.observation = self.desired = self.todo = self.applier = None

    def look(self):
        """Observe the VM."""
        self.observation = observe(self.folder)
        if self.state == "keep":
            self.state = "present" if self.observation.saved else "absent"

    def plan(self, allow_restart, settings):
        """Find out what is to be done. Raises VlabError."""
        pending = []
        if self.state != "absent":
            check_ready("nodes.%s" % self.name, self.ready)
            self.desired = self._compose()
            if self.observation.saved and not self.observation.alive:
                pending = [
                    change for part in PARTS for change in part.pending(self.desired, self.host)
                ]
        self.todo = plan(self.observation, self.desired, self.state, allow_restart, pending)
        self.applier = Applier(self.host, self.observation, self.desired, self.todo, settings)
        # The lineup lets the guest run; a paused node stays as it is started.
        self.applier.start_paused_asked, self.applier.hold = self.applier.hold, True
        self.applier.check()

    def _compose(self):
        """The definition that is wanted. What was composed from the same words before is not composed again."""
        saved, options = self.observation.saved, self.node["options"]
        display = options.get("display") or {}
        # A password is kept nowhere, not even in a digest; with one, the definition is composed anew, so that this run has it.
        words = (
            dict(options, display=dict(display, password=bool(display["password"])))
            if display.get("password")
            else options
        )
        digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode("utf-8")).hexdigest()
        # Spare NICs that a running VM has not are for its next start.
        has = {nic["name"] for nic in (saved or {}).get("nics", ())}
        later = {
            nic["name"]
            for nic in options["nics"]
            if "spare" in nic and self.observation.alive and nic["name"] not in has
        }
        if later:
            digest += " without %d" % len(later)
        if saved and saved.get("digest") == digest and words is options:
            desired = dict(saved)
            self.host.find(desired["arch"], desired["qemu_binary"] or None)
        else:
            nics = [
                {key: value for key, value in nic.items() if key != "spare"}
                for nic in options["nics"]
                if nic["name"] not in later
            ]
            options = dict(options, nics=nics)
            desired = definitions.compose(
                saved, dict(options, **self._leftovers(saved, options)), self.host
            )
        if saved and saved.get("digest") != digest:
            saved["digest"] = None
        desired["digest"] = digest
        return desired

    def _leftovers(self, saved, options):
        """NICs that the lab has no use for any more: a running guest keeps the card, without a cable."""
        named = {nic["name"] for nic in options["nics"]}
        idle = [
            {"name": nic["name"], "link": {"type": "none"}, "capture": {"enabled": False}}
            for nic in (saved or {}).get("nics", ())
            if nic["name"] not in named
        ]
        return {"nics": options["nics"] + idle} if self.observation.alive else {"purge_nics": True}

    def attach(self, scripts):
        """Plug NICs into bridges. scripts: {segment: what puts a tap on its bridge}."""
        for nic in self.node["options"].get("nics", ()):
            segment = nic.pop("segment", None)
            if segment:
                nic["link"] = {"type": "tap", "script": scripts[segment]}

    def set_carriers(self, jobs):
        """Take the carrier from NICs whose neighbour on this host will not run."""
        for nic in self.node["options"].get("nics", ()):
            peer = jobs.get(nic.pop("peer", None))
            if peer is not None and not peer.will_run():
                nic["link_down"] = True

    def will_run(self):
        """Whether the VM is to run, or to be paused, once the plan is done."""
        return (
            self.state in ("started", "paused")
            or self.state == "present"
            and (self.observation.alive or bool(self.node.get("later")))
        )

    @property
    def starts(self):
        """Whether QEMU is to be started."""
        return "start" in self.todo.steps

    @property
    def is_running(self):
        """Whether the guest runs once the plan is done."""
        return self.state == "started"

    def close(self):
        """Leave the monitor."""
        if self.observation:
            self.observation.close()


class Lab:
    """All of a lab on this hypervisor."""

    def __init__(self, params, check_mode):
        self.params, self.check_mode = params, check_mode
        self.root = os.path.abspath(params.get("root") or default_root())
        self.settings, self.limits = settings_of(params), params.get("limits") or {}
        self.jobs = {node["name"]: Job(self.root, params["lab"], node) for node in params["vms"]}
        self.extra = self._extra()
        self.segments, self.rewiring = (
            self._segments(),
            [],
        )  # rewiring: (segment, what is to be done to it)
        self.progress, self.told, self.telling = params.get("progress"), [], threading.Lock()
        self.warnings = []

    def _segments(self):
        """Hubs and bridges: those that are wanted and, with purge, those that are not."""
        desired = {entry["name"]: entry for entry in self.params.get("segments") or ()}
        names = set(desired)
        if self.params["purge"] or self.params["state"] == "absent":
            names |= set(hub.existing(self.root, self.params["lab"]))
        made, attach = [], {}
        for name in sorted(names):
            entry, folder = (
                desired.get(name, {}),
                os.path.join(self.root, self.params["lab"], hub.SEGMENTS, name),
            )
            if "bridge" in entry or not entry and os.path.exists(os.path.join(folder, "attach")):
                made.append(Bridge(folder, name, entry.get("bridge")))
                attach[name] = made[-1].attach
            else:
                made.append(hub.Hub(self.root, self.params["lab"], name, entry.get("ports")))
        for job in self.jobs.values():
            job.attach(attach)
        return made

    def _extra(self):
        """VMs of the lab that no node stands for: removed with purge, else told."""
        try:
            there = sorted(
                entry.name
                for entry in os.scandir(os.path.join(self.root, self.params["lab"]))
                if entry.is_dir() and not entry.name.startswith(".") and entry.name not in self.jobs
            )
        except OSError:
            there = []
        if self.params["purge"] or self.params["state"] == "absent":
            for name in there:
                self.jobs[name] = Job(
                    self.root, self.params["lab"], {"name": name, "state": "absent", "options": {}}
                )
            return []
        return there

    def tell(self, text):
        """Add a line for the user to the result, and to the progress file, which the controller shows while we work."""
        with self.telling:
            self.told.append(text)
            self._write_progress(text)

    def _write_progress(self, text):
        if self.progress:
            # Made by us, and by nobody before: it is in a folder that all may write to.
            flags = (
                os.O_WRONLY
                | os.O_NOFOLLOW
                | (os.O_CREAT | os.O_EXCL if len(self.told) == 1 else os.O_APPEND)
            )
            try:
                with open(os.open(self.progress, flags, 0o644), "wb") as stream:
                    stream.write((text + "\n").encode("utf-8"))
            except OSError:
                self.progress = None

    def run(self):
        """Converge; return the module's result. Raises VlabError with everything that is wrong, before anything is touched."""
        with contextlib.ExitStack() as stack:
            for job in self.jobs.values():
                create = not self.check_mode and job.state != "absent"
                stack.enter_context(job.folder.locked(create, self.settings["lock_timeout"]))
                stack.callback(job.folder.tidy)
                stack.callback(job.close)
            self._each(self.jobs.values(), Job.look, "look at")
            if any(starts(job.observation, job.state) for job in self.jobs.values()):
                refuse_start(
                    self.params["allow_container"]
                )  # before QEMU is looked for, which such a container seldom has
            for job in self.jobs.values():
                job.set_carriers(self.jobs)
            try:
                self._each(
                    self.jobs.values(),
                    lambda job: job.plan(self.params["allow_restart"], self.settings),
                    "plan",
                    hands=1,
                )
            except VlabError as error:
                # A node that alone is too much for the host is told in the table too.
                self._check_host(error.message)
                raise
            if any(job.starts for job in self.jobs.values()):
                refuse_start(self.params["allow_container"])
            self._check_host()
            self.rewiring = [(segment, segment.changes()) for segment in self.segments]
            if not self.check_mode:
                stack.callback(self._forget_progress)
                try:
                    self._apply()
                except VlabError as error:
                    error.facts["progress"] = self.told
                    raise
                if self.params.get("about"):
                    write_about(self.root, self.params["lab"], self.params["about"])
            return self._result()

    def _forget_progress(self):
        if self.progress and self.told:
            with contextlib.suppress(OSError):
                os.unlink(self.progress)

    def _each(self, jobs, function, what, hands=_HANDS):
        """Do function for all jobs, several at a time; raise one error that tells what went wrong with each."""
        failed = {}

        def guard(job):
            try:
                function(job)
            except VlabError as error:
                failed[job.name] = error

        jobs = list(jobs)
        if hands == 1:
            for job in jobs:
                guard(job)
        elif jobs:
            with concurrent.futures.ThreadPoolExecutor(min(hands, len(jobs))) as pool:
                list(pool.map(guard, jobs))
        if failed:
            raise self._failure(failed, what)

    @staticmethod
    def _failure(failed, what):
        lines = ["%s: %s" % (name, error.message) for name, error in sorted(failed.items())]
        return VlabError(
            "cannot %s %d node%s of the lab:\n%s"
            % (what, len(failed), "" if len(failed) == 1 else "s", "\n".join(lines)),
            failed={name: dict(error.facts, msg=error.message) for name, error in failed.items()},
        )

    def _check_host(self, besides=""):
        """Raise HostError with a table of what this host lacks. besides: what else is wrong."""
        starting = [job for job in self.jobs.values() if job.todo and job.starts]
        if not starting:
            return
        need = {
            "memory_mb": sum(
                job.desired["memory"] + QEMU_OVERHEAD
                for job in starting
                if job.desired["check_host_memory"]
            ),
            "starting": len(starting),
            "vcpus": sum(
                job.desired["vcpus"] for job in self.jobs.values() if job.desired and job.will_run()
            ),
            "memory_overcommit": self.limits.get("memory_overcommit"),
            "vcpu_ratio": self.limits.get("vcpu_ratio"),
        }
        rows = resources(socket.gethostname(), need, room(self.root))
        if rows:
            raise HostError(
                "\n".join([refusal(self.params["lab"], rows)] + ([besides] if besides else []))
            )

    def _apply(self):
        jobs = list(self.jobs.values())
        # First what frees the host, then what makes no guest wait, then the starts.
        self._each(
            [job for job in jobs if job.todo.steps and not job.starts and not job.is_running],
            self._apply_one,
            "change",
        )
        for segment, changes in self.rewiring:
            if changes:
                segment.apply(self.settings["start_timeout"])
                self.tell(
                    "segment %s is %s"
                    % (segment.name, "gone" if changes[-1].after is None else "there")
                )
        self._each(
            [job for job in jobs if job.todo.steps and not job.starts and job.is_running],
            self._apply_one,
            "change",
        )
        lineup = StartScheduler(
            {job.name: job for job in jobs if job.state != "absent"},
            self.limits.get("booting"),
            self.params["wait_ready"],
            self.tell,
        )
        failed = (
            lineup.run()
            if any(job.starts or job.is_running and self.params["wait_ready"] for job in jobs)
            else {}
        )
        self._keep_digests()
        if failed:
            raise self._failure(failed, "bring up")
        self._each(
            [job for job in jobs if job.state != "absent"],
            lambda job: job.applier.refresh(),
            "change",
        )

    def _apply_one(self, job):
        job.applier.run()
        options = [change.option for change in job.todo.changes]
        if options == ["state"]:
            self.tell("%s is %s" % (job.name, "gone" if job.state == "absent" else job.state))
        else:
            self.tell("%s: %s" % (job.name, ", ".join(options)))

    def _keep_digests(self):
        """Remember which words a definition was composed from, where nothing else had to be written."""
        for job in self.jobs.values():
            if (
                job.desired
                and job.observation.saved
                and not job.todo.steps
                and job.observation.saved.get("digest") != job.desired["digest"]
            ):
                definitions.save(job.folder, job.desired)

    def _result(self):
        jobs = self.jobs.values()
        changes = [
            change._replace(path=(job.name, *change.path))
            for job in jobs
            for change in job.todo.changes
        ]
        for _segment, more in self.rewiring:
            changes += more
        told = {
            "changed": bool(changes) or any(job.todo.changed for job in jobs),
            "changes": [change.result() for change in changes],
            "diff": module_diff(changes),
            "actions": {job.name: job.applier.actions for job in jobs if job.applier.actions},
            "vms": [],
        }
        for job in jobs:
            vm = report(job.observation, job.desired, _TOLD_BY) if job.state != "absent" else {}
            if vm:
                if self.check_mode:
                    state = [
                        change.after for change in job.todo.changes if change.option == "state"
                    ]
                    vm["status"] = state[0] if state else vm["status"]
                told["vms"].append(
                    {
                        key: vm[key]
                        for key in (
                            "name",
                            "status",
                            "pid",
                            "accel",
                            "consoles",
                            "nics",
                            "forwards",
                            "monitors",
                        )
                    }
                )
        if not self.params["purge"] and self.extra:
            self.warnings.append(
                "the lab has VMs that no node stands for: %s; purge: true removes them"
                % ", ".join(self.extra)
            )
        told["progress"] = self.told
        told["warnings"] = self.warnings + [
            warning for job in jobs for warning in job.host.warnings
        ]
        if told["changed"] and not self.check_mode and self.params["state"] == "absent":
            forget_about(self.root, self.params["lab"])
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(self.root, self.params["lab"], hub.SEGMENTS))
                remove_lab(os.path.join(self.root, self.params["lab"]))
        return told


def converge_lab(params, check_mode):
    """Bring a lab's share of this hypervisor into the state that params ask for; return the module's result. Raises VlabError."""
    return Lab(params, check_mode).run()
