#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_nic
version_added: 1.0.0
short_description: Add, rewire, change and remove a NIC of a virtual machine
description:
  - Brings one NIC of an existing VM into a state, whether the VM runs or not. It has the same
    effect as an item of O(vlab.qemu.qemu_vm#module:nics), and keeps the power state of the VM.
  - A link can be connected, moved and disconnected while the guest keeps its card. Options that you
    omit keep their values.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.attributes.request
  - vlab.qemu.vm
  - vlab.qemu.vm.settings
  - vlab.qemu.network.nic
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  vm:
    description: The name of the VM. It must exist, except with O(state=absent).
    type: str
    required: true
  name:
    description:
      - The name of the NIC. A number at its end is its number on the bus.
    type: str
    required: true
    aliases: [interface]
  state:
    description: Whether the NIC should exist. V(absent) waits until the guest has released it.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: vlab.qemu.qemu_vm
  - module: vlab.qemu.qemu_vm_info
"""

EXAMPLES = r"""
- name: Add a NIC on a user-mode network
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth0
    link:
      type: user

- name: Connect it to another VM instead
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth0
    link:
      peer: r2:eth0

- name: Connect a NIC to a VM on another hypervisor
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth1
    link:
      type: udp
      local_address: "{{ my_address }}"
      local_port: 27001
      remote_address: "{{ other_address }}"
      remote_port: 27001

- name: Remove the carrier
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth0
    link_down: true

- name: Restore the carrier, and start a capture
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth0
    link_down: false
    capture: {}
  register: result

- name: Stop the capture
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth0
    capture:
      enabled: false

- name: Fetch the capture
  ansible.builtin.fetch:
    src: "{{ result.nic.capture.path }}"
    dest: captures/

- name: Disconnect the link, and keep the NIC
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth0
    link:
      type: none

- name: Connect a NIC to an interface of the hypervisor, at full speed
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth2
    link:
      type: tap
      interface: tap-r1
      vhost: true
    allow_restart: true

- name: Remove a NIC from the running VM
  vlab.qemu.qemu_nic:
    vm: r1
    name: eth1
    state: absent
    unplug_timeout: 30
"""

RETURN = r"""
nic:
  description:
    - The NIC, as an item of RV(vlab.qemu.qemu_vm#module:vm.nics) of M(vlab.qemu.qemu_vm); empty if
      it is absent.
  returned: success
  type: dict
  contains:
    name:
      description: The name of the NIC.
      returned: always
      type: str
      sample: eth0
    model:
      description: The model of the network card.
      returned: always
      type: str
      sample: virtio-net-pci
    mac:
      description: The MAC address.
      returned: always
      type: str
      sample: fa:d8:f8:b5:d4:c0
    link:
      description: The link, with the suboptions that were set.
      returned: always
      type: dict
      sample: {type: udp, peer: 'r2:eth0'}
    link_down:
      description: Whether the carrier was taken away.
      returned: always
      type: bool
      sample: false
    capture:
      description:
        - The configured capture, with C(path) and C(snaplen); none without a capture.
        - With a size, also C(size) in bytes, C(count), and for a running VM C(rotation), the
          process that copies the frames, with C(status), C(pid), C(exit_code) and C(log).
          Its C(status) is V(ended) if it has died; no frame is lost by that, and the next run
          starts it again.
      returned: always
      type: dict
      sample:
        path: /var/lib/vlab/default/r1/captures/eth0.pcap
        snaplen: 128
        size: 104857600
        count: 10
        rotation:
          status: running
          pid: 4713
          exit_code: null
          log: /var/lib/vlab/default/r1/rotations/log
    mtu:
      description: The MTU that a virtio NIC reports to the guest.
      returned: when it is not the default
      type: int
    rx_queue_size:
      description: The number of frames that each receive queue of a virtio NIC holds.
      returned: when it is not the default
      type: int
    index:
      description: The number of the NIC, from V(0), which determines its PCI slot.
      returned: when it is not the default
      type: int
    boot_index:
      description: The position in the boot order, lowest first.
      returned: when it is not the default
      type: int
    boot_rom:
      description: Whether a PCI card has the ROM that boots from the network.
      returned: when it is not the default
      type: bool
    properties:
      description: Further properties of the device, as QEMU names them.
      returned: when it is not the default
      type: dict
    impairment:
      description:
        - The impairment of what the NIC sends, as asked and as measured since its last
          change.
      returned: for an impaired link of a running VM
      type: dict
      contains:
        status:
          description:
            - V(running), or V(ended) if the process has died, which cuts the link until the
              next run.
          returned: always
          type: str
          sample: running
        pid:
          description: The process of all impaired links of the VM.
          returned: always
          type: int
          sample: 4712
        exit_code:
          description: The exit code of a process that has died.
          returned: always
          type: int
        log:
          description: Its log.
          returned: always
          type: str
          sample: /var/lib/vlab/default/r1/wires/log
        asked:
          description:
            - The impairment in force, with times in ms, probabilities in % and rates in
              kbit/s.
          returned: always
          type: dict
          sample: {delay: 20, loss: 1.5, rate: 10000}
        measured:
          description:
            - What was measured, null if the process does not run. C(delay_p50) and
              C(delay_p99) are the median and the 99th percentile of the latest 2048 frames,
              in ms. C(rate) is of the latest second with frames, and C(peak_rate) of the
              busiest one, in kbit/s. C(lost) is what the impairment lost, and C(dropped) what
              had no space in the queue.
          returned: always
          type: dict
          sample:
            seconds: 61.2
            frames_in: 20000
            bytes_in: 20000000
            frames_out: 19702
            bytes_out: 19702000
            lost: 298
            duplicated: 0
            corrupted: 0
            reordered: 0
            dropped: 0
            send_errors: 0
            delay_p50: 20.1
            delay_p99: 21.4
            rate: 2573.1
            peak_rate: 2604.8
    interface:
      description: The interface on the hypervisor, also if QEMU has chosen its name.
      returned: when the link is a C(tap) and the VM runs
      type: str
      sample: tap0
    carrier:
      description: Whether the guest currently sees a carrier.
      returned: always
      type: bool
      sample: true
    slot:
      description: The number of the NIC, which determines its PCI slot.
      returned: always
      type: int
      sample: 0
    addresses:
      description: The known addresses at which the guest can be reached through this NIC.
      returned: always
      type: list
      elements: dict
      contains:
        address:
          description: The IP address.
          returned: always
          type: str
          sample: 127.0.0.1
        port:
          description: The port at this address; none if all ports lead to the guest.
          returned: always
          type: int
          sample: 20002
        guest_port:
          description: The port of the guest.
          returned: for a forwarded port
          type: int
          sample: 22
        source:
          description:
            - V(forward), V(neighbours) (the hypervisor's neighbour table), or V(agent) from
              M(vlab.qemu.qemu_vm_info).
          returned: always
          type: str
          sample: forward
changes:
  description: Every difference between what was and what is asked for, also in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    option:
      description: What differs; C(state) is the power state.
      returned: always
      type: str
      sample: nics[eth0].link
    before:
      description: What it was; none for what was not there.
      returned: always
      type: raw
      sample: {type: none}
    after:
      description: What it is to be; none for what is to go.
      returned: always
      type: raw
      sample: {type: user}
    how:
      description: V(live) while the VM runs, V(next start) for what is made now and the guest sees
        at its next start, V(restart) with a power cycle, or V(file) where no running VM is
        concerned.
      returned: always
      type: str
      sample: live
    reason:
      description: Why it is not made live, where one might think it was.
      returned: when there is more to say
      type: str
      sample: a disk on sata cannot be plugged in
actions:
  description: What was done with files and processes, in words; empty in check mode. Changes that
    are made live are in RV(changes) only.
  returned: success
  type: list
  elements: str
  sample: ['create /var/lib/vlab/default/r1/root.qcow2, 8G', start, resume]
diff:
  description: RV(changes) as two dicts, for C(--diff).
  returned: success
  type: dict
  sample: {before: {memory: 256}, after: {memory: 512}}
stopped_by:
  description: How far a VM had to be forced to stop. V(acpi) is a guest that shut down, V(kill) is
    C(SIGKILL).
  returned: when a VM was stopped
  type: str
  choices: [acpi, quit, term, kill]
  sample: acpi
vm:
  description:
    - The whole VM, as RV(vlab.qemu.qemu_vm#module:vm) of M(vlab.qemu.qemu_vm); empty when it does
      not exist.
  returned: success
  type: dict
  sample: {name: r1, lab: default, status: running}
option:
  description: The option that is wrong, by its path.
  returned: failure, when it is the fault of one
  type: str
  sample: disks[root].size
options:
  description: The options whose change needs a restart.
  returned: failure, without O(allow_restart)
  type: list
  elements: str
  sample: [memory, vcpus]
cmd:
  description: The command line that failed.
  returned: failure of a program
  type: list
  elements: str
  sample: [/usr/bin/qemu-system-x86_64, -S]
rc:
  description: Its exit code; none when it was ended from outside.
  returned: failure of a program
  type: int
  sample: 1
log:
  description: What QEMU said last.
  returned: failure of a start
  type: str
  sample: 'qemu-system-x86_64: -nonsense: invalid option'
path:
  description: The file that is wrong.
  returned: failure, when it is about a file
  type: str
  sample: /srv/images/debian-12.qcow2
cause:
  description:
    - Why an accelerator cannot be used, as a word. One of V(wrong_architecture), V(not_built_in),
      V(no_device), V(no_cpu_support), V(no_permission), V(stale_device), V(not_a_kvm_device) and
      V(guests_do_not_run).
  returned: failure, when it is about O(vlab.qemu.qemu_vm#module:accel)
  type: str
  sample: no_permission
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.nic_service import (
    SPECIFICATION,
    work,
)


def main() -> None:
    run_module(
        lambda module: work(module.params, module.check_mode),
        **SPECIFICATION,
    )


if __name__ == "__main__":
    main()
