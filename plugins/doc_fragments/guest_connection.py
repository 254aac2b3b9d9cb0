# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Which VM a connection leads to, and how its hypervisor is reached."""

    DOCUMENTATION = r"""
options:
  vm:
    description: Name of the VM; the name of the host by default.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: vlab_vm
  lab:
    description: Lab that the VM belongs to.
    type: str
    default: default
    vars:
      - name: vlab_lab
  root:
    description:
      - Folder of all labs on the hypervisor.
      - The default is C(/var/lib/vlab) for root, C($XDG_STATE_HOME/vlab) for others.
    type: str
    vars:
      - name: vlab_root
  hypervisor:
    description: The host of the inventory that the VM runs on.
    type: str
    default: localhost
    vars:
      - name: vlab_hypervisor
  hypervisor_vars:
    description:
      - The variables by which Ansible reaches that host; a connection plugin is not told those of other hosts.
      - The inventory plugin P(vlab.qemu.lab#inventory) fills this in; by hand it is
        C({{ hostvars[vlab_hypervisor] | vlab.qemu.hypervisor_vars }}).
      - Without them, V(localhost) is reached by the connection P(ansible.builtin.local#connection).
    type: dict
    default: {}
    vars:
      - name: vlab_hypervisor_vars
  connect_timeout:
    description: Seconds until the guest must have answered.
    type: int
    default: 10
    vars:
      - name: ansible_timeout
      - name: vlab_connect_timeout
  command_timeout:
    description: Seconds that a command may take; V(0) is for ever, which ends when the VM ends.
    type: int
    default: 0
    vars:
      - name: vlab_command_timeout
  pipelining:
    description: Give modules to Python's standard input, instead of copying them into the guest first.
    type: bool
    default: true
    vars:
      - name: ansible_pipelining
      - name: vlab_pipelining
"""
