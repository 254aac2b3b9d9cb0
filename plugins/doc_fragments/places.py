# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

_LAB = r"""
options:
  topology:
    description:
      - The topology; a dictionary, YAML as a string, or the path of a YAML file on the controller.
    type: raw
    required: true
  lab_name:
    description: The name of the lab, instead of C(name) in the O(topology).
    type: str
  lab:
    description: The name of the lab if neither O(lab_name) nor the O(topology) has one.
    type: str
  root:
    description:
      - The folder of all labs on the hypervisors.
      - Default is C(/var/lib/vlab) for root and C($XDG_STATE_HOME/vlab) for other users.
    type: path
  hypervisors:
    description:
"""

_HYPERVISOR = r"""
    type: list
    elements: dict
    suboptions:
      name:
        description: The name in the inventory.
        type: str
        required: true
      root:
        description: The folder of all labs on this host, instead of O(root).
        type: path
      variables:
        description:
          - Variables for the connection, instead of those of the inventory, such as those of the
            play.
        type: dict
"""


class ModuleDocFragment:
    """The options that name a lab and its hypervisors, for modules that run on the controller."""

    # Annotated, because ansible-test's yamllint checks each plain assignment here, but cannot
    # compute text.
    DOCUMENTATION: str = (
        _LAB
        + r"""
      - The hosts that the lab is on. By default, all hosts of the play.
""".lstrip("\n")
        + _HYPERVISOR.lstrip("\n")
    )

    IMAGES: str = (
        _LAB
        + r"""
      - The hosts that the lab is placed on, in this order. By default, all hosts of the play.
      - If a play has registered the results of M(vlab.qemu.qemu_lab_info) as C(lab_info), nodes are
        placed as M(vlab.qemu.qemu_lab) places them.
""".lstrip("\n")
        + _HYPERVISOR.lstrip("\n")
        + r"""
      image_dir:
        description: The folder of images on this host, instead of O(image_dir).
        type: path
""".lstrip("\n")
    )
