#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_host_info
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
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import host


def main():
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        told, warnings = host()
    except VlabError as error:
        module.fail_json(msg=error.message, **error.facts)
    for warning in warnings:
        module.warn(warning)
    module.exit_json(changed=False, host=told)


if __name__ == "__main__":
    main()
