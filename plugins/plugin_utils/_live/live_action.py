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
from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.live_arguments import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import appliance
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.topology_source import (
    named,
    read_topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.requests import Picture
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.server import LiveServer
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.state import LiveState
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.watch import (
    LiveHost,
    Watch,
    set_carriers,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import (
    Hypervisor,
    variables_for,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, libraries
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

Params = dict[str, Any]
Result = dict[str, Any]
_FIRST_ANSWER_TIMEOUT = 30  # seconds for the hypervisors, before the address is shown
_END_TIMEOUT = 5  # seconds for a query that has begun
_PARENT_INTERVAL = 1  # seconds between two checks whether ansible-playbook still runs
_HINT = "set write of qemu_live, or -e lab_live_write=true"


class _Ended(Exception):
    """A signal ends the action."""


class LiveAction(ActionBase):
    """One run of qemu_live, on the controller."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Run the task; return its result."""
        super().run(tmp, task_vars)
        missing = libraries.missing()
        if missing:
            return {"failed": True, "changed": False, "msg": missing_required_lib(missing)}
        if self._task.check_mode:
            return {"changed": False, "skipped": True, "msg": "check mode serves no page"}
        try:
            params = _validated(dict(self._task.args))
            topology = self._topology(params)
            self._serve(params, topology, _hosts(params, task_vars or {}))
        except (TopologyError, VlabError) as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        except AnsibleActionFail as error:
            # As an exception it would bypass failed_when and until, unlike an error of a module.
            return {"failed": True, "changed": False, "msg": error.message}
        return {"changed": False}

    def _topology(self, params: Params) -> Topology:
        source = read_topology(params["topology"], self._find_needle)
        folder = os.path.dirname(os.path.abspath(source.path)) if source.path else ""
        data = named(source.data, params["lab_name"], params["lab"])
        return builder.build(data, None, None, appliance.reader(folder))

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


def _hosts(params: Params, task_vars: Mapping[str, Any]) -> dict[str, LiveHost]:
    """Return the hypervisors by name."""
    hostvars = task_vars["hostvars"]
    entries = params["hypervisors"] or [{"name": name} for name in task_vars["ansible_play_hosts"]]
    found = {}
    for entry in entries:
        name = entry["name"]
        if name not in hostvars:
            raise AnsibleActionFail("hypervisors: the inventory has no host %s" % name)
        given = entry.get("variables") or {}
        own = {key: value for key, value in given.items() if value != ""}
        variables = variables_for({**hostvars[name], **own, "inventory_hostname": name})
        connect = functools.partial(Hypervisor, name, variables)
        found[name] = LiveHost(variables, entry.get("root") or params["root"], connect)
    return found


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


def _validated(args: Params) -> Params:
    """Return the options with their types and defaults. Hypervisors expand the path root."""
    spec = {
        name: dict(option, type="str") if option["type"] == "path" else option
        for name, option in ARGUMENTS.items()
    }
    checked = ArgumentSpecValidator(spec).validate(args)
    if checked.error_messages:
        raise AnsibleActionFail("; ".join(checked.error_messages))
    params: Params = checked.validated_parameters
    if params["interval"] < 0.5:
        raise AnsibleActionFail("interval: at least 0.5 seconds, not %s" % params["interval"])
    if not 0 <= params["port"] < 65536:
        raise AnsibleActionFail("port: from 0 to 65535, not %d" % params["port"])
    return params
