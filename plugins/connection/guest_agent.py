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
  - Runs commands in the guest of a running VM and copies files, through the QEMU guest agent. The guest needs no network.
  - Ordinary modules work where the guest has Python, M(ansible.builtin.raw) and M(ansible.builtin.script) where it has none.
  - The VM may be on another host than the controller; Ansible's own connection to that host leads there.
  - While the guest is still booting the host counts as unreachable, which M(ansible.builtin.wait_for_connection) and C(until) get over.
    A VM that does not run, or has no channel for an agent, is an error that says so.
requirements:
  - the QEMU guest agent in the guest, with C(guest-exec) allowed, which some distributions block
  - the VM has O(vlab.qemu.qemu_vm#module:guest_agent=true)
extends_documentation_fragment:
  - vlab.qemu.guest_connection
notes:
  - Commands run as the user that the agent runs as, which is root.
  - An output of more than 16 MiB is refused; the agent keeps no more of it.
seealso:
  - plugin: vlab.qemu.serial
    plugin_type: connection
  - plugin: vlab.qemu.lab
    plugin_type: inventory
  - module: vlab.qemu.qemu_guest_exec
"""

EXAMPLES = r"""
# In an inventory that the plugin vlab.qemu.lab did not write:
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
