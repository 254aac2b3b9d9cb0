#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_vm
version_added: 1.0.0
short_description: Define, start, change and remove a virtual machine
description:
  - Brings one virtual machine into a state. A VM is one QEMU process and one folder; no daemon is
    involved.
  - Options that you omit keep their values. Items that you omit from a list are kept, unless
    O(purge_disks) or O(purge_nics) is set. A power action on an existing VM needs only O(name) and
    O(state).
  - Changes are made while the VM runs, where possible. A change that needs a restart fails, naming
    the options, unless O(allow_restart=true). The documentation of each option states whether it
    needs a restart.
  - Works on Linux with QEMU 5.2 or later, as root or as any other user.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.vm
  - vlab.qemu.vm.image_dir
  - vlab.qemu.vm.settings
  - vlab.qemu.machine
  - vlab.qemu.memory
  - vlab.qemu.firmware
  - vlab.qemu.consoles
  - vlab.qemu.display
  - vlab.qemu.devices
  - vlab.qemu.storage
  - vlab.qemu.media
  - vlab.qemu.network
  - vlab.qemu.descriptors
  - vlab.qemu.confinement
  - vlab.qemu.autostart
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(state=restarted) and O(state=reset) restart or reset the VM in every run.
  action:
    support: full
    details:
      - It reads the files of the controller that O(cloud_init), O(config_drive) and O(tftp_files)
        name.
      - The hypervisor does the work in one request instead of a module, where that is possible.
  async:
    support: full
options:
  name:
    description:
      - The name of the VM, unique within its lab.
      - A name must not be empty, begin with a dot, or contain a C(/) or a control character. The
        maximum length is 200 bytes.
    type: str
    required: true
  state:
    description:
      - V(started) defines the VM and starts it. A paused VM is resumed, a guest that sleeps (ACPI
        S3) is woken, a VM that was suspended continues, and a guest that has panicked is reset.
      - V(present) defines the VM and leaves its power state as it is. It is restarted only if a
        change needs that and O(allow_restart=true).
      - V(stopped) defines the VM and stops it, see O(shutdown).
      - V(paused) pauses the VM. A VM that did not run is started and paused before its first
        instruction.
      - V(suspended) saves the memory of a running VM on the disk of the hypervisor and ends its
        QEMU. V(started) continues the guest from there, also after the hypervisor was restarted,
        and V(stopped) discards the saved memory. Until then the definition cannot change.
      - V(restarted) stops the VM if it runs, and starts it with all changes.
      - V(reset) resets a running VM, as its reset button does.
      - V(absent) stops the VM at once and removes it with its folder. The guest is asked to shut
        down first only if O(shutdown) or O(keep_disks) is set. Base images, and images outside of
        the folder, are kept.
      - For an unknown VM, V(reset) and V(suspended) are errors, and so are V(stopped), V(paused)
        and V(restarted) if the task has no option that describes the VM.
    type: str
    choices: [started, present, stopped, paused, suspended, restarted, reset, absent]
    default: started
  allow_container:
    description:
      - Whether the VM may be started in an application container of Podman, Docker or Kubernetes,
        such as the one that AWX runs a job in.
      - If V(false), a start fails there, because the VM would end with the container. A container
        that boots with systemd counts as a machine.
    type: bool
    default: false
  keep_disks:
    description:
      - Whether to keep the images in the VM's folder if the VM or a disk is removed. A new VM of
        the same name uses them again for disks of the same names.
    type: bool
    default: false
  incoming:
    description:
      - The source of a migration, in the syntax of QEMU's C(-incoming), such as
        V(tcp:127.0.0.1:4444), V(unix:/run/r1.sock) or V(exec:zcat /srv/r1.gz).
      - V(file:) and the path of a file that M(vlab.qemu.qemu_migrate) has written works with every
        QEMU.
      - It applies to a start in this run only. It is not saved, and has no effect on a VM that
        already runs.
    type: str
  from:
    description:
      - The snapshot that a new VM is a clone of. The guest continues there, beside its origin.
      - The disks of the clone are overlays over the layers of the snapshot. Its UUID, its MAC
        addresses and its machine are those of the origin, and options that would change the
        machine are an error. With a snapshot without memory, the clone boots.
      - A link to a network on which the origin or another clone of it runs is an error, because
        their MAC addresses are the same.
      - A VM that exists must be the clone of this snapshot; then the option has no effect.
    type: dict
    suboptions:
      vm:
        description: The name of the origin.
        type: str
        required: true
      snapshot:
        description: The name of its snapshot.
        type: str
        required: true
      lab:
        description: The lab of the origin, by default O(lab).
        type: str
notes:
  - A new VM without anything to boot gets a blank disk if the task is short, for example with
    O(memory) only. It is an error if the task has O(nics), O(passthrough), O(cloud_init) or
    O(config_drive), because then a disk was forgotten. Set O(disks=[]) for a VM without disks.
  - An option keeps its value until another one is set. An empty string, or V(-1) for an index,
    restores the default.
  - Lists and dictionaries are replaced as a whole, except O(disks), O(cdroms), O(floppies) and
    O(nics), whose items are identified by their names.
  - The folder of a VM contains its definition (C(vm.json)), the record of its run (C(run.json)),
    the logs of QEMU (C(qemu.log)) and of the consoles, its own images, and its sockets. The sockets
    are in C(/run/vlab) if the path of the folder is too long for a socket. Only the seed images of
    O(cloud_init) and O(config_drive), and O(tftp_files), contain secrets.
  - One run at a time works on a VM; others wait, see O(lock_timeout).
  - A memory size without a suffix is in MiB, the size of a disk in bytes.
