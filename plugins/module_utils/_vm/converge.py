# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""One VM, from options to result: observe, plan, apply."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import module_diff
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_texts
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.apply import Applier
from ansible_collections.vlab.qemu.plugins.module_utils._vm.container import refuse_start
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, no_such_vm
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.plan import STATES, plan, starts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.report import report
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    PLACE_SPEC,
    SETTINGS_SPEC,
    settings_of,
)

# What only ever becomes bytes in a file may be any text.
_CONTENT = ("cloud_init", "config_drive.files")


def vm_argument_spec():
    """The argument spec of qemu_vm."""
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


def converge_vm(params, check_mode):
    """Bring one VM into the state that params ask for; return the module's result. Raises VlabError."""
    check_texts("", params, _CONTENT)
    folder = Folder(params.get("root"), params["lab"], params["name"])
    settings = settings_of(params)
    create = not check_mode and params["state"] not in ("absent", "reset")
    with folder.locked(create, settings["lock_timeout"]):
        observation = observe(folder)
        try:
            return _converge(params, Host(folder), settings, observation, check_mode)
        finally:
            observation.close()
            if create:
                folder.tidy()


def converge_item(params, check_mode, option, item, remove=None):
    """Bring one disk or NIC of a VM that exists into the state that params ask for; the VM's power stays as it is.

    option: disks or nics. item: the entry for that list, or None. remove: the name of the one to remove.
    """
    check_texts("", params)
    folder = Folder(params.get("root"), params["lab"], params["vm"])
    settings = settings_of(params)
    with folder.locked(False, settings["lock_timeout"]):
        observation = observe(folder)
        try:
            if observation.saved is None:
                if remove is not None:
                    return {
                        "changed": False,
                        "changes": [],
                        "actions": [],
                        "diff": {"before": {}, "after": {}},
                        "vm": {},
                    }
                raise OptionError("vm", no_such_vm(folder))
            given = {
                "state": "present",
                "allow_restart": params["allow_restart"],
                option: [item] if item else None,
                "remove_" + option: [remove] if remove is not None else None,
            }
            host = Host(folder)
            host.allow_shrink = bool(params.get("allow_shrink"))
            return _converge(given, host, settings, observation, check_mode)
        finally:
            observation.close()


def _converge(params, host, settings, observation, check_mode):
    state = params["state"]
    host.incoming = params.get("incoming") or None
    # A disk or a NIC belongs to a VM that was started before: that was asked for then.
    allowed = params.get("allow_container", True)
    if starts(observation, state):
        refuse_start(allowed)  # before QEMU is looked for, which such a container seldom has
    desired, pending = None, []
    if state != "absent" and not (state == "reset" and observation.status == "absent"):
        desired = definitions.compose(observation.saved, params, host)
        if observation.saved and not observation.alive:
            pending = [change for part in PARTS for change in part.pending(desired, host)]
    todo = plan(observation, desired, state, params["allow_restart"], pending)
    if "start" in todo.steps:
        refuse_start(allowed)
    applier = Applier(host, observation, desired, todo, settings)
    applier.check()
    if not check_mode:
        applier.run()
        applier.refresh()
    return result(observation, desired, todo, applier, host, check_mode)


def result(observation, desired, todo, applier, host, check_mode):
    """The result of a module that works on a VM."""
    told = {
        "changed": todo.changed,
        "changes": [change.result() for change in todo.changes],
        "actions": applier.actions,
        "diff": module_diff(todo.changes),
        "vm": report(observation, desired),
    }
    if applier.stopped_by:
        told["stopped_by"] = applier.stopped_by
    if check_mode and told["vm"]:
        state = [change.after for change in todo.changes if change.option == "state"]
        told["vm"]["status"] = state[0] if state else told["vm"]["status"]
    if host.warnings:
        told["warnings"] = host.warnings
    return told
