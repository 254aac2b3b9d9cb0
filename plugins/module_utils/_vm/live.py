# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A running VM under change, as the hooks of the parts see it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Callable, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import MonitorError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import device_types

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host


class Live:
    """A running VM under change.

    monitor: open. running: the definition that the VM runs, updated after each change.
    devices: {id: type}. past: earlier definitions that it may have run: a killed run may have
    removed a device and left its backend.
    """

    def __init__(
        self,
        host: Host,
        monitor: Monitor,
        pid: int,
        running: Definition,
        devices: dict[str, str],
        unplug_timeout: int,
    ) -> None:
        self.host, self.folder, self.capabilities = host, host.folder, host.capabilities
        self.monitor, self.pid, self.running, self.devices = monitor, pid, running, devices
        self.unplug_timeout = unplug_timeout
        self.past: list[Definition] = []
        self.secrets = host.secrets
        # Records that the guest is to run again if this run is killed; None ends that.
        self.record_resume: Callable[[str | None], None] = lambda _state: None
        self._queue: list[tuple[str, dict[str, Any]]] = []

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keep a guest that runs from running during the block."""
        if not self.monitor.execute("query-status")["running"]:
            yield
            return
        self.record_resume("running")
        self.monitor.execute("stop")
        try:
            yield
        finally:
            self.monitor.execute("cont")
            self.record_resume(None)

    def later(self, command: str, arguments: dict[str, Any]) -> None:
        """Queue a command for the next flush: many at once cost one round trip."""
        self._queue.append((command, arguments))

    def flush(self) -> None:
        """Run the queued commands. Raises the first error."""
        commands, self._queue = self._queue, []
        for reply in self.monitor.batch(commands):
            if isinstance(reply, MonitorError):
                raise reply

    def last_with(self, option: str, name: str) -> Definition:
        """Return the latest definition that has this item in its list."""
        return next(
            definition
            for definition in [self.running] + self.past
            if name in by_name(definition[option])
        )

    def refresh_devices(self) -> None:
        """Ask QEMU for its devices again."""
        self.devices = device_types(
            self.monitor.execute("qom-list", {"path": "/machine/peripheral"})
        )
