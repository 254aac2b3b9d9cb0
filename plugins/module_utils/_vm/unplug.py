# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Taking a device from a running guest: it must let go."""

from __future__ import annotations

import contextlib
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    MonitorError,
    MonitorTimeout,
)

# How long to wait for an event before a node is asked for again, in seconds.
_RETRY = 0.05


def unplug(live, identifier, option):
    """Ask the guest to release a device and wait until it has; True when it was there.

    Raises GuestError when the guest keeps it: a guest without an operating system, or one that is paused, does.
    """
    if identifier not in live.devices:
        return False
    monitor = live.monitor
    try:
        monitor.execute("device_del", {"id": identifier})
    except MonitorError as error:
        # Asked before, and the guest has not answered yet.
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
                "%s: the guest did not let go of the device %s within %d s%s. It goes at the next reset or restart of "
                "the VM; state: reset or allow_restart: true does that"
                % (option, identifier, live.unplug_timeout, " (it refused)" if event else "")
            )
    live.refresh_devices()
    return True


def delete_node(live, identifier):
    """Delete the block node of a device that is gone; one that is not there is fine.

    QEMU lets go of a node only some time after the device has left its list, so a refusal because it is in use is waited for.
    Raises MonitorError when it is still in use after the unplug timeout.
    """
    deadline = time.monotonic() + live.unplug_timeout
    while True:
        answer = live.monitor.batch([("blockdev-del", {"node-name": identifier})])[0]
        if not isinstance(answer, MonitorError) or "in use" not in answer.message:
            return
        if time.monotonic() > deadline:
            raise answer
        with contextlib.suppress(MonitorTimeout):
            live.monitor.wait_event("DEVICE_DELETED", {"device": identifier}, timeout=_RETRY)
