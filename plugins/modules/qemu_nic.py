#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_nic
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
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import PLACE_SPEC, SETTINGS_SPEC, converge_item
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import NIC_SPEC


def main():
    settings = {key: SETTINGS_SPEC[key] for key in ("allow_restart", "shutdown", "start_timeout", "unplug_timeout", "lock_timeout")}
    module = AnsibleModule(argument_spec=dict({
        "vm": {"type": "str", "required": True},
        "name": {"type": "str", "required": True, "aliases": ["interface"]},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }, **PLACE_SPEC, **settings, **NIC_SPEC), supports_check_mode=True)
    params = module.params
    try:
        if params["state"] == "absent":
            result = converge_item(params, module.check_mode, "nics", None, remove=params["name"])
        else:
            result = converge_item(params, module.check_mode, "nics", {key: params[key] for key in ("name",) + tuple(NIC_SPEC)})
    except VlabError as error:
        module.fail_json(msg=error.message, **error.facts)
    nics = [nic for nic in result["vm"].get("nics", ()) if nic["name"] == params["name"]]
    module.exit_json(nic=nics[0] if nics else {}, **result)


if __name__ == "__main__":
    main()
