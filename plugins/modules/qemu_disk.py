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
  - With O(vm), brings one disk of an existing VM into a state, whether the VM runs or not. It has
    the same effect as an item of O(vlab.qemu.qemu_vm#module:disks), and keeps the power state of
    the VM.
    It also takes internal snapshots and backups of the disk while the VM runs.
  - Without O(vm), works on the image at O(path) only. It creates, copies, grows, shrinks, converts,
    rebases, commits, checks and repairs the image, and manages its internal snapshots.
  - Options that you omit keep their values.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.attributes.request
  - vlab.qemu.vm
  - vlab.qemu.vm.image_dir
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
      - O(restore_snapshot) restores the snapshot in every run.
requirements:
  - C(qemu-img), which is searched beside QEMU, then in E(PATH)
options:
  vm:
    description:
      - The VM that has the disk O(name). It must exist, except with O(state=absent).
      - Without it, the options that define how a disk is connected (O(bus) to O(limits)) cannot be
        used.
    type: str
  name:
    description: The name of the disk; required with O(vm).
    type: str
  state:
    description:
      - Whether the disk should exist, or without O(vm) the image.
      - If a disk is removed from a VM, its image is removed too if it is in the VM's folder, see
        O(keep_image).
      - An image that a VM uses, as a disk, a CD-ROM, a base or a base of a base, is removed only
        with O(force=true).
    type: str
    choices: [present, absent]
    default: present
  keep_image:
    description: Whether to keep the image of a disk that is removed from O(vm).
    type: bool
    default: false
  source:
    description:
      - An image that a new image at O(path) becomes a full copy of, in O(format). With O(size), a
        copy of a smaller image is grown to that size. Of a larger image, it is an error without
        O(allow_shrink).
      - O(checksum) is then that of the source. An existing image is not compared with the source.
        Only without O(vm).
    type: path
  source_format:
    description: The format of O(source); by default as its header indicates.
    type: str
    choices: [qcow2, raw, qcow, qed, vdi, vmdk, vpc, vhdx, luks]
  source_secret_file:
    description:
      - A file on the hypervisor with the passphrase of an encrypted O(source). The copy is
        encrypted only with O(secret_file).
    type: path
  compress:
    description: Whether to compress the copy of O(source), or the result of O(convert).
    type: bool
    default: false
  allow_shrink:
    description:
      - Whether O(size) may be smaller than the image, its base or its source. Shrinking cuts data
        off. The image must not be in use, so the VM must be stopped, or O(allow_restart=true).
    type: bool
    default: false
  convert:
    description:
      - Whether to convert an image of another O(format). If V(false), another format is an error.
        The new image replaces the old one in one step, with its mode and owner. An overlay becomes
        an independent image. Only without O(vm).
      - Internal snapshots would be lost. An image that has any is converted only with O(snapshots)
        set to V([]) and O(purge_snapshots=true).
    type: bool
    default: false
  commit:
    description:
      - Whether to write the content of an overlay to its base, and empty the overlay. Nothing is
        done if the overlay is empty.
      - A base that VMs use is changed only with O(force=true), because that breaks all other
        overlays on top of it. Only without O(vm).
    type: bool
    default: false
  check:
    description:
      - Whether to check the image; RV(disk.check) has the result. Corruptions are an error. Only
        without O(vm).
    type: bool
    default: false
  repair:
    description:
      - What to repair; V(leaks) repairs leaked clusters, V(all) everything that can be repaired.
        Only without O(vm).
    type: str
    choices: [none, leaks, all]
    default: none
  snapshots:
    description:
      - The internal snapshots of the image, a V(qcow2); missing ones are created.
      - With O(vm), of the disk O(name). QEMU takes them while the VM runs; the guest's file system
        is then as after a power failure.
    type: list
    elements: str
  purge_snapshots:
    description: Whether to delete the internal snapshots that O(snapshots) does not name.
    type: bool
    default: false
  restore_snapshot:
    description:
      - The internal snapshot to restore, before O(snapshots) are created. A VM that has the image
        open must be stopped first.
    type: str
  backup:
    description:
      - The path of a new V(qcow2) image that becomes a full copy of the disk O(name), without its
        snapshots. An existing file is left as it is. Only with O(vm).
      - While the VM runs, the copy is of the moment at which the task starts, as after a power
        failure. It appears when it is complete, and is encrypted if the disk has O(secret_file).
    type: path
  backup_timeout:
    description: The maximum time for O(backup) while the VM runs, in seconds.
    type: int
    default: 3600
  force:
    description:
      - Whether to change an image even if that may harm a VM that uses it. The lock of a running VM
        still prevents the change.
    type: bool
    default: false
notes:
  - Without O(vm), O(backing_file) moves an existing overlay to another base and keeps its content.
    An empty string merges the base into the image. If the old base does not exist, the new one is
    assumed to have the same content.
  - Images are created with mode 0600, and only appear when they are complete.
seealso:
  - module: vlab.qemu.qemu_vm
  - module: vlab.qemu.qemu_disk_info
  - name: Disk images
    description: What C(qemu-img) does.
    link: https://www.qemu.org/docs/master/tools/qemu-img.html
"""

EXAMPLES = r"""
- name: Add a disk to a VM while it runs
  vlab.qemu.qemu_disk:
    vm: r1
    name: data
    size: 1G

- name: Grow the disk
  vlab.qemu.qemu_disk:
    vm: r1
    name: data
    size: 2G

- name: Add a slow disk for tests
  vlab.qemu.qemu_disk:
    vm: r1
    name: slow
    size: 100M
    bus: scsi
    limits:
      bps_total: 1M
      iops_total: 100
    allow_restart: true

- name: Make the disk slower
  vlab.qemu.qemu_disk:
    vm: r1
    name: slow
    limits:
      iops_total: 10

- name: Remove a disk from a VM, and keep its image
  vlab.qemu.qemu_disk:
    vm: r1
    name: slow
    state: absent
    keep_image: true
    allow_restart: true

- name: Create a base image from a downloaded one, after verifying its checksum
  vlab.qemu.qemu_disk:
    path: /srv/images/base.qcow2
    source: /srv/images/debian-12.qcow2
    checksum: "sha256:{{ debian_sha256 }}"
    size: 10G
    compress: true

- name: Create an overlay
  vlab.qemu.qemu_disk:
    path: /srv/images/work.qcow2
    backing_file: /srv/images/base.qcow2

- name: Create a snapshot
  vlab.qemu.qemu_disk:
    path: /srv/images/work.qcow2
    snapshots: [clean]

- name: Take a snapshot and a backup of a disk while the VM runs
  vlab.qemu.qemu_disk:
    vm: r1
    name: data
    snapshots: [before-upgrade]
    backup: /srv/images/r1-data.qcow2

- name: Create an encrypted image
  vlab.qemu.qemu_disk:
    path: /srv/images/private.qcow2
    size: 1G
    secret_file: /etc/vlab/private.key

- name: Restore the snapshot
  vlab.qemu.qemu_disk:
    path: /srv/images/work.qcow2
    restore_snapshot: clean

- name: Make the overlay independent of its base, and delete its snapshots
  vlab.qemu.qemu_disk:
    path: /srv/images/work.qcow2
    backing_file: ''
    snapshots: []
    purge_snapshots: true

- name: Create an empty image with options of its format
  vlab.qemu.qemu_disk:
    path: /srv/images/blank.img
    size: 4G
    format_options:
      cluster_size: 128k
      lazy_refcounts: true

- name: Check the image, and repair leaked clusters
  vlab.qemu.qemu_disk:
    path: /srv/images/blank.img
    check: true
    repair: leaks
  register: checked

- name: Convert the image
  vlab.qemu.qemu_disk:
    path: /srv/images/blank.img
    format: raw
    convert: true

- name: Shrink the image
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
    - The image; empty if it is absent.
    - With O(vm) the disk, as an item of RV(vlab.qemu.qemu_vm#module:vm.disks) of
      M(vlab.qemu.qemu_vm).
  returned: success
  type: dict
  contains:
    path:
      description: The path of the image.
      returned: always
      type: str
      sample: /srv/images/work.qcow2
    format:
      description: Its format.
      returned: always
      type: str
      sample: qcow2
    size:
      description:
        - The size that a guest sees, in bytes; with O(vm) the configured size, as text.
      returned: always
      type: int
      sample: 10737418240
    actual_size:
      description: The space that it takes on the hypervisor, in bytes.
      returned: without O(vm)
      type: int
      sample: 200704
    backing_file:
      description: The base image; none without one.
      returned: without O(vm)
      type: str
      sample: /srv/images/base.qcow2
    backing_format:
      description: The format of the base image; none without one.
      returned: without O(vm)
      type: str
      sample: qcow2
    dirty:
      description: Whether it was not closed properly, or is in use.
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
      returned: without O(vm), and with O(snapshots), O(restore_snapshot) or O(backup)
      type: list
      elements: dict
      contains:
        name:
          description: The name of the snapshot.
          returned: without O(vm)
          type: str
          sample: clean
        id:
          description: The ID of the snapshot.
          returned: without O(vm)
          type: str
          sample: '1'
        date:
          description: The time when it was created, in seconds since 1970.
          returned: without O(vm)
          type: int
          sample: 1795251066
        vm_state_size:
          description: The size of the VM state in it, in bytes.
          returned: without O(vm)
          type: int
          sample: 0
    check:
      description:
        - The result of O(check), with C(supported) (some formats cannot be checked), C(ok),
          C(errors), C(corruptions), C(leaks), C(corruptions_fixed) and C(leaks_fixed).
      returned: with O(check) or O(repair)
      type: dict
      sample: {supported: true, ok: true, errors: 0, corruptions: 0, leaks: 0}
    name:
      description: The name of the disk.
      returned: with O(vm)
      type: str
      sample: data
    id:
      description: The ID of the device and of the block node in QEMU.
      returned: with O(vm)
      type: str
      sample: disk-pci1
    bus:
      description: The bus that connects the disk.
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
    secret_file:
      description: A file on the hypervisor with the passphrase of the image.
      returned: with O(vm), when it is not the default
      type: str
    any_content:
      description:
        - Whether to accept files at C(path) and C(backing_file) that are no disk images,
          such as archives, web pages and empty files, as raw disks.
      returned: with O(vm), when it is not the default
      type: bool
    properties:
      description:
        - Further properties of the device, as QEMU names them, such as C(rotation_rate),
          C(wwn) or C(num-queues).
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
      description: V(live) while the VM runs, V(next start) for what is made now and the guest sees
        at its next start, V(restart) with a power cycle, or V(file) where no running VM is
        concerned.
      returned: always
      type: str
      sample: live
    reason:
      description: Why it is not made live, where one might think it was.
      returned: when there is more to say
      type: str
      sample: a disk on sata cannot be plugged in
actions:
  description: What was done with files and processes, in words; empty in check mode. Changes that
    are made live are in RV(changes) only.
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
  description: How far a VM had to be forced to stop. V(acpi) is a guest that shut down, V(kill) is
    C(SIGKILL).
  returned: when a VM was stopped
  type: str
  choices: [acpi, quit, term, kill]
  sample: acpi
vm:
  description:
    - The whole VM, as RV(vlab.qemu.qemu_vm#module:vm) of M(vlab.qemu.qemu_vm); empty when it does
      not exist.
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
    - Why an accelerator cannot be used, as a word. One of V(wrong_architecture), V(not_built_in),
      V(no_device), V(no_cpu_support), V(no_permission), V(stale_device), V(not_a_kvm_device) and
      V(guests_do_not_run).
  returned: failure, when it is about O(vlab.qemu.qemu_vm#module:accel)
  type: str
  sample: no_permission
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.disk_service import (
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
