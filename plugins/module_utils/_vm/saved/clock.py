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
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import AGENT_PORT

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

# Seconds: many guests continue at the same time, and under emulation each is slow then. An agent
# whose client has left before its answer uses a whole processor until the next client connects,
# because a guest cannot write to its port without one.
_TIMEOUT = 30
_EVENT_TIMEOUT = 2  # seconds until QEMU reports whether the guest has the port open


def set_guest_clock(folder: Folder, definition: Definition, monitor: Monitor) -> list[str]:
    """Set the clock through the guest agent, right after cont; return warnings.

    Without an agent the guest has to do it itself, for example by NTP.
    """
    if not definition["guest_agent"]:
        return []
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent

    try:
        if not _is_open(monitor):
            return ["the clock of the guest was not set: no guest agent runs in it"]
        with GuestAgent(folder.socket("agent.sock"), timeout=_TIMEOUT) as agent:
            # Without a time, the agent would read the real-time clock, which has whole seconds.
            agent.execute("guest-set-time", {"time": time.time_ns()})
    except (GuestError, MonitorError) as error:
        return ["the clock of the guest was not set: %s" % error.message]
    return []


def _is_open(monitor: Monitor) -> bool:
    """Return whether the guest has the port of the agent open.

    QEMU reports this when a guest continues from a saved state (hw/char/virtio-serial-bus.c).
    """
    try:
        event = monitor.wait_event("VSERPORT_CHANGE", {"id": AGENT_PORT}, _EVENT_TIMEOUT)
    except MonitorTimeout:
        return True  # not known
    return bool(event["data"].get("open"))
