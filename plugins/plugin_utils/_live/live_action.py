# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The action of qemu_live: it serves the live picture of a lab until the user ends it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from ansible.errors import (
    AnsibleActionFail,
    AnsiblePromptInterrupt,
    AnsiblePromptNoninteractive,
)
from ansible.utils.display import Display

from ansible_collections.vlab.qemu.plugins.module_utils._lab.live_arguments import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.controller_action import (
    ControllerAction,
    Params,
    Result,
    hosts_of,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.requests import Picture
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.server import LiveServer
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.state import LiveState
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.watch import (
    LiveHost,
    Watch,
    set_carriers,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import Hypervisor
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology

_FIRST_ANSWER_TIMEOUT = 30  # seconds for the hypervisors, before the address is shown
_END_TIMEOUT = 5  # seconds for a query that has begun
_PARENT_INTERVAL = 1  # seconds between two checks whether ansible-playbook still runs
_MIN_INTERVAL = 0.5  # seconds
_HINT = "set write of qemu_live, or -e lab_live_write=true"


class _Ended(Exception):
    """A signal ends the action."""


class LiveAction(ControllerAction):
    """One run of qemu_live."""

    arguments = ARGUMENTS

    def work(self, params: Params, task_vars: Mapping[str, Any]) -> Result:
        """Serve the picture; return the result of the task."""
        if self._task.check_mode:
            return {"changed": False, "skipped": True, "msg": "check mode serves no page"}
        if params["interval"] < _MIN_INTERVAL:
            raise AnsibleActionFail(
                "interval: at least %s seconds, not %s" % (_MIN_INTERVAL, params["interval"])
            )
        if not 0 <= params["port"] < 65536:
            raise AnsibleActionFail("port: from 0 to 65535, not %d" % params["port"])
        hosts = {
            name: LiveHost(
                host.variables, host.root, functools.partial(Hypervisor, name, host.variables)
            )
            for name, host in hosts_of(params, task_vars).items()
        }
        self._serve(params, self.topology(params), hosts)
        return {"changed": False}

    def _serve(self, params: Params, topology: Topology, hosts: dict[str, LiveHost]) -> None:
        state = LiveState(topology, {name: host.variables for name, host in hosts.items()})
        watch = Watch(state, hosts, params["interval"])
        change = functools.partial(set_carriers, hosts, topology.name)
        picture = Picture(state, params["write"], change, watch.wake, _HINT)
        watch.is_needed, watch.changed = lambda: picture.has_pages, picture.publish
        with _signals(), contextlib.ExitStack() as stack:
            watch.start()
            stack.callback(watch.end, _END_TIMEOUT)
            state.wait(_FIRST_ANSWER_TIMEOUT)
            picture.get("")  # fails here if it cannot be drawn
            try:
                server = LiveServer(picture, params["port"])
            except OSError as error:
                raise AnsibleActionFail("port: %d: %s" % (params["port"], error.strerror))
            stack.enter_context(server)
            _wait(
                "The lab %s: %s (%s). Ctrl-C ends it."
                % (topology.name, server.address, "write" if params["write"] else "read-only")
            )


def _wait(message: str) -> None:
    """Show a message, and wait for Ctrl-C, or for a signal if there is no terminal."""
    try:
        # No other key ends it.
        Display().prompt_until(message, private=True, complete_input=())
    except AnsiblePromptInterrupt:
        return
    except AnsiblePromptNoninteractive:
        Display().display(message)
        parent, forever = os.getppid(), threading.Event()
        while os.getppid() == parent:
            forever.wait(_PARENT_INTERVAL)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """End the block cleanly at a signal, and then do what the signal does otherwise."""

    def end(number: int, _frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        received.append(number)
        raise _Ended

    received: list[int] = []
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for one in before:
        signal.signal(one, end)
    try:
        yield
    except _Ended:
        pass
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    for number in received:
        signal.raise_signal(number)
