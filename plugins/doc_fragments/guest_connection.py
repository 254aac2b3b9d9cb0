# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The options of the connections to guests: the VM, and its hypervisor."""

    DOCUMENTATION = r"""
options:
  vm:
    description: Name of the VM, by default the name of the host.
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
    description: Host of the inventory that the VM runs on.
    type: str
    default: localhost
    vars:
      - name: vlab_hypervisor
  hypervisor_vars:
    description:
      - The connection variables of that host. A connection plugin cannot read the variables of
        other hosts.
      - The inventory plugin P(vlab.qemu.lab#inventory) sets this. In another inventory, use
        C({{ hostvars[vlab_hypervisor] | vlab.qemu.hypervisor_vars }}).
      - Without them, the connection to V(localhost) is P(ansible.builtin.local#connection).
    type: dict
    default: {}
    vars:
      - name: vlab_hypervisor_vars
  connect_timeout:
    description: Seconds within which the guest must respond.
    type: int
    default: 10
    vars:
      - name: ansible_timeout
      - name: vlab_connect_timeout
  command_timeout:
    description:
      - Seconds that a command may take. With V(0), it may take until the guest ends or restarts.
      - Default is V(3600), or V(60) for O(vlab.qemu.serial#connection:shell=cli).
    type: int
    vars:
      - name: vlab_command_timeout
  pipelining:
    description:
      - Pass modules to Python on its standard input, instead of copying them into the guest first.
    type: bool
    default: true
    vars:
      - name: ansible_pipelining
      - name: vlab_pipelining
"""
