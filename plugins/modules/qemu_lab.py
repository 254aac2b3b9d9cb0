#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_lab
version_added: 1.0.0
short_description: Bring a network lab into a state
description:
  - Brings a lab, described by one topology, into a state on the hypervisors of the play. Each
    hypervisor handles its share in one call.
  - With a changed topology, only the differences are applied. Links between running nodes are
    rewired without a restart.
  - With several hypervisors, run M(vlab.qemu.qemu_lab_info) on all of them first and register its
    result as C(lab_info), as the role P(vlab.qemu.lab#role) does. Nodes are then placed by the
    resources of all hypervisors, and nothing is changed anywhere if the lab does not fit.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.vm.image_dir
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
      - The topology; a dictionary, YAML as a string, or the path of a YAML file on the controller.
      - It is described in the topology reference in the collection's C(docs) folder.
      - It is required, unless O(state) is V(stopped) or V(absent) and O(lab_name) is set.
    type: raw
  lab_name:
    description:
      - The name of the lab, instead of C(name) in the O(topology). Use it to bring up one topology
        several times.
      - Without O(topology), O(state=stopped) stops and O(state=absent) removes all that the
        hypervisors of the play have of the lab, whichever topology made it.
    type: str
  lab:
    description:
      - The name of the lab if neither O(lab_name) nor the O(topology) has one.
      - C(module_defaults) of the action group set it for all modules.
    type: str
  owner:
    description:
      - A text that says whose lab this is, instead of the place of the topology. A lab is changed
        and removed only by runs with its owner.
      - By default, a lab belongs to its topology file, or to the folder of the playbook with its
        topology. All checkouts of a git repository are one place.
    type: str
  allow_takeover:
    description:
      - Whether a lab that another topology or owner made may be changed. It then belongs to this
        one.
      - If V(false), the run fails, and lists what it would change and remove.
    type: bool
    default: false
  allow_migration:
    description:
      - Whether a running node whose C(hypervisor) has changed is migrated, with its disks and
        links, before the nodes of the lab change; see M(vlab.qemu.qemu_migrate).
      - If V(false), a node whose VM is on another hypervisor of the play is an error, unless the VM
        is stopped and has no disks and no snapshots. Such a VM is created again.
      - This needs the results of M(vlab.qemu.qemu_lab_info) from all hosts, in the variable
        C(lab_info). Without them, each host only refuses to go on if it has the VM of a node that
        is placed on another host.
    type: bool
    default: false
  from:
    description:
      - The checkpoint that a new lab is a clone of. Its guests continue there at one moment, beside
        the origin. Give the clone a name with O(lab_name).
      - A clone has its own files, ports and forwards. Its UUIDs, MAC addresses, addresses and
        config drives are those of the origin. Of the O(topology), it takes the links; a topology
        that would change the machine of a node is an error.
      - Links that would bring two running labs with the same MAC addresses onto one network
        (V(tap), V(bridge), V(mcast), V(vde), a segment on a bridge of the host) are an error while
        the origin or another clone runs.
      - A lab that exists must be a clone of this checkpoint; then the option has no effect. A clone
        can be changed, stopped and removed without it.
    type: dict
    suboptions:
      lab:
        description: The name of the origin, by default C(name) in the O(topology).
        type: str
      checkpoint:
        description: The name of the checkpoint, which each hypervisor has for its nodes.
        type: str
        required: true
  state:
    description:
      - The state of the nodes.
      - V(present) defines them and leaves their power state as it is. V(absent) removes the lab.
      - V(suspended) stops all guests of a hypervisor at the same time, saves their memory and ends
        their QEMUs; V(started) continues them. The nodes must run.
    type: str
    choices: [started, stopped, paused, suspended, present, absent]
    default: started
  nodes:
    description:
      - The names of the nodes that O(state) applies to; all nodes by default. The other nodes keep
        their power state.
      - A node that is several VMs is chosen with all of them; NODE-MODULE chooses one of them.
    type: list
    elements: str
  images:
    description:
      - Images by name, each with C(kernel), C(initrd), C(cmdline), or C(disk) and C(format). All
        paths are on the hypervisor; relative ones are in O(image_dir).
      - The fact C(guest_images) of the role P(vlab.qemu.guest_image#role) has this format.
    type: dict
    default: {}
  root:
    description:
      - The folder of all labs on the hypervisor.
      - The default is C(/var/lib/vlab) for root and C($XDG_STATE_HOME/vlab) for other users.
    type: path
  autostart:
    description:
      - Whether the lab is started after a reboot of its hypervisors, in the order and with the
        readiness checks of its nodes, by an instance of the systemd unit
        C(vlab-autostart@.service) on each. It starts the nodes that the last run has started.
      - Nodes do not wait for those of other hypervisors.
      - If omitted, it stays as it is. O(state=absent) ends it.
    type: bool
  allow_restart:
    description: Whether running nodes may be restarted if a change needs that.
    type: bool
    default: false
  allow_container:
    description:
      - Whether VMs may be started in an application container of Podman, Docker or Kubernetes, such
        as the one that AWX runs a job in.
      - If V(false), a start fails there, because the VMs would end with the container. A container
        that boots with systemd counts as a machine.
    type: bool
    default: false
  purge:
    description: Whether to remove VMs and segments of the lab that the topology does not name.
    type: bool
    default: false
  wait_ready:
    description:
      - Whether to wait until the nodes are ready, as their kinds or C(ready) define. A node with
        commands in C(exec) that are to be run is waited for in any case.
    type: bool
    default: true
  keep_disks:
    description: Whether to keep the images of the disks with O(state=absent).
    type: bool
    default: false
  shutdown:
    description: How running nodes are stopped; see M(vlab.qemu.qemu_vm).
    type: dict
    suboptions:
      acpi:
        description: Whether to press the power button first, if the guest listens to it.
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
        description: Seconds for QEMU to end after C(SIGTERM).
        type: int
        default: 10
      force:
        description: Whether to end QEMU if the guest does not power down.
        type: bool
        default: true
  start_timeout:
    description: Seconds for a QEMU to start.
    type: int
    default: 60
  unplug_timeout:
    description: Seconds for a guest to release a device.
    type: int
    default: 15
  lock_timeout:
    description: Seconds to wait for another run that works on a VM.
    type: int
    default: 300
  share:
    description:
      - This hypervisor's share of the lab. The action plugin sets it; do not use it in playbooks.
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

- name: Show what bringing up the lab in a file would change
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

- name: Bring up the same topology for a class
  vlab.qemu.qemu_lab:
    topology: fabric.yml
    lab_name: "fabric-{{ item }}"
    images: "{{ guest_images }}"
  loop: [ann, bob]

- name: Bring up a copy of the running lab for each student, from its checkpoint
  vlab.qemu.qemu_lab:
    topology: fabric.yml
    images: "{{ guest_images }}"
    lab_name: "fabric-{{ item }}"
    from: {checkpoint: converged}
  loop: [ann, bob]

- name: Remove the lab
  vlab.qemu.qemu_lab:
    topology: fabric.yml
    state: absent

- name: Remove a lab without its topology
  vlab.qemu.qemu_lab:
    lab_name: fabric-ann
    state: absent
"""

RETURN = r"""
vms:
  description:
    - The nodes on this hypervisor, each with the keys of M(vlab.qemu.qemu_vm) that a lab needs.
  returned: success
  type: list
  elements: dict
  sample: [{name: r1, status: running, pid: 4711}]
changes:
  description: All differences; each option starts with the name of the node.
  returned: success
  type: list
  elements: dict
  sample:
    - {option: "r1.nics[eth1].link", before: {type: none}, after: {type: udp}, how: live}
actions:
  description: The actions, by node.
  returned: success
  type: dict
  sample: {r1: [start, resume]}
placement:
  description: The hypervisor of each node of the lab.
  returned: success
  type: dict
  sample: {r1: hv1, r2: hv2}
affected:
  description: The nodes and segments that another topology would change, add or remove.
  returned: failure, without O(allow_takeover)
  type: list
  elements: str
  sample: [r1, the segment lan]
lab_origin:
  description: Where the topology of the lab came from, or its owner; none if that is not known.
  returned: failure, without O(allow_takeover)
  type: str
  sample: git.example/acme/labs/fabric.yml
topology_origin:
  description: Where the topology of this run came from, or its owner.
  returned: failure, without O(allow_takeover)
  type: str
  sample: /home/ann/fabric.yml
content_key:
  description:
    - A digest of what the nodes of this hypervisor boot from, also in check mode. It covers their
      options and config drives, the size and time of their images, and the version of QEMU.
  returned: success
  type: str
  sample: 0f3c9a7d21b45e68
failed_nodes:
  description: The nodes that failed, with the message and facts of each error.
  returned: failure of some nodes
  type: dict
  sample: {r1: {msg: "r1 is not ready (console) ..."}}
container:
  description: How the application container was recognised.
  returned: failure, without O(allow_container)
  type: str
  sample: Podman or CRI-O (/run/.containerenv)
"""

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.arguments import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.module_utils._remote.code_bundle import (
    PACKAGE,
    cache_failure,
    load,
)

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Do this host's share of the lab; return what the action plugin reads."""
    share = module.params.pop("share")
    if not share:
        raise VlabError(
            "qemu_lab needs its action plugin, which runs on the controller: call it from a "
            "playbook as vlab.qemu.qemu_lab"
        )
    try:
        if not load(share["code_bundle"], share.get("code_bundle_archive")):
            return {"changed": False, "code_bundle_missing": True}
    except OSError as error:
        raise HostError(cache_failure(error))
    # Not imported by name: Ansible would pack all of it into the module.
    service = import_module(PACKAGE + "._lab.lab_service")
    result = service.result_of(dict(module.params, **share), module.check_mode)
    return result if result.get("failed") else dict(result, vms=json.dumps(result["vms"]))


def main() -> None:
    run_module(work, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
