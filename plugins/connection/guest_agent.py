# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: guest_agent
version_added: 1.0.0
short_description: Run tasks in a VM through its QEMU guest agent
author:
  - vlab.qemu contributors (@vlab)
description:
  - Runs commands in the guest of a running VM, and copies files to and from it, through the QEMU
    guest agent. The guest does not need a network.
  - All modules work if the guest has Python. M(ansible.builtin.raw) and M(ansible.builtin.script)
    also work without it.
  - The VM can be on another host than the controller. Ansible's connection to that host is then
    used.
  - While the guest boots, and if it ends or restarts during a task, the host is unreachable;
    M(ansible.builtin.wait_for_connection) and C(until) wait for it, and M(ansible.builtin.reboot)
    works. If the VM does not run or has no channel for an agent, the task fails.
requirements:
  - The QEMU guest agent in the guest, with C(guest-exec) allowed. Some distributions block it.
  - A VM with O(vlab.qemu.qemu_vm#module:guest_agent=true)
extends_documentation_fragment:
  - vlab.qemu.guest_connection
notes:
  - Commands run as the user of the agent, usually root.
  - A command with more than 16 MiB of output fails, because the agent does not keep more.
seealso:
  - plugin: vlab.qemu.serial
    plugin_type: connection
  - plugin: vlab.qemu.lab
    plugin_type: inventory
  - module: vlab.qemu.qemu_guest_exec
"""

EXAMPLES = r"""
# In an inventory without the plugin vlab.qemu.lab:
all:
  hosts:
    hv1:
      ansible_host: 192.0.2.10
    r1:
      ansible_connection: vlab.qemu.guest_agent
      vlab_lab: triangle
      vlab_hypervisor: hv1
      vlab_hypervisor_vars: "{{ hostvars[vlab_hypervisor] | vlab.qemu.hypervisor_vars }}"
"""

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.guest_connection import (
    GuestConnection,
)


class Connection(GuestConnection):
    """The guest agent of a VM."""

    transport = "vlab.qemu.guest_agent"
    channel = "agent"
