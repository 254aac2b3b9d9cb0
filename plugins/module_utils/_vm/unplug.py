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
# Seconds: within five, a second request cancels the first one at a PCI Express port (PCI Express
# Base Specification, attention button).
_REPEAT_INTERVAL = 8
_HINT = (
    "It may still boot, may not have taken a device that was just plugged in, may use it, or is"
    " paused: run this again when the guest is up, or with a longer unplug_timeout. Otherwise the"
    " device goes at the next reset or restart of the VM: qemu_vm with state: reset"
)


def unplug(live: Live, identifier: str, option: str) -> bool:
    """Ask the guest to release a device and wait for it; return whether the device existed.

    It is asked again, as a guest that boots, or has not taken the device yet, may miss the request.
    Raises GuestError if the guest keeps it, as one that is paused or has no operating system does.
    """
    if identifier not in live.devices:
        return False
    deadline = time.monotonic() + live.unplug_timeout
    while True:
        event = _request(live, identifier, min(_REPEAT_INTERVAL, deadline - time.monotonic()))
        live.refresh_devices()
        if event == "DEVICE_DELETED" or identifier not in live.devices:
            return True
        if event or time.monotonic() >= deadline:
            raise GuestError(
                "%s: the guest did not release the device %s within %d s%s. %s"
                % (option, identifier, live.unplug_timeout, " (it refused)" if event else "", _HINT)
            )


def _request(live: Live, identifier: str, timeout: float) -> str | None:
    """Ask the guest once; return the name of the event that answers, None if none comes in time.

    Raises MonitorError if QEMU cannot remove the device at all.
    """
    try:
        live.monitor.execute("device_del", {"id": identifier})
    except MonitorError as error:
        # It was requested before: the guest has released it meanwhile, or has not answered yet.
        live.refresh_devices()
        if identifier not in live.devices:
            return None
        if "unplug" not in error.message:
            raise
    names = ["DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"]
    try:
        event = live.monitor.wait_event(names, {"device": identifier}, timeout=max(0, timeout))
    except MonitorTimeout:
        return None
    return str(event["event"])


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
