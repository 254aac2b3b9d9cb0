# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The module qemu_nic, also as requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import converge_item
from ansible_collections.vlab.qemu.plugins.module_utils._vm.module_service import handlers
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    NIC_SPEC,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    PLACE_SPEC,
    SETTINGS_SPEC,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

_SETTINGS = ("allow_restart", "shutdown", "start_timeout", "unplug_timeout", "lock_timeout")
SPECIFICATION: dict[str, Any] = {
    "argument_spec": {
        "vm": {"type": "str", "required": True},
        "name": {"type": "str", "required": True, "aliases": ["interface"]},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        **PLACE_SPEC,
        **{key: SETTINGS_SPEC[key] for key in _SETTINGS},
        **NIC_SPEC,
    },
}


def work(params: Params, check_mode: bool) -> Result:
    """Bring the NIC into its state; return the module's result."""
    if params["state"] == "absent":
        result = converge_item(params, check_mode, "nics", None, remove=params["name"])
    else:
        nic = {key: params[key] for key in ("name", *NIC_SPEC)}
        result = converge_item(params, check_mode, "nics", nic)
    nics = [nic for nic in result["vm"].get("nics", ()) if nic["name"] == params["name"]]
    return dict(result, nic=nics[0] if nics else {})


HANDLERS = handlers(work, SPECIFICATION)
