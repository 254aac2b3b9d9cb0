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
  - If the result is registered as C(lab_info), M(vlab.qemu.qemu_lab) uses it to keep nodes on
    their hypervisors, and to check that a lab fits on all of them before it changes anything.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.info_module
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.vm.image_dir
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
    description:
      - Paths of images and other files that the lab needs; missing ones are returned. Relative
        paths are in O(image_dir).
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Gather the resources of all hypervisors before bringing up a lab
  vlab.qemu.qemu_lab_info:
    lab: fabric
  register: lab_info

- name: Show what impaired links do
  ansible.builtin.debug:
    msg: "{{ item.key }} {{ item.value.impairments }}"
  loop: "{{ lab_info.hypervisor.vms | dict2items }}"
  when: item.value.impairments is defined

- name: Show the frames that switches have dropped
  ansible.builtin.debug:
    msg: "{{ item.value.ports | dict2items | rejectattr('value.wrong_vlan', 'eq', 0) }}"
  loop: "{{ lab_info.hypervisor.switches | dict2items }}"

- name: Show the available memory
  ansible.builtin.debug:
    msg: "{{ lab_info.hypervisor.memory_available_mb }} MiB"
"""

RETURN = r"""
hypervisor:
  description: The hypervisor, for this lab.
  returned: success
  type: dict
  contains:
    lab:
      description: The name of the lab.
      returned: always
      type: str
      sample: fabric
    root:
      description: The folder of all labs on the hypervisor.
      returned: always
      type: str
      sample: /var/lib/vlab
    memory_available_mb:
      description: The available memory in MiB.
      returned: always
      type: int
      sample: 16000
    cpus:
      description: The number of CPUs.
      returned: always
      type: int
      sample: 8
    disk_free_mb:
      description: The free space for the folders of VMs in MiB.
      returned: always
      type: int
      sample: 200000
    qemu_version:
      description: The version of QEMU; none if QEMU is missing.
      returned: always
      type: list
      elements: int
      sample: [7, 2, 0]
    accel:
      description: The accelerator, V(kvm) or V(tcg); none if QEMU is missing.
      returned: always
      type: str
      sample: kvm
    udp_ports:
      description: The UDP ports that programs have bound.
      returned: always
      type: list
      elements: int
      sample: [68]
    missing_files:
      description: Those of O(files) that do not exist.
      returned: always
      type: list
      elements: str
      sample: []
    container:
      description: The kind of application container; none on a machine.
      returned: always
      type: str
      sample:
    vms:
      description:
        - The C(status) and C(memory_mb) of each VM of the lab by its name, and in C(has_state)
          whether it has memory, disks or snapshots, which it would lose on another hypervisor. A
          running VM with impaired links also has C(impairments), by the name of the NIC that sends;
          see RV(vlab.qemu.qemu_vm_info#module:vms[].nics[].impairment).
      returned: always
      type: dict
      sample: {r1: {status: running, memory_mb: 192, has_state: true}}
    switches:
      description:
        - The switches of the lab that run here, by name. C(status), C(pid), C(exit_code) and C(log)
          are those of the process. C(ports) has the VLANs and counters of each port. C(flooded) are
          received frames that were sent to all ports of their VLAN, C(wrong_vlan) and C(malformed)
          those that were dropped. C(send_errors) are frames that could not be sent, and
          C(addresses) is the number of addresses that were learned at the port. A port that is
          impaired also has C(impairment), with C(parameters) and C(measured) as in
          RV(vlab.qemu.qemu_vm_info#module:vms[].nics[].impairment).
        - C(addresses) of the switch lists the addresses with their VLAN, port, and age in seconds,
          256 at most.
      returned: always
      type: dict
      sample:
        lan:
          status: running
          pid: 4711
          exit_code:
          log: /var/lib/vlab/fabric/.segments/lan/switch.log
          ports:
            r1:eth1:
              vlans: {access: 10}
              frames_in: 12
              bytes_in: 1090
              frames_out: 14
              bytes_out: 1230
              flooded: 3
              wrong_vlan: 0
              malformed: 0
              send_errors: 0
              addresses: 1
          addresses: [{vlan: 10, mac: "52:54:00:12:34:56", port: "r1:eth1", age: 4}]
    record:
      description: The text of the record of the lab; none without one.
      returned: always
      type: str
      sample: '{"format": 1}'
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._lab.facts import hypervisor_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import IMAGE_DIR_SPEC

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Gather the facts; return the module's result."""
    params = module.params
    facts, warnings = hypervisor_facts(
        params["root"], params["lab"], params["files"], params["image_dir"]
    )
    return {"changed": False, "hypervisor": facts, "warnings": warnings}


def main() -> None:
    run_module(
        work,
        argument_spec={
            "lab": {"type": "str", "required": True},
            "root": {"type": "path"},
            **IMAGE_DIR_SPEC,
            "files": {"type": "list", "elements": "path", "default": []},
        },
    )


if __name__ == "__main__":
    main()
