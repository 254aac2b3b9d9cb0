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
      - A name must not be empty, hold a C(/) or a control character, or begin with a dot.
    type: str
    default: default
  root:
    description:
      - The folder of all labs on the hypervisor; the folder of a VM is C(ROOT/LAB/NAME).
      - Default is C(/var/lib/vlab) for root and C($XDG_STATE_HOME/vlab) (usually C(~/.local/state/vlab)) for other users.
      - VMs under different roots do not know of each other's ports and images.
    type: path
"""

    # How a change is made; for modules that may have to stop a VM.
    SETTINGS = r"""
options:
  allow_restart:
    description:
      - Whether a running VM may be stopped and started again when a change needs that.
      - When V(false), such a change fails, names the options, and changes nothing.
    type: bool
    default: false
  shutdown:
    description:
      - How a running VM is stopped, step by step, until its process has ended. RV(stopped_by) tells how far it had to go.
    type: dict
    suboptions:
      acpi:
        description:
          - Press the ACPI power button first, so that the guest can shut down in order.
          - This step is passed over when the guest is paused, and on PC machines when it has no operating system that listens to the button.
        type: bool
        default: true
      timeout:
        description: Seconds that the guest has for shutting down after the power button.
        type: int
        default: 30
      quit_timeout:
        description: Seconds that QEMU has after it was told by QMP to quit.
        type: int
        default: 10
      term_timeout:
        description: Seconds that QEMU has after C(SIGTERM); after them comes C(SIGKILL).
        type: int
        default: 10
      force:
        description:
          - Whether to go on after the power button. When V(false), a guest that does not shut down in time is an error, and it runs on.
          - Without O(shutdown.acpi) this has no effect.
        type: bool
        default: true
  start_timeout:
    description: Seconds that QEMU has, after its start, to answer at its monitor.
    type: int
    default: 30
  unplug_timeout:
    description:
      - Seconds that the guest has for letting go of a disk or a NIC that is taken from it while it runs.
      - A guest without an operating system that runs never does.
    type: int
    default: 15
  lock_timeout:
    description: Seconds to wait for another run that works on the same VM.
    type: int
    default: 300
"""
