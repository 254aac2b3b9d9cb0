# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/machine.py.
    DOCUMENTATION = r"""
options:
  uuid:
    description:
      - The UUID that the guest sees, and by which the VM is told from others.
      - V(derived) makes it from lab and name, the same on every host; V(random) makes a new one once. Default of a new VM is V(derived).
      - A VM keeps the UUID that it has been given. Only another UUID, written out, changes it.
      - Changes need a restart.
    type: str
  description:
    description:
      - A text about the VM for its users. QEMU and the guest do not see it.
      - Default of a new VM is the empty string.
      - Changes are made live.
    type: str
  arch:
    description:
      - The architecture of the guest, as QEMU calls it, such as V(x86_64), V(aarch64) or V(riscv64); V(amd64) and the like are understood.
      - Default of a new VM is the architecture that the name of O(qemu_binary) tells, else that of the hypervisor.
      - Changes need a restart.
    type: str
    aliases: [platform]
  qemu_binary:
    description:
      - The QEMU to run, by absolute path or by name. It must agree with O(arch), when both are given.
      - Default of a new VM is C(qemu-system-ARCH), for the hypervisor's own architecture also C(qemu-kvm).
      - The empty text goes back to the default.
      - Changes need a restart.
    type: str
  machine:
    description:
      - The machine type, such as V(pc), V(q35) or V(virt). M(vlab.qemu.qemu_host_info) tells the default of each QEMU.
      - Default of a new VM is V(pc) on x86, V(virt) on ARM, RISC-V and LoongArch, else QEMU's own.
      - On V(pc), V(q35), V(virt) and V(pseries) every device has a place of its own and keeps it when others come or go.
        On other machines QEMU places devices itself, and NICs and disks cannot be plugged in while the VM runs.
      - Changes need a restart.
    type: str
  machine_options:
    description:
      - Properties of the machine type, such as C(hpet) or C(usb). Given as a whole; default of a new VM is V({}).
      - Changes need a restart.
    type: dict
  accel:
    description:
      - What runs the guest's instructions. V(auto), the default of a new VM, is KVM where a guest has been seen to run on it, else TCG.
      - V(kvm) fails, and tells why, where KVM cannot be used. V(tcg) is emulation, which works everywhere and is slow.
      - The choice and its reason are returned in RV(vlab.qemu.qemu_vm#module:vm.accel).
      - Changes need a restart.
    type: str
    choices: [auto, kvm, tcg, hvf, whpx]
  cpu:
    description:
      - The CPU model and its flags, such as V(host), V(max) or V(Haswell,-tsx).
      - Default of a new VM is V(host) with KVM and QEMU's own otherwise. The empty text goes back to that.
      - Changes need a restart.
    type: str
  vcpus:
    description:
      - The number of virtual CPUs. Default of a new VM is the product of O(smp), else V(1).
      - Changes need a restart.
    type: int
    aliases: [cpus]
  smp:
    description:
      - The topology of the virtual CPUs; what is left out QEMU works out. Given as a whole; V({}) removes it.
      - Sockets times cores times threads must be O(smp.maxcpus), or O(vcpus) without it.
      - Changes need a restart.
    type: dict
    suboptions:
      sockets:
        description: CPU sockets.
        type: int
      cores:
        description: Cores of a socket.
        type: int
      threads:
        description: Threads of a core.
        type: int
      maxcpus:
        description: The most CPUs that the machine can have.
        type: int
  extra_args:
    description:
      - Words at the end of QEMU's command line, for what has no option of its own. Each is passed as it is, without a shell.
      - Refused are C(-daemonize), C(-pidfile), C(-S), C(-name), C(-uuid), C(-sandbox) and C(-incoming).
      - With C(-icount) the accelerator is TCG.
      - Given as a whole; default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: str
  wrapper:
    description:
      - A command that runs QEMU, such as V([numactl, --cpunodebind=0]); the command line of QEMU is put after it.
      - Given as a whole; default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: str
  environment:
    description:
      - Environment variables of QEMU, beside those of the module.
      - Given as a whole; default of a new VM is V({}).
      - Changes need a restart.
    type: dict
"""

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
uuid:
  description: Its UUID.
  returned: always
  type: str
  sample: 665ce1d1-10a4-52e4-8724-bb0d2c3aefec
description:
  description: The text about the VM.
  returned: always
  type: str
  sample: Edge router of the lab
arch:
  description: The architecture of the guest.
  returned: always
  type: str
  sample: x86_64
machine:
  description: The machine type.
  returned: always
  type: str
  sample: pc
vcpus:
  description: The number of virtual CPUs.
  returned: always
  type: int
  sample: 1
accel:
  description: What runs the guest's instructions; empty when the VM does not run.
  returned: always
  type: dict
  contains:
    type:
      description: The accelerator.
      returned: when the VM runs
      type: str
      sample: tcg
    reason:
      description: Why it was chosen.
      returned: when the VM runs
      type: str
      sample: /dev/kvm does not exist, and the CPU flags vmx/svm are missing
"""
