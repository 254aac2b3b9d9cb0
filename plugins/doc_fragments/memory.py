# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/memory.py.
    DOCUMENTATION = r"""
options:
  memory:
    description:
      - The memory of the guest; a number alone counts in MiB, and V(2G) or V(1.5GiB) are
        understood. Default of a new VM is V(256).
      - Changes need a restart.
    type: str
  memory_backend:
    description:
      - What kind of memory of the hypervisor holds the guest's. Needs QEMU 5.0. Given as a whole;
        V({}) goes back to ordinary memory.
      - Changes need a restart.
    type: dict
    suboptions:
      hugepages:
        description:
          - Take huge pages. There must be enough free ones at the start, else it fails and says how
            many there are.
        type: bool
      prealloc:
        description: Take all of the memory at the start, not only when the guest uses it.
        type: bool
      share:
        description: Let other processes map the memory, as vhost-user devices need it.
        type: bool
  check_host_memory:
    description:
      - Refuse to start the VM when O(memory) is more than what the hypervisor has available.
        Default of a new VM is V(true).
      - Changes do not concern a running VM.
    type: bool
"""

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
memory_mb:
  description: The memory of the guest in MiB.
  returned: always
  type: int
  sample: 256
"""
