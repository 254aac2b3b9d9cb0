# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/firmware.py.
    DOCUMENTATION = r"""
options:
  firmware:
    description:
      - V(bios) is the firmware that QEMU has for the machine, SeaBIOS on a PC. It is the default of a new VM.
      - V(uefi) is found by the firmware descriptors that distributions install (package C(ovmf), C(edk2-ovmf) or C(qemu-efi-aarch64)),
        without Secure Boot. The VM has UEFI variables of its own, in C(uefi-variables.fd) in its folder.
      - Changes need a restart.
    type: str
    choices: [bios, uefi]
  bios_image:
    description:
      - A firmware image to use in place of QEMU's own. Cannot go with O(firmware=uefi). The empty text removes it.
      - Changes need a restart.
    type: path
  boot_order:
    description:
      - The order of boot devices on a PC, a letter for each. V(a) and V(b) are floppies, V(c) is the disk, V(d) the cdrom,
        V(n) to V(p) the network. The empty text, the default of a new VM, leaves it to the firmware.
      - C(boot_index) of disks, cdroms and NICs says it for single devices, and goes before this.
      - Changes need a restart.
    type: str
  boot_menu:
    description:
      - Whether the firmware offers a boot menu. Default of a new VM is V(false).
      - Changes need a restart.
    type: bool
  kernel:
    description:
      - A kernel on the hypervisor that is booted directly. The empty text removes it.
      - Changes need a restart.
    type: path
  initrd:
    description:
      - The initial RAM disk for O(kernel). The empty text removes it.
      - Changes need a restart.
    type: path
  cmdline:
    description:
      - The command line for O(kernel). The empty text removes it.
      - Changes need a restart.
    type: str
  smbios:
    description:
      - SMBIOS tables. Each entry has C(type), one of 0, 1, 2, 3, 4, 8, 11, 17 and 41, and the fields that QEMU has for that type,
        such as C(manufacturer), C(product) and C(serial) for type 1.
      - Given as a whole; default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: dict
  tpm:
    description:
      - A TPM 2.0 made by the program C(swtpm), which must be installed. Its state is in the folder C(tpm) of the VM.
      - Default of a new VM is V(false).
      - Changes need a restart.
    type: bool
seealso:
  - name: Options of QEMU
    description: What C(-boot), C(-smbios), C(-machine) and the others mean to QEMU.
    link: https://www.qemu.org/docs/master/system/invocation.html
"""
