# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The module qemu_snapshot_info, also as requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.snapshots import folders_of
from ansible_collections.vlab.qemu.plugins.module_utils._vm.module_service import handlers
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.run import snapshot_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import PLACE_SPEC

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

SPECIFICATION: dict[str, Any] = {
    "argument_spec": {"vm": {"type": "str"}, "name": {"type": "str"}, **PLACE_SPEC},
}


def work(params: Params, _check_mode: bool) -> Result:
    """Gather the facts; return the module's result."""
    found, warnings = [], []
    for folder in folders_of(params["root"], params["lab"], params["vm"]):
        try:
            found += snapshot_facts(folder)
        except VlabError as error:
            warnings.append("%s/%s: %s" % (folder.lab, folder.name, error.message))
    if params["name"] is not None:
        found = [entry for entry in found if entry["name"] == params["name"]]
    return {"changed": False, "snapshots": found, "warnings": warnings}


HANDLERS = handlers(work, SPECIFICATION)
