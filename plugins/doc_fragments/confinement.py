# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of plugins/module_utils/_vm/parts/confinement.py.
    DOCUMENTATION = r"""
options:
  sandbox:
    description:
      - Run QEMU in its seccomp sandbox, where it has one. A bridge, a passt link, the script of a
        tap and an C(exec:) migration need programs, for which the sandbox is opened as far as that.
        Default of a new VM is V(true).
      - Changes need a restart.
    type: bool
  priority:
    description:
      - The priority of the process, from nice value -20 for V(realtime) to 19 for V(very low).
        Default of a new VM is V(normal), 0.
      - Raising it needs root.
      - Changes are made live.
    type: str
    choices: [realtime, very high, high, normal, low, very low]
  cpu_limit:
    description:
      - How much of the processors the VM may use, in percent of one core, V(0) for no limit.
        Default of a new VM is V(0).
      - Needs a control group, which root can make, or else the program C(cpulimit).
      - Changes are made live.
    type: int
"""
