# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run module calls on a hypervisor, with replacements for Ansible's action plugins."""

from __future__ import annotations

import json
import pathlib
import shlex
from typing import Any, Callable

from channel import Channel

COLLECTION = "ansible_collections.vlab.qemu.plugins.modules."
BUILTIN = "ansible.modules."
# Modules that accept a text instead of options.
FREE_FORM = ("ansible.builtin.command", "ansible.builtin.shell")


class Call:
    """One module call."""

    def __init__(
        self,
        module: str,
        options: dict[str, Any],
        files: pathlib.Path,
        check: bool,
        diff: bool,
        user: str,
        environment: dict[str, str],
    ) -> None:
        """Call a module with options, as a user (default: root), with files from a folder."""
        self.module, self.options, self.files = module, options, files
        self.check, self.diff, self.user, self.environment = check, diff, user, environment

    def request(self, module: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the request for the server: a Python module and its complete arguments."""
        internal = {
            "_ansible_check_mode": self.check,
            "_ansible_diff": self.diff,
            "_ansible_verbosity": 0,
            "_ansible_no_log": False,
            "_ansible_debug": False,
            "_ansible_module_name": self.module,
            "_ansible_remote_tmp": "~/.ansible/tmp",
            "_ansible_keep_remote_files": False,
            "_ansible_syslog_facility": "LOG_USER",
            "_ansible_socket": None,
            "_ansible_target_log_info": None,
            "_ansible_ignore_unknown_opts": False,
            "_ansible_selinux_special_fs": ["fuse", "nfs", "vboxsf", "ramfs", "9p", "vfat"],
        }
        return {
            "module": module,
            "args": {**options, **internal},
            "user": self.user,
            "environment": self.environment,
        }


def python_name(module: str) -> str:
    """Return the name under which Python imports a module."""
    if module.startswith("vlab.qemu."):
        return COLLECTION + module.rpartition(".")[2]
    return BUILTIN + {"shell": "command"}.get(module.rpartition(".")[2], module.rpartition(".")[2])


def result_of(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a module as Ansible would, from its output."""
    for line in reversed(reply["stdout"].splitlines()):
        if line.startswith("{"):
            try:
                result: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            break
    else:
        result = {"failed": True, "msg": "MODULE FAILURE"}
    if result.get("msg") == "MODULE FAILURE" or reply["stderr"].find("\nsteps: ") >= 0:
        result.update(
            failed=True,
            msg="MODULE FAILURE: " + reply["stderr"][-3000:],
            module_stderr=reply["stderr"],
            module_stdout=reply["stdout"],
        )
    for name in ("stdout", "stderr"):
        if isinstance(result.get(name), str):
            result.setdefault(name + "_lines", result[name].splitlines())
    if "failed" not in result:
        result["failed"] = result.get("rc", 0) not in (0, "0")
    result.setdefault("changed", False)
    return result


def run(channel: Channel, call: Call) -> dict[str, Any]:
    """Run a call and return its result."""
    return ACTIONS.get(call.module, _plain)(channel, call)


def start(channel: Channel, call: Call) -> dict[str, Any]:
    """Start a call in the background."""
    module, options = _prepared(call)
    job = channel.ask("start", **call.request(module, options))["job"]
    return {
        "ansible_job_id": job,
        "started": True,
        "finished": False,
        "changed": False,
        "failed": False,
    }


def _prepared(call: Call) -> tuple[str, dict[str, Any]]:
    """Return the Python module of a call and its options."""
    options = dict(call.options)
    if call.module == "ansible.builtin.shell":
        options["_uses_shell"] = True
        if "cmd" in options:
            options["_raw_params"] = options.pop("cmd")
    return python_name(call.module), options


def _plain(channel: Channel, call: Call) -> dict[str, Any]:
    """Run a module that has no action plugin."""
    module, options = _prepared(call)
    return result_of(channel.ask("run", **call.request(module, options)))


def _copy(channel: Channel, call: Call) -> dict[str, Any]:
    """Run ansible.builtin.copy."""
    options = dict(call.options)
    if options.get("remote_src"):
        return _plain(channel, call)
    if "content" in options:
        content = options.pop("content")
        data = (content if isinstance(content, str) else json.dumps(content)).encode("utf-8")
        name = "content"
    else:
        source = call.files / options["src"]
        data, name = source.read_bytes(), source.name
        options["_original_basename"] = name
    path = channel.put(name, data)
    try:
        return result_of(
            channel.ask("run", **call.request(BUILTIN + "copy", dict(options, src=path)))
        )
    finally:
        channel.ask("drop", path=path)


def _script(channel: Channel, call: Call) -> dict[str, Any]:
    """Run ansible.builtin.script."""
    options = call.options
    name, *arguments = shlex.split(options.get("cmd") or options["_raw_params"])
    path = channel.put(name, (call.files / name).read_bytes(), 0o700)
    argv = [*shlex.split(options.get("executable", "")), path, *arguments]
    try:
        return result_of(channel.ask("run", **call.request(BUILTIN + "command", {"argv": argv})))
    finally:
        channel.ask("drop", path=path)


def _async_status(channel: Channel, call: Call) -> dict[str, Any]:
    """Run ansible.builtin.async_status."""
    job = call.options["jid"]
    reply = channel.ask("poll", job=job)
    if reply.get("running"):
        return {
            "ansible_job_id": job,
            "started": True,
            "finished": False,
            "changed": False,
            "failed": False,
        }
    return dict(result_of(reply), ansible_job_id=job, started=True, finished=True)


ACTIONS: dict[str, Callable[[Channel, Call], dict[str, Any]]] = {
    "ansible.builtin.copy": _copy,
    "ansible.builtin.script": _script,
    "ansible.builtin.async_status": _async_status,
}
