#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_lab
version_added: 1.0.0
short_description: Bring a whole network lab into a state
description:
  - Brings a lab, described by one topology, into a state on the hypervisors of the play, each doing its share in one call.
  - Running again with an edited topology does what differs and nothing else. Links between running nodes are re-wired live.
  - With several hypervisors, run M(vlab.qemu.qemu_lab_info) on all of them first, as the role P(vlab.qemu.lab#role) does, so that every
    hypervisor knows what the others have, and nothing is touched anywhere when the lab does not fit.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action:
    support: full
  async:
    support: none
options:
  topology:
    description:
      - The lab; a dictionary, or the path of a YAML file on the controller.
      - The topology reference in the collection's C(docs) folder describes it.
    type: raw
    required: true
  lab:
    description:
      - Name of the lab, in place of the O(topology)'s own C(name). With it, one file can be brought up several times.
    type: str
  state:
    description:
      - What the nodes shall be.
      - V(present) defines them and leaves their power alone. V(absent) leaves nothing of the lab behind.
    type: str
    choices: [started, stopped, paused, present, absent]
    default: started
  nodes:
    description:
      - Names of the nodes that O(state) is for; all nodes by default. The others keep their power state.
    type: list
    elements: str
  images:
    description:
      - Images by name, each with C(kernel), C(initrd), C(cmdline), or C(disk) and C(format), all on the hypervisor.
      - The fact C(guest_images) of the role P(vlab.qemu.guest_image#role) fits.
    type: dict
    default: {}
  root:
    description: Folder of all labs on the hypervisor; C(/var/lib/vlab) for root, C($XDG_STATE_HOME/vlab) for others by default.
    type: path
  allow_restart:
    description: Allow changes that need a power cycle of running nodes.
    type: bool
    default: false
  allow_container:
    description:
      - Start VMs also in an application container of Podman, Docker or Kubernetes, such as the one that AWX runs a job in.
      - When V(false), that is refused, as the end of such a container ends the VMs in it. Containers that boot as a machine does, by
        systemd, count as machines.
    type: bool
    default: false
  purge:
    description: Remove VMs and segments of the lab that the topology does not name.
    type: bool
    default: false
  wait_ready:
    description: Wait until the nodes are ready, as their kinds or C(ready) say.
    type: bool
    default: true
  keep_disks:
    description: Keep the disks' images with O(state=absent).
    type: bool
    default: false
  shutdown:
    description: How running nodes are stopped; see M(vlab.qemu.qemu_vm).
    type: dict
    suboptions:
      acpi:
        description: Press the power button first, where the guest listens to it.
        type: bool
        default: true
      timeout:
        description: Seconds for the guest to power down.
        type: int
        default: 30
      quit_timeout:
        description: Seconds for QEMU to quit.
        type: int
        default: 10
      term_timeout:
        description: Seconds for QEMU to end after SIGTERM.
        type: int
        default: 10
      force:
        description: Go on when the guest does not obey.
        type: bool
        default: true
  start_timeout:
    description: Seconds for a QEMU to start.
    type: int
    default: 60
  unplug_timeout:
    description: Seconds for a guest to let go of a device.
    type: int
    default: 15
  lock_timeout:
    description: Seconds to wait for another run that works on a VM.
    type: int
    default: 300
  share:
    description: This hypervisor's share of the lab. Filled in by the action plugin; not for playbooks.
    type: dict
"""

EXAMPLES = r"""
- name: Bring up two routers
  vlab.qemu.qemu_lab:
    topology:
      name: pair
      defaults: {kind: frr}
      nodes: {r1: {}, r2: {}}
      links: ["r1:eth1 -- r2:eth1"]
      addressing: {links: 10.0.0.0/24, loopback: 10.255.0.0/24}
    images: "{{ guest_images }}"

- name: Bring up the lab in a file, and say what that would change first
  vlab.qemu.qemu_lab:
    topology: fabric.yml
    images: "{{ guest_images }}"
  check_mode: true
  diff: true

- name: Stop one router; its neighbours lose their carrier
  vlab.qemu.qemu_lab:
    topology: fabric.yml
    images: "{{ guest_images }}"
    nodes: [spine1]
    state: stopped

- name: Leave nothing of it
  vlab.qemu.qemu_lab:
    topology: fabric.yml
    state: absent
"""

RETURN = r"""
vms:
  description: The nodes on this hypervisor, each with the keys of M(vlab.qemu.qemu_vm) that a lab needs.
  returned: success
  type: list
  elements: dict
  sample: [{name: r1, status: running, pid: 4711}]
changes:
  description: Every difference, its option with the node's name in front.
  returned: success
  type: list
  elements: dict
  sample: [{option: "r1.nics[eth1].link", before: {type: none}, after: {type: udp}, how: live}]
actions:
  description: What was done, by node.
  returned: success
  type: dict
  sample: {r1: [start, resume]}
placement:
  description: The hypervisor of each node of the lab.
  returned: success
  type: dict
  sample: {r1: hv1, r2: hv2}
failed_nodes:
  description: The nodes that failed, with the message and facts of each error.
  returned: failure of some nodes
  type: dict
  sample: {r1: {msg: "r1 is not ready (console) ..."}}
container:
  description: What tells that this is an application container.
  returned: failure, without O(allow_container)
  type: str
  sample: Podman or CRI-O (/run/.containerenv)
"""

import json
from importlib import import_module

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.arguments import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.module_utils._remote.code_bundle import PACKAGE, load


def work(module):
    """Do this host's share of the lab; return what the action plugin reads."""
    share = module.params.pop("share")
    if not share:
        raise VlabError(
            "qemu_lab needs its action plugin, which runs on the controller: call it from a playbook "
            "as vlab.qemu.qemu_lab"
        )
    try:
        if not load(share["code_bundle"], share.get("code_bundle_archive")):
            return {"changed": False, "code_bundle_missing": True}
    except OSError as error:
        raise HostError("cannot cache the collection's code on this host: %s" % error)
    # Not imported by name: Ansible would pack all of it into the module.
    service = import_module(PACKAGE + "._lab.lab_service")
    result = service.result_of(dict(module.params, **share), module.check_mode)
    return result if result.get("failed") else dict(result, vms=json.dumps(result["vms"]))


def main():
    run_module(work, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
