# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hypervisor_vars
version_added: 1.0.0
short_description: Select the connection variables of a hypervisor
author:
  - vlab.qemu contributors (@vlab)
description:
  - Selects from the variables of a host those for its connection, for C(become), and for its Python
    interpreter.
  - The connections P(vlab.qemu.guest_agent#connection) and P(vlab.qemu.serial#connection) need
    these variables of the host that a VM runs on.
options:
  _input:
    description: The variables of the host, as in C(hostvars).
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
  description: The selected variables.
  type: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import variables_for


def hypervisor_vars(variables: Any) -> dict[str, Any]:
    """Return the connection variables of a host."""
    if not isinstance(variables, Mapping):
        raise AnsibleFilterError(
            "hypervisor_vars: the input must be the variables of a host, as in hostvars, not %s"
            % type(variables).__name__
        )
    return variables_for(variables)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"hypervisor_vars": hypervisor_vars}
