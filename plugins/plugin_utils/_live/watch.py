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
from typing import Any, NamedTuple, Protocol

from ansible.errors import AnsibleError

from ansible_collections.vlab.qemu.plugins.plugin_utils._live.state import Endpoint, LiveState

_LOCK_TIMEOUT = 30  # seconds to wait for another run on a VM


class Requests(Protocol):
    """Requests to a hypervisor, as Hypervisor sends them."""

    def request(
        self, name: str, data: bytes = b"", **parameters: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Have the guest service handle a request."""

    def close(self) -> None:
        """Close the connection."""


class LiveHost(NamedTuple):
    """A hypervisor: its variables, the folder of all labs there, and how to connect to it."""

    variables: Mapping[str, Any]
    root: str | None
    connect: Callable[[], Requests]


class Watch:
    """A thread for each hypervisor, which queries it every interval seconds.

    is_needed: whether a page is open; after the
    first answer, hypervisors are queried only then. changed: called after each answer.
    """

    def __init__(
        self,
        state: LiveState,
        hosts: Mapping[str, LiveHost],
        interval: float,
    ) -> None:
        self._state, self._hosts, self._interval = state, hosts, interval
        self.is_needed: Callable[[], bool] = lambda: False
        self.changed: Callable[[], None] = lambda: None
        self._wake = threading.Condition()
        self._is_ended = False
        self._urgent: set[str] = set()
        self._threads = [
            threading.Thread(target=self._follow, args=(host,), daemon=True) for host in hosts
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Query all hypervisors now: a page was opened, or something was changed."""
        with self._wake:
            self._urgent = set(self._hosts)
            self._wake.notify_all()

    def end(self, timeout: float) -> None:
        """End the threads; wait for queries that have begun."""
        with self._wake:
            self._is_ended = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def _follow(self, name: str) -> None:
        root, host = self._hosts[name].root, self._hosts[name].connect()
        lab = self._state.topology.name
        try:
            while not self._is_ended:
                try:
                    found, _pieces = host.request("vms", root=root, lab=lab)
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
    hosts: Mapping[str, LiveHost],
    lab: str,
    ends: Sequence[Endpoint],
    down: bool,
) -> None:
    """Remove or restore the carrier at these ends, as qemu_nic does. Raises AnsibleError."""

    def change(end: Endpoint) -> None:
        with contextlib.closing(hosts[end.hypervisor].connect()) as host:
            host.request(
                "carrier",
                root=hosts[end.hypervisor].root,
                lab=lab,
                vm=end.vm,
                nic=end.nic,
                down=down,
                lock_timeout=_LOCK_TIMEOUT,
            )

    with ThreadPoolExecutor(max(1, len(ends))) as pool:
        for _done in pool.map(change, ends):
            pass
