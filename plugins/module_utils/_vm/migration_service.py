# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Requests of qemu_migrate to the two hypervisors of a migration."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    VlabError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import (
    Handler,
    RequestError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import converge_item
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration import target as targets
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration.channel import Channel
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration.origin import Origin
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of

Handle = Callable[[Folder, dict[str, Any], bytes], tuple[dict[str, Any], list[bytes]]]


def _handler(handle: Handle) -> Handler:
    """Find the folder of the VM; turn the errors of the collection into those of a request."""

    @functools.wraps(handle)
    def wrapped(parameters: dict[str, Any], data: bytes) -> Any:
        try:
            folder = Folder(parameters["root"], parameters["lab"], parameters["vm"])
            with report_os_errors("cannot migrate the VM %s" % folder.name):
                return handle(folder, parameters, data)
        except VlabError as error:
            raise RequestError("error", error.message)

    return wrapped


@contextlib.contextmanager
def _origin(folder: Folder, parameters: dict[str, Any]) -> Iterator[Origin]:
    """Hold the lock of the VM and observe it."""
    with folder.locked(False, parameters["lock_timeout"], parameters["check_mode"]):
        origin = Origin(folder)
        try:
            yield origin
        finally:
            origin.close()


@_handler
def _describe(
    folder: Folder, parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    with _origin(folder, parameters) as origin:
        if origin.was_sent:
            return {"state": "sent", "status": origin.status}, []
        if origin.observation.status == "absent":
            if not parameters["check_mode"]:
                folder.tidy()  # a run was killed when it had removed all but the lock
            return {"state": "absent"}, []
        if not parameters["check_mode"]:
            origin.recover()
            if origin.was_sent:
                return {"state": "sent", "status": origin.status}, []
        found, data = origin.describe()
        return dict(found, state="here"), [data]


@_handler
def _send(
    folder: Folder, parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    with _origin(folder, parameters) as origin:
        channel = Channel(*parameters["channel"])
        return origin.send(parameters["to"], channel, parameters["disks"], parameters["limits"]), []


@_handler
def _recover(
    folder: Folder, parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    with _origin(folder, parameters) as origin:
        origin.recover(is_certain=True)
    return {}, []


@_handler
def _remove(
    folder: Folder, parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    with _origin(folder, parameters) as origin:
        status, warnings = origin.observation.status, []
        if origin.was_sent:
            warnings = origin.remove(settings_of(parameters))
        elif status != "absent":
            warnings = [
                "the VM %s stays on its former hypervisor: it is %s" % (folder.name, status)
            ]
    return {"warnings": warnings}, []


@_handler
def _state(
    folder: Folder, _parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    return {"state": targets.state_of(folder)}, []


@_handler
def _plan(
    folder: Folder, parameters: dict[str, Any], data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    """Check that the VM can continue here; without check mode, start the QEMU that waits for it."""
    is_check, settings = parameters["check_mode"], settings_of(parameters)
    with folder.locked(not is_check, parameters["lock_timeout"], is_check):
        target = targets.Target(folder, parameters["origin"], parameters["request"], settings)
        try:
            warnings = target.plan()
            if is_check:
                return {"warnings": warnings}, []
            return {"warnings": warnings, "channel": list(target.prepare(data))}, []
        finally:
            target.close()
            if not is_check:
                folder.tidy()


@_handler
def _receive(
    folder: Folder, parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    with folder.locked(False, parameters["lock_timeout"]):
        targets.receive(folder, parameters["status"], parameters["timeout"])
    return {}, []


@_handler
def _settle(
    folder: Folder, parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    with folder.locked(False, parameters["lock_timeout"]):
        vm, warnings = targets.settle(folder, settings_of(parameters))
    return {"vm": vm, "warnings": warnings}, []


@_handler
def _discard(
    folder: Folder, parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    targets.end_waiting(folder)
    with folder.locked(False, parameters["lock_timeout"]):
        targets.discard(folder, settings_of(parameters))
    return {}, []


@_handler
def _relink(
    folder: Folder, parameters: dict[str, Any], _data: bytes
) -> tuple[dict[str, Any], list[bytes]]:
    """Connect a NIC of a neighbour to another link."""
    params = {
        "root": folder.root,
        "lab": folder.lab,
        "vm": folder.name,
        "allow_restart": False,
        "lock_timeout": parameters["lock_timeout"],
    }
    result = converge_item(params, parameters["check_mode"], "nics", parameters["nic"])
    return {"changed": result["changed"]}, []


HANDLERS = {
    "describe": _describe,
    "send": _send,
    "recover": _recover,
    "remove": _remove,
    "state": _state,
    "plan": _plan,
    "receive": _receive,
    "settle": _settle,
    "discard": _discard,
    "relink": _relink,
}
