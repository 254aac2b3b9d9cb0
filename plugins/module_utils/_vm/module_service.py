# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Modules as requests: what the module does, without its start-up time.

Each service names the module's arguments of AnsibleModule as SPECIFICATION, for the module and for
its action plugin, which validates the options on the controller.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible_collections.vlab.qemu.plugins.module_utils._common import option_paths
from ansible_collections.vlab.qemu.plugins.module_utils._common.masking import without_contents
from ansible_collections.vlab.qemu.plugins.module_utils._common.module_result import result_of
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import Handler

# Takes the options and whether it is check mode; returns the module's result or raises VlabError.
Work = Callable[[dict[str, Any], bool], dict[str, Any]]


def handlers(work: Work, specification: Mapping[str, Any]) -> dict[str, Handler]:
    """Return the HANDLERS of a module's service.

    The handler takes `params`, validated except for their paths, and `check_mode`.
    """

    def run(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
        params = parameters["params"]
        option_paths.expand(params, specification["argument_spec"])
        result = result_of(lambda: work(params, parameters["check_mode"]))
        if not result.get("warnings"):
            result.pop("warnings", None)  # as in run_module
        invocation = {"module_args": without_contents(params)}
        return {"invocation": invocation, **result}, []

    return {"run": run}
