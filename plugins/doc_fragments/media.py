# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/media.py.
    DOCUMENTATION = r"""
options:
  cdroms:
    description:
      - Cdrom drives, each known by its name. Drives that are not named stay as they are, see O(purge_disks).
      - Adding or removing a drive needs a restart; a change of its medium does not.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the drive.
        type: str
        required: true
      path:
        description:
          - The image in the drive. The empty text, the default of a new drive, is for none.
          - A medium that the guest has ejected counts as not there, so the next run puts it back.
          - Changes are made live.
        type: str
      bus:
        description:
          - Default of a new drive is V(ide) on the machine V(pc), V(sata) on V(q35), V(scsi) elsewhere.
          - Changes need a restart.
        type: str
        choices: [ide, sata, scsi]
      index:
        description:
          - The unit on the bus, shared with the disks on that bus. Default of a new drive is the first that is free.
          - Changes need a restart.
        type: int
      boot_index:
        description:
          - The place in the boot order, the lowest first. Default of a new drive is V(-1), to be in none.
          - Changes need a restart.
        type: int
      checksum:
        description:
          - The checksum of the image, as C(ALGORITHM:DIGITS) with C(sha256), C(sha512), C(sha1) or C(md5). It is checked at each start and
            when a medium is put in.
          - Changes do not concern a running VM.
        type: str
  floppies:
    description:
      - Floppy drives, each known by its name; a PC has two. Drives that are not named stay as they are, see O(purge_disks).
      - Adding or removing a drive needs a restart; a change of its medium does not.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the drive.
        type: str
        required: true
      path:
        description:
          - The image in the drive. The empty text, the default of a new drive, is for none.
          - Changes are made live.
        type: str
      index:
        description:
          - V(0) is the first drive, V(1) the second. Default of a new drive is the first that is free.
          - Changes need a restart.
        type: int
      read_only:
        description:
          - Whether the medium is write protected. Default of a new drive is V(false).
          - Changes need a restart.
        type: bool
  cloud_init:
    description:
      - A first-boot seed for cloud-init, by its data source NoCloud. It is C(seed.iso) in the VM's folder, with the label C(cidata).
      - Each file is a text, which is taken as it is, or a dict or a list, which is written as YAML.
      - Only digests of the files are kept in the definition; the files themselves have to be given again when the seed is gone.
      - Given as a whole; V({}) removes it.
      - Changes need a restart.
    type: dict
    suboptions:
      user_data:
        description: C(user-data). Default is an empty C(#cloud-config).
        type: raw
      meta_data:
        description: C(meta-data). Default is the VM's UUID as the instance id and its name as the host name.
        type: raw
      network_config:
        description: C(network-config). There is none by default.
        type: raw
      vendor_data:
        description: C(vendor-data). There is none by default.
        type: raw
      bus:
        description: What the seed is a disk of. Default is V(virtio).
        type: str
        choices: [virtio, scsi, ide, sata, usb]
  config_drive:
    description:
      - A small read-only disk with files for the guest. It is C(config.iso) or C(config.img) in the VM's folder.
      - Only digests of the files are kept in the definition; the files themselves have to be given again when the drive is gone.
      - Given as a whole; V({}) removes it.
      - Changes need a restart.
    type: dict
    suboptions:
      files:
        description:
          - What each file holds, by its path on the drive. A value that is not a text is written as JSON.
          - Names that differ only in upper and lower case are refused.
        type: dict
      label:
        description: The label of the file system, 11 characters at most on FAT, 32 on ISO 9660. Default is V(config).
        type: str
      format:
        description: V(iso), the default, is ISO 9660 with long names; V(fat) is FAT.
        type: str
        choices: [iso, fat]
      bus:
        description: What the drive is a disk of. Default is V(virtio).
        type: str
        choices: [virtio, scsi, ide, sata, usb]
      update:
        description:
          - What a change of O(config_drive) means to a running VM.
          - V(restart), the default, makes it a change that needs a restart, because a guest reads the drive when it boots.
          - V(next_start) writes the new drive at once and lets the guest find it after its next start.
        type: str
        choices: [restart, next_start]
  purge_disks:
    description:
      - Remove the disks that O(disks) does not name, the drives that O(cdroms) does not name and those that O(floppies) does not name.
        A list that is not given keeps all it has.
      - The image of a removed disk is deleted when it is in the VM's folder, unless O(keep_disks=true).
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
