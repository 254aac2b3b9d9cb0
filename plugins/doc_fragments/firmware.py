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
      - V(bios), the default of a new VM, is the default firmware of the machine, SeaBIOS on a PC.
      - V(uefi) is found through the firmware descriptors of the distribution (package C(ovmf),
        C(edk2-ovmf) or C(qemu-efi-aarch64)), without Secure Boot. C(uefi-variables.fd) in the
        folder of the VM contains its UEFI variables.
      - Changes need a restart.
    type: str
    choices: [bios, uefi]
  bios_image:
    description:
      - A firmware image that replaces the default. Cannot be combined with O(firmware=uefi). The
        empty string removes it.
      - Changes need a restart.
    type: path
  boot_order:
    description:
      - The order of boot devices on a PC, as letters. V(a) and V(b) are floppies, V(c) is the disk,
        V(d) the CD-ROM, V(n) the network. A PC tries three at most; other machines may accept V(p).
        The empty string, the default of a new VM, uses the order of the firmware.
      - C(boot_index) of disks, CD-ROMs and NICs sets the order of single devices, and takes
        precedence.
      - Changes need a restart.
    type: str
  boot_menu:
    description:
      - Whether the firmware offers a boot menu. Default of a new VM is V(false).
      - Changes need a restart.
    type: bool
  kernel:
    description:
      - A kernel on the hypervisor, which is booted directly. The empty string removes it.
      - Changes need a restart.
    type: path
  initrd:
    description:
      - The initial RAM disk for O(kernel). The empty string removes it.
      - Changes need a restart.
    type: path
  cmdline:
    description:
      - The command line for O(kernel). The empty string removes it.
      - Changes need a restart.
    type: str
  smbios:
    description:
      - SMBIOS tables. Each entry has C(type), one of 0, 1, 2, 3, 4, 8, 11, 17 and 41, and the
        fields of that type in QEMU, such as C(manufacturer), C(product) and C(serial) for type 1.
      - The value is replaced as a whole. Default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: dict
  tpm:
    description:
      - A TPM 2.0, emulated by the program C(swtpm), which must be installed. Its state is in the
        folder C(tpm) of the VM.
      - Default of a new VM is V(false).
      - Changes need a restart.
    type: bool
seealso:
  - name: Options of QEMU
    description: The documentation of C(-boot), C(-smbios), C(-machine) and other options.
    link: https://www.qemu.org/docs/master/system/invocation.html
"""
