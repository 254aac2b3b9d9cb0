# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/media/media.py and seeds.py.
    DOCUMENTATION = r"""
options:
  cdroms:
    description:
      - CD-ROM drives, identified by their names. Omitted drives are kept; see O(purge_disks).
      - Adding or removing a drive needs a restart. Changing its medium does not.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the drive.
        type: str
        required: true
      path:
        description:
          - The image in the drive. The empty string, the default of a new drive, means no medium.
          - If the guest ejected the medium, the next run inserts it again.
          - A compressed file, an archive, a web page or an empty file is an error.
          - Changes are made live.
        type: str
      bus:
        description:
          - Default of a new drive is V(ide) on the machine V(pc), V(sata) on V(q35), V(scsi)
            elsewhere.
          - Changes need a restart.
        type: str
        choices: [ide, sata, scsi]
      index:
        description:
          - The unit on the bus, shared with the disks on that bus. Default of a new drive is the
            first free one.
          - Changes need a restart.
        type: int
      boot_index:
        description:
          - The position in the boot order, lowest first. Default of a new drive is V(-1), not in
            the boot order.
          - Changes need a restart.
        type: int
      checksum:
        description:
          - The checksum of the image, as C(ALGORITHM:DIGITS) with C(sha256), C(sha512), C(sha1) or
            C(md5). It is verified at each start and when the medium is inserted. A file that
            matched is read again only after its size or its modification time changed.
          - Changes are made live. Another checksum is of another medium, which is inserted.
        type: str
      checksum_first_mib:
        description:
          - The checksum of the first MiB only, which is quick to verify.
          - Changes are made live. Another checksum is of another medium, which is inserted.
        type: str
  floppies:
    description:
      - Floppy drives, identified by their names. A PC has two. Omitted drives are kept; see
        O(purge_disks).
      - Adding or removing a drive needs a restart. Changing its medium does not.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the drive.
        type: str
        required: true
      path:
        description:
          - The image in the drive. The empty string, the default of a new drive, means no medium.
          - Changes are made live.
        type: str
      index:
        description:
          - V(0) is the first drive, V(1) the second. Default of a new drive is the first free one.
          - Changes need a restart.
        type: int
      read_only:
        description:
          - Whether the medium is write-protected. Default of a new drive is V(false).
          - Changes need a restart.
        type: bool
  cloud_init:
    description:
      - A seed for cloud-init, for its data source NoCloud. The image is C(seed.iso) in the folder
        of the VM, with the label C(cidata).
      - Each file is a string, which is written unchanged, or a dictionary or a list, which is
        written as YAML after the line C(#cloud-config) or, for a list, C(#cloud-config-archive).
      - For a binary file, such as compressed user data, use a dictionary with only C(src), the path
        of a file on the controller, or only C(base64), its content.
      - cloud-init ignores user data and vendor data that do not begin with one of its headers; the
        module warns about them.
      - The definition contains only salted digests of the files. If the seed was deleted, set the
        files again. Results and logs do not show the files.
      - The value is replaced as a whole; V({}) removes it.
      - Changes need a restart. With O(cloud_init.meta_data) as described there, a changed seed has
        another instance ID, so that cloud-init applies it at the next start as on a new machine. It
        then also makes new SSH host keys.
    type: dict
    suboptions:
      user_data:
        description: C(user-data). Default is an empty C(#cloud-config).
        type: raw
      meta_data:
        description:
          - C(meta-data). Default is the UUID of the VM as C(instance-id), followed by a number if
            the seed was changed, and its name as C(local-hostname).
          - A dictionary is added to the default. In the host name, hyphens replace what a host name
            cannot have.
          - A string replaces the default. With the same C(instance-id), cloud-init does not read
            changed files in a guest that has booted; the module warns about it.
        type: raw
      network_config:
        description: C(network-config). By default, the file does not exist.
        type: raw
      vendor_data:
        description: C(vendor-data). By default, the file does not exist.
        type: raw
      bus:
        description: The bus of the seed. Default is V(virtio).
        type: str
        choices: [virtio, scsi, ide, sata, usb]
  config_drive:
    description:
      - A small read-only disk with files for the guest. The image is C(config.iso) or C(config.img)
        in the folder of the VM.
      - The definition contains only salted digests of the files. If the drive was deleted, set the
        files again. Results and logs do not show the files.
      - The value is replaced as a whole; V({}) removes it.
      - Changes need a restart.
      - With the label C(cidata) and a file C(user-data), the drive is a seed for cloud-init, with
        C(meta-data) as described for O(cloud_init.meta_data).
    type: dict
    suboptions:
      files:
        description:
          - The content of each file, by its path on the drive.
          - A string is written unchanged. For a binary file, use a dictionary with only C(src), the
            path of a file on the controller, or only C(base64), its content. Any other value is
            written as JSON.
          - Names that differ only in case are rejected.
        type: dict
      label:
        description:
          - The label of the file system, at most 11 characters on FAT and 32 on ISO 9660. Default
            is V(config).
        type: str
      format:
        description: V(iso), the default, is ISO 9660 with long names; V(fat) is FAT.
        type: str
        choices: [iso, fat]
      bus:
        description: The bus of the drive. Default is V(virtio).
        type: str
        choices: [virtio, scsi, ide, sata, usb]
      update:
        description:
          - The effect of a changed O(config_drive) on a running VM.
          - With V(restart), the default, the change needs a restart, because a guest reads the
            drive when it boots.
          - With V(next_start), the drive is written immediately, and the guest reads it at its next
            start.
        type: str
        choices: [restart, next_start]
  tftp_files:
    description:
      - Files that the guest can read by TFTP from the address of the hypervisor on a link of type
        V(user), C(10.0.2.2) by default. They are in the folder C(tftp) of the VM.
      - A system that asks DHCP for the name of its configuration gets it with C(dhcp_options) of
        the link.
      - The definition contains only salted digests of the files. If one was deleted, set the files
        again. Results and logs do not show the files.
      - The value is replaced as a whole; V({}) removes it.
      - Changed files are written immediately, and the guest reads them at its next start. All
        other changes need a restart.
    type: dict
    suboptions:
      files:
        description: The content of each file, by its path, as in O(config_drive.files).
        type: dict
      nic:
        description: The NIC with the link. Required with files.
        type: str
  purge_disks:
    description:
      - Remove disks and drives that are not in O(disks), O(cdroms) or O(floppies). Items of an
        omitted list are kept.
      - The image of a removed disk is deleted if it is in the folder of the VM, unless
        O(keep_disks=true).
    type: bool
    default: false
"""

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
cdroms:
  description: The cdrom drives.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the drive.
      returned: always
      type: str
      sample: install
    id:
      description: The id of its device in QEMU.
      returned: always
      type: str
      sample: disk-ide0
    path:
      description: The image that is to be in it; none when it is to be empty.
      returned: always
      type: str
      sample: /srv/images/netinst.iso
floppies:
  description: The floppy drives, with the keys of RV(vm.cdroms).
  returned: always
  type: list
  elements: dict
  sample: []
"""
