# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # What every module says about itself; a module adds C(support) to each of these.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the
      target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in
      C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation
        indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a
        relevant way.
"""

    # Hypervisors are Linux only.
    PLATFORM = r"""
options: {}
attributes:
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
"""

    # The membership in the action group, for C(module_defaults).
    ACTIONGROUP_QEMU = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/vlab.qemu.qemu) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - vlab.qemu.qemu
"""

    # For modules that only look.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
"""

    # For action plugins: how the controller takes part.
    FLOW = r"""
options: {}
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can
      be executed on the controller.
  async:
    description: Supports being used with the C(async) keyword.
"""

    # For modules whose work is one request to the hypervisor.
    REQUEST = r"""
options: {}
attributes:
  action:
    support: full
    details:
      - The hypervisor does the work in one request instead of a module, where that is possible.
  async:
    support: full
"""
