# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Capture the frames of a NIC for a client that reads them meanwhile.

QEMU writes them to a file of this capture, which is read while it grows, and whose space is
released behind the reader. A pipe instead of the file would need no space, but QEMU writes with its
main thread, in all versions: a reader that pauses would stop the guest, and one that ends would
be the same error as a full disk. With a descriptor that is passed (add-fd) it is the same,
as QEMU makes it block again (qemu_dup_flags).

The filter and its file belong to this process, whose identity their names contain. If it is killed,
the next capture of the VM removes them, or its next start.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, NoReturn

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    remove_file,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    process_handle,
    process_start_time,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.release_space import release_space
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_number,
    names_hint,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import object_add
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, existing
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation, observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import links
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.captures import (
    live_folder,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import nic_ids

if TYPE_CHECKING:
    from collections.abc import Generator

_FLAT_OBJECTS = (6, 0)  # the version of QEMU since which object-add has no props
_POLL_INTERVAL = 0.1  # seconds between two looks at a file that does not grow
_CHUNK = 1 << 18  # bytes of a read
_MAX_SPACE = 256 << 20  # bytes of the file that the reader may be behind
_LOCK_TIMEOUT = 60  # seconds for another run that works on the VM
_STDIN = 0


class Request(NamedTuple):
    """What to capture. snaplen: bytes of each frame. duration: seconds; both may be None."""

    folder: Folder
    nic: str
    snaplen: int | None
    duration: float | None


class _Capture(NamedTuple):
    """A capture that runs. pid, start: of QEMU."""

    object_id: str
    path: str
    pid: int
    start: int | None


def request_of(parameters: dict[str, Any]) -> Request:
    """Return the request from the options of qemu_capture. Raises OptionError."""
    snaplen, duration = parameters.get("snaplen"), parameters.get("duration")
    if snaplen is not None:
        check_number("snaplen", snaplen, 1, (1 << 31) - 1, "a length in bytes")
    if duration is not None:
        check_number("duration", duration, 1, 10**7, "a time in seconds")
    folder = existing(parameters.get("root"), parameters["lab"], parameters["vm"])
    return Request(folder, parameters["name"], snaplen, duration)


def check(request: Request) -> dict[str, Any]:
    """Check that a capture is possible; return what it would be of. Raises VlabError."""
    observation = observe(request.folder)
    try:
        nic = _nic_of(observation, request)
    finally:
        observation.close()
    return {"mac": nic["mac"], "link": nic["link"]["type"]}


def stream(request: Request) -> Generator[bytes, None, dict[str, Any]]:
    """Capture; yield the bytes of the file as they come.

    It ends with QEMU, after the duration, or with the client, which closes standard input. Raises
    VlabError.
    """
    capture = _begin(request)
    size = 0
    try:
        with _limited_space(capture.path):
            for data in _follow(capture, request.duration):
                size += len(data)
                yield data
    finally:
        _end(request.folder, capture)
    return {"bytes": size}


def _nic_of(observation: Observation, request: Request) -> dict[str, Any]:
    """Return the NIC of a running VM. Raises VlabError."""
    observation.check_damage()
    observation.check_monitor()
    if not observation.alive:
        raise OptionError(
            "vm", "the VM %s is %s: start it" % (request.folder.name, observation.status)
        )
    nics = by_name(observation.running["nics"])
    if request.nic not in nics:
        raise OptionError(
            "name",
            "the VM %s has no NIC %s: %s"
            % (request.folder.name, request.nic, names_hint(request.nic, sorted(nics), 20)),
        )
    nic: dict[str, Any] = nics[request.nic]
    if links.is_direct(nic["link"]):
        raise OptionError(
            "name",
            "QEMU does not see the frames of a link with vhost or several queues: use tcpdump on"
            " the tap interface",
        )
    return nic


# The filter in QEMU.


def _begin(request: Request) -> _Capture:
    folder = request.folder
    with folder.locked(create=False, timeout=_LOCK_TIMEOUT):
        observation = observe(folder)
        try:
            nic = _nic_of(observation, request)
            monitor, pid = observation.monitor, observation.pid
            if monitor is None or pid is None:
                raise HostError("the monitor of the VM %s is not open" % folder.name)
            _remove_dead(folder, monitor)
            object_id = "live-%d-%d" % (os.getpid(), process_start_time(os.getpid()) or 0)
            path = os.path.join(live_folder(folder), object_id)
            make_private_folder(live_folder(folder))
            write_atomically(path, b"")  # with its rights; QEMU keeps them
            properties: dict[str, Any] = {
                "qom-type": "filter-dump",
                "id": object_id,
                "netdev": nic_ids(observation.running, nic["name"]).port,
                "file": path,
            }
            if request.snaplen:
                properties["maxlen"] = request.snaplen
            try:
                flat = monitor.version >= _FLAT_OBJECTS
                monitor.execute("object-add", object_add(properties, flat))
            except VlabError:
                remove_file(path)
                raise
            return _Capture(object_id, path, pid, observation.start)
        finally:
            observation.close()


def _remove_dead(folder: Folder, monitor: Monitor) -> None:
    """Remove captures whose process was killed."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(live_folder(folder)):
            match = re.fullmatch("live-([0-9]+)-([0-9]+)", name)
            if not match or process_start_time(int(match[1])) != int(match[2]):
                _remove(folder, name, monitor)


def _remove(folder: Folder, object_id: str, monitor: Monitor) -> None:
    """Remove a filter, which may not exist, and then its file. Raises MonitorError."""
    path = "/objects/" + object_id
    deleted, exists = monitor.batch(
        [("object-del", {"id": object_id}), ("qom-list", {"path": path})]
    )
    # Without the file, nobody would know of the filter.
    if isinstance(deleted, MonitorError) and not isinstance(exists, MonitorError):
        raise deleted
    remove_file(os.path.join(live_folder(folder), object_id))


def _end(folder: Folder, capture: _Capture) -> None:
    """Remove the filter, unless QEMU has ended, and its file."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the client may end now: see hangup
    try:
        if process_start_time(capture.pid) == capture.start:
            with folder.locked(create=False, timeout=_LOCK_TIMEOUT):
                with Monitor(folder.qmp) as monitor:
                    if monitor.peer_pid == capture.pid:
                        _remove(folder, capture.object_id, monitor)
        remove_file(capture.path)
        with contextlib.suppress(OSError):
            os.rmdir(live_folder(folder))
    finally:
        signal.signal(signal.SIGTERM, before)


# The file.


def _follow(capture: _Capture, duration: float | None) -> Iterator[bytes]:
    """Yield what is added to the file."""
    deadline = None if duration is None else time.monotonic() + duration
    released = position = 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(capture.path, "r+b", buffering=0))
        handle = stack.enter_context(process_handle(capture.pid))
        events = [_STDIN] if handle is None else [_STDIN, handle]
        while not _has_client_ended():
            # Looked at before the read: what was written until then is read.
            is_over = process_start_time(capture.pid) != capture.start or (
                deadline is not None and time.monotonic() >= deadline
            )
            data = file.read(_CHUNK)
            if data:
                yield data
                position += len(data)
                if position - released >= _CHUNK:
                    release_space(file.fileno(), released, position - released)
                    released = position
            elif is_over:
                return
            else:
                select.select(events, [], [], _POLL_INTERVAL)


def _has_client_ended() -> bool:
    """Return whether standard input has ended: the client writes nothing after its request."""
    return bool(select.select([_STDIN], [], [], 0)[0]) and not os.read(_STDIN, 1)


@contextlib.contextmanager
def _limited_space(path: str) -> Iterator[None]:
    """End this process if the file takes too much space, also while it waits for the client."""

    def on_alarm(_number: int, _frame: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_blocks * 512 > _MAX_SPACE:
                _give_up(path)

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _give_up(path: str) -> NoReturn:
    raise SystemExit(
        "the capture has ended, because its reader is %d MiB behind, or because the file system of"
        " %s cannot release space: set snaplen to capture only the beginning of frames"
        % (_MAX_SPACE >> 20, path)
    )
