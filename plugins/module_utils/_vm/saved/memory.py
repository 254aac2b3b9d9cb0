# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Save the memory and the devices of a VM to a file, and load them into a new QEMU.

The file is what QEMU's migration sends. Source: QEMU, docs/devel/migration and qapi/migration.json.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import free_space, remove_file

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor

MIB = 1 << 20
# QEMU sends 128 MiB/s by default: bytes per second that no disk reaches.
BANDWIDTH = 1 << 40
_ENDED = ("completed", "failed", "cancelled")
_FILE_TRANSPORT = (8, 2)  # the first QEMU with file:, and the last ones refuse fd: of a file
_CANCEL_TIMEOUT = 10
_POLL_INTERVAL = 0.005  # seconds: no event reports this


def capabilities(is_mapped: bool = False, pauses: bool = False) -> dict[str, Any]:
    """Return the arguments of migrate-set-capabilities, with all that this collection ever sets.

    QEMU keeps what it was given before. is_mapped: the memory stays in the file that it is mapped
    from. pauses: QEMU waits before the guest stops.
    """
    states = {"events": True, "x-ignore-shared": is_mapped, "pause-before-switchover": pauses}
    return {
        "capabilities": [{"capability": name, "state": state} for name, state in states.items()]
    }


def save_memory(monitor: Monitor, path: str, timeout: float, memory_file: str | None = None) -> int:
    """Write the state of a stopped guest to a new file, mode 0600; return its size in bytes.

    memory_file: what the guest has as its memory and writes to: it is not copied.
    The VM stays in the run state postmigrate, from which cont continues. Raises MonitorError and
    HostError; then there is no file, and cont continues the guest as well.
    """
    handle = _create(path)
    try:
        transport = _transport(monitor, path, handle)
        monitor.batch(
            [
                ("migrate-set-capabilities", capabilities(memory_file is not None)),
                ("migrate-set-parameters", {"max-bandwidth": BANDWIDTH}),
            ]
        )
        monitor.execute("migrate", {"uri": transport})
        wait_until_sent(monitor, timeout, "the state of the guest was not written to %s" % path)
        if memory_file:
            _flush(memory_file)
        return os.fstat(handle).st_size
    except (MonitorError, HostError) as error:
        with contextlib.suppress(MonitorError):
            cancel(monitor)
        # The file is still there: what it has taken is not needed again.
        error.message += _space(path, monitor.peer_pid or 0)
        remove_file(path)
        raise
    finally:
        os.close(handle)


def load_memory(monitor: Monitor, path: str, timeout: float, is_mapped: bool = False) -> None:
    """Load the state in a file into a QEMU that was started with -incoming defer.

    is_mapped: whether the memory is not in the file, but mapped from another one.
    The guest stays paused. Raises HostError and MonitorError; QEMU may end.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("cannot read the saved memory %s: %s" % (path, error.strerror), path=path)
    try:
        transport = _transport(monitor, path, handle)
        monitor.batch([("migrate-set-capabilities", capabilities(is_mapped))])
        monitor.execute("migrate-incoming", {"uri": transport})
        wait(monitor, timeout, "QEMU did not load the state of the guest from %s" % path)
    finally:
        os.close(handle)


def cancel(monitor: Monitor) -> None:
    """End a migration that a killed run started, so that the guest can continue."""
    status = monitor.execute("query-migrate").get("status")
    if status not in ("setup", "active", "device", "pre-switchover", "cancelling"):
        _wait_for_end(monitor, _CANCEL_TIMEOUT)
        return
    monitor.batch([("migrate-set-capabilities", capabilities())])
    monitor.execute("migrate_cancel")
    try:
        with contextlib.suppress(HostError):
            wait(monitor, _CANCEL_TIMEOUT, "")
    except MonitorTimeout:
        raise MonitorTimeout("QEMU did not cancel its migration within %d s" % _CANCEL_TIMEOUT)
    _wait_for_end(monitor, _CANCEL_TIMEOUT)


def _flush(path: str) -> None:
    """Write a file to the disk: a crash of the host must not damage it unnoticed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)


def _create(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)


def _transport(monitor: Monitor, path: str, handle: int) -> str:
    """Return the URI of a file for QEMU; the sandbox forbids exec:."""
    if monitor.version[:2] >= _FILE_TRANSPORT:
        return "file:" + path
    monitor.execute("getfd", {"fdname": "state"}, fds=[handle])
    return "fd:state"


def wait(
    monitor: Monitor,
    timeout: float,
    failure: str,
    until: str = "completed",
    option: str = "save_timeout",
) -> None:
    """Wait until a migration has the status until.

    failure: what has not happened, as text. option: the one with the timeout. Raises HostError if
    it fails, MonitorTimeout if it lasts.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise MonitorTimeout("%s within %d s: raise %s" % (failure, timeout, option))
        try:
            event = monitor.wait_event("MIGRATION", timeout=left)
        except MonitorTimeout:
            continue
        status = event["data"].get("status")
        if status == until:
            return
        if status in _ENDED:
            raise HostError("%s: %s" % (failure, _reason(monitor, status)))


def wait_until_sent(
    monitor: Monitor, timeout: float, failure: str, option: str = "save_timeout"
) -> None:
    """Wait until a migration has sent the guest, and its run state is postmigrate.

    The parameters and errors are those of wait.
    """
    wait(monitor, timeout, failure, option=option)
    _wait_for_end(monitor, timeout)


def _wait_for_end(monitor: Monitor, timeout: float) -> None:
    """Wait until QEMU lets the guest continue, soon after it has reported the completion."""
    deadline = time.monotonic() + timeout
    while monitor.execute("query-status")["status"] == "finish-migrate":
        if time.monotonic() > deadline:
            raise MonitorTimeout("QEMU did not finish its migration within %d s" % timeout)
        with contextlib.suppress(MonitorTimeout):
            monitor.wait_event(["RESUME", "STOP"], timeout=_POLL_INTERVAL)


def _reason(monitor: Monitor, status: str) -> Any:
    with contextlib.suppress(MonitorError):
        return monitor.execute("query-migrate").get("error-desc", status)
    return status


def _space(path: str, pid: int) -> str:
    """Return how much space the state of a process takes, and how much there is, as text."""
    folder = os.path.dirname(path)
    try:
        free = free_space(folder) + os.lstat(path).st_blocks * 512
    except OSError:
        return ""
    return " (up to %d MiB are needed, and %d MiB are free in %s)" % (
        -(-resident(pid) // MIB),
        free // MIB,
        folder,
    )


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes: its saved state is not larger."""
    try:
        with open("/proc/%d/statm" % pid, encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return 0
