#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_snapshot_info
version_added: 1.0.0
short_description: List the snapshots of virtual machines
description:
  - Returns the snapshots of one VM, or of all VMs of a lab. No lock is taken and nothing is
    changed.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.attributes.request
  - vlab.qemu.attributes.info_module
  - vlab.qemu.vm
options:
  vm:
    description: The name of the VM; by default all VMs of O(lab).
    type: str
  name:
    description: Return only snapshots of this name.
    type: str
seealso:
  - module: vlab.qemu.qemu_snapshot
"""

EXAMPLES = r"""
- name: List the snapshots of a VM
  vlab.qemu.qemu_snapshot_info:
    vm: r1
  register: result

- name: Show how much space they take
  ansible.builtin.debug:
    msg: "{{ result.snapshots | sum(attribute='bytes') | human_readable }}"
"""

RETURN = r"""
snapshots:
  description: The snapshots, the oldest of each VM first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the snapshot.
      returned: always
      type: str
      sample: before-upgrade
    vm:
      description: The name of the VM.
      returned: always
      type: str
      sample: r1
    lab:
      description: The lab of the VM.
      returned: always
      type: str
      sample: default
    description:
      description: The text that was given.
      returned: always
      type: str
      sample: ''
    created:
      description: When it was taken, in seconds since 1970.
      returned: always
      type: int
      sample: 1767225600
    status:
      description: The status of the VM at that time.
      returned: always
      type: str
      choices: [running, paused, stopped]
      sample: running
    memory:
      description: Whether the memory was saved.
      returned: always
      type: bool
      sample: true
    disks:
      description: The names of the saved disks.
      returned: always
      type: list
      elements: str
      sample: [disk0]
    qemu_version:
      description: The version of the QEMU that saved it.
      returned: always
      type: str
      sample: 7.2.22
    machine:
      description: The versioned machine type of the VM.
      returned: always
      type: str
      sample: pc-i440fx-7.2
    bytes:
      description: The space that it takes on the hypervisor.
      returned: always
      type: int
      sample: 139460608
    folder:
      description: The folder with its files.
      returned: always
      type: str
      sample: /var/lib/vlab/default/r1/snapshots/before-upgrade
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._lab.snapshot_info_service import (
    SPECIFICATION,
    work,
)


def main() -> None:
    run_module(
        lambda module: work(module.params, module.check_mode),
        **SPECIFICATION,
    )


if __name__ == "__main__":
    main()
