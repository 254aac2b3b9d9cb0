#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_scenario
version_added: 1.0.0
short_description: Cut, heal and impair links of a lab at given times
description:
  - Runs the steps of a scenario on the VMs of a lab on this hypervisor. It waits for the time of
    each step on the hypervisor, so that the times do not depend on Ansible, and returns when each
    change was begun and done.
  - The changes are those of M(vlab.qemu.qemu_nic) and M(vlab.qemu.qemu_vm), and stay after the
    scenario. RV(undo) has the steps that bring back what was before.
  - The action C(scenario) of the role P(vlab.qemu.lab#role) runs a scenario on several hypervisors,
    with assertions between its steps, and heals the lab afterwards.
  - All steps are checked before the first change. Check mode returns what would happen.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.vm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run makes the changes of all steps.
options:
  steps:
    description:
      - The steps, in the order of their times. Each has one of O(steps[].cut), O(steps[].heal),
        O(steps[].impair), O(steps[].flap), O(steps[].pause), O(steps[].resume) and
        O(steps[].validate).
      - An endpoint is C(NODE:NIC). A link is C(NODE:NIC -- NODE:NIC), or C(NODE -- NODE) if the
        nodes have only one link. It stands for both endpoints.
      - Times have a unit, V(ms), V(s), V(m) or V(h), such as V(500ms).
    type: list
    elements: dict
    required: true
    suboptions:
      at:
        description:
          - The time from the start of the scenario. While assertions run, the clock of the scenario
            stands still.
        type: str
      after:
        description:
          - The time from the end of the step before. Without it and O(steps[].at), the step starts
            when the one before ends. Only O(steps[].flap) takes time.
        type: str
      cut:
        description: The endpoints and links that lose their carrier.
        type: list
        elements: str
      heal:
        description: The endpoints and links that get their carrier back.
        type: list
        elements: str
      impair:
        description:
          - An impairment for each of these endpoints and links, which must be of type C(udp); a
            preset, or options as in O(vlab.qemu.qemu_nic#module:link.impair). That of a link
            applies to both directions. C({}) ends an impairment.
        type: dict
      flap:
        description: A link or endpoint that loses and gets back its carrier several times.
        type: dict
        suboptions:
          link:
            description: The link or endpoint.
            type: str
            required: true
          times:
            description: The number of times.
            type: int
            default: 1
          down:
            description: The time without carrier.
            type: str
            required: true
          up:
            description: The time with carrier after it.
            type: str
            required: true
      pause:
        description: The nodes that are paused.
        type: list
        elements: str
      resume:
        description: The nodes that continue.
        type: list
        elements: str
      validate:
        description:
          - V(true), or a list of assertions. It ends a part of the scenario. This module does not
            run the assertions; the role does.
        type: raw
  part:
    description:
      - The number of the part to run, from V(0). A step with O(steps[].validate) ends a part.
    type: int
    default: 0
  start_at:
    description:
      - The time at which the part starts, in seconds since 1970 by the clock of the controller, so
        that several hypervisors start at the same time. The clock of each hypervisor is measured.
        Without it, it starts at once.
      - If it is over, the changes are late, which RV(start_late) and RV(events) show. It can be at
        most 600 seconds from now.
    type: float
  nodes:
    description:
      - The NICs of all VMs of the lab on all hypervisors by the name of the VM, as
        M(vlab.qemu.qemu_vm_info) returns them. Steps can name them, and the module ignores those
        that are on other hypervisors. By default, the VMs on this hypervisor.
    type: dict
  lock_timeout:
    description: Seconds to wait for another run on the same VM.
    type: int
    default: 300
seealso:
  - module: vlab.qemu.qemu_nic
  - module: vlab.qemu.qemu_vm_info
"""

EXAMPLES = r"""
- name: Cut a link after a second, restore it, and let it flap
  vlab.qemu.qemu_scenario:
    lab: fabric
    steps:
      - {at: 1s, cut: ["r1:eth1 -- r2:eth1"]}
      - {after: 500ms, heal: ["r1:eth1 -- r2:eth1"]}
      - {at: 3s, flap: {link: "r1 -- r3", times: 5, down: 200ms, up: 300ms}}
      - {after: 1s, impair: {"r1 -- r3": {delay: 100ms, loss: 1%}}}
      - {after: 10s, impair: {"r1 -- r3": {}}}
  register: scenario

- name: Show how late each change was, in ms
  ansible.builtin.debug:
    msg: "{{ item.action }} {{ item.target }}: {{ item.done - item.asked }}"
  loop: "{{ scenario.events }}"

- name: Bring back what was before
  vlab.qemu.qemu_scenario:
    lab: fabric
    steps: "{{ scenario.undo }}"
"""

RETURN = r"""
events:
  description: The changes on this hypervisor, in the order of time; in check mode, those of all
    parts that would be made.
  returned: success, and failure of a change
  type: list
  elements: dict
  contains:
    step:
      description: The number of the step, from V(0).
      returned: always
      type: int
      sample: 0
    part:
      description: The number of the part.
      returned: not in check mode
      type: int
      sample: 0
    action:
      description: V(cut), V(heal), V(impair), V(pause) or V(resume). A flap consists of the first
        two.
      returned: always
      type: str
      sample: cut
    target:
      description: The endpoint or the node.
      returned: always
      type: str
      sample: r1:eth1
    impair:
      description: The impairment.
      returned: for V(impair)
      type: dict
      sample: {delay: 100ms}
    asked:
      description: The time from the start of the scenario at which the change was to be made, in
        ms.
      returned: always
      type: float
      sample: 1000.0
    began:
      description: The time at which it was begun, in ms. The change happened between it and
        C(done).
      returned: not in check mode
      type: float
      sample: 1000.3
    done:
      description: The time at which it was done, in ms.
      returned: not in check mode
      type: float
      sample: 1009.7
    changed:
      description: Whether it changed anything.
      returned: not in check mode
      type: bool
      sample: true
parts:
  description: The parts of the scenario.
  returned: success, and failure of a change
  type: list
  elements: dict
  contains:
    start:
      description: Seconds from the start of the scenario.
      returned: always
      type: float
      sample: 0.0
    end:
      description: Seconds from the start of the scenario.
      returned: always
      type: float
      sample: 5.0
    validate:
      description: The assertions that follow, V(true) for those of the role, V(false) for none.
      returned: always
      type: raw
      sample: true
undo:
  description:
    - The steps that bring back the carriers, impairments and paused nodes that the scenario
      changes, as they are now, before this part.
  returned: success, and failure of a change
  type: list
  elements: dict
  sample: [{heal: ['r1:eth1']}]
started:
  description: The time at which the part started, in seconds since 1970, by the clock of this
    hypervisor. With O(start_at), it is that time.
  returned: not in check mode
  type: float
  sample: 1767225600.25
clock_offset:
  description:
    - By how many seconds the clock of the hypervisor is ahead of that of the controller; negative
      if it is behind. If it is more than RV(clock_uncertainty), O(start_at) was converted.
  returned: with O(start_at), not in check mode
  type: float
  sample: 0.0021
clock_uncertainty:
  description: How much RV(clock_offset) can differ from the real offset, in seconds.
  returned: with O(start_at), not in check mode
  type: float
  sample: 0.0301
start_late:
  description: How long after RV(started) this hypervisor was ready, in ms.
  returned: not in check mode
  type: float
  sample: 0.1
impairments:
  description:
    - The impairments of the lab on this hypervisor at the end of the part, by the endpoint that
      sends, as RV(vlab.qemu.qemu_vm_info#module:vms[].nics[].impairment). They count the frames
      since the last change of the impairment.
  returned: not in check mode
  type: dict
  sample: {'r1:eth1': {asked: {delay: 100}, measured: {frames_in: 30, frames_out: 29, lost: 1}}}
errors:
  description: The message and the facts of each error, by the name of the VM.
  returned: failure of a change
  type: dict
  sample: {r1: {msg: 'the monitor of the VM r1 is not open'}}
option:
  description: The option that is wrong, by its path.
  returned: failure, when it is the fault of one
  type: str
  sample: steps[0].cut[0]
options:
  description: The options that are wrong, by their paths.
  returned: failure, when it is the fault of several
  type: list
  elements: str
  sample: ['steps[0].cut[0]', 'steps[1].at']
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._lab.scenario import run_scenario
from ansible_collections.vlab.qemu.plugins.module_utils._lab.scenario_plan import STEP_SPEC
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import (
    PLACE_SPEC,
    SETTINGS_SPEC,
)

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Run the part; return the module's result."""
    return run_scenario(module.params, module.check_mode)


def main() -> None:
    run_module(
        work,
        argument_spec=dict(
            {
                "steps": {
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "options": STEP_SPEC,
                },
                "part": {"type": "int", "default": 0},
                "start_at": {"type": "float"},
                "nodes": {"type": "dict"},
                "lock_timeout": SETTINGS_SPEC["lock_timeout"],
            },
            **PLACE_SPEC,
        ),
    )


if __name__ == "__main__":
    main()
