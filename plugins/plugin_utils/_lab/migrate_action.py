# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The action of qemu_migrate: it reads the options, and sends requests to both hypervisors."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.to_file import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.migration import (
    SERVICE,
    Migration,
    Neighbour,
    Options,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.play_hypervisors import (
    PlayHypervisors,
)

_MIB = 1 << 20


class MigrateAction(ActionBase):
    """One run of qemu_migrate."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task; return its result."""
        super().run(tmp, task_vars)
        self.task_vars = task_vars or {}
        self.host: str = self.task_vars["inventory_hostname"]
        try:
            params = _validated(dict(self._task.args))
            if params["to_file"] is not None:
                result: dict[str, Any] = self._execute_module(
                    "vlab.qemu.qemu_migrate", task_vars=self.task_vars
                )
                return result
            connection = str(self._task.connection or "ssh")
            with PlayHypervisors(
                self.task_vars["hostvars"], connection, self._play_context, SERVICE, "to"
            ) as hypervisors:
                return self._migrate(params, hypervisors)
        except AnsibleError as error:
            # As an exception it would bypass failed_when and until, unlike an error of a module.
            return {"failed": True, "changed": False, "msg": error.message}

    def _migrate(self, params: dict[str, Any], hypervisors: PlayHypervisors) -> dict[str, Any]:
        to = params["to"] or self.host
        is_same = to == self.host
        root, to_root = (_path(params[name]) for name in ("root", "to_root"))
        if to_root is None and not is_same:
            to_root = root
        if is_same and to_root == root:
            raise AnsibleActionFail(
                "to: the VM is on %s already: give another hypervisor, or to_root" % to
            )
        request = {
            "host": None if is_same else hypervisors.address(to, self.host, params["address"]),
            "port": params["port"],
            "nics": params["nics"],
            "allow_container": params["allow_container"],
        }
        limits = {
            "downtime": params["downtime"],
            "bandwidth": (params["bandwidth"] or 0) * _MIB,
            "timeout": params["timeout"],
        }
        common = {name: params[name] for name in ("lock_timeout", "start_timeout")}
        options = Options(
            params["vm"],
            params["lab"],
            root,
            to_root,
            request,
            params["encrypt"],
            limits,
            common,
            self._task.check_mode,
        )
        neighbours = [
            Neighbour(
                hypervisors.get(entry["hypervisor"] or self.host),
                {
                    "root": _path(entry["root"]) or root,
                    "lab": entry["lab"] or params["lab"],
                    "vm": entry["vm"],
                },
                {"name": entry["nic"], "link": entry["link"]},
            )
            for entry in params["neighbours"] or ()
        ]
        # On one host as well, each has a connection of its own: both work at the same time.
        origin, target = hypervisors.get(self.host), hypervisors.get(to, "target")
        return Migration(origin, target, neighbours, options).run()


def _path(path: str | None) -> str | None:
    return os.path.normpath(path) if path and os.path.isabs(path) else path


def _validated(args: dict[str, Any]) -> dict[str, Any]:
    """Return the options with their types and defaults."""
    checked = ArgumentSpecValidator(
        ARGUMENTS, mutually_exclusive=[("to", "to_file"), ("to_root", "to_file")]
    ).validate(args)
    if checked.error_messages:
        raise AnsibleActionFail("; ".join(checked.error_messages))
    params: dict[str, Any] = checked.validated_parameters
    return params
