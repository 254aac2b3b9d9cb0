# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/display.py.
    DOCUMENTATION = r"""
options:
  display:
    description:
      - The display of the VM. The value is replaced as a whole. Default of a new VM is
        O(display.type=none).
      - Changes need a restart.
    type: dict
    suboptions:
      type:
        description:
          - V(vnc) and V(spice) are servers for viewers. V(gtk) and V(sdl) are windows on the screen
            of the hypervisor.
          - Default is V(none).
        type: str
        choices: [none, vnc, spice, gtk, sdl]
      host:
        description:
          - The IP address to listen on. Default is V(127.0.0.1). Addresses other than loopback
            require O(display.password).
        type: str
      port:
        description:
          - The port to listen on, 5900 or higher for VNC. V(auto), the default, selects a free port
            and keeps it.
        type: str
      password:
        description:
          - The password for viewers, at most 8 characters for VNC.
          - It is set through QMP and not stored. Set it in every run that starts the VM; otherwise
            nobody can connect.
          - A changed password is set in a running VM, but not reported as a change.
        type: str
  vga:
    description:
      - The graphics card. Default of a new VM is V(none). With a O(display.type) other than V(none)
        it is V(std), or V(qxl) for SPICE if QEMU supports it.
      - Changes need a restart.
    type: str
    choices: [none, std, cirrus, vmware, qxl, virtio]
"""

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
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
"""
