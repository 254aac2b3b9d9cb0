#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_disk_info
short_description: Draft
description: Draft.
author: vlab.qemu contributors
options: {}
"""

EXAMPLES = r"""
"""

RETURN = r"""
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import image_chain, vms


def main():
    module = AnsibleModule(argument_spec={
        "path": {"type": "path"},
        "vm": {"type": "str"},
        "lab": {"type": "str", "default": "default"},
        "root": {"type": "path"},
    }, mutually_exclusive=[("path", "vm")], required_one_of=[("path", "vm")], supports_check_mode=True)
    params = module.params
    disks = []
    try:
        if params["path"]:
            paths = [(None, params["path"])]
        else:
            found = vms(params["root"], params["lab"], params["vm"])[0]
            paths = [(disk["name"], disk["path"]) for vm in found for disk in vm.get("disks", ())]
        for name, path in paths:
            if os.path.lexists(path):
                chain = image_chain(path)
                disks.append(dict(chain[0], name=name, chain=[link["path"] for link in chain]))
    except VlabError as error:
        module.fail_json(msg=error.message, **error.facts)
    module.exit_json(changed=False, disks=disks)


if __name__ == "__main__":
    main()
