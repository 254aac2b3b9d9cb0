#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_vm
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
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import converge_vm, vm_argument_spec


def main():
    module = AnsibleModule(argument_spec=vm_argument_spec(), supports_check_mode=True)
    try:
        result = converge_vm(module.params, module.check_mode)
    except VlabError as error:
        module.fail_json(msg=error.message, **error.facts)
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
