# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The option of plugins/module_utils/_vm/parts/autostart.py.
    DOCUMENTATION = r"""
options:
  autostart:
    description:
      - Whether the VM is started after a reboot of the hypervisor, by an instance of the systemd
        unit C(vlab-autostart@.service). Default of a new VM is V(false).
      - For root it is a unit of the system; for another user one of that user, which needs
        C(loginctl enable-linger) to start without a login.
      - The unit starts the VM as it was last defined, with a copy of the collection's code in
        C(.host/autostart) of the default root. Passwords that no file keeps are not set.
      - Changes are made live.
    type: bool
"""

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
autostart:
  description: Whether it is started after a reboot of the hypervisor.
  returned: always
  type: bool
  sample: false
"""
