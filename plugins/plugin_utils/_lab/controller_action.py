# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Actions that run once, on the controller, for all hypervisors of a lab."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import appliance
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.topology_source import (
    named,
    read_topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import variables_for
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, libraries
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

Params = dict[str, Any]
Result = dict[str, Any]


class LabHost(NamedTuple):
    """A hypervisor of a lab: the variables of its connection, and its folders if they are given."""

    variables: dict[str, Any]
    root: str | None
    image_dir: str | None


class ControllerAction(ActionBase):
    """An action on the controller. arguments: its options. changed: whether it changed anything."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    arguments: Mapping[str, Mapping[str, Any]] = {}
    changed = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Run the task; return its result."""
        super().run(tmp, task_vars)
        missing = libraries.missing()
        if missing:
            return {"failed": True, "changed": False, "msg": missing_required_lib(missing)}
        try:
            return self.work(self._validated(), task_vars or {})
        except (TopologyError, VlabError) as error:
            message = str(error)
        except AnsibleError as error:
            # As an exception it would bypass failed_when and until, unlike an error of a module.
            message = error.message
        return {"failed": True, "changed": self.changed, "msg": message}

    def work(self, params: Params, task_vars: Mapping[str, Any]) -> Result:
        """Do the work; return the result of the task."""
        raise NotImplementedError

    def _validated(self) -> Params:
        """Return the options with their types and defaults. Hypervisors expand their paths."""
        spec = {
            name: dict(option, type="str") if option["type"] == "path" else option
            for name, option in self.arguments.items()
        }
        checked = ArgumentSpecValidator(spec).validate(dict(self._task.args))
        if checked.error_messages:
            raise AnsibleActionFail("; ".join(checked.error_messages))
        params: Params = checked.validated_parameters
        return params

    def topology(self, params: Params) -> Topology:
        """Return the topology that the options topology, lab_name and lab describe."""
        source = read_topology(params["topology"], self._find_needle)
        folder = os.path.dirname(os.path.abspath(source.path)) if source.path else ""
        data = named(source.data, params["lab_name"], params["lab"])
        return builder.build(data, None, None, appliance.reader(folder))


def hosts_of(params: Params, task_vars: Mapping[str, Any]) -> dict[str, LabHost]:
    """Return the hypervisors of the option hypervisors, else all hosts of the play, by name."""
    hostvars = task_vars["hostvars"]
    entries = params["hypervisors"] or [{"name": name} for name in task_vars["ansible_play_hosts"]]
    found = {}
    for entry in entries:
        name = entry["name"]
        if name not in hostvars:
            raise AnsibleActionFail("hypervisors: the inventory has no host %s" % name)
        given = entry.get("variables") or {}
        own = {key: value for key, value in given.items() if value != ""}
        merged = {**hostvars[name], **own, "inventory_hostname": name}
        variables = variables_for(merged)
        if merged.get("vlab_address"):
            variables["vlab_address"] = merged["vlab_address"]
        found[name] = LabHost(
            variables,
            entry.get("root") or params["root"],
            entry.get("image_dir") or params.get("image_dir"),
        )
    return found
