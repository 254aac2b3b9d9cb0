#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_migrate
version_added: 1.0.0
short_description: Move a running virtual machine to another hypervisor or into a file
description:
  - Moves a running or paused VM from the host of the task, the origin, to another hypervisor, the
    target. The guest goes on while its disks and its memory are copied, and stops for a moment at
    the end.
  - The VM keeps its name, lab, MAC addresses and UUID. Its links are plugged in on the target
    before the guest continues. On the origin, the VM is removed; its captures are kept there.
  - If anything fails, the guest goes on on the origin, and the target is cleaned up. If a run is
    interrupted, the next one completes the migration, or starts again.
  - The hypervisors connect to each other directly. Between hosts, QEMU encrypts the memory and the
    disks with a key that is used once.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.network.moved
  - vlab.qemu.vm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action:
    support: full
  async:
    support: none
options:
  vm:
    description: The name of the VM.
    type: str
    required: true
  to:
    description:
      - The inventory name of the target; by default the host of the task, with another O(to_root).
    type: str
  to_root:
    description:
      - The folder of all labs on the target; by default O(root).
    type: path
  to_file:
    description:
      - Write the state of the VM to this file on the hypervisor instead, and end its QEMU. The file
        must not exist; it contains the secrets of the guest and has mode 0600.
      - O(vlab.qemu.qemu_vm#module:incoming) with C(file:) and the path lets the guest continue. Its
        disks must not change in between.
    type: path
  address:
    description:
      - The address at which the origin reaches the target. Default is the variable C(vlab_address)
        of the target, else C(ansible_host), else its name.
    type: str
  port:
    description:
      - The first of two TCP ports on the target, for the memory and for the disks. By default, two
        free ones are chosen.
    type: int
  encrypt:
    description:
      - Whether QEMU encrypts what it sends to another host (TLS with a pre-shared key).
      - If V(false), everyone between the hosts can read and change the memory and the disks.
    type: bool
    default: true
  downtime:
    description:
      - The time that a guest with KVM may stop at the end, in milliseconds. QEMU copies memory that
        changes again until the rest fits into it; raise it for guests that write much memory.
      - A guest that QEMU emulates is stopped before its memory is copied, because QEMU can miss
        what such a guest writes meanwhile.
    type: int
    default: 300
  bandwidth:
    description: The maximum for the memory, in MiB per second; unlimited by default.
    type: int
  timeout:
    description:
      - Seconds for the copy of the disks and the memory together. After that, the migration fails,
        and the VM stays.
    type: int
    default: 600
  allow_container:
    description: Start the VM on the target even if that is an application container.
    type: bool
    default: false
  start_timeout:
    description: Seconds to wait for the monitor of QEMU after its start.
    type: int
    default: 30
  lock_timeout:
    description: Seconds to wait for another run on the same VM.
    type: int
    default: 300
notes:
  - The target needs the same or a newer QEMU with the machine type of the VM, the same
    accelerator, and the base images, removable media, kernels and firmware at the same paths.
    With O(vlab.qemu.qemu_vm#module:accel=kvm) and a C(host) CPU, the processors must be alike.
  - Disks must be images in the folder of the VM without snapshots. An overlay is copied without
    its base image.
  - VMs with passed-through devices, C(nvme) disks, shared folders or encrypted disks cannot move.
seealso:
  - module: vlab.qemu.qemu_snapshot
    description: Saves the state of a VM where it is.
"""

EXAMPLES = r"""
- name: Move a VM to another hypervisor
  vlab.qemu.qemu_migrate:
    vm: r1
    to: hv2

- name: Move a VM that is linked to r2, which stays on this hypervisor
  vlab.qemu.qemu_migrate:
    vm: r1
    to: hv2
    nics:
      - name: eth1
        link:
          type: udp
          local_address: 192.0.2.2
          local_port: 27001
          remote_address: 192.0.2.1
          remote_port: 27002
    neighbours:
      - vm: r2
        nic: eth1
        link:
          type: udp
          local_address: 192.0.2.1
          local_port: 27002
          remote_address: 192.0.2.2
          remote_port: 27001

- name: Move a VM into a file
  vlab.qemu.qemu_migrate:
    vm: r1
    to_file: /var/lib/vlab/r1.state

- name: Let it continue from there
  vlab.qemu.qemu_vm:
    name: r1
    incoming: file:/var/lib/vlab/r1.state
"""

RETURN = r"""
vm:
  description: The VM on the target, as M(vlab.qemu.qemu_vm) returns it; empty in check mode.
  returned: success
  type: dict
  sample: {name: r1, status: running}
changes:
  description: What was changed, also in check mode.
  returned: success
  type: list
  elements: dict
  sample:
    - {option: hypervisor, before: hv1, after: hv2, how: live}
diff:
  description: RV(changes) as two dicts, for C(--diff).
  returned: success
  type: dict
  sample: {before: {hypervisor: hv1}, after: {hypervisor: hv2}}
stopped_for:
  description:
    - Seconds from the stop of the guest on the origin until all was sent. The guest continues some
      milliseconds later.
  returned: when the VM was moved by this run
  type: float
  sample: 0.062
memory_bytes:
  description: The bytes of memory that were sent.
  returned: when the VM was moved by this run
  type: int
  sample: 139460608
memory_time:
  description: Seconds to send the memory.
  returned: when the VM was moved by this run
  type: float
  sample: 0.39
disk_bytes:
  description: The bytes of the images that were copied.
  returned: when the VM was moved by this run
  type: int
  sample: 1048576
total_time:
  description: Seconds from the start of the copy until the guest continued.
  returned: when the VM was moved by this run
  type: float
  sample: 1.9
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.to_file import (
    ARGUMENTS,
    move_to_file,
)

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Move the VM into a file; the action plugin moves it to another hypervisor."""
    return move_to_file(module.params, module.check_mode)


def main() -> None:
    run_module(work, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
