#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_vm_info
short_description: Draft
description: Draft.
author: vlab.qemu contributors
options: {}
"""

EXAMPLES = r"""
"""

RETURN = r"""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vms


def main():
    module = AnsibleModule(argument_spec={
        "name": {"type": "str"},
        "lab": {"type": "str"},
        "root": {"type": "path"},
        "ask_agent": {"type": "bool", "default": False},
        "agent_timeout": {"type": "int", "default": 2},
    }, supports_check_mode=True)
    params = module.params
    try:
        found, warnings = vms(params["root"], params["lab"], params["name"], params["ask_agent"], params["agent_timeout"])
    except VlabError as error:
        module.fail_json(msg=error.message, **error.facts)
    for warning in warnings:
        module.warn(warning)
    module.exit_json(changed=False, vms=found)


if __name__ == "__main__":
    main()
