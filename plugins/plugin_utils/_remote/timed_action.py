# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The action of modules that do something at a given time, on several hypervisors together."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from ansible.plugins.action.normal import ActionModule as NormalAction

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.host_action import (
    HostAction,
    Result,
)

_SERVICE = "_common.clock_service"
_MEASUREMENTS = 3  # the quickest one counts
_NOTICEABLE = 0.1  # seconds


class Offset(NamedTuple):
    """By how many seconds the clock of a hypervisor is ahead, and how wrong that can be."""

    seconds: float
    uncertainty: float


class TimedAction(HostAction, NormalAction):
    """Converts an option from the clock of the controller to that of the hypervisor.

    option: its name. Its value is in seconds since 1970.
    """

    option = ""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Run the task; return the result of the module and the offset of the clock."""
        task_vars = task_vars or {}
        moment = _number(self._task.args.get(self.option))
        offset = None
        if moment is not None and not self._task.check_mode:
            offset = self._offset(task_vars)
        if offset and moment is not None and abs(offset.seconds) > offset.uncertainty:
            self._task.args = dict(self._task.args, **{self.option: moment + offset.seconds})
        result: Result = super().run(tmp, task_vars)
        if offset:
            result["clock_offset"] = round(offset.seconds, 4)
            result["clock_uncertainty"] = round(offset.uncertainty, 4)
            if abs(offset.seconds) > max(offset.uncertainty, _NOTICEABLE):
                result.setdefault("warnings", []).append(
                    "the clock of this hypervisor is %.1f s %s that of the controller; %s was"
                    " converted. Synchronise the clocks, for example with chrony"
                    % (
                        abs(offset.seconds),
                        "ahead of" if offset.seconds > 0 else "behind",
                        self.option,
                    )
                )
        return result

    def _offset(self, task_vars: dict[str, Any]) -> Offset | None:
        """Measure the clock of the hypervisor; None if it does not handle requests."""
        found = []
        for _measurement in range(_MEASUREMENTS):
            before = time.time()
            reply = self.send_request(task_vars, _SERVICE, "read", {})
            after = time.time()
            there = (reply or {}).get("time")
            if not isinstance(there, float):
                return None
            found.append(Offset(there - (before + after) / 2, (after - before) / 2))
        return min(found, key=lambda offset: offset.uncertainty)


def _number(value: Any) -> float | None:
    """Return an option as a number; None without it, or if the module has to refuse it."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
