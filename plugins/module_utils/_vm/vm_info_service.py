# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The module qemu_vm_info, also as requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vm_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.module_service import handlers

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

SPECIFICATION: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str"},
        "lab": {"type": "str"},
        "root": {"type": "path"},
        "ask_agent": {"type": "bool", "default": False},
        "agent_timeout": {"type": "int", "default": 2},
    },
}


def work(params: Params, _check_mode: bool) -> Result:
    """Query the VMs; return the module's result."""
    vms, warnings = vm_facts(
        params["root"],
        params["lab"],
        params["name"],
        params["ask_agent"],
        params["agent_timeout"],
        with_definition=True,
    )
    return {"changed": False, "vms": vms, "warnings": warnings}


HANDLERS = handlers(work, SPECIFICATION)
