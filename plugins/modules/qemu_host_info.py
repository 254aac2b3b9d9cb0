#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_host_info
version_added: 1.0.0
short_description: Gather facts about a hypervisor
description:
  - Returns the installed QEMU binaries and their capabilities, whether KVM works and if not, why,
    and the available memory, CPUs and programs.
  - The capabilities of each binary are kept in C(/var/cache/vlab) or C($XDG_CACHE_HOME/vlab) until
    the binary changes. On x86, KVM is tested with a small guest, once after each boot.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.info_module
options: {}
notes:
  - This module has no options, so it does not belong to the action group C(vlab.qemu.qemu).
seealso:
  - module: vlab.qemu.qemu_vm
"""

EXAMPLES = r"""
- name: Gather the facts of the hypervisor
  vlab.qemu.qemu_host_info:
  register: result

- name: Show whether KVM works, and if not, why
  ansible.builtin.debug:
    msg: "{{ result.host.kvm.usable }}: {{ result.host.kvm.reason }}"

- name: Show the NIC models of its first QEMU
  ansible.builtin.debug:
    var: result.host.qemu[0].nic_models

- name: Fail if there is too little memory for a lab
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
      description: The number of CPUs that the module may use.
      returned: always
      type: int
      sample: 8
    root:
      description:
        - The folder of all labs, unless O(vlab.qemu.qemu_vm#module:root) names another one.
      returned: always
      type: str
      sample: /var/lib/vlab
    memory_mb:
      description: Memory in MiB.
      returned: always
      type: dict
      contains:
        total:
          description: The total memory.
          returned: always
          type: int
          sample: 32025
        available:
          description: The memory that is available without swapping.
          returned: always
          type: int
          sample: 22573
    hugepages:
      description: Huge pages of the default size.
      returned: always
      type: dict
      contains:
        size_kb:
          description: The size of one page in KiB.
          returned: always
          type: int
          sample: 2048
        total:
          description: The number of pages.
          returned: always
          type: int
          sample: 0
        free:
          description: The number of free pages.
          returned: always
          type: int
          sample: 0
    programs:
      description:
        - The paths of programs that some options or users need; none for a missing one.
      returned: always
      type: dict
      sample: {socat: /usr/bin/socat, swtpm: null, passt: null, ssh: /usr/bin/ssh}
    qemu_img:
      description: The path of C(qemu-img); none if it is missing.
      returned: always
      type: str
      sample: /usr/bin/qemu-img
    cpu_limit:
      description:
        - The method of O(vlab.qemu.qemu_vm#module:cpu_limit) on this host. V(v1) and V(v2) are
          control groups of that version, V(cpulimit) is the program; none if it cannot be used.
      returned: always
      type: str
      choices: [v1, v2, cpulimit]
      sample: v2
    accel:
      description:
        - The accelerator that O(vlab.qemu.qemu_vm#module:accel=auto) selects for guests of the
          hypervisor's own architecture; none without a QEMU for it.
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
          description: Whether KVM can be used.
          returned: always
          type: bool
          sample: true
        reason:
          description: The reason, and what to do about it.
          returned: always
          type: str
          sample: '/dev/kvm works: a test guest ran on it'
        cause:
          description:
            - The reason as a keyword. One of V(ok), V(wrong_architecture), V(not_built_in),
              V(no_device), V(no_cpu_support), V(no_permission), V(stale_device),
              V(not_a_kvm_device) and V(guests_do_not_run).
          returned: always
          type: str
          sample: ok
    qemu:
      description: The installed QEMU binaries, in the order in which they are found.
      returned: always
      type: list
      elements: dict
      contains:
        path:
          description: The path of the binary.
          returned: always
          type: str
          sample: /usr/bin/qemu-system-x86_64
        arch:
          description: The architecture of its guests.
          returned: always
          type: str
          sample: x86_64
        version:
          description: The version, for comparisons.
          returned: always
          type: str
          sample: 7.2.22
        version_text:
          description: The version of QEMU and of its package.
          returned: always
          type: str
          sample: 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)
        default_machine:
          description:
            - The default machine type of the binary; none without a default. The default of
              O(vlab.qemu.qemu_vm#module:machine) may differ.
          returned: always
          type: str
          sample: pc-i440fx-7.2
        accelerators:
          description: The accelerators that are built in, whether they work or not.
          returned: always
          type: list
          elements: str
          sample: [kvm, tcg]
        nic_models:
          description: The possible values of O(vlab.qemu.qemu_vm#module:nics[].model).
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
          description: Whether KVM can run its guests, as in RV(host.kvm).
          returned: always
          type: dict
          sample: {usable: true, reason: '/dev/kvm works: a test guest ran on it', cause: ok}
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import host_facts

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(_module: AnsibleModule) -> dict[str, Any]:
    """Gather the facts; return the module's result."""
    facts, warnings = host_facts()
    return {"changed": False, "host": facts, "warnings": warnings}


def main() -> None:
    run_module(work, argument_spec={})


if __name__ == "__main__":
    main()
