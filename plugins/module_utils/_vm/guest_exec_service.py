# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The module qemu_guest_exec, also as requests."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_exec import (
    run_in_guest,
    wait_for_agent,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing
from ansible_collections.vlab.qemu.plugins.module_utils._vm.guest_cause import check_agent
from ansible_collections.vlab.qemu.plugins.module_utils._vm.module_service import handlers

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

SPECIFICATION: dict[str, Any] = {
    "argument_spec": {
        "vm": {"type": "str"},
        "lab": {"type": "str", "default": "default"},
        "root": {"type": "path"},
        "argv": {"type": "list", "elements": "str"},
        "cmd": {"type": "str"},
        "cmds": {"type": "dict"},
        "stdin": {"type": "str"},
        "timeout": {"type": "int", "default": 60},
        "ready_timeout": {"type": "int", "default": 60},
    },
    "mutually_exclusive": [("argv", "cmd", "cmds"), ("vm", "cmds"), ("stdin", "cmds")],
    "required_one_of": [("argv", "cmd", "cmds"), ("vm", "cmds")],
}
_MAX_WORKERS = 64  # threads: they wait for the guests


def work(params: Params, check_mode: bool) -> Result:
    """Run the command in the guest; return the module's result."""
    if check_mode:
        return {"changed": True, "skipped": True, "msg": "commands are not run in check mode"}
    if params["cmds"] is not None:
        return _run_in_several(params)
    if not params["argv"] and not params["cmd"]:
        raise OptionError("argv", "a program is required")
    result = _run_in(params, params["vm"], params["argv"] or _shell(params["cmd"]))
    lines = {"%s_lines" % name: result[name].splitlines() for name in ("stdout", "stderr")}
    return {**result, **lines, **({"failed": True} if "msg" in result else {"changed": True})}


def _shell(line: str) -> list[str]:
    return ["/bin/sh", "-c", line]


def _run_in(params: Params, vm: str, argv: list[str]) -> Result:
    """Run a program in the guest of a VM; return its result, with msg if it failed."""
    folder = existing(params["root"], params["lab"], vm)
    timeout, socket = params["ready_timeout"], folder.socket("agent.sock")
    with wait_for_agent(socket, timeout, lambda error: check_agent(error, folder)) as agent:
        result = run_in_guest(agent, argv, params["timeout"], params["stdin"])
    if result["rc"] != 0:
        return dict(
            result,
            msg="the command ended with exit code %d in the guest %s: %s"
            % (result["rc"], vm, result["stderr"].strip() or result["stdout"].strip()),
        )
    return result


def _run_in_several(params: Params) -> Result:
    """Run a command line in the guest of each VM, all at the same time; return the result."""
    lines: dict[str, Any] = params["cmds"]
    for vm, line in lines.items():
        if not isinstance(line, str) or not line:
            raise OptionError("cmds.%s" % vm, "a command line is required")
    if not lines:
        return {"changed": False, "outputs": []}

    def run(vm: str) -> Result:
        try:
            result = _run_in(params, vm, _shell(lines[vm]))
        except VlabError as error:
            result = {"msg": error.message}
        return {"vm": vm, **result}

    with concurrent.futures.ThreadPoolExecutor(min(_MAX_WORKERS, len(lines))) as pool:
        outputs = list(pool.map(run, lines))
    failures = ["%s: %s" % (output["vm"], output["msg"]) for output in outputs if "msg" in output]
    if failures:
        return {"failed": True, "msg": "\n".join(failures), "outputs": outputs}
    return {"changed": True, "outputs": outputs}


HANDLERS = handlers(work, SPECIFICATION)
