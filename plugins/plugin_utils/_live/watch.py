# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Query the hypervisors of a lab while a page is open, and change the carriers of its links."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from ansible.errors import AnsibleError

from ansible_collections.vlab.qemu.plugins.plugin_utils._live.state import Endpoint, LiveState

_LOCK_TIMEOUT = 30  # seconds to wait for another run on a VM


class Host(Protocol):
    """Requests to a hypervisor, as Hypervisor sends them."""

    def request(
        self, name: str, data: bytes = b"", **parameters: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Have the guest service handle a request."""

    def close(self) -> None:
        """Close the connection."""


class Watch:
    """A thread for each hypervisor, which queries it every interval seconds.

    connect: returns the requests to a hypervisor. is_needed: whether a page is open; after the
    first answer, hypervisors are queried only then. changed: called after each answer.
    """

    def __init__(
        self,
        state: LiveState,
        connect: Mapping[str, Callable[[], Host]],
        root: str | None,
        interval: float,
    ) -> None:
        self._state, self._connect, self._root = state, connect, root
        self._interval = interval
        self.is_needed: Callable[[], bool] = lambda: False
        self.changed: Callable[[], None] = lambda: None
        self._wake = threading.Condition()
        self._is_ended = False
        self._urgent: set[str] = set()
        self._threads = [
            threading.Thread(target=self._follow, args=(host,), daemon=True) for host in connect
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Query all hypervisors now: a page was opened, or something was changed."""
        with self._wake:
            self._urgent = set(self._connect)
            self._wake.notify_all()

    def end(self, timeout: float) -> None:
        """End the threads; wait for queries that have begun."""
        with self._wake:
            self._is_ended = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def _follow(self, name: str) -> None:
        host = self._connect[name]()
        lab = self._state.topology.name
        try:
            while not self._is_ended:
                try:
                    found, _pieces = host.request("vms", root=self._root, lab=lab)
                    self._state.report(name, found["vms"])
                except (AnsibleError, OSError) as error:
                    # The next query connects again.
                    host.close()
                    self._state.report_error(name, str(error))
                self.changed()
                self._pause(name)
        finally:
            host.close()

    def _pause(self, name: str) -> None:
        """Wait for the next query."""
        with self._wake:
            self._wake.wait_for(lambda: self._is_ended or name in self._urgent, self._interval)
            self._wake.wait_for(
                lambda: self._is_ended or name in self._urgent or self.is_needed(), None
            )
            self._urgent.discard(name)


def set_carriers(
    connect: Mapping[str, Callable[[], Host]],
    lab: str,
    root: str | None,
    ends: Sequence[Endpoint],
    down: bool,
) -> None:
    """Remove or restore the carrier at these ends, as qemu_nic does. Raises AnsibleError."""

    def change(end: Endpoint) -> None:
        with contextlib.closing(connect[end.hypervisor]()) as host:
            host.request(
                "carrier",
                root=root,
                lab=lab,
                vm=end.vm,
                nic=end.nic,
                down=down,
                lock_timeout=_LOCK_TIMEOUT,
            )

    with ThreadPoolExecutor(max(1, len(ends))) as pool:
        for _done in pool.map(change, ends):
            pass
