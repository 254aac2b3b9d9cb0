# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/descriptors.py.
    DOCUMENTATION = r"""
options:
  fds:
    description:
      - Files and devices of the hypervisor that are opened before each start and passed to QEMU as
        file descriptors (C(-add-fd)). O(extra_args) and C(chardev) backends name them
        C(/dev/fdset/SET), whatever their path is.
      - QEMU needs no right of its own to the path, and the path may be removed or replaced while
        the VM runs. What cannot be opened is an error before the start.
      - A file is not created and not truncated. A FIFO with the mode V(w) needs a process that
        reads it.
      - A O(wrapper) must pass descriptors on, which C(sudo) does not.
      - To pass descriptors to a running VM, see C(fds) in
        O(vlab.qemu.qemu_qmp#module:commands).
      - The value is replaced as a whole. Default of a new VM is V([]).
      - Changes need a restart.
    type: list
    elements: dict
    suboptions:
      set:
        description:
          - The number of the set that the descriptor belongs to. QEMU takes the descriptor of the
            set that has the mode that it needs, so a set can have one of each mode.
        type: int
        required: true
      path:
        description: The absolute path of a file, a device or a FIFO.
        type: path
        required: true
      mode:
        description: How it is opened, for reading, writing or both.
        type: str
        choices: [r, w, rw]
        default: r
      opaque:
        description: A text for C(query-fdsets), which QEMU does not interpret.
        type: str
"""
