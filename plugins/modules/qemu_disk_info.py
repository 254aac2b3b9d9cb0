#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_disk_info
version_added: 1.0.0
short_description: Gather facts about disk images
description:
  - Returns the facts of an image, or of the images of a VM's disks, and the bases under them.
  - It also works on images in use. An image that does not exist is left out of the list.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.info_module
  - vlab.qemu.vm
  - vlab.qemu.vm.image_dir
options:
  path:
    description:
      - The path of an image; a relative one is in O(image_dir). One of O(path) and O(vm) is
        required.
    type: path
  vm:
    description: The VM whose disks are returned. A VM that does not exist has no disks.
    type: str
requirements:
  - C(qemu-img)
seealso:
  - module: vlab.qemu.qemu_disk
  - module: vlab.qemu.qemu_vm_info
"""

EXAMPLES = r"""
- name: Gather the facts of an image
  vlab.qemu.qemu_disk_info:
    path: /srv/images/debian-12.qcow2
  register: image

- name: Show its size, for the guest and on the hypervisor
  ansible.builtin.debug:
    msg: >-
      {{ image.disks[0].size | human_readable }},
      {{ image.disks[0].actual_size | human_readable }}

- name: Gather the facts of the disks of a VM
  vlab.qemu.qemu_disk_info:
    vm: r1
  register: result

- name: Show the base images that it needs
  ansible.builtin.debug:
    msg: "{{ result.disks | map(attribute='backing_file') | select | unique }}"
"""

RETURN = r"""
disks:
  description: The image, or the images of the VM's disks.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The path of the image.
      returned: always
      type: str
      sample: /srv/images/work.qcow2
    format:
      description: Its format.
      returned: always
      type: str
      sample: qcow2
    size:
      description: The size that a guest sees, in bytes.
      returned: always
      type: int
      sample: 10737418240
    actual_size:
      description: The space that it takes on the hypervisor, in bytes.
      returned: always
      type: int
      sample: 200704
    backing_file:
      description: The base image; none without one.
      returned: always
      type: str
      sample: /srv/images/base.qcow2
    backing_format:
      description: The format of the base image; none without one.
      returned: always
      type: str
      sample: qcow2
    dirty:
      description: Whether it was not closed properly, or is in use.
      returned: always
      type: bool
      sample: false
    encrypted:
      description: Whether it is encrypted.
      returned: always
      type: bool
      sample: false
    snapshots:
      description: Its internal snapshots.
      returned: always
      type: list
      elements: dict
      contains:
        name:
          description: The name of the snapshot.
          returned: always
          type: str
          sample: clean
        id:
          description: The ID of the snapshot.
          returned: always
          type: str
          sample: '1'
        date:
          description: The time when it was created, in seconds since 1970.
          returned: always
          type: int
          sample: 1795251066
        vm_state_size:
          description: The size of the VM state in it, in bytes.
          returned: always
          type: int
          sample: 0
    name:
      description: The name of the disk; none for O(path).
      returned: always
      type: str
      sample: root
    chain:
      description: The image and the bases under it.
      returned: always
      type: list
      elements: str
      sample: [/srv/images/work.qcow2, /srv/images/base.qcow2]
    backing_missing:
      description: V(true) if its base image does not exist.
      returned: when it does not exist
      type: bool
      sample: true
"""

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import image_chain, vm_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import root_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import image_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import IMAGE_DIR_SPEC

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Describe the images; return the module's result."""
    params = module.params
    if params["path"]:
        images = image_folder(root_folder(params["root"]), params["image_dir"])
        paths = [(None, absolute_path("path", params["path"], images))]
    else:
        found = vm_facts(params["root"], params["lab"], params["vm"])[0]
        paths = [(disk["name"], disk["path"]) for vm in found for disk in vm.get("disks", ())]
    disks = []
    for name, path in paths:
        if os.path.lexists(path):
            chain = image_chain(path)
            disks.append(dict(chain[0], name=name, chain=[link["path"] for link in chain]))
    return {"changed": False, "disks": disks}


def main() -> None:
    run_module(
        work,
        argument_spec={
            "path": {"type": "path"},
            "vm": {"type": "str"},
            "lab": {"type": "str", "default": "default"},
            "root": {"type": "path"},
            **IMAGE_DIR_SPEC,
        },
        mutually_exclusive=[("path", "vm")],
        required_one_of=[("path", "vm")],
    )


if __name__ == "__main__":
    main()
