#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_vm_info
version_added: 1.0.0
short_description: List virtual machines and their status
description:
  - Returns the VMs of a hypervisor, or some of them, with everything that M(vlab.qemu.qemu_vm)
    returns.
  - A running VM is queried, so the result is its actual state. No lock is taken and nothing is
    changed.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.attributes.request
  - vlab.qemu.attributes.info_module
options:
  name:
    description: Return only VMs of this name.
    type: str
  lab:
    description: Return only VMs of this lab; by default those of all labs.
    type: str
  root:
    description:
      - The folder of all labs on the hypervisor.
      - The default is C(/var/lib/vlab) for root and C($XDG_STATE_HOME/vlab) (usually
        C(~/.local/state/vlab)) for other users.
    type: path
  ask_agent:
    description:
      - Whether to ask the guest agents for the names and addresses of NICs. Only VMs with
        O(vlab.qemu.qemu_vm#module:guest_agent) are asked.
    type: bool
    default: false
  agent_timeout:
    description: Seconds for the answer of each guest agent.
    type: int
    default: 2
notes:
  - The hypervisor's neighbour table has only addresses on links that the hypervisor itself is
    connected to, such as bridges.
seealso:
  - module: vlab.qemu.qemu_vm
  - module: vlab.qemu.qemu_disk_info
  - module: vlab.qemu.qemu_host_info
"""

EXAMPLES = r"""
- name: List all VMs of the hypervisor
  vlab.qemu.qemu_vm_info:
  register: all

- name: Show the names of those that run
  ansible.builtin.debug:
    msg: "{{ all.vms | selectattr('status', 'eq', 'running') | map(attribute='name') }}"

- name: Query one VM, with the addresses that its guest agent reports
  vlab.qemu.qemu_vm_info:
    name: r1
    lab: default
    ask_agent: true
  register: result

- name: Show its addresses
  ansible.builtin.debug:
    msg: "{{ nics | map(attribute='addresses') | flatten | map(attribute='address') }}"
  vars:
    nics: "{{ result.vms[0].nics }}"

- name: Show how to connect to its console
  ansible.builtin.debug:
    msg: "{{ result.vms[0].consoles[0].command }}"

- name: Define a second VM like it
  vlab.qemu.qemu_vm: "{{ result.vms[0].definition | combine({'name': 'spare'}) }}"

- name: Fail if a VM of a lab has crashed
  vlab.qemu.qemu_vm_info:
    lab: default
  register: lab
  failed_when: lab.vms | selectattr('status', 'eq', 'crashed') | length > 0
"""

RETURN = r"""
vms:
  description:
    - The VMs, by lab and name. One that cannot be queried has only C(name), C(lab), C(error) and
      C(status=unknown). One whose monitor does not answer has C(status=unresponsive) and C(error).
      One with a damaged file has only C(name), C(lab), C(folder), C(pid), C(error) and
      C(status=damaged).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the VM.
      returned: always
      type: str
      sample: r1
    lab:
      description: Its lab.
      returned: always
      type: str
      sample: default
    folder:
      description: Its folder on the hypervisor.
      returned: always
      type: str
      sample: /var/lib/vlab/default/r1
    status:
      description:
        - V(stopped); V(crashed) if QEMU ended by itself or was killed; V(unresponsive) if QEMU
          runs but its monitor does not answer, so that the VM can only be stopped; V(damaged) if
          a saved file of the VM cannot be used, so that the VM can only be removed; V(suspended) if
          the memory of the guest is saved and no QEMU runs.
        - For a running VM, QEMU's run state, such as V(running), V(paused), V(prelaunch)
          (started paused), V(suspended) (the guest sleeps), V(io-error), V(guest-panicked),
          V(inmigrate) or V(shutdown).
      returned: always
      type: str
      sample: running
    pid:
      description: The process of QEMU; none when it does not run.
      returned: always
      type: int
      sample: 27289
    qmp:
      description: The UNIX socket of a monitor that is free for the user.
      returned: always
      type: str
      sample: /var/lib/vlab/default/r1/monitor.sock
    qemu_version:
      description: The version of the QEMU of this run; none when it does not run.
      returned: always
      type: str
      sample: 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)
    command_line:
      description:
        - The command line of QEMU, word by word. It is also the first line of C(qemu.log).
        - For a crashed VM, that of its last run. For another VM that does not run, and in check
          mode for one that would be started, that of its next start; none if it cannot be started.
          Outside check mode, only M(vlab.qemu.qemu_vm_info) returns that of a next start.
      returned: always
      type: list
      elements: str
      sample: [/usr/bin/qemu-system-x86_64, -S, -nodefaults]
    exit_code:
      description: How the last run ended, where that is known; none otherwise.
      returned: always
      type: int
      sample: 1
    log:
      description: The end of what QEMU said, when the VM has crashed; none otherwise.
      returned: always
      type: str
      sample: 'qemu-system-x86_64: terminating on signal 11'
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
    memory_mb:
      description: The memory of the guest in MiB.
      returned: always
      type: int
      sample: 256
    consoles:
      description: The serial ports.
      returned: always
      type: list
      elements: dict
      contains:
        name:
          description: The name of the console.
          returned: always
          type: str
          sample: console
        type:
          description: V(unix), V(tcp) or V(telnet).
          returned: always
          type: str
          sample: unix
        path:
          description: The socket.
          returned: when it is a UNIX socket
          type: str
          sample: /var/lib/vlab/default/r1/console.sock
        host:
          description: The address that it listens on.
          returned: when it is a port
          type: str
          sample: 127.0.0.1
        port:
          description: The port.
          returned: when it is a port
          type: int
          sample: 20000
        log:
          description: The file that keeps what is printed; none without one.
          returned: always
          type: str
          sample: /var/lib/vlab/default/r1/console.log
        clients:
          description: How many clients it serves at a time, V(one) or V(many).
          returned: always
          type: str
          sample: one
        writers:
          description: How many of them can type at a time, V(one) or V(many).
          returned: always
          type: str
          sample: one
        relay:
          description: The process that serves several clients.
          returned: while the VM runs, with C(clients=many)
          type: dict
          contains:
            status:
              description: V(running) or V(ended).
              returned: always
              type: str
              sample: running
            pid:
              description: Its process; none if it has ended.
              returned: always
              type: int
              sample: 4712
            exit_code:
              description: Its exit code, if it has ended; none if that is unknown.
              returned: always
              type: int
            log:
              description: Its log, which names the clients that were disconnected.
              returned: always
              type: str
              sample: /var/lib/vlab/default/r1/relay.log
        command:
          description: A command that connects to it.
          returned: always
          type: str
          sample: socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:/var/lib/vlab/default/r1/console.sock
    monitors:
      description: The monitors that are free for the user, the one of RV(vms[].qmp) first.
      returned: always
      type: list
      elements: dict
      contains:
        name:
          description: The name of the monitor.
          returned: always
          type: str
          sample: monitor
        type:
          description: V(qmp) or V(hmp).
          returned: always
          type: str
          sample: qmp
        path:
          description: The socket.
          returned: always
          type: str
          sample: /var/lib/vlab/default/r1/monitor.sock
    agent:
      description: The socket of the guest agent's channel; none without one.
      returned: always
      type: str
      sample: /var/lib/vlab/default/r1/agent.sock
    display:
      description: The display.
      returned: always
      type: dict
      contains:
        type:
          description: V(none), V(vnc), V(spice), V(gtk) or V(sdl).
          returned: always
          type: str
          sample: vnc
        host:
          description: The address that it listens on.
          returned: for VNC and SPICE
          type: str
          sample: 127.0.0.1
        port:
          description: The port.
          returned: for VNC and SPICE
          type: int
          sample: 5900
        password:
          description: Whether there is a password.
          returned: for VNC and SPICE
          type: bool
          sample: false
    disks:
      description: The disks. A suboption that is not returned has its default value.
      returned: always
      type: list
      elements: dict
      contains:
        name:
          description: The name of the disk.
          returned: always
          type: str
          sample: root
        path:
          description: The path of the image.
          returned: always
          type: str
          sample: /var/lib/vlab/default/r1/root.qcow2
        size:
          description: The configured size.
          returned: when it is set
          type: str
          sample: 20G
        format:
          description: The format of the image.
          returned: always
          type: str
          sample: qcow2
        format_options:
          description:
            - Format options for creating the image, such as C(cluster_size),
              C(lazy_refcounts) or C(preallocation).
          returned: when it is not the default
          type: dict
        backing_file:
          description: The base image.
          returned: for an overlay
          type: str
          sample: /srv/images/debian-12.qcow2
        backing_format:
          description: The format of C(backing_file).
          returned: when it is not the default
          type: str
        checksum:
          description:
            - The checksum of the base image, or without C(backing_file) of the image itself,
              as C(ALGORITHM:DIGITS) with C(sha256), C(sha512), C(sha1) or C(md5).
          returned: when it is not the default
          type: str
        checksum_first_mib:
          description: The checksum of the first MiB only, which is quick to verify.
          returned: when it is not the default
          type: str
        secret_file:
          description: A file on the hypervisor with the passphrase of the image.
          returned: when it is not the default
          type: str
        any_content:
          description:
            - Whether to accept files at C(path) and C(backing_file) that are no disk images,
              such as archives, web pages and empty files, as raw disks.
          returned: when it is not the default
          type: bool
        bus:
          description: The bus that connects the disk.
          returned: always
          type: str
          sample: virtio
        index:
          description: The unit on the bus, counted from 0.
          returned: when it is not the default
          type: int
        cache:
          description: The cache mode of the hypervisor, as QEMU names it.
          returned: when it is not the default
          type: str
        aio:
          description: The method by which QEMU reads and writes.
          returned: when it is not the default
          type: str
        discard:
          description: Whether space that the guest discards is returned to the hypervisor.
          returned: when it is not the default
          type: bool
        detect_zeroes:
          description:
            - Whether zeroes that the guest writes are detected; V(unmap) also discards their
              space.
          returned: when it is not the default
          type: str
        werror:
          description: The action on a write error, for V(virtio), V(scsi), V(ide) and V(sata).
          returned: when it is not the default
          type: str
        rerror:
          description: The action on a read error, for V(virtio), V(scsi), V(ide) and V(sata).
          returned: when it is not the default
          type: str
        serial:
          description:
            - The serial number that the guest sees, up to 20 bytes, or 36 bytes on V(scsi).
          returned: when it is not the default
          type: str
        boot_index:
          description: The position in the boot order, lowest first.
          returned: when it is not the default
          type: int
        read_only:
          description: Whether the guest can only read the disk.
          returned: when it is not the default
          type: bool
        snapshot:
          description: Whether the next start discards what the guest wrote.
          returned: when it is not the default
          type: bool
        limits:
          description: Limits of bytes and of requests per second.
          returned: when it is not the default
          type: dict
        properties:
          description:
            - Further properties of the device, as QEMU names them, such as C(rotation_rate),
              C(wwn) or C(num-queues).
          returned: when it is not the default
          type: dict
        id:
          description: The ID of the device and of the block node in QEMU.
          returned: always
          type: str
          sample: disk-pci0
        layers:
          description: The number of layers under the image, which snapshots keep.
          returned: always
          type: int
          sample: 0
        layers_bytes:
          description: The space that these layers take. A clone shares them with its origin.
          returned: always
          type: int
          sample: 0
    scsi_controller:
      description: The SCSI controller, if there is a drive on that bus.
      returned: always
      type: str
      sample: virtio
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
      description: The floppy drives, with the keys of RV(vms[].cdroms).
      returned: always
      type: list
      elements: dict
      sample: []
    nics:
      description: The NICs. A suboption that is not returned has its default value.
      returned: always
      type: list
      elements: dict
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
        guest_name:
          description: The name of the NIC in the guest.
          returned: when O(ask_agent) was set and the guest agent answered
          type: str
          sample: ens16
    forwards:
      description: The forwarded ports of all NICs.
      returned: always
      type: list
      elements: dict
      contains:
        nic:
          description: The NIC.
          returned: always
          type: str
          sample: eth0
        protocol:
          description: V(tcp) or V(udp).
          returned: always
          type: str
          sample: tcp
        host_address:
          description: The address that the hypervisor listens on.
          returned: always
          type: str
          sample: 127.0.0.1
        host_port:
          description: The port that the hypervisor listens on.
          returned: always
          type: int
          sample: 20002
        guest_address:
          description: The address of the guest.
          returned: when it was set
          type: str
          sample: 10.0.2.15
        guest_port:
          description: The port of the guest.
          returned: always
          type: int
          sample: 22
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
    autostart:
      description: Whether it is started after a reboot of the hypervisor.
      returned: always
      type: bool
      sample: false
    definition:
      description:
        - The definition in the words of the options of M(vlab.qemu.qemu_vm). Given to the same VM,
          it changes nothing. With another C(name), it defines a second VM like it.
        - Options with their default are left out, and so are the UUID and the MAC addresses, a
          display with a password, C(cloud_init), C(config_drive) and C(tftp_files).
        - Fixed ports and images outside the folder of the VM are part of it, and a second VM may
          need others. The contents of disks are not.
      returned: for a VM whose files can be read
      type: dict
      sample: {name: r1, lab: default, arch: x86_64, machine: pc, disks: [{name: disk0, size: 8G}]}
    agent_error:
      description: Why the guest agent could not be asked.
      returned: when O(ask_agent) was set and it could not
      type: str
      sample: the guest agent did not answer guest-network-get-interfaces in time
    error:
      description: Why the VM cannot be queried, or why its monitor does not answer.
      returned: for the status V(unknown), V(unresponsive) and V(damaged)
      type: str
      sample: no QEMU listens at /var/lib/vlab/default/r1/qmp.sock
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.vm_info_service import (
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
