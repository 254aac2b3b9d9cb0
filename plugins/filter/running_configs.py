# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: running_configs
version_added: 1.0.0
short_description: List how the running configurations of a lab's nodes are read
description:
  - Returns for each node of a lab the command of its kind that shows the running configuration,
    and the connection to run it with.
  - A node whose kind has no such command, or that does not run, has a reason instead.
  - The action C(save_config) of the role P(vlab.qemu.lab#role) uses it.
author:
  - vlab.qemu contributors (@vlab)
options:
  _input:
    description: The topology.
    type: dict
    required: true
  vms:
    description:
      - The VMs of the lab, as M(vlab.qemu.qemu_vm_info) returns them, each with its C(hypervisor).
    type: list
    elements: dict
    required: true
  hosts:
    description:
      - Variables of hosts of the inventory. Those that are nodes of the lab, which C(vlab_lab) and
        C(vlab_vm) say, are reached by their own connection.
      - Other nodes are reached by P(vlab.qemu.guest_agent#connection) if they have a guest agent
        and a shell, else by P(vlab.qemu.serial#connection).
    type: list
    elements: dict
    default: []
  nodes:
    description: Names of the nodes to return; all nodes if it is empty.
    type: list
    elements: str
    default: []
notes:
  - This filter runs on the controller and requires the Python libraries jsonschema and netaddr
    there.
seealso:
  - plugin: vlab.qemu.saved_config
    plugin_type: filter
  - plugin: vlab.qemu.lab
    plugin_type: role
"""

EXAMPLES = r"""
- name: Query the VMs
  vlab.qemu.qemu_vm_info:
    lab: fabric
  register: vm_info

- name: Show the commands
  ansible.builtin.debug:
    msg: "{{ topology | vlab.qemu.running_configs(vms=vm_info.vms) }}"
  vars:
    topology: "{{ lookup('ansible.builtin.file', 'fabric.yml') | from_yaml }}"
"""

RETURN = r"""
_value:
  description: The nodes in the order of their names.
  type: list
  elements: dict
  contains:
    node:
      description: The name of the node.
      type: str
    hypervisor:
      description: The hypervisor that it runs on, if it has a VM.
      type: str
    reason:
      description: Why its configuration cannot be read. Nodes without it have the other keys.
      type: str
    host:
      description: The host of the inventory, if there is one.
      type: str
    connection:
      description: The connection plugin.
      type: str
    shell:
      description: What answers on its console, V(posix) or V(cli).
      type: str
    user:
      description: The user to log in as on its console.
      type: str
    command:
      description: The command, on a console with those that come before it as lines.
      type: str
    omit:
      description: Regular expressions of lines that are not part of the configuration.
      type: list
      elements: str
    volatile:
      description: Regular expressions of lines that can differ in the same configuration.
      type: list
      elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible.module_utils.basic import missing_required_lib

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import names_hint
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.running_configs import config_requests
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, libraries
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError


def running_configs(
    topology: Any, vms: Any, hosts: Sequence[Mapping[str, Any]] = (), nodes: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return how the running configuration of each node is read."""
    if isinstance(vms, (str, Mapping)) or not isinstance(vms, Sequence):
        raise AnsibleFilterError(
            "running_configs: vms must be a list of VMs, as qemu_vm_info returns it"
        )
    missing = libraries.missing()
    if missing:
        raise AnsibleFilterError("running_configs: %s" % missing_required_lib(missing))
    try:
        built = builder.build(topology)
    except TopologyError as error:
        raise AnsibleFilterError("running_configs: %s" % error) from None
    for name in nodes:
        if name not in built.nodes:
            raise AnsibleFilterError(
                "nodes: the topology has no node %s; %s"
                % (name, names_hint(name, sorted(built.nodes)))
            )
    return config_requests(built, vms, hosts, nodes)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"running_configs": running_configs}
