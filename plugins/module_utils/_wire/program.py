# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The program of the wires of a VM: it takes what QEMU sends, impairs it, and passes it on.

It is copied into the folder of a VM and runs there by itself, so it imports only the standard
library, detached_program, control and the engine. Its argument is a file of JSON:
  record: the file for {pid, start, boot_id}, by which it is recognised.
  control: the path of the control socket.
  pid, start: of QEMU; the program ends with it.
  wires: {name: Settings}.
It writes "ready" or an error to its standard output.

Frames that QEMU sends arrive at "listen", and leave for "remote" from "local", which is QEMU's own
address: the other side sees the port that it expects, and its frames go straight to QEMU.

A request on the control socket is one line of JSON, {"command": NAME, ...}, and so is the answer:
  status      -> {"pid": of QEMU, "wires": {name: {"settings", "measured"}}}; also for the others
  configure   wires: all wires, as in the file
  set         wire, parameters: change one wire
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import socket
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.detached_program import (
    PROCESS_INTERVAL,
    Process,
    be_punctual,
    log,
    report,
    start,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire.control import (
    Control,
    numeric_address,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire.engine import Direction, check

# Of typing, see the engine.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # listen, local, remote: [address, port]; parameters: of the engine.
    Settings = dict[str, Any]

MAX_WIRES = 256
BATCH = 64  # frames of one wire before another one has its turn
MAX_FRAME = 1 << 17  # bytes; UDP has less
BUFFER = 32 << 20  # bytes that the kernel keeps while this program does not run


class Wire:
    """One direction of a link: from the NIC of a VM to the other side."""

    def __init__(self, settings: Settings, now: float) -> None:
        self.settings = settings
        self.direction = Direction(check(settings["parameters"]), now)
        listen, local, self.remote = (
            numeric_address(settings[name]) for name in ("listen", "local", "remote")
        )
        self.errors = 0
        self.is_open = True
        family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        self.inward = socket.socket(family, socket.SOCK_DGRAM)
        self.outward = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._bind(listen, local)
        except OSError:
            self.close()
            raise

    def _bind(self, listen: tuple[str, int], local: tuple[str, int]) -> None:
        is_any = local[0] in ("0.0.0.0", "::")  # QEMU then sends here from the address of listen
        source = _source(local, self.remote) if is_any else local
        for channel, address, other in (
            (self.inward, listen, (listen[0], local[1]) if is_any else local),
            (self.outward, source, listen),
        ):
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            channel.bind(address)
            # A connected socket takes frames of one sender only: from QEMU here, and from nobody
            # at the port that belongs to QEMU.
            if address[1]:
                channel.connect(other)
            channel.setblocking(False)
        for name in ("SO_RCVBUFFORCE", "SO_RCVBUF"):  # the first one needs privileges
            number = getattr(socket, name, 33)
            with contextlib.suppress(OSError):
                self.inward.setsockopt(socket.SOL_SOCKET, number, BUFFER)
                break

    def close(self) -> None:
        """Release the ports; frames that are on their way are dropped."""
        self.is_open = False
        self.inward.close()
        self.outward.close()

    def change(self, parameters: Any, now: float) -> None:
        """Change the impairment; frames that are on their way are not concerned."""
        earlier, self.direction = self.direction, Direction(check(parameters), now)
        self.direction.follow(earlier)
        self.settings = dict(self.settings, parameters=parameters)
        self.errors = 0

    def send(self, frame: bytes, arrival: float, now: float) -> None:
        """Pass a frame on."""
        try:
            self.outward.sendto(frame, self.remote)
        except OSError:
            self.errors += 1  # such as a full buffer: a cable has no way to report it
        self.direction.left(len(frame), arrival, now)

    def report(self, now: float) -> dict[str, Any]:
        """Return the settings and what was measured."""
        measured = dict(self.direction.counters.report(now), send_errors=self.errors)
        return {"settings": self.settings, "measured": measured}


def _source(local: tuple[str, int], remote: tuple[str, int]) -> tuple[str, int]:
    """Return the address from which this host sends to remote; any port if it has no route."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(remote)
        return probe.getsockname()[0], local[1]
    return local[0], 0


class Program:
    """All wires of a VM, and the control socket."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._qemu = Process(settings["pid"], settings["start"])
        self.wires: dict[str, Wire] = {}
        self.configure(settings["wires"])
        self._control = Control(settings["control"], self._execute)
        # The frames that are on their way: time, order, wire, arrival, frame.
        self._queue: list[tuple[float, int, Wire, float, bytes]] = []
        self._number = itertools.count()
        self._buffer = bytearray(MAX_FRAME)
        self._view = memoryview(self._buffer)

    # Settings.

    def configure(self, desired: Any) -> None:
        """Make the wires as desired; if that is not possible, raise and change nothing.

        Raises OSError, ValueError, KeyError or TypeError.
        """
        if not isinstance(desired, dict) or len(desired) > MAX_WIRES:
            raise ValueError("wires is a dictionary of at most %d" % MAX_WIRES)
        now, kept, created = time.monotonic(), {}, {}
        try:
            for name, settings in desired.items():
                check(settings["parameters"])
                old = self.wires.get(name)
                if old and _places(old.settings) == _places(settings):
                    kept[name] = old
                else:
                    created[name] = Wire(settings, now)
        except (OSError, ValueError, KeyError, TypeError):
            for wire in created.values():
                wire.close()
            raise
        for name, wire in kept.items():
            if wire.settings["parameters"] != desired[name]["parameters"]:
                wire.change(desired[name]["parameters"], now)
        for name, wire in self.wires.items():
            if name not in kept:
                wire.close()
        self.wires = {name: kept.get(name) or created[name] for name in desired}

    # Frames.

    def run(self) -> None:
        """Pass frames on until QEMU ends."""
        while self._qemu.runs():
            self._wait()
            self._send_due()

    def _wait(self) -> None:
        """Wait until a frame arrives or is due, or a client wants something; handle it."""
        now = time.monotonic()
        timeout = float(PROCESS_INTERVAL)
        if self._queue:
            timeout = min(timeout, max(0.0, self._queue[0][0] - now))
        by_socket = {wire.inward: wire for wire in self.wires.values()}
        readers = [*by_socket, *self._qemu.handles, *self._control.readers()]
        ready, writable, _errors = select.select(readers, self._control.writers(), [], timeout)
        for channel in ready:
            if channel in by_socket:
                self._receive(by_socket[channel])
        self._control.serve({*ready, *writable})

    def _receive(self, wire: Wire) -> None:
        """Take the frames that have arrived."""
        receive, view, admit = wire.inward.recv_into, self._view, wire.direction.admit
        for _frame in range(BATCH):
            try:
                size = receive(self._buffer)
            except OSError:
                return  # there are no more
            now = time.monotonic()
            for due, frame in admit(bytes(view[:size]), now):
                if due <= now and not self._queue:
                    wire.send(frame, now, now)
                else:
                    heapq.heappush(self._queue, (due, next(self._number), wire, now, frame))
            if self._queue and self._queue[0][0] <= now:
                self._send_due()

    def _send_due(self) -> None:
        queue = self._queue
        while queue and queue[0][0] <= time.monotonic():
            _due, _number, wire, arrival, frame = heapq.heappop(queue)
            if wire.is_open:
                wire.send(frame, arrival, time.monotonic())

    # Control.

    def _execute(self, request: dict[str, Any]) -> dict[str, Any]:
        now = time.monotonic()
        command = request["command"]
        if command == "configure":
            self.configure(request["wires"])
        elif command == "set":
            self.wires[request["wire"]].change(request["parameters"], now)
        elif command != "status":
            raise ValueError("there is no command %.40r" % (command,))
        if command != "status":
            log("%s: %s" % (command, ", ".join(sorted(self.wires)) or "no wires"))
        wires = {name: wire.report(now) for name, wire in self.wires.items()}
        return {"pid": self._qemu.pid, "wires": wires}


def _places(settings: Settings) -> dict[str, Any]:
    return {name: settings[name] for name in ("listen", "local", "remote")}


def main() -> int:
    """Run the program to its end; return its exit code."""
    program = start(Program)
    if program is None:
        return 1
    be_punctual()
    report("ready")
    log("started: %s" % ", ".join(sorted(program.wires)))
    program.run()
    log("ended with QEMU")
    return 0
