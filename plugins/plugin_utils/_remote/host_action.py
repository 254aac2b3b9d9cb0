# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The common part of the action plugins that send requests to the host of their task."""

from __future__ import annotations

from typing import Any, Mapping

from ansible import constants as C
from ansible.module_utils.common.text.converters import to_bytes
from ansible.plugins.action import ActionBase

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import client
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import pipelining

Result = dict[str, Any]


class HostAction(ActionBase):
    """An action plugin that can do its work by a request. Otherwise it runs a module."""

    def send_request(
        self, task_vars: Mapping[str, Any], service: str, name: str, parameters: Mapping[str, Any]
    ) -> Result | None:
        """Return the result of a request; None if it was not possible and changed nothing."""
        if not self._can_send_request():
            return None
        reply = client.send_request(
            self._run_command, self._interpreter(task_vars), service, name, parameters
        )
        if reply.message is not None:
            result: Result = reply.message.content["result"]
            return result
        if reply.started:
            return {
                "failed": True,
                "changed": True,
                "msg": "%s ended before it was done (exit code %s): %s"
                % (
                    self._task.action.rpartition(".")[2],
                    reply.code,
                    reply.output[-2000:] or "it printed nothing",
                ),
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

    def _interpreter(self, task_vars: Mapping[str, Any]) -> str:
        variables = task_vars
        if self._task.delegate_to:
            variables = task_vars["ansible_delegated_vars"][self._task.delegate_to]
        given = self._templar.template(variables.get("ansible_python_interpreter"))
        return client.interpreter_of(dict(variables, ansible_python_interpreter=given))

    def _run_command(self, command: str, data: bytes) -> tuple[int, bytes, bytes]:
        """Run a command line of sh with input; return its exit code, output and error output."""
        command = " ".join(filter(None, (self._compute_environment_string(), command)))
        with pipelining(self._connection):
            done = self._low_level_execute_command(command, in_data=data, sudoable=True)
        return done["rc"], to_bytes(done["stdout"]), to_bytes(done["stderr"])
