# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Where a VM is.
    DOCUMENTATION = r"""
options:
  lab:
    description:
      - The lab that the VM belongs to. Names of VMs are unique within a lab.
      - A name must not be empty, contain a C(/) or a control character, or begin with a dot.
    type: str
    default: default
  root:
    description:
      - The folder of all labs on the hypervisor; the folder of a VM is C(ROOT/LAB/NAME).
      - Default is C(/var/lib/vlab) for root and C($XDG_STATE_HOME/vlab), usually
        C(~/.local/state/vlab), for other users.
      - Conflicts of ports and images between VMs in different roots are not detected.
    type: path
"""

    # For modules that take paths of images.
    IMAGE_DIR = r"""
options:
  image_dir:
    description:
      - The folder on the hypervisor in which relative paths of images are looked up, namely of
        disks, bases, copies, removable media, kernels and firmware. The saved path is absolute.
      - Default is C(images) in O(root). Other paths must be absolute. C(~) is the home folder of
        the user on the hypervisor.
    type: path
"""

    # How a change is made; for modules that may have to stop a VM.
    SETTINGS = r"""
options:
  allow_restart:
    description:
      - Whether to restart a running VM if a change requires it.
      - If V(false), the task fails, names the options, and changes nothing.
    type: bool
    default: false
  shutdown:
    description:
      - The steps to stop a running VM, until its process has ended. RV(stopped_by) returns the
        last step.
    type: dict
    suboptions:
      acpi:
        description:
          - Press the ACPI power button first, for a clean shutdown of the guest.
          - This step is skipped if the guest is paused, and on PC machines if its operating system
            does not handle the button.
        type: bool
        default: true
      timeout:
        description: Seconds to wait for the guest after the power button.
        type: int
        default: 30
      quit_timeout:
        description: Seconds to wait for QEMU after the QMP command C(quit).
        type: int
        default: 10
      term_timeout:
        description: Seconds to wait for QEMU after C(SIGTERM), before C(SIGKILL).
        type: int
        default: 10
      force:
        description:
          - Whether to continue after the power button. If V(false), the task fails if the guest
            does not shut down in time, and the VM keeps running.
          - Has no effect without O(shutdown.acpi).
        type: bool
        default: true
  start_timeout:
    description: Seconds to wait for the monitor of QEMU after its start.
    type: int
    default: 30
  unplug_timeout:
    description:
      - Seconds to wait for the guest to release a disk or a NIC that is removed while it runs.
      - Fails if no guest operating system is running.
    type: int
    default: 15
  lock_timeout:
    description: Seconds to wait for another run on the same VM.
    type: int
    default: 300
"""

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
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
"""

    # Returned by every module that changes a VM.
    CHANGES: str = r"""
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
"""

    # Returned with an error.
    FAILURE: str = r"""
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
"""

    # What qemu_snapshot and qemu_snapshot_info return of a snapshot.
    SNAPSHOT_RESULT: str = r"""
name:
  description: The name of the snapshot.
  returned: always
  type: str
  sample: before-upgrade
vm:
  description: The name of the VM.
  returned: always
  type: str
  sample: r1
lab:
  description: The lab of the VM.
  returned: always
  type: str
  sample: default
description:
  description: The text that was given.
  returned: always
  type: str
  sample: ''
created:
  description: When it was taken, in seconds since 1970.
  returned: always
  type: int
  sample: 1767225600
status:
  description: The status of the VM at that time.
  returned: always
  type: str
  choices: [running, paused, stopped]
  sample: running
memory:
  description: Whether the memory was saved.
  returned: always
  type: bool
  sample: true
disks:
  description: The names of the saved disks.
  returned: always
  type: list
  elements: str
  sample: [disk0]
qemu_version:
  description: The version of the QEMU that saved it.
  returned: always
  type: str
  sample: 7.2.22
machine:
  description: The versioned machine type of the VM.
  returned: always
  type: str
  sample: pc-i440fx-7.2
bytes:
  description: The space that it takes on the hypervisor.
  returned: always
  type: int
  sample: 139460608
folder:
  description: The folder with its files.
  returned: always
  type: str
  sample: /var/lib/vlab/default/r1/snapshots/before-upgrade
"""
