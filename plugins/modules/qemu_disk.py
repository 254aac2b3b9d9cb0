#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_disk
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
from ansible_collections.vlab.qemu.plugins.module_utils._vm.disks import ATTACHMENT_SPEC, DISK_SPEC
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image import SPEC, converge_image

# What works on the file alone has no place in a VM's definition.
IMAGE_ONLY = ("source", "source_format", "convert", "commit", "check", "snapshots", "purge_snapshots", "restore_snapshot", "force")


def main():
    module = AnsibleModule(
        argument_spec=dict({
            "vm": {"type": "str"},
            "name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "keep_image": {"type": "bool", "default": False},
        }, **PLACE_SPEC, **SETTINGS_SPEC, **SPEC, **ATTACHMENT_SPEC),
        required_together=[("vm", "name")], required_one_of=[("path", "vm")],
        mutually_exclusive=[("vm", option) for option in ("source", "snapshots", "restore_snapshot")], supports_check_mode=True)
    params = module.params
    try:
        if not params["vm"]:
            result = converge_image(params, module.check_mode)
        else:
            params["keep_disks"] = params["keep_image"]
            if params["state"] == "absent":
                result = converge_item(params, module.check_mode, "disks", None, remove=params["name"])
            else:
                result = converge_item(params, module.check_mode, "disks", {key: params[key] for key in DISK_SPEC})
            disks = [disk for disk in result["vm"].get("disks", ()) if disk["name"] == params["name"]]
            result["disk"] = disks[0] if disks else {}
    except VlabError as error:
        module.fail_json(msg=error.message, **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
