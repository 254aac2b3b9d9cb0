#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_capture
version_added: 1.0.0
short_description: Show the frames of a NIC live on the controller
description:
  - Captures what a NIC of a running VM sends and receives, and passes it to a program on the
    controller while the frames come, such as Wireshark, tshark or tcpdump.
  - It runs without root, over Ansible's connection to the hypervisor. The guest notices nothing,
    and a slow program does not slow it down.
  - The capture ends when the program ends, when the VM ends, or when the run is interrupted.
    Nothing of it stays in the VM. If its process on the hypervisor is killed, the next capture of
    the VM or the next start of the VM removes what is left.
  - Several captures of a NIC are possible at the same time, also beside
    O(vlab.qemu.qemu_nic#module:capture).
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.attributes.flow
  - vlab.qemu.vm
attributes:
  check_mode:
    support: full
    details:
      - The options are checked, and nothing is captured.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: N/A
    details:
      - This action does not modify state.
  action:
    support: full
  async:
    support: none
options:
  vm:
    description: The name of the VM, which must be running.
    type: str
    required: true
  name:
    description: The name of the NIC. For a link, the NIC at either end.
    type: str
    required: true
  reader:
    description:
      - The program on the controller, with its arguments; no shell is involved. It gets a pcap file
        on its standard input. The lines that it prints are shown while it runs.
      - A program without windows runs until it ends itself, as with C(-c) of C(tshark), or until
        O(duration).
    type: str
    default: wireshark -k -i -
  snaplen:
    description: How many bytes of each frame to capture; all by default.
    type: int
  duration:
    description: Seconds after which the capture ends. By default it ends with O(reader).
    type: int
notes:
  - Connections of type C(ssh) and C(local) are supported. C(become) must not ask for a password.
  - If O(reader) is 256 MiB behind, the capture ends. The file system of O(root) must be able to
    release parts of a file (ext4, XFS, Btrfs and tmpfs can), else the whole capture is limited to
    this size.
seealso:
  - module: vlab.qemu.qemu_nic
"""

EXAMPLES = r"""
- name: Show what eth1 of r1 sends and receives, in Wireshark
  vlab.qemu.qemu_capture:
    lab: triangle
    vm: r1
    name: eth1

- name: Wait for three LLDP frames
  vlab.qemu.qemu_capture:
    lab: triangle
    vm: r1
    name: eth1
    reader: tshark -n -l -c 3 -Y lldp -r -

- name: Save what passes in a minute, on the controller
  vlab.qemu.qemu_capture:
    lab: triangle
    vm: r1
    name: eth1
    reader: tcpdump -r - -w /tmp/r1-eth1.pcap
    duration: 60
"""

RETURN = r"""
nic:
  description: The NIC.
  returned: success
  type: dict
  contains:
    mac:
      description: Its MAC address.
      returned: always
      type: str
    link:
      description: The type of its link.
      returned: always
      type: str
rc:
  description: The exit code of O(reader).
  returned: if the program has run
  type: int
stdout:
  description: What O(reader) printed, also to its error output; the last 1000 lines.
  returned: if the program has run
  type: str
stdout_lines:
  description: The same as lines.
  returned: if the program has run
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.capture_options import CAPTURE_SPEC


def work(module: AnsibleModule) -> dict[str, Any]:
    """Refuse to run without the action plugin."""
    raise HostError("qemu_capture shows frames on the controller, so it only runs as a task there")


def main() -> None:
    run_module(work, argument_spec=CAPTURE_SPEC)


if __name__ == "__main__":
    main()
