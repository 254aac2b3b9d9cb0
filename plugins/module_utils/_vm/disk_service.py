# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The module qemu_disk, also as requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import module_diff
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import disk_jobs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import converge_item
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image import SPEC, converge_image
from ansible_collections.vlab.qemu.plugins.module_utils._vm.module_service import handlers
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import (
    ATTACHMENT_SPEC,
    DISK_SPEC,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    IMAGE_DIR_SPEC,
    PLACE_SPEC,
    SETTINGS_SPEC,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

SPECIFICATION: dict[str, Any] = {
    "argument_spec": {
        "vm": {"type": "str"},
        "name": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "keep_image": {"type": "bool", "default": False},
        **PLACE_SPEC,
        **IMAGE_DIR_SPEC,
        **SETTINGS_SPEC,
        **SPEC,
        **ATTACHMENT_SPEC,
        **disk_jobs.SPEC,
    },
    "required_together": [("vm", "name")],
    "required_one_of": [("path", "vm")],
}

_IMAGE_ONLY = (
    "source",
    "source_format",
    "source_secret_file",
    "compress",
    "convert",
    "commit",
    "check",
    "repair",
    "force",
)
_VM_ONLY = (*ATTACHMENT_SPEC, "backup")


def _check_options(params: Params) -> None:
    """Raise OptionError for an option that needs vm but has none, or the reverse."""
    for option in _IMAGE_ONLY if params["vm"] else _VM_ONLY:
        if params[option] in (None, False, "none"):
            continue
        if params["vm"]:
            why = "it works on an image alone: omit vm, and use it while no VM has the image open"
        elif option == "backup":
            why = "it copies the disk of a VM: give vm and name, or use source"
        else:
            why = "it defines how a VM uses the disk: give vm and name"
        raise OptionError(option, why)


def work(params: Params, check_mode: bool) -> Result:
    """Bring the image, or the disk of the VM, into its state; return the module's result."""
    _check_options(params)
    if not params["vm"]:
        return converge_image(params, check_mode)
    params["keep_disks"] = params["keep_image"]
    if params["state"] == "absent":
        result = converge_item(params, check_mode, "disks", None, remove=params["name"])
    else:
        disk = {key: params[key] for key in DISK_SPEC}
        result = converge_item(params, check_mode, "disks", disk)
    disks = [disk for disk in result["vm"].get("disks", ()) if disk["name"] == params["name"]]
    result["disk"] = disks[0] if disks else {}
    if params["state"] == "present" and disk_jobs.is_requested(params):
        _add_jobs(params, check_mode, result)
    return result


def _add_jobs(params: Params, check_mode: bool, result: Result) -> None:
    """Take the snapshots and the backup, and add them to the result."""
    changes, snapshots = disk_jobs.converge_jobs(params, check_mode)
    diff = module_diff(changes)
    result["changed"] = result["changed"] or bool(changes)
    result["changes"] = result["changes"] + [change.result() for change in changes]
    if not check_mode:
        result["actions"] = result["actions"] + ["change %s" % c.option for c in changes]
    result["diff"] = {side: {**result["diff"][side], **diff[side]} for side in diff}
    result["disk"] = dict(result["disk"], snapshots=snapshots)


HANDLERS = handlers(work, SPECIFICATION)
