# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Bring one VM, or one item of it, into the state that a module asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_texts
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, no_such_vm
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.plan import STATES
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    PLACE_SPEC,
    SETTINGS_SPEC,
    settings_of,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

# Options that only become the content of files, and may be any text.
_CONTENT = ("cloud_init", "config_drive.files")


def vm_argument_spec() -> dict[str, Any]:
    """Return the argument spec of qemu_vm."""
    return dict(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": STATES, "default": "started"},
            "keep_disks": {"type": "bool", "default": False},
            "incoming": {"type": "str"},
            "allow_container": {"type": "bool", "default": False},
        },
        **PLACE_SPEC,
        **SETTINGS_SPEC,
        **definitions.RUN_SPEC,
        **definitions.argument_spec(),
    )


def converge_vm(params: Params, check_mode: bool) -> Result:
    """Bring one VM into its state; return the module's result. Raises VlabError."""
    check_texts("", params, _CONTENT)
    folder = Folder(params.get("root"), params["lab"], params["name"])
    host = Host(folder, incoming=params.get("incoming") or None)
    run = VmRun(host, settings_of(params))
    create = not check_mode and params["state"] not in ("absent", "reset")
    with folder.locked(create, run.settings["lock_timeout"]):
        run.observe()
        try:
            return _converge(run, params, check_mode, params.get("allow_container", True))
        finally:
            run.close()
            if create:
                folder.tidy()


def converge_item(
    params: Params,
    check_mode: bool,
    option: str,
    item: dict[str, Any] | None,
    remove: str | None = None,
) -> Result:
    """Bring one disk or NIC of an existing VM into its state; leave the VM's power as it is.

    option: disks or nics. item: the entry for that list, or None. remove: the name of the item to
    remove.
    """
    check_texts("", params)
    folder = Folder(params.get("root"), params["lab"], params["vm"])
    host = Host(folder, allow_shrink=bool(params.get("allow_shrink")))
    run = VmRun(host, settings_of(params))
    with folder.locked(False, run.settings["lock_timeout"]):
        run.observe()
        try:
            if run.observation.saved is None:
                if remove is None:
                    raise OptionError("vm", no_such_vm(folder))
                return _no_change()
            given = {
                "state": "present",
                "allow_restart": params["allow_restart"],
                option: [item] if item else None,
                "remove_" + option: [remove] if remove is not None else None,
            }
            # The start of the VM was allowed before, when it was started.
            return _converge(run, given, check_mode, allow_container=True)
        finally:
            run.close()


def _converge(run: VmRun, params: Params, check_mode: bool, allow_container: bool) -> Result:
    run.request_state(params["state"], allow_container)
    run.make_plan(
        lambda saved, host: definitions.compose(saved, params, host), params["allow_restart"]
    )
    if not check_mode:
        run.apply()
        run.refresh()
    return run.result(check_mode)


def _no_change() -> Result:
    return {
        "changed": False,
        "changes": [],
        "actions": [],
        "diff": {"before": {}, "after": {}},
        "vm": {},
    }
