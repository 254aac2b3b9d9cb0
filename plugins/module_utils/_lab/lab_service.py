# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A lab's share of a hypervisor as an errand: what the module qemu_lab does, without a module around it.

Ansible builds a module anew for each task, and loads its own rooms on the hypervisor: that takes longer than to look at sixty VMs.
"""

from __future__ import annotations

import json
import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.converge import converge_lab

STARTED = "started"  # after the mark: from here on, something may have been changed


def result_of(params, check_mode):
    """The module's result, also for what failed."""
    if params.get("root"):
        params["root"] = os.path.expanduser(os.path.expandvars(params["root"]))
    try:
        return converge_lab(params, check_mode)
    except VlabError as error:
        facts = dict(error.facts)
        if "failed" in facts:
            facts["failed_nodes"] = facts.pop("failed")
        return dict(facts, failed=True, changed=False, msg=error.message)


def serve(source, target):
    """Do the errand that a line of JSON on source (binary) asks for; write lines to target: the mark that we started, the mark, the result."""
    asked = json.loads(source.readline())
    mark = asked["mark"].encode("ascii")
    target.write(mark + b" " + STARTED.encode("ascii") + b"\n")
    target.flush()
    result = result_of(asked["params"], asked["check_mode"])
    target.write(mark + b"\n" + json.dumps(result).encode("ascii") + b"\n")
    target.flush()
