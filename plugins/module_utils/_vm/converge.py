# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Bring one VM, or one item of it, into the state that a module asks for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_texts,
    names_hint,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, no_such_vm
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import (
    image_folder,
    with_image_paths,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    NIC_SPEC,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.storage import BOOTABLE
from ansible_collections.vlab.qemu.plugins.module_utils._vm.plan import STATES
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    IMAGE_DIR_SPEC,
    PLACE_SPEC,
    SETTINGS_SPEC,
    settings_of,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import Clone

# Options that only become the content of files, and may be any text.
_CONTENT = ("cloud_init", "config_drive.files", "tftp_files.files")


def vm_argument_spec() -> dict[str, Any]:
    """Return the argument spec of qemu_vm."""
    return dict(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": STATES, "default": "started"},
            "keep_disks": {"type": "bool", "default": False},
            "incoming": {"type": "str"},
            "from": {
                "type": "dict",
                "options": {
                    "vm": {"type": "str", "required": True},
                    "snapshot": {"type": "str", "required": True},
                    "lab": {"type": "str"},
                },
            },
            "allow_container": {"type": "bool", "default": False},
        },
        **PLACE_SPEC,
        **IMAGE_DIR_SPEC,
        **SETTINGS_SPEC,
        **definitions.RUN_SPEC,
        **definitions.argument_spec(),
    )


def converge_vm(params: Params, check_mode: bool) -> Result:
    """Bring one VM into its state; return the module's result. Raises VlabError."""
    check_texts("", params, _CONTENT)
    folder = Folder(params.get("root"), params["lab"], params["name"])
    params = with_image_paths(params, image_folder(folder.root, params.get("image_dir")))
    host = Host(folder, incoming=params.get("incoming") or None)
    run = VmRun(host, settings_of(params))
    create = not check_mode and params["state"] not in ("absent", "reset", "suspended")
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder.locked(create, run.settings["lock_timeout"], check_mode))
        clone = _clone(folder, params)
        if clone and not folder.exists():
            stack.enter_context(clone.locked(run.settings["lock_timeout"]))
        run.observe()
        try:
            _check_vm_exists(folder, run.observation.status, params)
            is_new = run.observation.status == "absent" and params["state"] != "absent"
            if is_new and not params.get("from"):
                _check_boot_source(params)
            return _converge(run, params, check_mode, params.get("allow_container", True), clone)
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
    if item:
        images = image_folder(folder.root, params.get("image_dir"))
        item = with_image_paths({option: [item]}, images)[option][0]
    host = Host(folder, allow_shrink=bool(params.get("allow_shrink")))
    run = VmRun(host, settings_of(params))
    with folder.locked(False, run.settings["lock_timeout"], check_mode):
        run.observe()
        try:
            run.observation.check_damage()
            if run.observation.saved is None:
                if remove is None:
                    raise OptionError("vm", no_such_vm(folder))
                return _no_change()
            if item:
                _check_item(run.observation.saved, option, item)
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


def change_nic(
    settings: Params, vm: str, nic: str, values: dict[str, Any], check_mode: bool = False
) -> bool:
    """Change options of a NIC of an existing VM, as qemu_nic does; return whether it is a change.

    settings: root, lab and lock_timeout. values: the options by name; others stay as they are.
    """
    item: dict[str, Any] = dict(dict.fromkeys(NIC_SPEC), name=nic, **values)
    params = dict(settings, vm=vm, name=nic, allow_restart=False)
    return bool(converge_item(params, check_mode, "nics", item)["changed"])


def _check_vm_exists(folder: Folder, status: str, params: Params) -> None:
    """Raise OptionError for a change of power of an unknown VM: it is more likely a typo than a VM.

    What names an option of the definition, or the origin of a clone, describes a VM, and may define
    it stopped or paused.
    """
    if status != "absent" or params["state"] in ("started", "present", "absent"):
        return
    options = ("from", *definitions.argument_spec())
    describes = any(params.get(name) is not None for name in options)
    if params["state"] in ("reset", "suspended") or not describes:
        raise OptionError("name", no_such_vm(folder))


def _clone(folder: Folder, params: Params) -> Clone | None:
    if not params.get("from") or params["state"] == "absent":
        return None
    # Most runs make no clone.
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import clone_of

    return clone_of(folder, params["from"])


def _converge(
    run: VmRun,
    params: Params,
    check_mode: bool,
    allow_container: bool,
    clone: Clone | None = None,
) -> Result:
    run.request_state(params["state"], allow_container)
    if clone:
        run.make_clone(clone)
    run.make_plan(lambda saved, host: _compose(saved, params, host), params["allow_restart"])
    if not check_mode:
        run.apply()
        run.refresh()
    return run.result(check_mode)


def _compose(saved: Definition | None, params: Params, host: Host) -> Definition:
    clone = host.clone
    if clone is None:
        return definitions.compose(saved, params, host)
    desired = definitions.compose(clone.definition(), params, host)
    clone.check_definition(desired)
    return desired


# Options that a short call, which asks for a blank disk, does not have.
_DEVICES = ("nics", "cloud_init", "config_drive", "passthrough")


def _check_boot_source(params: Params) -> None:
    """Raise OptionError if a new VM is described in detail but has nothing to boot.

    Then a disk was forgotten. A short call, such as one with a name and memory, gets a blank disk.
    """
    devices = [option for option in _DEVICES if params.get(option)]
    from_network = any(nic.get("boot_index") is not None for nic in params.get("nics") or ())
    if not devices or from_network or any(params.get(option) is not None for option in BOOTABLE):
        return
    raise OptionError(
        "disks",
        "the new VM %s has %s but nothing to boot: give disks, cdroms, floppies, kernel or "
        "bios_image, or disks: [] for none" % (params["name"], ", ".join(devices)),
    )


# What changes an existing NIC, and says nothing of a new one.
_CHANGES_OF_NIC = {"name", "link_down", "capture"}


def _check_item(saved: Definition, option: str, item: dict[str, Any]) -> None:
    """Raise OptionError for a change of an unknown NIC: it is more likely a typo than a NIC."""
    names = [nic["name"] for nic in saved[option]]
    given = {key for key, value in item.items() if value is not None}
    if option != "nics" or item["name"] in names or not given - {"name"} or given - _CHANGES_OF_NIC:
        return
    raise OptionError(
        "name",
        "the VM %s has no NIC %s: %s. To add a NIC, give what it is, for example model or link"
        % (saved["name"], item["name"], names_hint(item["name"], names)),
    )


def _no_change() -> Result:
    return {
        "changed": False,
        "changes": [],
        "actions": [],
        "diff": {"before": {}, "after": {}},
        "vm": {},
    }
