# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import textwrap

# Suboptions of qemu_vm's disks, and options of qemu_disk. "@" stands for where they are.
_IMAGE = r"""
path:
  description:
    - The image, a file or a block device of the hypervisor. Only one VM may write to it.
    - It is created when it does not exist and O(@size) is given.
    - Default is C(NAME.FORMAT) in the VM's folder, which belongs to the VM and is deleted with the disk.
    - Cannot be changed for a disk that exists.
  type: path
size:
  description:
    - The size that the guest sees, a number of bytes or with a suffix, such as V(20G).
    - For an overlay the default is the size of its base.
    - A larger size makes the disk grow. A smaller one cuts data off and is refused, but for M(vlab.qemu.qemu_disk) with C(allow_shrink).
    - Changes are made live.
  type: str
format:
  description:
    - The format of the image. Default is what the image at O(@path) is, else V(qcow2).
    - Cannot be changed for a disk of a VM.
  type: str
  choices: [qcow2, raw, qcow, qed, vdi, vmdk, vpc, vhdx, luks]
format_options:
  description:
    - Options of the format for an image that is created, such as C(cluster_size), C(lazy_refcounts) or C(preallocation).
    - Changes do not concern a running VM, nor an image that exists.
  type: dict
backing_file:
  description:
    - The base image under this one, which nobody writes; the image is then an overlay, or linked clone, and many VMs can share a base.
    - A base that is not at its place any more, or has changed since the overlay was made, is an error.
      A new path of the same content is followed.
    - Changes need a restart.
  type: path
  aliases: [backing_store]
backing_format:
  description:
    - The format of O(@backing_file). Default is what its header tells.
    - Changes do not concern a running VM, nor an image that exists.
  type: str
  choices: [qcow2, raw, qcow, qed, vdi, vmdk, vpc, vhdx, luks]
checksum:
  description:
    - The checksum of the base image, or without O(@backing_file) of the image itself, as C(ALGORITHM:DIGITS) with C(sha256), C(sha512),
      C(sha1) or C(md5). With another one nothing is done, and the error names both.
    - A file that was right is not read again until its size or its time changes.
    - Changes do not concern a running VM.
  type: str
checksum_first_mib:
  description:
    - The same, of the first MiB only, which takes no time.
    - Changes do not concern a running VM.
  type: str
"""

_ATTACHMENT = r"""
bus:
  description:
    - What the disk is connected by. Default of a new disk is V(virtio). Controllers are made as needed.
    - V(ide) and V(floppy) are for PCs; V(ide) is SATA on the machine V(q35). V(pflash) is a flash chip, such as for firmware variables.
    - Disks on V(virtio), V(scsi), V(nvme) and V(usb) can come and go while the VM runs.
    - Changes need a restart.
  type: str
  choices: [virtio, scsi, ide, sata, nvme, usb, sd, floppy, pflash]
index:
  description:
    - The unit on the bus, counted from 0. Default of a new disk is the first that is free.
      It then stays, whatever other disks come and go. V(-1) takes back what was said.
    - Changes need a restart.
  type: int
cache:
  description:
    - How the hypervisor caches, in the words of QEMU. Default of a new disk is V(writeback). V(none) and V(directsync) pass by the
      hypervisor's page cache. V(unsafe) never waits for the storage.
    - Changes need a restart.
  type: str
  choices: [writeback, none, writethrough, directsync, unsafe]
aio:
  description:
    - How QEMU reads and writes. Default of a new disk is V(threads). V(native) needs O(@cache=none) or O(@cache=directsync).
    - Changes need a restart.
  type: str
  choices: [threads, native, io_uring]
discard:
  description:
    - Whether space that the guest gives up is given back to the hypervisor. Default of a new disk is V(true).
    - Changes need a restart.
  type: bool
detect_zeroes:
  description:
    - Whether to look for zeroes in what the guest writes, and with V(unmap) to give their space back. Default of a new disk is V(off).
    - Changes need a restart.
  type: str
  choices: ['off', 'on', unmap]
werror:
  description:
    - What to do when a write fails, on V(virtio), V(scsi), V(ide) and V(sata). Default is QEMU's, V(enospc).
    - Changes need a restart.
  type: str
  choices: [report, ignore, enospc, stop]
rerror:
  description:
    - What to do when a read fails, on V(virtio), V(scsi), V(ide) and V(sata). Default is QEMU's, V(report).
    - Changes need a restart.
  type: str
  choices: [report, ignore, stop]
serial:
  description:
    - The serial number that the guest sees, of 20 bytes at most, on V(scsi) 36. A disk on V(nvme) has one by default.
    - Changes need a restart.
  type: str
boot_index:
  description:
    - The place in the boot order, the lowest first. Default of a new disk is V(-1), to be in none.
    - Changes need a restart.
  type: int
read_only:
  description:
    - Whether the guest may only read. Default of a new disk is V(false).
    - Changes need a restart.
  type: bool
snapshot:
  description:
    - Whether what the guest writes is thrown away with the next start. Default of a new disk is V(false).
    - Changes need a restart.
  type: bool
limits:
  description:
    - Limits of bytes and of requests in a second; suffixes are understood, such as V(10M). Given as a whole; V({}) removes them.
      A total cannot go with a limit of reads or writes.
    - Changes are made live when the disk has had limits and still has some; else they need a restart.
  type: dict
  suboptions:
    bps_total:
      description: Bytes read and written in a second.
      type: str
    bps_read:
      description: Bytes read in a second.
      type: str
    bps_write:
      description: Bytes written in a second.
      type: str
    iops_total:
      description: Requests in a second.
      type: str
    iops_read:
      description: Requests to read in a second.
      type: str
    iops_write:
      description: Requests to write in a second.
      type: str
"""


def _under(text, depth, where):
    return textwrap.indent(text.replace("@", where), "  " * depth)


class ModuleDocFragment:
    # Annotated, because ansible-test's yamllint reads every plain assignment here and knows no computed text.
    # The option of plugins/module_utils/_vm/parts/storage.py.
    DOCUMENTATION: str = r"""
options:
  disks:
    description:
      - Disks, each known by its name. What is said of a disk is changed, suboption by suboption; what is not said stays as it is.
        Disks that are not named stay as they are, see O(purge_disks).
      - A new VM that is given neither O(disks), O(cdroms), O(floppies), O(kernel) nor O(bios_image) gets a blank disk V(disk0) of 8 GiB.
        V([]) is for none.
      - Adding and removing a disk is made live on buses that can do it, when the machine has a free place; else it needs a restart.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the disk, and of its image when it has no O(disks[].path).
        type: str
        required: true
""" + _under(_IMAGE + _ATTACHMENT, 3, "disks[].")

    IMAGE: str = "options:\n" + _under(_IMAGE, 1, "")

    ATTACHMENT: str = "options:\n" + _under(_ATTACHMENT, 1, "")
