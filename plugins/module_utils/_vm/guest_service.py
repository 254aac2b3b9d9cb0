# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Requests that connection and inventory plugins, the live picture and live captures send to a
hypervisor: run a command in a guest, copy a file to or from it, list the VMs, change the carrier of
a NIC, and capture what it sends and receives.

Each handler imports only what it needs: a play may send hundreds of requests.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestGone,
    GuestNotReady,
    LoginFailed,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import (
    Handler,
    RequestError,
    Stream,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_ERROR_KINDS = (
    (GuestNotReady, "not_ready"),
    (GuestGone, "gone"),
    (LoginFailed, "login"),
    (VlabError, "error"),
)
# Seconds for a command: a guest may stop in the middle of it without a sign. A command line of a
# network system has a default of its own.
_COMMAND_TIMEOUT = 3600
_NO_TIMEOUT = 10**8


def _handler(handle: Handler) -> Handler:
    """Turn the errors of the collection into those of a request."""

    @functools.wraps(handle)
    def wrapped(parameters: dict[str, Any], data: bytes) -> Any:
        try:
            return handle(parameters, data)
        except VlabError as error:
            kind = next(kind for type_, kind in _ERROR_KINDS if isinstance(error, type_))
            raise RequestError(kind, error.message)

    return wrapped


@_handler
def _exec(parameters: dict[str, Any], data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    timeout = parameters.get("timeout")
    if timeout == 0:
        timeout = _NO_TIMEOUT
    elif timeout is None and not parameters.get("cli"):
        timeout = _COMMAND_TIMEOUT
    with _open_session(parameters) as session:
        code, out, error = session.run(parameters["command"], data, timeout)
    return {"rc": code}, [out, error]


@_handler
def _write(parameters: dict[str, Any], data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    with _open_session(parameters) as session:
        session.write(parameters["path"], data, bool(parameters.get("append")))
    return {}, []


@_handler
def _read(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    with _open_session(parameters) as session:
        offset, size = parameters.get("offset") or 0, parameters.get("size")
        return {}, [session.read(parameters["path"], offset, size)]


@_handler
def _vms(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return the VMs of one lab or of all, and what qemu_lab recorded about their nodes."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vm_facts
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.node_facts import read_node_facts

    root = parameters.get("root")
    found, warnings = vm_facts(root, parameters.get("lab"), None, bool(parameters.get("ask_agent")))
    facts = {lab: read_node_facts(root, lab) for lab in {vm["lab"] for vm in found}}
    return {"vms": found, "node_facts": facts, "warnings": warnings}, []


@_handler
def _carrier(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Remove or restore the carrier of a NIC."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import change_nic

    settings = {name: parameters.get(name) for name in ("root", "lab", "lock_timeout")}
    down = {"link_down": bool(parameters["down"])}
    return {"changed": change_nic(settings, parameters["vm"], parameters["nic"], down)}, []


@_handler
def _check_capture(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm import live_capture

    return live_capture.check(live_capture.request_of(parameters)), []


def _capture(parameters: dict[str, Any], _data: bytes) -> Stream:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm import live_capture
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.hangup import end_with_client

    end_with_client()
    try:
        result = yield from live_capture.stream(live_capture.request_of(parameters))
    except VlabError as error:
        raise RequestError("error", error.message)
    return result, []


HANDLERS: dict[str, Handler] = {
    "exec": _exec,
    "write": _write,
    "read": _read,
    "vms": _vms,
    "carrier": _carrier,
    "check_capture": _check_capture,
    "capture": _capture,
}


@contextlib.contextmanager
def _open_session(parameters: dict[str, Any]) -> Iterator[Any]:
    """Open the session in a guest that a request names.

    Only if that fails, inspect the VM for the cause: each request would pay for it.
    """
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.hangup import end_with_client

    end_with_client()
    folder = Folder(parameters.get("root"), parameters["lab"], parameters["vm"])
    agent = parameters["channel"] == "agent"
    with contextlib.ExitStack() as stack:
        try:
            opened = (_agent_session if agent else _serial_session)(parameters, folder)
            session = stack.enter_context(opened)
        except LoginFailed:
            raise
        except GuestError as error:
            from ansible_collections.vlab.qemu.plugins.module_utils._vm.guest_cause import (
                with_cause,
            )

            raise with_cause(error, folder, agent)
        yield session


@contextlib.contextmanager
def _agent_session(parameters: dict[str, Any], folder: Folder) -> Iterator[Any]:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.guest_session import AgentSession

    timeout = parameters.get("connect_timeout") or 10
    with GuestAgent(folder.socket("agent.sock"), timeout=timeout) as agent:
        yield AgentSession(agent)


@contextlib.contextmanager
def _serial_session(parameters: dict[str, Any], folder: Folder) -> Iterator[Any]:
    from ansible_collections.vlab.qemu.plugins.module_utils._console.login import Login
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.guest_session import on_console

    options = parameters.get("login") or {}
    login = Login(**{name: value for name, value in options.items() if value is not None})
    timeout = parameters.get("connect_timeout") or 10
    is_cli = bool(parameters.get("cli"))
    with on_console(folder, parameters.get("console"), login, is_cli, timeout) as session:
        yield session
