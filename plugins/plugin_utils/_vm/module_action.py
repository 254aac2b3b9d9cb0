# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The action of modules that users call in loops, or that the roles call: by a request, else as
Ansible runs modules.

Ansible builds and unpacks a module again for each item of a loop.
"""

from __future__ import annotations

import json
from importlib import import_module
from types import ModuleType
from typing import Any, Mapping

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action.normal import ActionModule as NormalAction

from ansible_collections.vlab.qemu.plugins.module_utils._common import option_paths
from ansible_collections.vlab.qemu.plugins.module_utils._remote.code_bundle import PACKAGE
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import bytecode_cache
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.host_action import (
    HostAction,
    Result,
)


_INJECT = "INJECT_INVOCATION"


def load_service(name: str, layer: str = "_vm") -> ModuleType:
    """Return a service of module_utils/_vm, or of another layer.

    Action plugins call it when Ansible loads them, which is before it forks its workers.
    """
    bytecode_cache.activate()
    return import_module("%s.%s.%s" % (PACKAGE, layer, name))


def _injects_invocation(task_vars: Mapping[str, Any]) -> bool:
    """Return whether results have the options of their module: always before ansible-core 2.21."""
    if _INJECT not in C.config.get_configuration_definitions():
        return True
    return bool(C.config.get_config_value(_INJECT, variables=task_vars))


class ModuleAction(HostAction, NormalAction):
    """The action of a module. service: its service, see load_service."""

    service: ModuleType

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Run the task; return its result."""
        task_vars = task_vars or {}
        try:
            self._task.args = self.with_files(self._task.args)
        except AnsibleActionFail as error:
            # As an exception it would bypass failed_when and until, unlike an error of a module.
            return {"failed": True, "changed": False, "msg": error.message}
        result = None
        params = None if self._task.async_val else self._validated()
        if params is not None:
            request = {"params": params, "check_mode": self._task.check_mode}
            name = self.service.__name__[len(PACKAGE) + 1 :]
            result = self.send_request(task_vars, name, "run", request)
            if result and not _injects_invocation(task_vars):
                result.pop("invocation", None)
        if result is None:
            result = super().run(tmp, task_vars)
        return result

    def with_files(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the options with the content of the files of the controller that they name."""
        return args

    def _validated(self) -> dict[str, Any] | None:
        """Return the validated options; the hypervisor expands their paths.

        None if the module has to report something about them, or has to mask them.
        """
        try:
            # As the module receives them.
            args = json.loads(json.dumps(self._task.args))
        except (TypeError, ValueError):
            return None
        specification: Mapping[str, Any] = self.service.SPECIFICATION
        rules = {key: rule for key, rule in specification.items() if key != "argument_spec"}
        spec = option_paths.unexpanded(specification["argument_spec"])
        checked = ArgumentSpecValidator(spec, **rules).validate(args)
        reports = checked.error_messages, checked._warnings, checked._deprecations
        if any(reports) or checked._no_log_values:
            return None
        params: dict[str, Any] = checked.validated_parameters
        return params
