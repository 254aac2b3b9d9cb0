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
      - The UUID of the VM, which the guest sees.
      - V(derived) derives it from lab and name, identical on every host. V(random) generates it
        once. Default of a new VM is V(derived).
      - A VM keeps its UUID. Only an explicit UUID changes it.
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
      - The architecture of the guest, such as V(x86_64), V(aarch64) or V(riscv64). Aliases such as
        V(amd64) are accepted.
      - Default of a new VM is the architecture in the name of O(qemu_binary), otherwise that of the
        hypervisor.
      - Changes need a restart.
    type: str
    aliases: [platform]
  qemu_binary:
    description:
      - The QEMU binary, as an absolute path or a name. It must match O(arch) if both are set.
      - Of a list, the first one is used that exists on the hypervisor and can be executed.
      - Default of a new VM is C(qemu-system-ARCH), or C(qemu-kvm) for the architecture of the
        hypervisor.
      - The empty string restores the default.
      - Changes need a restart.
    type: raw
  machine:
    description:
      - The machine type, such as V(pc), V(q35) or V(virt). M(vlab.qemu.qemu_host_info) returns the
        default of each QEMU.
      - Default of a new VM is V(pc) on x86, V(virt) on ARM, RISC-V and LoongArch, otherwise the
        default of QEMU.
      - On V(pc), V(q35), V(virt) and V(pseries) every device has a fixed slot, and keeps it when
        others are added or removed. On other machines QEMU assigns the slots, and NICs and disks
        cannot be added while the VM runs.
      - Changes need a restart.
    type: str
  machine_options:
    description:
      - Properties of the machine type, such as C(hpet) or C(usb). The value is replaced as a whole.
        Default of a new VM is V({}).
      - A property that this QEMU does not have is an error before any change.
      - Changes need a restart.
    type: dict
  accel:
    description:
      - The accelerator. V(auto), the default of a new VM, is KVM if a test guest runs with it,
        otherwise TCG.
      - V(kvm) fails with the reason if KVM cannot be used. V(tcg) is software emulation, which
        works everywhere but is slow.
      - RV(vlab.qemu.qemu_vm#module:vm.accel) returns the accelerator and the reason.
      - Changes need a restart.
    type: str
    choices: [auto, kvm, tcg, hvf, whpx]
  cpu:
    description:
      - The CPU model and its flags, such as V(host), V(max) or V(Haswell,-tsx).
      - Default of a new VM is V(host) with KVM, otherwise the default of QEMU. The empty string
        restores the default.
      - A model and flags that this QEMU does not have are an error before any change, and so is
        V(host) at a start without KVM or HVF.
      - Changes need a restart.
    type: str
  vcpus:
    description:
      - The number of virtual CPUs. Default of a new VM is the product of O(smp),
        otherwise V(1).
      - Changes need a restart.
    type: int
    aliases: [cpus]
  smp:
    description:
      - The topology of the virtual CPUs. QEMU computes omitted values. The value is replaced as a
        whole; V({}) removes it.
      - Sockets times cores times threads must equal O(smp.maxcpus), or O(vcpus) without it.
      - Changes need a restart.
    type: dict
    suboptions:
      sockets:
        description: CPU sockets.
        type: int
      cores:
        description: Cores per socket.
        type: int
      threads:
        description: Threads per core.
        type: int
      maxcpus:
        description: Maximum number of CPUs of the machine.
        type: int
  extra_args:
    description:
      - Arguments to append to the command line of QEMU, for features that have no option. They are
        passed unchanged, without a shell.
      - C(-daemonize), C(-pidfile), C(-S), C(-name), C(-uuid), C(-sandbox), C(-incoming) and
        C(-accel) are rejected, and so are a type and an accelerator in C(-machine). Options that
        this QEMU does not have, and unknown properties in C(-machine), C(-cpu) and C(-device), are
        an error before any change.
      - With C(-icount) the accelerator is TCG.
      - The value is replaced as a whole. Default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: str
  wrapper:
    description:
      - A command that runs QEMU, such as V([numactl, --cpunodebind=0]). The command line of QEMU is
        appended to it.
      - The value is replaced as a whole. Default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: str
  environment:
    description:
      - Environment variables for QEMU, in addition to those of the module.
      - The value is replaced as a whole. Default of a new VM is V({}).
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
origin:
  description: The snapshot that the VM is a clone of, as C(lab), C(vm) and C(snapshot).
  returned: always; null for a VM that is no clone
  type: dict
  sample: null
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
