# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Who starts when: few QEMUs start at a time, guests run when no start is under way, dependencies and admission are kept."""

from __future__ import annotations

import contextlib
import os
import threading

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    HostError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.readiness import Readiness, is_asked


class StartScheduler:
    """Starts many VMs. jobs: {name: Job}; a job that does not start counts as started.

    booting: how many nodes may boot at a time, None for any number. wait_ready: wait for readiness. tell(text): for the user.
    """

    def __init__(self, jobs, booting, wait_ready, tell):
        self.jobs, self.wait_ready, self.tell = jobs, wait_ready, tell
        self.turn = threading.Condition()
        self.slots = threading.Semaphore(max(2, min(4, len(os.sched_getaffinity(0)) + 1)))
        self.booting = booting or len(jobs) + 1
        self.ordered = any(job.after for job in jobs.values())
        self.waiting = 0  # starts that are under way or wait for nothing but a slot
        self.reached = {name: set() for name in jobs}
        self.failed = {}

    def run(self):
        """Start all; return {name: error} of those that could not be started or did not become ready."""
        for job in self.jobs.values():
            if not (job.starts or job.after or is_asked(job.ready)):
                self.reached[job.name] = {"started", "ready"}
        threads = [
            threading.Thread(target=self._guard, args=(job,), daemon=True)
            for job in self.jobs.values()
            if not self.reached[job.name]
        ]
        self.waiting = sum(1 for job in self.jobs.values() if job.starts and not job.after)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.failed

    def _guard(self, job):
        # Whatever happens to one, the others must not wait for it for ever.
        failure = HostError(
            "its start ended in the middle; see the error on the standard error stream"
        )
        try:
            self._await_others(job)
            try:
                self._bring_up(job)
            finally:
                self._leave(job)
            failure = None
        except VlabError as error:
            failure = error
        finally:
            if failure:
                with self.turn:
                    self.failed[job.name] = failure
                    self.turn.notify_all()

    def _bring_up(self, job):
        if job.starts:
            with self._slot(job):
                job.applier.run()
            self._await_quiet()
            if not job.applier.start_paused_asked:
                job.applier.resume()
            self.tell("%s is running" % job.name)
        self._connection_vars(job, "started")
        ready = Readiness(
            job.folder,
            job.desired,
            job.ready,
            job.observation.monitor,
            (job.observation.run or {}).get("console_from", 0),
        )
        if job.is_running and is_asked(job.ready) and (self.wait_ready or self._is_awaited(job)):
            ready.wait(job.observation.pid, job.observation.start)
            if job.starts:
                self.tell("%s is ready" % job.name)
        self._connection_vars(job, "ready")

    def _is_awaited(self, job):
        return job.node.get("awaited") or any(
            other.after.get(job.name) == "ready" for other in self.jobs.values()
        )

    def _await_others(self, job):
        """Wait for what the job comes after. Raises GuestError when one of those failed."""
        with self.turn:
            for other, what in job.after.items():
                while other in self.reached and what not in self.reached[other]:
                    if other in self.failed:
                        raise GuestError(
                            "%s was not started: it comes after %s, which failed"
                            % (job.name, other),
                            node=job.name,
                        )
                    self.turn.wait()
            if job.starts:
                if job.after:
                    self.waiting += 1
                while self.booting < 1:
                    self._pause_waiting()
                self.booting -= 1

    def _leave(self, job):
        if job.starts:
            with self.turn:
                self.booting += 1
                if self.booting < 2:
                    self.turn.notify_all()

    def _pause_waiting(self):
        # A node that waits for another one to boot must not hold that one back.
        self.waiting -= 1
        self.turn.notify_all()
        self.turn.wait()
        self.waiting += 1

    @contextlib.contextmanager
    def _slot(self, job):
        try:
            with self.slots:
                yield
        finally:
            with self.turn:
                self.waiting -= 1
                if self.waiting < 1:
                    self.turn.notify_all()

    def _await_quiet(self):
        """Guests do not compete with starting QEMUs: they run when no start is left that could go on."""
        with self.turn:
            while self.waiting > 0:
                self.turn.wait()

    def _connection_vars(self, job, what):
        with self.turn:
            self.reached[job.name].add(what)
            if self.ordered:
                self.turn.notify_all()
