#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_disk
version_added: 1.0.0
short_description: Manage a disk image, or a disk of a virtual machine
description:
  - With O(vm) it brings one disk of a VM that exists into the state that is asked for, while the VM runs or not. It is the same as an
    item of O(vlab.qemu.qemu_vm#module:disks), and the power of the VM stays as it is.
  - Without O(vm) it works on the image at O(path) alone. It creates, copies, grows, shrinks, converts, rebases, commits, checks
    and repairs it, and manages its internal snapshots.
  - What is not said is left as it is.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.vm
  - vlab.qemu.vm.settings
  - vlab.qemu.storage.image
  - vlab.qemu.storage.attachment
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(restore_snapshot) goes back to the snapshot at every run.
requirements:
  - C(qemu-img), which is looked for beside QEMU, then in E(PATH)
options:
  vm:
    description:
      - The VM whose disk O(name) is meant. A VM that does not exist is an error, but for O(state=absent).
      - Without it, the options that tell how a disk is connected (O(bus) to O(limits)) mean nothing.
    type: str
  name:
    description: The name of the disk. For a disk of O(vm), and needed there.
    type: str
  state:
    description:
      - Whether there is the disk, or without O(vm) the image.
      - A disk that is removed from a VM takes its image with it when that is in the VM's folder, see O(keep_image).
      - An image that a VM uses, as a disk or as a base, is removed only with O(force=true).
    type: str
    choices: [present, absent]
    default: present
  keep_image:
    description: Keep the image of a disk that is removed from O(vm).
    type: bool
    default: false
  source:
    description:
      - An image that a new image at O(path) becomes a full copy of, in O(format). With O(size) the copy is as large as that, if its source
        is smaller.
      - O(checksum) is then that of the source. An image that exists is not compared with it. Not for a disk of O(vm).
    type: path
  source_format:
    description: The format of O(source). Default is what its header tells.
    type: str
    choices: [qcow2, raw, qcow, qed, vdi, vmdk, vpc, vhdx, luks]
  compress:
    description: Whether the copy of O(source), or what O(convert) makes, is compressed.
    type: bool
    default: false
  allow_shrink:
    description:
      - Whether a O(size) that is smaller than that of the image is allowed. It cuts data off. The image must not be in use, so the VM has to
        be stopped, or O(allow_restart=true).
    type: bool
    default: false
  convert:
    description:
      - Whether an image of another O(format) is converted. Otherwise it is an error. An overlay becomes an image of its own, and internal
        snapshots are lost. Without O(vm) only.
    type: bool
    default: false
  commit:
    description:
      - Write what an overlay holds into its base, and empty it. Nothing is done when it holds nothing.
      - A base that VMs use is written to only with O(force=true), as it breaks all other overlays over it. Without O(vm) only.
    type: bool
    default: false
  check:
    description: Check the image; RV(disk.check) tells what was found. Corruptions are an error. Without O(vm) only.
    type: bool
    default: false
  repair:
    description: Repair clusters that are lost (V(leaks)), or everything that can be (V(all)). Without O(vm) only.
    type: str
    choices: [none, leaks, all]
    default: none
  snapshots:
    description: Internal snapshots that the image has; those that are missing are taken. Not for a disk of O(vm).
    type: list
    elements: str
  purge_snapshots:
    description: Delete the internal snapshots that O(snapshots) does not name.
    type: bool
    default: false
  restore_snapshot:
    description: Go back to this internal snapshot, before O(snapshots) are taken. Not for a disk of O(vm).
    type: str
  force:
    description: Whether to do to an image what may harm a VM that uses it. One that runs holds a lock, which this does not overcome.
    type: bool
    default: false
notes:
  - Without O(vm), O(backing_file) moves an overlay that exists to another base and keeps its content, and an empty one merges the base
    into it. A base that is gone is replaced by the new one unseen.
  - Images are made with mode 0600, whole or not at all.
seealso:
  - module: vlab.qemu.qemu_vm
  - module: vlab.qemu.qemu_disk_info
  - name: Disk images
    description: What C(qemu-img) does.
    link: https://www.qemu.org/docs/master/tools/qemu-img.html
"""

EXAMPLES = r"""
- name: One more disk for a VM, while it runs
  vlab.qemu.qemu_disk:
    vm: r1
    name: data
    size: 1G

- name: Let it grow
  vlab.qemu.qemu_disk:
    vm: r1
    name: data
    size: 2G

- name: A slow disk, for tests
  vlab.qemu.qemu_disk:
    vm: r1
    name: slow
    size: 100M
    bus: scsi
    limits:
      bps_total: 1M
      iops_total: 100
    allow_restart: true

- name: Slower still
  vlab.qemu.qemu_disk:
    vm: r1
    name: slow
    limits:
      iops_total: 10

- name: Take a disk from a VM, and keep its image
  vlab.qemu.qemu_disk:
    vm: r1
    name: slow
    state: absent
    keep_image: true
    allow_restart: true

- name: A base image, copied from one that was downloaded, if it is the right one
  vlab.qemu.qemu_disk:
    path: /srv/images/base.qcow2
    source: /srv/images/debian-12.qcow2
    checksum: "sha256:{{ debian_sha256 }}"
    size: 10G
    compress: true

- name: An overlay
  vlab.qemu.qemu_disk:
    path: /srv/images/work.qcow2
    backing_file: /srv/images/base.qcow2

- name: A snapshot of it
  vlab.qemu.qemu_disk:
    path: /srv/images/work.qcow2
    snapshots: [clean]

- name: Go back to the snapshot
  vlab.qemu.qemu_disk:
    path: /srv/images/work.qcow2
    restore_snapshot: clean

- name: Make it independent of its base
  vlab.qemu.qemu_disk:
    path: /srv/images/work.qcow2
    backing_file: ''
    snapshots: []
    purge_snapshots: true

- name: A blank image with options of its format
  vlab.qemu.qemu_disk:
    path: /srv/images/blank.img
    size: 4G
    format_options:
      cluster_size: 128k
      lazy_refcounts: true

- name: Check it, and give back what is lost
  vlab.qemu.qemu_disk:
    path: /srv/images/blank.img
    check: true
    repair: leaks
  register: checked

- name: Convert it
  vlab.qemu.qemu_disk:
    path: /srv/images/blank.img
    format: raw
    convert: true

- name: Cut its end off
  vlab.qemu.qemu_disk:
    path: /srv/images/blank.img
    size: 2G
    allow_shrink: true

- name: Remove images
  vlab.qemu.qemu_disk:
    path: "/srv/images/{{ item }}"
    state: absent
  loop: [blank.img, work.qcow2]
"""

RETURN = r"""
disk:
  description:
    - The image; empty when it is absent.
    - With O(vm) it is the disk, as an item of RV(vlab.qemu.qemu_vm#module:vm.disks) of M(vlab.qemu.qemu_vm).
  returned: success
  type: dict
  contains:
    path:
      description: The image.
      returned: always
      type: str
      sample: /srv/images/work.qcow2
    format:
      description: Its format.
      returned: always
      type: str
      sample: qcow2
    size:
      description: The size that a guest sees in bytes; with O(vm) as text, when one was asked for.
      returned: always
      type: int
      sample: 10737418240
    actual_size:
      description: What it takes on the hypervisor, in bytes.
      returned: without O(vm)
      type: int
      sample: 200704
    backing_file:
      description: The base image under it; none without one.
      returned: without O(vm)
      type: str
      sample: /srv/images/base.qcow2
    backing_format:
      description: The format of that; none without one.
      returned: without O(vm)
      type: str
      sample: qcow2
    dirty:
      description: Whether it was not closed in order, or is in use.
      returned: without O(vm)
      type: bool
      sample: false
    encrypted:
      description: Whether it is encrypted.
      returned: without O(vm)
      type: bool
      sample: false
    snapshots:
      description: Its internal snapshots.
      returned: without O(vm)
      type: list
      elements: dict
      contains:
        name:
          description: The name of the snapshot.
          returned: without O(vm)
          type: str
          sample: clean
        id:
          description: Its id.
          returned: without O(vm)
          type: str
          sample: '1'
        date:
          description: When it was taken, in seconds since 1970.
          returned: without O(vm)
          type: int
          sample: 1795251066
        vm_state_size:
          description: How much of a VM's state it holds, in bytes.
          returned: without O(vm)
          type: int
          sample: 0
    check:
      description:
        - What O(check) found, with C(supported) (some formats have nothing to check), C(ok), C(errors), C(corruptions), C(leaks),
          C(corruptions_fixed) and C(leaks_fixed).
      returned: with O(check) or O(repair)
      type: dict
      sample: {supported: true, ok: true, errors: 0, corruptions: 0, leaks: 0, corruptions_fixed: 0, leaks_fixed: 0}
    name:
      description: The name of the disk.
      returned: with O(vm)
      type: str
      sample: data
    id:
      description: The id of its device and of its block node in QEMU.
      returned: with O(vm)
      type: str
      sample: disk-pci1
    bus:
      description: What it is connected by.
      returned: with O(vm)
      type: str
      sample: virtio
    format_options:
      description:
        - Format options for creating the image, such as C(cluster_size),
          C(lazy_refcounts) or C(preallocation).
      returned: with O(vm), when it is not the default
      type: dict
    checksum:
      description:
        - The checksum of the base image, or without C(backing_file) of the image itself,
          as C(ALGORITHM:DIGITS) with C(sha256), C(sha512), C(sha1) or C(md5).
      returned: with O(vm), when it is not the default
      type: str
    checksum_first_mib:
      description: The checksum of the first MiB only, which is quick to verify.
      returned: with O(vm), when it is not the default
      type: str
    index:
      description: The unit on the bus, counted from 0.
      returned: with O(vm), when it is not the default
      type: int
    cache:
      description: The cache mode of the hypervisor, as QEMU names it.
      returned: with O(vm), when it is not the default
      type: str
    aio:
      description: The method by which QEMU reads and writes.
      returned: with O(vm), when it is not the default
      type: str
    discard:
      description: Whether space that the guest discards is returned to the hypervisor.
      returned: with O(vm), when it is not the default
      type: bool
    detect_zeroes:
      description:
        - Whether zeroes that the guest writes are detected; V(unmap) also discards their
          space.
      returned: with O(vm), when it is not the default
      type: str
    werror:
      description: The action on a write error, for V(virtio), V(scsi), V(ide) and V(sata).
      returned: with O(vm), when it is not the default
      type: str
    rerror:
      description: The action on a read error, for V(virtio), V(scsi), V(ide) and V(sata).
      returned: with O(vm), when it is not the default
      type: str
    serial:
      description:
        - The serial number that the guest sees, up to 20 bytes, or 36 bytes on V(scsi).
      returned: with O(vm), when it is not the default
      type: str
    boot_index:
      description: The position in the boot order, lowest first.
      returned: with O(vm), when it is not the default
      type: int
    read_only:
      description: Whether the guest can only read the disk.
      returned: with O(vm), when it is not the default
      type: bool
    snapshot:
      description: Whether the next start discards what the guest wrote.
      returned: with O(vm), when it is not the default
      type: bool
    limits:
      description: Limits of bytes and of requests per second.
      returned: with O(vm), when it is not the default
      type: dict
changes:
  description: Every difference between what was and what is asked for, also in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    option:
      description: What differs; C(state) is the power state.
      returned: always
      type: str
      sample: nics[eth0].link
    before:
      description: What it was; none for what was not there.
      returned: always
      type: raw
      sample: {type: none}
    after:
      description: What it is to be; none for what is to go.
      returned: always
      type: raw
      sample: {type: user}
    how:
      description: V(live) while the VM runs, V(restart) with a power cycle, or V(file) where no running VM is concerned.
      returned: always
      type: str
      sample: live
    reason:
      description: Why it is not made live, where one might think it was.
      returned: when there is more to say
      type: str
      sample: a disk on sata cannot be plugged in
actions:
  description: What was done with files and processes, in words; empty in check mode. Changes that are made live are in RV(changes) only.
  returned: success
  type: list
  elements: str
  sample: ['create /var/lib/vlab/default/r1/root.qcow2, 8G', start, resume]
diff:
  description: RV(changes) as two dicts, for C(--diff).
  returned: success
  type: dict
  sample: {before: {memory: 256}, after: {memory: 512}}
stopped_by:
  description: How far a VM had to be forced to stop. V(acpi) is a guest that shut down, V(kill) is C(SIGKILL).
  returned: when a VM was stopped
  type: str
  choices: [acpi, quit, term, kill]
  sample: acpi
vm:
  description: The whole VM, as RV(vlab.qemu.qemu_vm#module:vm) of M(vlab.qemu.qemu_vm); empty when it does not exist.
  returned: success with O(vm)
  type: dict
  sample: {name: r1, lab: default, status: running}
option:
  description: The option that is wrong, by its path.
  returned: failure, when it is the fault of one
  type: str
  sample: disks[root].size
options:
  description: The options whose change needs a restart.
  returned: failure, without O(allow_restart)
  type: list
  elements: str
  sample: [memory, vcpus]
cmd:
  description: The command line that failed.
  returned: failure of a program
  type: list
  elements: str
  sample: [/usr/bin/qemu-system-x86_64, -S]
rc:
  description: Its exit code; none when it was ended from outside.
  returned: failure of a program
  type: int
  sample: 1
log:
  description: What QEMU said last.
  returned: failure of a start
  type: str
  sample: 'qemu-system-x86_64: -nonsense: invalid option'
path:
  description: The file that is wrong.
  returned: failure, when it is about a file
  type: str
  sample: /srv/images/debian-12.qcow2
cause:
  description:
    - Why an accelerator cannot be used, as a word. One of V(wrong_architecture), V(not_built_in), V(no_device), V(no_cpu_support),
      V(no_permission), V(stale_device), V(not_a_kvm_device) and V(guests_do_not_run).
  returned: failure, when it is about O(vlab.qemu.qemu_vm#module:accel)
  type: str
  sample: no_permission
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import converge_item
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import (
    ATTACHMENT_SPEC,
    DISK_SPEC,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image import SPEC, converge_image
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    PLACE_SPEC,
    SETTINGS_SPEC,
)

# What works on the file alone has no place in a VM's definition.
IMAGE_ONLY = (
    "source",
    "source_format",
    "compress",
    "convert",
    "commit",
    "check",
    "repair",
    "snapshots",
    "purge_snapshots",
    "restore_snapshot",
    "force",
)


def check_door(params):
    """Refuse what the other way of using the module has. Raises OptionError."""
    for option in IMAGE_ONLY if params["vm"] else ATTACHMENT_SPEC:
        if params[option] not in (None, False, "none"):
            raise OptionError(
                option,
                "it works on an image alone: leave out vm, and use it while no VM has the image open"
                if params["vm"]
                else "it is how a VM has the disk: give vm and name",
            )


def work(module):
    """Bring the image, or the disk of the VM, into its state; return the module's result."""
    params = module.params
    check_door(params)
    if not params["vm"]:
        return converge_image(params, module.check_mode)
    params["keep_disks"] = params["keep_image"]
    if params["state"] == "absent":
        result = converge_item(params, module.check_mode, "disks", None, remove=params["name"])
    else:
        result = converge_item(
            params, module.check_mode, "disks", {key: params[key] for key in DISK_SPEC}
        )
    disks = [disk for disk in result["vm"].get("disks", ()) if disk["name"] == params["name"]]
    return dict(result, disk=disks[0] if disks else {})


def main():
    run_module(
        work,
        argument_spec=dict(
            {
                "vm": {"type": "str"},
                "name": {"type": "str"},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "keep_image": {"type": "bool", "default": False},
            },
            **PLACE_SPEC,
            **SETTINGS_SPEC,
            **SPEC,
            **ATTACHMENT_SPEC,
        ),
        required_together=[("vm", "name")],
        required_one_of=[("path", "vm")],
    )


if __name__ == "__main__":
    main()
