#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_live
version_added: 1.0.0
short_description: Serve the live picture of a lab until Ctrl-C
description:
  - Serves a page with the picture of a lab on the controller, for as long as the task runs. The
    page follows the states of nodes and links, and the counters of impaired links.
  - It ends with Ctrl-C, or when C(ansible-playbook) ends, and leaves no process and no file.
  - The server listens on 127.0.0.1 only. Its address contains a random token, and requests without
    it, or from other web sites, are refused.
  - Each hypervisor is queried over Ansible's connection to it, while a page is open.
  - The action C(live) of the role P(vlab.qemu.lab#role) calls it.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.places
attributes:
  check_mode:
    support: full
    details:
      - Check mode serves no page.
  diff_mode:
    support: none
  idempotent:
    support: full
  action:
    support: full
  async:
    support: none
options:
  write:
    description:
      - Whether the page can open consoles, and remove and restore the carriers of links.
      - A console is the command that the filter P(vlab.qemu.console_command#filter) returns, which
        requires C(socat) on the hypervisor.
    type: bool
    default: false
  port:
    description: The port of the page. If V(0), a free one.
    type: int
    default: 0
  interval:
    description: Seconds between two queries of a hypervisor.
    type: float
    default: 2
notes:
  - Run it once, on the controller, as in the example.
  - The picture requires the program C(dot) of graphviz on the controller, and the Python libraries
    jsonschema and netaddr.
seealso:
  - plugin: vlab.qemu.lab_picture
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Serve the live picture of a lab on all hypervisors of the play
  vlab.qemu.qemu_live:
    topology: fabric.yml
  delegate_to: localhost
  run_once: true
"""

RETURN = r""" # """

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.live_arguments import ARGUMENTS

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(_module: AnsibleModule) -> dict[str, Any]:
    """Refuse to run: the action plugin does the work."""
    raise VlabError(
        "qemu_live needs its action plugin, which runs on the controller: call it from a playbook "
        "as vlab.qemu.qemu_live"
    )


def main() -> None:
    run_module(work, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
