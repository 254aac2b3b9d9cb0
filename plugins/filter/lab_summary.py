# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: lab_summary
version_added: 1.0.0
short_description: List the nodes of a lab, or all labs, as lines of text
description:
  - Returns the lines of a table with the state, hypervisor and addresses of each node of a lab,
    with the commands for SSH and for its console.
  - Or of a table of all labs, with the number of their VMs and their memory.
author:
  - vlab.qemu contributors (@vlab)
options:
  _input:
    description: The VMs of each hypervisor, as M(vlab.qemu.qemu_vm_info) returns them.
    type: dict
    required: true
  topology:
    description:
      - The topology of a lab. It has the addresses of the nodes, and nodes without a VM are shown
        as absent.
    type: dict
  hosts:
    description:
      - The variables of the hypervisors, such as C(hostvars). The commands for SSH jump over a
        hypervisor that is another host.
    type: dict
  consoles:
    description:
      - The command that opens the console of each node, by name. By default, those of the VMs.
    type: dict
  unreachable:
    description: Hypervisors that did not answer. A node without a VM is then shown as unknown.
    type: list
    elements: str
    default: []
  labs:
    description: Return the table of all labs instead.
    type: bool
    default: false
notes:
  - This filter runs on the controller. With O(topology) it requires the Python libraries jsonschema
    and netaddr there.
seealso:
  - plugin: vlab.qemu.lab
    plugin_type: role
"""

EXAMPLES = r"""
- name: Query the VMs
  vlab.qemu.qemu_vm_info:
  register: vm_info

- name: Show all labs of this hypervisor
  ansible.builtin.debug:
    msg: "{{ {inventory_hostname: vm_info.vms} | vlab.qemu.lab_summary(labs=true) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible.module_utils.basic import missing_required_lib

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.summary import labs_table, nodes_table
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, libraries
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError


def lab_summary(
    vms: Any,
    topology: Any = None,
    hosts: Any = None,
    consoles: Any = None,
    unreachable: Sequence[str] = (),
    labs: bool = False,
) -> list[str]:
    """Return the lines of a table."""
    if not isinstance(vms, Mapping):
        raise AnsibleFilterError(
            "lab_summary: the input must be a dictionary with the VMs of each hypervisor"
        )
    if labs:
        return labs_table(vms, unreachable)
    if not topology:
        return nodes_table(vms, None, hosts, consoles, unreachable)
    missing = libraries.missing()
    if missing:
        raise AnsibleFilterError("lab_summary: %s" % missing_required_lib(missing))
    try:
        return nodes_table(vms, builder.build(topology), hosts, consoles, unreachable)
    except TopologyError as error:
        raise AnsibleFilterError("lab_summary: %s" % error) from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"lab_summary": lab_summary}
