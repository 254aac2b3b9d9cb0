# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A host's share of a lab as a request: what the module qemu_lab does, without its start-up time.

Ansible builds and unpacks a module again for each task, which takes longer than to observe 60 VMs.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common import option_paths
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    VlabError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import lab_record
from ansible_collections.vlab.qemu.plugins.module_utils._lab.arguments import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.module_utils._lab.converge import converge_lab
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import check_name, root_folder


def result_of(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return the result of the module, also if it fails."""
    option_paths.expand(params, ARGUMENTS)
    try:
        with report_os_errors("cannot converge the lab %s" % params["lab"]):
            result: dict[str, Any] = converge_lab(params, check_mode)
    except VlabError as error:
        facts = dict(error.facts)
        if "failed" in facts:
            facts["failed_nodes"] = facts.pop("failed")
        return dict(facts, failed=True, changed=False, msg=error.message)
    return result


def _converge(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    return result_of(parameters["params"], parameters["check_mode"]), []


def _record(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return the text of the record of a lab, None without one or for a damaged one."""
    option_paths.expand(parameters, ARGUMENTS)
    record = lab_record.LabRecord()
    with contextlib.suppress(VlabError):
        lab = check_name("lab", parameters["lab"])
        record = lab_record.read(os.path.join(root_folder(parameters["root"]), lab))
    return {"record": lab_record.to_text(record) if record.revision else None}, []


HANDLERS = {"converge": _converge, "record": _record}
