# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import textwrap

# Suboptions of qemu_vm's disks, and options of qemu_disk. "@" stands for the path of the disk.
# RETURN uses the first sentence of each.
_IMAGE = r"""
path:
  description:
    - The path of the image, a file or a block device of the hypervisor. Only one VM may write to an
      image.
    - If the image does not exist, it is created with O(@size).
    - Default is C(NAME.FORMAT) in the VM's folder. This image belongs to the VM and is deleted with
      the disk.
    - Cannot be changed for an existing disk.
  type: path
size:
  description:
    - The size that the guest sees, in bytes or with a suffix, such as V(20G).
    - The default of an overlay is the size of its base image, and it cannot be smaller.
    - A larger size grows the disk. A smaller size would cut data off and is refused;
      M(vlab.qemu.qemu_disk) allows it with C(allow_shrink).
    - Changes are made live.
  type: str
format:
  description:
    - The format of the image. Default is the format of the existing image at O(@path), else
      V(qcow2).
    - Cannot be changed for a disk of a VM.
  type: str
  choices: [qcow2, raw, qcow, qed, vdi, vmdk, vpc, vhdx, luks]
format_options:
  description:
    - Format options for creating the image, such as C(cluster_size), C(lazy_refcounts) or
      C(preallocation).
    - Changes do not concern a running VM, nor an existing image.
  type: dict
backing_file:
  description:
    - The base image, which is never written to. The image itself is then an overlay (linked clone),
      and many VMs can share one base image.
    - A base image that is missing, or that changed after the overlay was created, is an error, and
      so is one whose own base did. A new path to the same content is accepted.
    - Changes need a restart.
  type: path
  aliases: [backing_store]
backing_format:
  description:
    - The format of O(@backing_file). By default, it is detected from the header.
    - Changes do not concern a running VM, nor an existing image.
  type: str
  choices: [qcow2, raw, qcow, qed, vdi, vmdk, vpc, vhdx, luks]
checksum:
  description:
    - The checksum of the base image, or without O(@backing_file) of the image itself, as
      C(ALGORITHM:DIGITS) with C(sha256), C(sha512), C(sha1) or C(md5). If it does not match, the
      module fails and changes nothing.
    - A file that matched is read again only after its size or its modification time changed.
    - Changes do not concern a running VM.
  type: str
checksum_first_mib:
  description:
    - The checksum of the first MiB only, which is quick to verify.
    - Changes do not concern a running VM.
  type: str
secret_file:
  description:
    - A file on the hypervisor with the passphrase of the image. The whole file is the passphrase,
      with a newline if it ends with one. QEMU and C(qemu-img) read the file themselves; the
      passphrase is in no command line, result or log.
    - A new image is encrypted with LUKS, if O(@format) is V(qcow2) or V(luks). An existing image,
      or a base under it, must be encrypted with LUKS1 and this passphrase.
    - Changes do not concern a running VM, nor the passphrase of an existing image.
  type: path
any_content:
  description:
    - Whether to accept files at O(@path) and O(@backing_file) that are no disk images, such as
      archives, web pages and empty files, as raw disks. Default of a new disk is V(false).
    - Changes do not concern a running VM.
  type: bool
"""

_ATTACHMENT = r"""
bus:
  description:
    - The bus that connects the disk. Default of a new disk is V(virtio). Controllers are added as
      needed.
    - V(ide) and V(floppy) exist on PCs only; V(ide) is SATA on the machine V(q35). V(pflash) is a
      flash chip, for example for firmware variables.
    - Disks on V(virtio), V(scsi), V(nvme) and V(usb) can be added and removed while the VM runs,
      those on V(scsi) if the SCSI controller of the VM is V(virtio) or V(pvscsi).
    - Changes need a restart.
  type: str
  choices: [virtio, scsi, ide, sata, nvme, usb, sd, floppy, pflash]
index:
  description:
    - The unit on the bus, counted from 0. Default of a new disk is the first free unit, which it
      keeps when other disks are added or removed. V(-1) restores the default.
    - Changes need a restart.
  type: int
cache:
  description:
    - The cache mode of the hypervisor, as QEMU names it. Default of a new disk is V(writeback).
      V(none) and V(directsync) bypass the hypervisor's page cache. V(unsafe) ignores flush requests
      of the guest.
    - Changes need a restart.
  type: str
  choices: [writeback, none, writethrough, directsync, unsafe]
aio:
  description:
    - The method by which QEMU reads and writes. Default of a new disk is V(threads). V(native)
      requires O(@cache=none) or O(@cache=directsync).
    - Changes need a restart.
  type: str
  choices: [threads, native, io_uring]
discard:
  description:
    - Whether space that the guest discards is returned to the hypervisor. Default of a new disk is
      V(true).
    - Changes need a restart.
  type: bool
detect_zeroes:
  description:
    - Whether zeroes that the guest writes are detected; V(unmap) also discards their space. Default
      of a new disk is V(off).
    - Changes need a restart.
  type: str
  choices: ['off', 'on', unmap]
werror:
  description:
    - The action on a write error, for V(virtio), V(scsi), V(ide) and V(sata). Default is QEMU's,
      V(enospc).
    - Changes need a restart.
  type: str
  choices: [report, ignore, enospc, stop]
rerror:
  description:
    - The action on a read error, for V(virtio), V(scsi), V(ide) and V(sata). Default is QEMU's,
      V(report).
    - Changes need a restart.
  type: str
  choices: [report, ignore, stop]
serial:
  description:
    - The serial number that the guest sees, up to 20 bytes, or 36 bytes on V(scsi). A disk on
      V(nvme) has one by default.
    - Changes need a restart.
  type: str
boot_index:
  description:
    - The position in the boot order, lowest first. Default of a new disk is V(-1), which excludes
      it from the boot order.
    - Changes need a restart.
  type: int
read_only:
  description:
    - Whether the guest can only read the disk. Default of a new disk is V(false).
    - Changes need a restart.
  type: bool
snapshot:
  description:
    - Whether the next start discards what the guest wrote. Default of a new disk is V(false).
    - Changes need a restart.
  type: bool
properties:
  description:
    - Further properties of the device, as QEMU names them, such as C(rotation_rate), C(wwn) or
      C(num-queues). Given as a whole; default of a new disk is V({}).
    - An C(iothread) is the ID of an object in O(vlab.qemu.qemu_vm#module:extra_args).
    - Changes need a restart.
  type: dict
limits:
  description:
    - Limits of bytes and of requests per second. Suffixes are accepted, such as V(10M). Given as a
      whole; V({}) removes them. A total limit cannot be combined with a read or write limit.
    - Changes are made live if the disk has limits before and after; otherwise they need a restart.
  type: dict
  suboptions:
    bps_total:
      description: Bytes read and written per second.
      type: str
    bps_read:
      description: Bytes read per second.
      type: str
    bps_write:
      description: Bytes written per second.
      type: str
    iops_total:
      description: Requests per second.
      type: str
    iops_read:
      description: Read requests per second.
      type: str
    iops_write:
      description: Write requests per second.
      type: str
"""


