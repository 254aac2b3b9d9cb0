# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The start scheduler of a lab.

Few QEMUs start at a time, guests run when no start is in progress, and a node waits for the nodes
that it comes after and for its admission.
"""

from __future__ import annotations

import contextlib
import os
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Callable, Iterator, Mapping

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    HostError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.readiness import Readiness, has_checks
from ansible_collections.vlab.qemu.plugins.module_utils._lab.resume_slots import ResumeSlots

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.node_run import NodeRun


class StartScheduler:
    """Starts many VMs, each in a thread.

    nodes: those with no start of their own count as started. max_booting: how many nodes may boot
    at a time, None for any number. wait_ready: wait until all are ready.
    report(text): called with each line for the user. failed: the nodes that have failed before, and
    their errors.
    """

    def __init__(
        self,
        nodes: dict[str, NodeRun],
        max_booting: int | None,
        wait_ready: bool,
        report: Callable[[str], None],
        failed: Mapping[str, VlabError] = MappingProxyType({}),
    ) -> None:
        self.nodes, self.wait_ready, self.report = nodes, wait_ready, report
        self.failed: dict[str, VlabError] = dict(failed)
        self._has_order = any(node.after for node in nodes.values())
        processors = len(os.sched_getaffinity(0))
        self._start_slots = threading.Semaphore(max(2, min(4, processors + 1)))
        self._resume_slots = ResumeSlots(max(2, processors))
        # The condition guards what follows, and failed.
        self._condition = threading.Condition()
        self._boot_slots = max_booting or len(nodes) + 1
        self._pending = 0  # starts in progress, and those that only wait for a start slot
        self._reached: dict[str, set[str]] = {name: set() for name in (*nodes, *failed)}

    def run(self) -> dict[str, VlabError]:
        """Start all; return {name: error} of those that did not start or did not become ready."""
        for node in self.nodes.values():
            if not (node.starts or node.after or node.guest_changes or has_checks(node.ready)):
                self._reached[node.name] = {"started", "ready"}
        threads = [
            threading.Thread(target=self._bring_up_guarded, args=(node,), daemon=True)
            for node in self.nodes.values()
            if not self._reached[node.name]
        ]
        self._pending = sum(node.starts and not node.after for node in self.nodes.values())
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.failed

    def _bring_up_guarded(self, node: NodeRun) -> None:
        # Also after an unexpected exception, the other nodes must not wait forever.
        failure: VlabError | None = HostError(
            "its start was interrupted; see the error on the standard error stream"
        )
        try:
            self._admit(node)
            try:
                self._bring_up(node)
            finally:
                self._release_boot_slot(node)
            failure = None
        except VlabError as error:
            failure = error
        finally:
            if failure:
                with self._condition:
                    self.failed[node.name] = failure
                    self._condition.notify_all()

    def _bring_up(self, node: NodeRun) -> None:
        if node.starts:
            with self._start_slot():
                node.start()
            self._wait_for_starts()
        with self._resume_slot(node):
            if node.starts:
                node.vm.resume()
                origin = " from its template" if node.vm.host.is_template else ""
                self.report("%s is running%s" % (node.name, origin))
            self._set_reached(node, "started")
            if node.bootstrap and node.bootstrap.change:
                node.type_bootstrap()
                self.report("%s has its first configuration" % node.name)
            if node.is_running and has_checks(node.ready):
                if self.wait_ready or self._is_awaited(node):
                    self._wait_until_ready(node)
        if node.has_commands:
            node.run_commands()
            self.report("%s has run its commands" % node.name)
        self._set_reached(node, "ready")

    def _resume_slot(self, node: NodeRun) -> contextlib.AbstractContextManager[None]:
        """Return what lets a guest continue and become ready in its turn."""
        host, definition = node.vm.host, node.vm.desired or {}
        if node.starts and host.is_template and host.accel == "tcg":
            return self._resume_slots.slot(len(definition.get("nics", ())))
        return contextlib.nullcontext()

    def _wait_until_ready(self, node: NodeRun) -> None:
        observation = node.vm.observation
        if observation.pid is None or observation.start is None:
            raise HostError("the VM %s does not run" % node.name)
        Readiness(
            node.folder,
            node.vm.desired or {},
            node.ready,
            observation.monitor,
            observation.run.get("console_from", 0),
        ).wait(observation.pid, observation.start)
        if node.starts:
            self.report("%s is ready" % node.name)

    def _is_awaited(self, node: NodeRun) -> bool:
        return (
            bool(node.node.get("awaited"))
            or node.has_commands
            or any(other.after.get(node.name) == "ready" for other in self.nodes.values())
        )

    def _admit(self, node: NodeRun) -> None:
        """Wait for the nodes that it comes after, and take a boot slot.

        Raises GuestError if one of those nodes failed.
        """
        with self._condition:
            for other, event in node.after.items():
                while other in self._reached and event not in self._reached[other]:
                    if other in self.failed:
                        raise GuestError(
                            "%s was not started: it comes after %s, which failed"
                            % (node.name, other),
                            node=node.name,
                        )
                    self._condition.wait()
            if node.starts:
                if node.after:
                    self._pending += 1
                while self._boot_slots < 1:
                    # A node that waits for another one to boot must not delay it.
                    self._pending -= 1
                    self._condition.notify_all()
                    self._condition.wait()
                    self._pending += 1
                self._boot_slots -= 1

    def _release_boot_slot(self, node: NodeRun) -> None:
        if node.starts:
            with self._condition:
                self._boot_slots += 1
                if self._boot_slots < 2:
                    self._condition.notify_all()

    @contextlib.contextmanager
    def _start_slot(self) -> Iterator[None]:
        try:
            with self._start_slots:
                yield
        finally:
            with self._condition:
                self._pending -= 1
                if self._pending < 1:
                    self._condition.notify_all()

    def _wait_for_starts(self) -> None:
        """Wait until no start is pending, so that guests do not compete with starting QEMUs."""
        with self._condition:
            while self._pending > 0:
                self._condition.wait()

    def _set_reached(self, node: NodeRun, event: str) -> None:
        with self._condition:
            self._reached[node.name].add(event)
            if self._has_order:
                self._condition.notify_all()
