# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What modules return of the clocks of a hypervisor and the controller.

    scripts/return_docs.py writes it into them, with the name of their option for the time.
    """

    RESULT: str = r"""
clock_offset:
  description:
    - By how many seconds the clock of the hypervisor is ahead of that of the controller; negative
      if it is behind. If it is more than RV(clock_uncertainty), O(TIME) was converted.
  returned: with O(TIME), not in check mode
  type: float
  sample: 0.0021
clock_uncertainty:
  description: How much RV(clock_offset) can differ from the real offset, in seconds.
  returned: with O(TIME), not in check mode
  type: float
  sample: 0.0301
"""