def _under(text, depth, where):
    return textwrap.indent(text.replace("@", where), "  " * depth)


_SCSI_CONTROLLER = r"""
  scsi_controller:
    description:
      - The SCSI controller of disks, CD-ROM drives and config drives on the bus V(scsi), for
        systems without a driver of V(virtio). V(lsilogic) is an LSI 53C895A, V(mptsas1068) an LSI
        SAS 1068, V(megasas) an LSI MegaRAID SAS 8708EM2, and V(pvscsi) that of VMware. Default is
        V(virtio).
      - V(lsilogic) and V(lsi53c810) have 7 units, V(mptsas1068) 8, V(megasas) and V(pvscsi) 64.
      - Changes need a restart if the VM runs with a drive on it, and do not concern a running VM
        without one.
    type: str
    choices: [virtio, pvscsi, megasas, mptsas1068, lsilogic, lsi53c810]
"""


class ModuleDocFragment:
    # Annotated, because ansible-test's yamllint checks each plain assignment here, but cannot
    # compute text. The option of plugins/module_utils/_vm/parts/storage.
    DOCUMENTATION: str = (
        r"""
options:
  disks:
    description:
      - Disks, identified by name. Suboptions that you omit keep their values, and so do disks that
        you omit, see O(purge_disks).
      - A new VM without O(disks), O(cdroms), O(floppies), O(kernel) and O(bios_image) gets a blank
        disk V(disk0) of 8 GiB. V([]) means no disks.
      - Adding and removing disks are changes that are made live if the bus supports it and the
        machine has a free slot; otherwise they need a restart.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the disk, and of its image without O(disks[].path).
        type: str
        required: true
"""
        + _under(_IMAGE + _ATTACHMENT, 3, "disks[].")
        + _SCSI_CONTROLLER
    )

    IMAGE: str = "options:\n" + _under(_IMAGE, 1, "")

    ATTACHMENT: str = "options:\n" + _under(_ATTACHMENT, 1, "")

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
disks:
  description: The disks. A suboption that is not returned has its default value.
  returned: always
  type: list
  elements: dict
  contains: DISK_RESULT
scsi_controller:
  description: The SCSI controller, if there is a drive on that bus.
  returned: always
  type: str
  sample: virtio
"""

    # Results that differ from the option of the same name, and those that are no option. The script
    # adds the other suboptions.
    DISK_RESULT: str = r"""
name:
  description: The name of the disk.
  returned: always
  type: str
  sample: root
id:
  description: The ID of the device and of the block node in QEMU.
  returned: always
  type: str
  sample: disk-pci0
layers:
  description: The number of layers under the image, which snapshots keep.
  returned: always
  type: int
  sample: 0
layers_bytes:
  description: The space that these layers take. A clone shares them with its origin.
  returned: always
  type: int
  sample: 0
path:
  description: The path of the image.
  returned: always
  type: str
  sample: /var/lib/vlab/default/r1/root.qcow2
format:
  description: The format of the image.
  returned: always
  type: str
  sample: qcow2
bus:
  description: The bus that connects the disk.
  returned: always
  type: str
  sample: virtio
size:
  description: The configured size.
  returned: when it is set
  type: str
  sample: 20G
backing_file:
  description: The base image.
  returned: for an overlay
  type: str
  sample: /srv/images/debian-12.qcow2
"""
