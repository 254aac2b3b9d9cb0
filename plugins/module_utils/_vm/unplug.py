# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Removing a device from a running guest, which must release it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    MonitorError,
    MonitorTimeout,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live

_RETRY_INTERVAL = 0.05  # seconds


def unplug(live: Live, identifier: str, option: str) -> bool:
    """Ask the guest to release a device and wait for it; return whether the device existed.

    Raises GuestError if the guest keeps it, as one that is paused or has no operating system does.
    """
    if identifier not in live.devices:
        return False
    monitor = live.monitor
    try:
        monitor.execute("device_del", {"id": identifier})
    except MonitorError as error:
        # It was requested before: the guest has released it meanwhile, or has not answered yet.
        live.refresh_devices()
        if identifier not in live.devices:
            return True
        if "unplug" not in error.message:
            raise
    names = ["DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"]
    try:
        event = monitor.wait_event(names, {"device": identifier}, timeout=live.unplug_timeout)
    except MonitorTimeout:
        event = None
    if event is None or event["event"] != "DEVICE_DELETED":
        live.refresh_devices()
        if identifier in live.devices:
            raise GuestError(
                "%s: the guest did not release the device %s within %d s%s. It is removed at the"
                " next reset or restart of the VM; state: reset or allow_restart: true does that"
                % (option, identifier, live.unplug_timeout, " (it refused)" if event else "")
            )
    live.refresh_devices()
    return True


def delete_node(live: Live, identifier: str) -> None:
    """Delete the block node of a removed device; no error if it does not exist.

    QEMU releases a node some time after it removed the device. Raises MonitorError if the node is
    still in use after the unplug timeout.
    """
    deadline = time.monotonic() + live.unplug_timeout
    while True:
        reply = live.monitor.batch([("blockdev-del", {"node-name": identifier})])[0]
        if not isinstance(reply, MonitorError) or "in use" not in reply.message:
            return
        if time.monotonic() > deadline:
            raise reply
        with contextlib.suppress(MonitorTimeout):
            live.monitor.wait_event(
                "DEVICE_DELETED", {"device": identifier}, timeout=_RETRY_INTERVAL
            )
