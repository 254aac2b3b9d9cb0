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
  - Use it for the first configuration of systems that cannot read it from a disk. In a lab,
    C(bootstrap) of a kind has the same steps. To run commands in a guest with a shell, use the
    connections P(vlab.qemu.guest_agent#connection) and P(vlab.qemu.serial#connection).
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.vm
  - vlab.qemu.console_script
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
  unless:
    description:
      - A regular expression that shows that the script is not needed.
      - The module types an empty line. If the console answers with a match, no step is run and
        nothing is changed.
    type: str
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

- name: Answer the questions in any order, and type a configuration
  vlab.qemu.qemu_console:
    vm: edge2
    prompt: '^[\w.-]+(\([\w-]+\))?[>#] *'
    errors: '^% '
    steps:
      - answer:
          - {expect: 'initial configuration dialog\? \[yes/no\]', send: "no"}
          - {expect: 'Press RETURN', send: "", once: true}
        timeout: 600
      - send: enable
      - send: configure terminal
      - lines: "{{ lookup('ansible.builtin.file', 'edge2.cfg') }}"
      - send: end
      - send: write memory
        until: '\[OK\]'
        timeout: 60
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
from ansible_collections.vlab.qemu.plugins.module_utils._console.script import Script
from ansible_collections.vlab.qemu.plugins.module_utils._console.steps import SCRIPT_SPEC
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import open_console

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Run the script; return the module's result."""
    params = module.params
    folder = existing(params["root"], params["lab"], params["vm"])
    script = Script(open_console(folder, params["console"]), params, params["unless"])
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
            "unless": {"type": "str"},
            **SCRIPT_SPEC,
        },
    )


if __name__ == "__main__":
    main()
