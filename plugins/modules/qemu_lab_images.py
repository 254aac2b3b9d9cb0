#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_lab_images
version_added: 1.0.0
short_description: Copy the images of a lab to the hypervisors that need them
description:
  - Copies each image that the nodes of a lab use (disks, kernels, initial RAM disks, firmware and
    CD-ROMs) to the hypervisors that run these nodes and do not have it.
  - An image comes from a hypervisor that has it, or from a folder on the controller. Hypervisors
    that have received it serve others.
  - A copy grows in a hidden file beside its path. It gets its name when it is complete and has the
    SHA-256 checksum of the source. The next run continues a copy that was cut off.
  - An image that is there is never replaced. If hypervisors have different images of the same path,
    the task fails before it copies anything.
  - Only the named files are copied. An image with a backing file needs that one as well.
  - The action C(distribute_images) of the role P(vlab.qemu.lab#role) calls it.
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.places.images
attributes:
  check_mode:
    support: full
    details:
      - Check mode returns what would be copied, after the same checks.
  diff_mode:
    support: none
  idempotent:
    support: full
  action:
    support: full
  async:
    support: none
options:
  images:
    description: The images of nodes by name; see O(vlab.qemu.qemu_lab#module:images).
    type: dict
    default: {}
  image_dir:
    description:
      - The folder on the hypervisors in which relative paths of images are looked up. Default is
        C(images) in O(root).
    type: path
  source:
    description:
      - A folder on the controller. Images whose file names are in it come from there.
    type: path
  transfer:
    description: How an image of a hypervisor gets to another one.
    type: str
    choices:
      auto: Directly if that is possible, else through the controller.
      direct:
        The hypervisor fetches it from the other one with C(ssh), without a password. The address
        and the user are those of Ansible, or the variable C(vlab_address).
      controller: Through the connections of Ansible, each part once from the source.
    default: auto
notes:
  - Run it once, on the controller, as in the example.
  - It requires the Python libraries jsonschema and netaddr on the controller.
seealso:
  - module: vlab.qemu.qemu_lab
"""

EXAMPLES = r"""
- name: Copy the images of a lab to the hypervisors of the play that need them
  vlab.qemu.qemu_lab_images:
    topology: fabric.yml
    images:
      router: {disk: router.qcow2}
  delegate_to: localhost
  run_once: true

- name: Take them from the controller
  vlab.qemu.qemu_lab_images:
    topology: fabric.yml
    images:
      router: {disk: router.qcow2}
    source: ~/images
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
copies:
  description: What was copied, or would be copied in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    image:
      description: The image as the topology or O(images) names it.
      returned: always
      type: str
      sample: router.qcow2
    host:
      description: The hypervisor that gets it.
      returned: always
      type: str
      sample: hv2
    path:
      description: Its path there.
      returned: always
      type: str
      sample: /var/lib/vlab/images/router.qcow2
    source:
      description: A hypervisor that has it; null if it comes from the controller.
      returned: always
      type: str
      sample: hv1
    size:
      description: Its size in bytes.
      returned: always
      type: int
      sample: 1073741824
    bytes:
      description: The bytes that are copied. Earlier runs that were cut off have copied the others.
      returned: always
      type: int
      sample: 1073741824
    checksum:
      description: The checksum of its content.
      returned: always
      type: str
      sample: sha256:6db4c1ea1c2a6d2c4ab5e0d1f3c1b1c1f0d1e9d0a2b3c4d5e6f708192a3b4c5d
    transfer:
      description: V(direct) or V(controller); null in check mode.
      returned: always
      type: str
      sample: direct
bytes:
  description: The bytes of all copies.
  returned: success
  type: int
  sample: 1073741824
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.images_arguments import ARGUMENTS

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(_module: AnsibleModule) -> dict[str, Any]:
    """Refuse to run: the action plugin does the work."""
    raise VlabError(
        "qemu_lab_images needs its action plugin, which runs on the controller: call it from a "
        "playbook as vlab.qemu.qemu_lab_images"
    )


def main() -> None:
    run_module(work, argument_spec=ARGUMENTS)


if __name__ == "__main__":
    main()
