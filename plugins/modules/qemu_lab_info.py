#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_lab_info
version_added: 1.0.0
short_description: Gather the resources of a hypervisor and the nodes of a lab on it
description:
  - Returns the available memory, CPUs, disk space and QEMU of a hypervisor, and the VMs of one lab
    on it.
  - Sets the fact C(vlab_hypervisor), which M(vlab.qemu.qemu_lab) uses to place nodes, and to check
    that a lab fits on all its hypervisors before it changes anything.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.info_module
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
attributes:
  facts:
    description: Returns an C(ansible_facts) dictionary.
    support: full
options:
  lab:
    description: The name of the lab.
    type: str
    required: true
  root:
    description:
      - The folder of all labs on the hypervisor.
      - The default is C(/var/lib/vlab) for root and C($XDG_STATE_HOME/vlab) for other users.
    type: path
  files:
    description: Paths of images and other files that the lab needs; missing ones are returned.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Gather the resources of all hypervisors before bringing up a lab
  vlab.qemu.qemu_lab_info:
    lab: fabric
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    vlab_hypervisor:
      description:
        - The fact, with C(lab), C(memory_available_mb), C(cpus), C(disk_free_mb),
          C(qemu_version), C(accel), C(missing_files), C(vms), which has C(status) and
          C(memory_mb) of each VM of the lab by its name, C(record), which is the text of the lab's
          record, and C(container), which is the kind of application container, and none on a
          machine.
      type: dict
      sample:
        lab: fabric
        memory_available_mb: 16000
        cpus: 8
        disk_free_mb: 200000
        qemu_version: [7, 2, 0]
        accel: kvm
        missing_files: []
        container:
        vms: {r1: {status: running, memory_mb: 192}}
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._lab.facts import hypervisor_facts

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Gather the facts; return the module's result."""
    params = module.params
    facts, warnings = hypervisor_facts(params["root"], params["lab"], params["files"])
    return {"changed": False, "ansible_facts": {"vlab_hypervisor": facts}, "warnings": warnings}


def main() -> None:
    run_module(
        work,
        argument_spec={
            "lab": {"type": "str", "required": True},
            "root": {"type": "path"},
            "files": {"type": "list", "elements": "path", "default": []},
        },
    )


if __name__ == "__main__":
    main()
