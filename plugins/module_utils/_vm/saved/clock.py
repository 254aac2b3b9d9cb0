# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Set the clock of a guest that continues from a saved state: it stood still since then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    MonitorError,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_TIMEOUT = 3  # seconds


def set_guest_clock(folder: Folder, definition: Definition) -> list[str]:
    """Set the clock through the guest agent; return warnings.

    Without an agent the guest has to do it itself, for example by NTP.
    """
    if not definition["guest_agent"]:
        return []
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent

    try:
        with GuestAgent(folder.socket("agent.sock"), timeout=_TIMEOUT) as agent:
            # Without a time, the agent would read the real-time clock, which has whole seconds.
            agent.execute("guest-set-time", {"time": time.time_ns()})
    except (GuestError, MonitorError) as error:
        return ["the clock of the guest was not set: %s" % error.message]
    return []
