#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_snapshot
version_added: 1.0.0
short_description: Take, revert to and remove snapshots of virtual machines
description:
  - A snapshot keeps the disks, the memory, the UEFI variables, the TPM, the config drives and the
    definition of a VM at one moment. The VM continues, and can return to that moment.
  - Without O(vm), the module works on all VMs of the lab on the hypervisor at the same moment.
    The result has the time between the first and the last stop as RV(skew).
  - Each disk gets a new overlay. The layer that it wrote to before is kept in the folder of the
    snapshot and not written to again, so a snapshot takes no time for the copy of disks.
  - The memory is written by QEMU while the guest is stopped, usually for less than a second.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.attributes.request
  - vlab.qemu.vm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(state=reverted) discards what the guest did since the snapshot, so it always changes
        the VM.
options:
  vm:
    description: The name of the VM; by default all VMs of O(lab) on this hypervisor.
    type: str
  name:
    description:
      - The name of the snapshot. It becomes the name of a folder.
      - It can be omitted to remove snapshots with O(keep) or O(purge).
    type: str
  state:
    description:
      - With V(present), the snapshot is taken if no other has this name.
      - With V(absent), the snapshot is removed, unless it has clones. The layers of its disks are
        merged into the images on top of them, while the VM runs or not.
      - With V(reverted), the VM returns to the snapshot. Its state since then is lost. With a
        saved memory it continues where it was, otherwise it is stopped.
    type: str
    choices: [present, absent, reverted]
    default: present
  memory:
    description:
      - Whether to save the memory of a running VM. That of a suspended VM is shared.
      - Without it, the disks are saved as a power failure would leave them.
      - QEMU cannot save VMs with C(nvme) disks and passed-through devices.
    type: bool
    default: true
  description:
    description: A text for people, which RV(snapshots) returns.
    type: str
    default: ''
  keep:
    description:
      - With O(state=present), the number of snapshots of each VM to keep. Older ones are removed
        after the snapshot is taken.
    type: int
  purge:
    description:
      - With O(state=present), remove all other snapshots. With O(state=absent) and no O(name),
        remove all snapshots.
    type: bool
    default: false
  allow_definition_changes:
    description:
      - Whether O(state=reverted) may change the definition of a VM back to what it was.
      - If V(false) and the definitions differ, the task fails, names the options, and changes
        nothing.
    type: bool
    default: false
  stop_at:
    description:
      - The time to stop the guests at, in seconds since 1970 by the clock of the controller, for a
        lab on several hypervisors. The clock of each hypervisor is measured.
      - A time in the past, or more than 60 seconds ahead, has no effect.
    type: float
  save_timeout:
    description: Seconds to write or load the memory of a VM, and to merge a layer of a disk.
    type: int
    default: 600
  start_timeout:
    description: Seconds to wait for the monitor of QEMU after its start.
    type: int
    default: 30
  lock_timeout:
    description: Seconds to wait for another run on the same VM.
    type: int
    default: 300
notes:
  - Disks must be qcow2 images in the folder of the VM, as those without
    O(vlab.qemu.qemu_vm#module:disks[].path) are. Read-only disks are not saved.
  - Saved memory contains the secrets of the guest. The files have mode 0600.
  - The clock of a guest that returns to a snapshot is set if it has a guest agent.
seealso:
  - module: vlab.qemu.qemu_snapshot_info
  - module: vlab.qemu.qemu_vm
    description: The state V(suspended) saves a VM and ends its QEMU.
"""

EXAMPLES = r"""
- name: Take a snapshot of a VM before an upgrade
  vlab.qemu.qemu_snapshot:
    vm: r1
    name: before-upgrade

- name: Return to it
  vlab.qemu.qemu_snapshot:
    vm: r1
    name: before-upgrade
    state: reverted

- name: Take a snapshot of all VMs of a lab at one moment, and keep the last three
  vlab.qemu.qemu_snapshot:
    lab: fabric
    name: "night-{{ now(fmt='%Y-%m-%d') }}"
    keep: 3

- name: Remove all snapshots of a VM
  vlab.qemu.qemu_snapshot:
    vm: r1
    state: absent
    purge: true
"""

RETURN = r"""
snapshots:
  description: The snapshots of the VMs after the task, the oldest of each VM first.
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
clock_offset:
  description:
    - By how many seconds the clock of the hypervisor is ahead of that of the controller; negative
      if it is behind. If it is more than RV(clock_uncertainty), O(stop_at) was converted.
  returned: with O(stop_at), not in check mode
  type: float
  sample: 0.0021
clock_uncertainty:
  description: How much RV(clock_offset) can differ from the real offset, in seconds.
  returned: with O(stop_at), not in check mode
  type: float
  sample: 0.0301
skew:
  description: Seconds between the stop of the first guest and that of the last one.
  returned: when a snapshot was taken
  type: float
  sample: 0.004
pause:
  description: Seconds from the stop of the first guest until all guests ran again.
  returned: when a snapshot was taken
  type: float
  sample: 0.21
bytes:
  description: The space that the new snapshots take.
  returned: when a snapshot was taken
  type: int
  sample: 139460608
changes:
  description: Every difference between what was and what is asked for, also in check mode.
  returned: success
  type: list
  elements: dict
  sample:
    - {option: 'snapshots[before-upgrade]', before: null, after: present, how: file}
diff:
  description: RV(changes) as two dicts, for C(--diff).
  returned: success
  type: dict
  sample: {before: {}, after: {'snapshots[before-upgrade]': present}}
option:
  description: The option that is wrong.
  returned: failure, when it is the fault of one
  type: str
  sample: name
options:
  description: The options of the definition that have changed since the snapshot.
  returned: failure, without O(allow_definition_changes)
  type: list
  elements: str
  sample: [memory]
clones:
  description: The clones of the snapshot, as LAB/VM.
  returned: failure, when a snapshot that has clones was to be removed
  type: list
  elements: str
  sample: [fabric-ann/r1]
failed_vms:
  description: The error of each VM.
  returned: failure, for several VMs
  type: dict
  sample: {r2: {msg: cannot write ...}}
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._lab.snapshot_service import (
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