seealso:
  - module: vlab.qemu.qemu_disk
  - module: vlab.qemu.qemu_nic
  - module: vlab.qemu.qemu_vm_info
  - module: vlab.qemu.qemu_qmp
"""

EXAMPLES = r"""
- name: Start a first VM, with an empty disk of 8 GiB and without a network
  vlab.qemu.qemu_vm:
    name: first

- name: Show what would change with more memory
  vlab.qemu.qemu_vm:
    name: first
    memory: 512
    state: present
    allow_restart: true
  check_mode: true
  diff: true

- name: Boot a kernel directly
  vlab.qemu.qemu_vm:
    name: r1
    kernel: /srv/images/vmlinuz
    initrd: /srv/images/tiny.initrd
    cmdline: console=ttyS0 quiet
    memory: 128
  register: r1

- name: Wait until the guest reports on its console that it is ready
  ansible.builtin.wait_for:
    path: "{{ r1.vm.consoles[0].log }}"
    search_regex: 'vlab: ready'

- name: Start a linked clone of a cloud image, with a user and a forwarded port for SSH
  vlab.qemu.qemu_vm:
    name: web
    memory: 1G
    vcpus: 2
    disks:
      - name: root
        backing_file: /srv/images/debian-12.qcow2
        checksum: "sha256:{{ debian_sha256 }}"
        size: 20G
    nics:
      - name: eth0
        link:
          type: user
          forwards:
            - guest_port: 22
    cloud_init:
      user_data:
        users:
          - name: admin
            sudo: ALL=(ALL) NOPASSWD:ALL
            ssh_authorized_keys:
              - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExample admin
  register: web

- name: Show how to log in
  ansible.builtin.debug:
    msg: "ssh -p {{ web.vm.forwards[0].host_port }} admin@{{ web.vm.forwards[0].host_address }}"

- name: Define one end of a link
  vlab.qemu.qemu_vm:
    name: r1
    nics:
      - name: eth1
        link:
          peer: r2:eth1

- name: Define the other end, with a capture of all frames
  vlab.qemu.qemu_vm:
    name: r2
    memory: 128
    disks: []
    nics:
      - name: eth1
        link:
          peer: r1:eth1
        capture:
          snaplen: 128

- name: Install from a cdrom, with a VNC display
  vlab.qemu.qemu_vm:
    name: install
    machine: q35
    memory: 1G
    disks:
      - name: root
        size: 20G
        bus: sata
        boot_index: 1
    cdroms:
      - name: install
        path: /srv/images/netinst.iso
        boot_index: 0
    display:
      type: vnc
    usb_tablet: true

- name: Eject the cdrom while the VM runs
  vlab.qemu.qemu_vm:
    name: install
    cdroms:
      - name: install
        path: ''

- name: Start a router with files that it reads at its first boot
  vlab.qemu.qemu_vm:
    name: r3
    lab: backbone
    disks: []
    config_drive:
      files:
        hostname: r3
        interfaces: |
          eth0 52:54:00:00:03:00
    nics:
      - name: eth0
        model: e1000
        mac: '52:54:00:00:03:00'
        link:
          type: mcast
          group: 230.0.0.1
          port: 10230
    priority: low

- name: Start a switch that asks DHCP for its configuration, and fetches it by TFTP
  vlab.qemu.qemu_vm:
    name: sw1
    disks: []
    tftp_files:
      nic: mgmt
      files:
        startup.cfg: |
          hostname sw1
    nics:
      - name: mgmt
        link:
          type: user
          dhcp_options:
            66: 10.0.2.2
            67: startup.cfg

- name: Add memory, with a restart if the VM runs
  vlab.qemu.qemu_vm:
    name: web
    memory: 1536
    allow_restart: true
    shutdown:
      timeout: 10

- name: Set what has no option of its own
  vlab.qemu.qemu_vm:
    name: lab-clock
    disks: []
    machine: pc
    machine_options:
      hpet: false
    devices:
      - driver: pvpanic
    extra_args: [-rtc, 'base=2030-01-01T00:00:00,clock=vm']
    smbios:
      - type: 1
        manufacturer: Example
        serial: '0001'

- name: Boot a VM with UEFI and a TPM
  vlab.qemu.qemu_vm:
    name: secure
    machine: q35
    firmware: uefi
    tpm: true
    disks:
      - name: root
        backing_file: /srv/images/debian-12.qcow2

- name: A network card of the host for the guest alone
  vlab.qemu.qemu_vm:
    name: fast
    disks:
      - name: root
        backing_file: /srv/images/debian-12.qcow2
    accel: kvm
    memory: 4G
    memory_backend:
      hugepages: true
    passthrough:
      - 0000:3b:00.1
      - interface: ens1f0
        virtual_functions: 2

- name: Pause, then let it run on
  vlab.qemu.qemu_vm:
    name: web
    state: "{{ item }}"
  loop: [paused, started]

- name: Shut down in order, and never by force
  vlab.qemu.qemu_vm:
    name: r1
    state: stopped
    shutdown:
      timeout: 120
      force: false

- name: Remove a VM, but keep its disks
  vlab.qemu.qemu_vm:
    name: web
    state: absent
    keep_disks: true
"""

RETURN = r"""
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
  description: The VM; empty when it is absent.
  returned: success
  type: dict
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
      description: The monitors that are free for the user, the one of RV(vm.qmp) first.
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
      description: The floppy drives, with the keys of RV(vm.cdroms).
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
  returned: failure, when it is about O(accel)
  type: str
  sample: no_permission
container:
  description: The application container that the hypervisor was recognised as.
  returned: failure, without O(allow_container)
  type: str
  sample: Podman or CRI-O (/run/.containerenv)
"""

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.vm_service import (
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
