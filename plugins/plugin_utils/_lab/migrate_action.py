# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The action of qemu_migrate: it reads the options, and sends requests to both hypervisors."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import names_hint
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.to_file import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.migration import (
    Migration,
    Neighbour,
    Options,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import (
    Hypervisor,
    variables_for,
)

_SERVICE = "_vm.migration_service"
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
        self._hypervisors: dict[str, Hypervisor] = {}
        try:
            params = _validated(dict(self._task.args))
            if params["to_file"] is not None:
                result: dict[str, Any] = self._execute_module(
                    "vlab.qemu.qemu_migrate", task_vars=self.task_vars
                )
                return result
            return self._migrate(params)
        except AnsibleError as error:
            # As an exception it would bypass failed_when and until, unlike an error of a module.
            return {"failed": True, "changed": False, "msg": error.message}
        finally:
            for hypervisor in self._hypervisors.values():
                with contextlib.suppress(AnsibleError):
                    hypervisor.close()

    def _migrate(self, params: dict[str, Any]) -> dict[str, Any]:
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
            "host": None if is_same else self._address(params["address"], to),
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
                self._hypervisor(entry["hypervisor"] or self.host),
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
        target = self._new(to)
        self._hypervisors[" to"] = target
        return Migration(self._hypervisor(self.host), target, neighbours, options).run()

    def _hypervisor(self, name: str) -> Hypervisor:
        if name not in self._hypervisors:
            self._hypervisors[name] = self._new(name)
        return self._hypervisors[name]

    def _new(self, name: str) -> Hypervisor:
        hostvars = self.task_vars["hostvars"]
        if name not in hostvars:
            raise AnsibleActionFail(
                "to: the inventory has no host %s: %s" % (name, names_hint(name, sorted(hostvars)))
            )
        variables = variables_for(dict(hostvars[name]))
        variables.setdefault("ansible_connection", str(self._task.connection or "ssh"))
        context = self._play_context
        if "ansible_become" not in variables and context.become:
            variables.update(
                ansible_become=True,
                ansible_become_method=context.become_method,
                ansible_become_user=context.become_user,
            )
            if context.become_pass:
                variables["ansible_become_password"] = context.become_pass
        return Hypervisor(name, variables, _SERVICE)

    def _address(self, given: str | None, to: str) -> str:
        """Return the address at which the origin reaches the target."""
        variables = self.task_vars["hostvars"].get(to) or {}
        name = given or variables.get("vlab_address") or variables.get("ansible_host") or to
        try:
            found = socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM)
        except OSError:
            raise AnsibleActionFail(
                "address: the address of %s (%s) cannot be resolved: set it, or vlab_address for"
                " that host" % (to, name)
            )
        address = str(found[0][4][0])
        if address.startswith("127.") or address == "::1":
            raise AnsibleActionFail(
                "address: that of %s is %s, at which another host does not reach it: set it, or"
                " vlab_address for that host" % (to, address)
            )
        return address


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
