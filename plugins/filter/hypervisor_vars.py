# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hypervisor_vars
version_added: 1.0.0
short_description: The variables by which Ansible reaches a hypervisor
author:
  - vlab.qemu contributors (@vlab)
description:
  - Takes from all variables of a host those of its connection, of becoming another user there, and of its Python.
  - This is what the connections P(vlab.qemu.guest_agent#connection) and P(vlab.qemu.serial#connection) want to know of the host that a VM runs on.
options:
  _input:
    description: The host's variables, as in C(hostvars).
    type: dict
    required: true
seealso:
  - plugin: vlab.qemu.guest_agent
    plugin_type: connection
"""

EXAMPLES = r"""
vlab_hypervisor_vars: "{{ hostvars[vlab_hypervisor] | vlab.qemu.hypervisor_vars }}"
"""

RETURN = r"""
_value:
  description: Some of them.
  type: dict
"""

from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import variables_for


def hypervisor_vars(variables):
    """Those of a host's variables that lead to it."""
    if not isinstance(variables, Mapping):
        raise AnsibleFilterError(
            "hypervisor_vars: a host's variables are wanted, as in hostvars, not %s"
            % type(variables).__name__
        )
    return variables_for(variables)


class FilterModule:
    """The filter hypervisor_vars."""

    def filters(self):
        """Its name."""
        return {"hypervisor_vars": hypervisor_vars}
