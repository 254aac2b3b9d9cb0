#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_host_info
version_added: 1.0.0
short_description: Tell what a hypervisor can do
description:
  - Returns which QEMUs are installed and what each of them can do, whether KVM runs guests and if not why not, and what memory,
    processors and programs there are.
  - Each QEMU is asked once, and the answer is kept in C(/var/cache/vlab) or C($XDG_CACHE_HOME/vlab) until the program changes.
    KVM on x86 is tried with a small test guest, once after each boot.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.info_module
options: {}
notes:
  - As it has no options, it does not belong to the action group C(vlab.qemu.qemu).
seealso:
  - module: vlab.qemu.qemu_vm
"""

EXAMPLES = r"""
- name: What the hypervisor can do
  vlab.qemu.qemu_host_info:
  register: result

- name: Whether KVM works, and if not why not
  ansible.builtin.debug:
    msg: "{{ result.host.kvm.usable }}: {{ result.host.kvm.reason }}"

- name: NIC models of its first QEMU
  ansible.builtin.debug:
    var: result.host.qemu[0].nic_models

- name: There must be memory for a lab
  ansible.builtin.assert:
    that: result.host.memory_mb.available > 256
"""

RETURN = r"""
host:
  description: The hypervisor.
  returned: success
  type: dict
  contains:
    arch:
      description: Its architecture, as QEMU calls it.
      returned: always
      type: str
      sample: x86_64
    cpus:
      description: How many processors the module may use.
      returned: always
      type: int
      sample: 8
    root:
      description: The folder of all labs, unless the option O(vlab.qemu.qemu_vm#module:root) names another.
      returned: always
      type: str
      sample: /var/lib/vlab
    memory_mb:
      description: Memory in MiB.
      returned: always
      type: dict
      contains:
        total:
          description: All of it.
          returned: always
          type: int
          sample: 32025
        available:
          description: What can be had without swapping.
          returned: always
          type: int
          sample: 22573
    hugepages:
      description: Huge pages of the default size.
      returned: always
      type: dict
      contains:
        size_kb:
          description: The size of one in KiB.
          returned: always
          type: int
          sample: 2048
        total:
          description: How many there are.
          returned: always
          type: int
          sample: 0
        free:
          description: How many are free.
          returned: always
          type: int
          sample: 0
    programs:
      description: Where programs are that some options or users need; none for one that is not installed.
      returned: always
      type: dict
      sample: {socat: /usr/bin/socat, swtpm: null, passt: null, cpulimit: null, ssh: /usr/bin/ssh, tcpdump: null}
    qemu_img:
      description: Where C(qemu-img) is; none without one.
      returned: always
      type: str
      sample: /usr/bin/qemu-img
    cpu_limit:
      description:
        - How O(vlab.qemu.qemu_vm#module:cpu_limit) works here. V(v1) and V(v2) are control groups of that version, V(cpulimit) is the program;
          none when it does not.
      returned: always
      type: str
      choices: [v1, v2, cpulimit]
      sample: v2
    accel:
      description: What O(vlab.qemu.qemu_vm#module:accel=auto) is for guests of the hypervisor's own architecture; none without a QEMU for it.
      returned: always
      type: str
      choices: [kvm, tcg]
      sample: kvm
    kvm:
      description: Whether KVM runs guests of the hypervisor's own architecture.
      returned: always
      type: dict
      contains:
        usable:
          description: Whether it does.
          returned: always
          type: bool
          sample: true
        reason:
          description: Why not, and what to do about it.
          returned: always
          type: str
          sample: '/dev/kvm works: a test guest ran on it'
        cause:
          description:
            - The same as a word. One of V(ok), V(wrong_architecture), V(not_built_in), V(no_device), V(no_cpu_support), V(no_permission),
              V(stale_device), V(not_a_kvm_device) and V(guests_do_not_run).
          returned: always
          type: str
          sample: ok
    qemu:
      description: Every QEMU that is installed, in the order in which they are found.
      returned: always
      type: list
      elements: dict
      contains:
        path:
          description: Where it is.
          returned: always
          type: str
          sample: /usr/bin/qemu-system-x86_64
        arch:
          description: The architecture of its guests.
          returned: always
          type: str
          sample: x86_64
        version:
          description: Its version, for comparisons.
          returned: always
          type: str
          sample: 7.2.22
        version_text:
          description: Its version, with that of the package.
          returned: always
          type: str
          sample: 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)
        default_machine:
          description: Its own default machine type; none where it has no default. O(vlab.qemu.qemu_vm#module:machine) may default to another.
          returned: always
          type: str
          sample: pc-i440fx-7.2
        accelerators:
          description: The accelerators that are built in; whether they work is another question.
          returned: always
          type: list
          elements: str
          sample: [kvm, tcg]
        nic_models:
          description: What O(vlab.qemu.qemu_vm#module:nics[].model) can be.
          returned: always
          type: list
          elements: str
          sample: [e1000, rtl8139, virtio-net-pci]
        netdevs:
          description: The network backends that are built in.
          returned: always
          type: list
          elements: str
          sample: [bridge, dgram, hubport, socket, stream, tap, user, vde]
        kvm:
          description: Whether KVM runs its guests, as in RV(host.kvm).
          returned: always
          type: dict
          sample: {usable: true, reason: '/dev/kvm works: a test guest ran on it', cause: ok}
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import host_facts


def work(_module):
    """Look at the host; return the module's result."""
    found, warnings = host_facts()
    return {"changed": False, "host": found, "warnings": warnings}


def main():
    run_module(work, argument_spec={})


if __name__ == "__main__":
    main()
