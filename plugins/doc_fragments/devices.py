# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/devices.py.
    DOCUMENTATION = r"""
options:
  rng:
    description:
      - A virtio device that gives the guest randomness from the hypervisor. Default of a new VM is
        V(false).
      - Changes need a restart.
    type: bool
  balloon:
    description:
      - A virtio balloon, by which the hypervisor can take memory back (see the QMP command
        C(balloon)). Default of a new VM is V(false).
      - Changes need a restart.
    type: bool
  watchdog:
    description:
      - A watchdog. Default of a new VM is V(none).
      - Changes need a restart.
    type: str
    choices: [none, i6300esb, ib700]
  watchdog_action:
    description:
      - What QEMU does when the watchdog is not fed in time. Default of a new VM is V(reset).
      - Changes need a restart.
    type: str
    choices: [reset, shutdown, poweroff, inject-nmi, pause, debug, none]
  usb_tablet:
    description:
      - A USB tablet, with which the pointer of a viewer is where it seems to be. Default of a new
        VM is V(false).
      - Changes need a restart.
    type: bool
  devices:
    description:
      - Any other devices of QEMU. Each entry has C(driver), the name of the device, and whatever
        properties that device has.
      - A PCI device without C(addr) and C(bus) is given a place. A USB device without C(bus) is
        given a port of a USB controller that the machine then has, unless C(devices) or
        C(machine_options.usb) give one. An entry is known by its C(id), otherwise by where it
        stands in the list, so append new ones.
      - A property that this QEMU does not have, and a device for PCI, ISA or USB on a machine
        without it, are an error before any change.
      - The value is replaced as a whole. Default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: dict
  passthrough:
    description:
      - PCI devices of the hypervisor that the guest has for itself. Each must be in an IOMMU group,
        which is checked before the start.
      - An address, such as V(0000:3b:00.1) (see C(lspci -D)), is a device that you have bound to
        C(vfio-pci).
      - The name of a network interface, such as V(ens1f0), is its device. It is bound to
        C(vfio-pci) at the start and given back to its driver when the VM has stopped, which
        requires root. An interface that is up, or part of a bridge or bond, is refused.
      - A dictionary with C(interface) or C(address), and C(virtual_functions), is that many free
        virtual functions of the device. They are chosen at the start, bound to C(vfio-pci), and
        given back. Free is what no other VM below O(root) has and whose interface is not up.
        The functions must exist; see C(sriov_numvfs) of the device in sysfs.
      - The value is replaced as a whole. Default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: raw
"""

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
passthrough:
  description: The devices of the hypervisor that a running VM has.
  returned: always
  type: list
  elements: dict
  contains:
    device:
      description:
        - The device as it was given, such as V(ens1f0), or V(ens1f0/1) for the second virtual
          function.
      returned: always
      type: str
      sample: ens1f0/0
    address:
      description: Its PCI address.
      returned: always
      type: str
      sample: '0000:3b:02.0'
"""
