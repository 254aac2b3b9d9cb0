#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_console
version_added: 1.0.0
short_description: Run a script on a VM's serial console
description:
  - Waits for output of a VM's console and types text, step by step, and returns the transcript.
  - Use it for the first configuration of systems that cannot read it from a disk. To run commands
    in a guest with a shell, use the connections P(vlab.qemu.guest_agent#connection) and
    P(vlab.qemu.serial#connection).
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.vm
attributes:
  check_mode:
    support: partial
    details:
      - The effect of a script is unknown, so nothing is typed in check mode.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - With O(unless).
options:
  vm:
    description: The name of the VM.
    type: str
    required: true
  console:
    description: The name of the console; the first one by default.
    type: str
  steps:
    description:
      - The steps of the script, in order. A step first waits for its pattern and then types its
        text.
    type: list
    elements: dict
    required: true
    suboptions:
      expect:
        description: A regular expression that the console must show.
        type: str
      send:
        description: The text to type.
        type: str
      secret:
        description:
          - The text to type, such as a password, that must not appear in the result or a log.
        type: str
      enter:
        description: Whether to press return after the text.
        type: bool
        default: true
      timeout:
        description: Seconds for this step; O(timeout) by default.
        type: int
  unless:
    description:
      - A regular expression that shows that the script is not needed.
      - The module types an empty line. If the console answers with a match, no step is run and
        nothing is changed.
    type: str
  timeout:
    description: Seconds for each step.
    type: int
    default: 30
  newline:
    description: The characters that the return key sends.
    type: str
    default: "\r"
notes:
  - QEMU serves one client of a console at a time. The module fails after the timeout if another
    client is connected.
seealso:
  - plugin: vlab.qemu.serial
    plugin_type: connection
"""

EXAMPLES = r"""
- name: Answer the first questions of a router
  vlab.qemu.qemu_console:
    vm: edge1
    unless: 'edge1[>#]'
    timeout: 600
    steps:
      - expect: 'initial configuration dialog\? \[yes/no\]'
        send: "no"
      - expect: 'Press RETURN'
        send: ""
      - expect: 'Router>'
        send: enable
      - expect: 'Router#'
        send: configure terminal
      - expect: '\(config\)#'
        send: hostname edge1
      - expect: '\(config\)#'
        send: enable secret
        enter: false
      - secret: " {{ vault_enable_secret }}"
      - expect: '\(config\)#'
        send: end
"""

RETURN = r"""
transcript:
  description: The output of the console, the last MiB of it at most, with secrets masked.
  returned: always
  type: str
  sample: "login: root\nPassword: \n# "
matches:
  description: The text that matched in each step; none for steps without C(expect).
  returned: always
  type: list
  elements: str
  sample: ["Router>", "Router#"]
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.console_script import ConsoleScript
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import open_console

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Run the script; return the module's result."""
    params = module.params
    folder = existing(params["root"], params["lab"], params["vm"])
    script = ConsoleScript(
        open_console(folder, params["console"]),
        params["steps"],
        params["timeout"],
        params["newline"],
        params["unless"],
    )
    if module.check_mode:
        return {"changed": True, "skipped": True, "msg": "nothing is typed in check mode"}
    script.run()
    return {
        "changed": script.changed,
        "transcript": script.transcript,
        "matches": script.matches,
    }


def main() -> None:
    run_module(
        work,
        argument_spec={
            "vm": {"type": "str", "required": True},
            "lab": {"type": "str", "default": "default"},
            "root": {"type": "path"},
            "console": {"type": "str"},
            "steps": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "expect": {"type": "str"},
                    "send": {"type": "str"},
                    "secret": {"type": "str", "no_log": True},
                    "enter": {"type": "bool", "default": True},
                    "timeout": {"type": "int"},
                },
            },
            "unless": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
            "newline": {"type": "str", "default": "\r"},
        },
    )


if __name__ == "__main__":
    main()
