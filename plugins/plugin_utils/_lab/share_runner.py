# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How qemu_lab runs a host's share of a lab on that host: by a request, else as a module."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from ansible import constants as C
from ansible.module_utils.common.text.converters import to_bytes
from ansible.plugins.action import ActionBase

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import client, code_bundle
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import pipelining

Params = dict[str, Any]
Result = dict[str, Any]


class ShareRunner(ActionBase):
    """An action plugin that can run a share on the task's host. task_vars: of that host."""

    task_vars: dict[str, Any]

    def run_share(self, params: Params, share: Params) -> Result:
        """Run a share on the host; return the result of the module.

        params: the options of qemu_lab that the host needs.
        """
        result = self._send_request(params, share)
        if result is None:
            share = dict(share, code_bundle=code_bundle.digest())
            result = self._run_module(params, share)
            if result.get("code_bundle_missing"):
                result = self._run_module_with_code_bundle(params, share)
        return result

    def _send_request(self, params: Params, share: Params) -> Result | None:
        """Return the result of a request; None if it was not possible and changed nothing."""
        if not self._can_send_request():
            return None
        interpreter = self._templar.template(self.task_vars.get("ansible_python_interpreter"))
        reply = client.send_request(
            self._run_command,
            client.interpreter_of(dict(self.task_vars, ansible_python_interpreter=interpreter)),
            "_lab.lab_service",
            "converge",
            {"params": dict(params, **share), "check_mode": self._task.check_mode},
        )
        if reply.message is not None:
            result: Result = reply.message.content["result"]
            return result
        if reply.started:
            return {
                "failed": True,
                "changed": True,
                "msg": "qemu_lab ended before it was done (exit code %s): %s"
                % (reply.code, reply.output[-2000:] or "it printed nothing"),
            }
        # The host has no Python, or its sudo requires a terminal, for example. Ansible's way of
        # running a module copes with that, or reports it.
        return None

    def _can_send_request(self) -> bool:
        connection = self._connection
        if not connection.has_pipelining or connection._shell.SHELL_FAMILY != "sh":
            return False
        if connection.become is not None and not connection.become.pipelining:
            return False
        return not C.DEFAULT_KEEP_REMOTE_FILES

    def _run_command(self, command: str, data: bytes) -> tuple[int, bytes, bytes]:
        """Run a command line of sh with input; return its exit code, output and error output."""
        command = " ".join(filter(None, (self._compute_environment_string(), command)))
        with pipelining(self._connection):
            done = self._low_level_execute_command(command, in_data=data, sudoable=True)
        return done["rc"], to_bytes(done["stdout"]), to_bytes(done["stderr"])

    def _run_module(self, params: Params, share: Params) -> Result:
        # As texts: Ansible processes each value of arguments and results, which takes long for a
        # large lab.
        result: Result = self._execute_module(
            "vlab.qemu.qemu_lab",
            module_args=dict(params, share=json.dumps(share)),
            task_vars=self.task_vars,
        )
        if isinstance(result.get("vms"), str):
            result["vms"] = json.loads(result["vms"])
        return result

    def _run_module_with_code_bundle(self, params: Params, share: Params) -> Result:
        """Copy the code bundle to the host, which caches it, and run the module."""
        path = self._connection._shell.join_path(self._make_tmp_path(), "bundle.zip")
        with tempfile.NamedTemporaryFile(suffix=".zip") as local:
            local.write(code_bundle.pack())
            local.flush()
            self._transfer_file(local.name, path)
        self._fixup_perms2((self._connection._shell.tmpdir, path))
        try:
            return self._run_module(params, dict(share, code_bundle_archive=path))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
