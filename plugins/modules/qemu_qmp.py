#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_qmp
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
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.conversation import changes_something, converse, steps_of
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder


def main():
    module = AnsibleModule(argument_spec={
        "vm": {"type": "str"},
        "lab": {"type": "str", "default": "default"},
        "root": {"type": "path"},
        "socket": {"type": "path"},
        "commands": {"type": "list", "elements": "raw", "required": True},
        "timeout": {"type": "int", "default": 10},
        "lock_timeout": {"type": "int", "default": 300},
    }, mutually_exclusive=[("vm", "socket")], required_one_of=[("vm", "socket")], supports_check_mode=True)
    params = module.params
    try:
        steps = steps_of(params["commands"])
        if params["socket"]:
            replies, events = converse(params["socket"], steps, module.check_mode, params["timeout"])
        else:
            folder = Folder(params["root"], params["lab"], params["vm"])
            if not folder.exists():
                raise OptionError("vm", "the lab %s has no VM %s under %s" % (folder.lab, folder.name, folder.root))
            with folder.locked(False, params["lock_timeout"]):
                replies, events = converse(folder.qmp, steps, module.check_mode, params["timeout"])
    except VlabError as error:
        module.fail_json(msg=error.message, **error.facts)
    module.exit_json(changed=any(changes_something(step) for step in steps), replies=replies, events=events)


if __name__ == "__main__":
    main()
