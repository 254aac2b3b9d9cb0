# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The program of a switch: a segment that learns where addresses are, with VLANs.

It runs by itself in the folder of the segment until it is ended, so it imports only the standard
library, detached_program, control, engine and switching. Its argument is a file of JSON:
  record: the file for {pid, start, boot_id}, by which it is recognised.
  control: the path of the control socket.
  switch: Settings.
It writes "ready" or an error to its standard output.

A port receives frames at its local address, only from the remote one, and sends them there. What
it sends can be impaired.

A request on the control socket is one line of JSON, {"command": NAME, ...}, and so is the answer:
  status      -> {"switch": Settings, "ports": {name: counters}, "addresses": [...], "measured":
                 {name: counters of the impairment}}; also for configure
  configure   switch: Settings, as in the file
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import socket
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.detached_program import (
    be_punctual,
    log,
    report,
    start,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire.control import (
    Control,
    numeric_address,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire.engine import Direction
from ansible_collections.vlab.qemu.plugins.module_utils._wire.engine import (
    check as check_impairment,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire.switching import (
    Port,
    Switch,
    check,
    check_ageing,
)

# Of typing, see the engine.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # {"ageing": seconds, "ports": {name: {"local_address", "local_port", "remote_address",
    # "remote_port", "vlans", "impair": parameters of the engine, if it has any}}}
    Settings = dict[str, Any]
    Ends = tuple[tuple[str, int], tuple[str, int]]

MAX_PORTS = 256
BATCH = 64  # frames of one port before another one has its turn
MAX_FRAME = 1 << 17  # bytes; UDP has less
BUFFER = 2 << 20  # bytes that the kernel keeps for a port while this program does not run
MAX_WAITING = 64 << 20  # bytes of all impaired ports that are on their way
INTERVAL = 10  # seconds between two searches for old addresses


def _ends(port: dict[str, Any]) -> Ends:
    """Return where a port receives frames, and where it sends them."""
    local, remote = (
        numeric_address((port[side + "_address"], port[side + "_port"]))
        for side in ("local", "remote")
    )
    return local, remote


def _open(ends: Ends) -> socket.socket:
    """Return the socket of a port."""
    local, remote = ends
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    channel = socket.socket(family, socket.SOCK_DGRAM)
    try:
        # The run that starts this program has reserved the address with a socket of its own.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        channel.bind(local)
        channel.connect(remote)  # so that it takes the frames of nobody else
        channel.setblocking(False)
    except OSError as error:
        channel.close()
        raise OSError("%s:%d: %s" % (*local, error.strerror)) from error
    for name in ("SO_RCVBUFFORCE", "SO_RCVBUF"):  # the first one needs privileges
        with contextlib.suppress(OSError):
            channel.setsockopt(socket.SOL_SOCKET, getattr(socket, name, 33), BUFFER)
            break
    return channel


class Program:
    """A switch, the sockets of its ports, and its control socket."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._switch = Switch()
        self._ends: dict[str, Ends] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._by_socket: dict[socket.socket, Port] = {}
        self._by_port: dict[Port, socket.socket] = {}
        self._directions: dict[Port, Direction] = {}
        # The frames that are on their way: time, order, port, its impairment, arrival, frame.
        self._queue: list[tuple[float, int, Port, Direction, float, bytes]] = []
        self._number = itertools.count()
        self._waiting = 0  # bytes of them
        self.configure(settings["switch"])
        self._control = Control(settings["control"], self._execute)
        self._buffer = bytearray(MAX_FRAME)
        self._view = memoryview(self._buffer)

    def configure(self, settings: Any) -> None:
        """Have these settings; if that is not possible, raise and change nothing.

        Raises OSError, ValueError, KeyError or TypeError.
        """
        ports, ageing = settings["ports"], check_ageing(settings["ageing"])
        if not isinstance(ports, dict) or len(ports) > MAX_PORTS:
            raise ValueError("ports is a dictionary of at most %d" % MAX_PORTS)
        vlans = {name: check(port["vlans"]) for name, port in ports.items()}
        ends = {name: _ends(port) for name, port in ports.items()}
        impaired = {
            name: check_impairment(port["impair"])
            for name, port in ports.items()
            if "impair" in port
        }
        try:
            self._open_ports(ends)
            self._settings = settings
            self._switch.configure(vlans, ageing)
            self._impair(impaired)
        finally:
            self._by_port = {
                port: self._sockets[name]
                for name, port in self._switch.ports.items()
                if name in self._sockets
            }
            self._by_socket = {channel: port for port, channel in self._by_port.items()}

    def _impair(self, impaired: dict[str, dict[str, Any]]) -> None:
        """Impair what these ports send; an impairment that stays goes on."""
        now, directions = time.monotonic(), {}
        for name, parameters in impaired.items():
            port = self._switch.ports[name]
            earlier = self._directions.get(port)
            if earlier is not None and earlier.parameters == parameters:
                directions[port] = earlier
                continue
            directions[port] = Direction(parameters, now)
            if earlier is not None:
                directions[port].follow(earlier)
        self._directions = directions

    def _open_ports(self, desired: dict[str, Ends]) -> None:
        """Have the sockets of these ports; if that is not possible, raise OSError.

        Sockets that go are closed first, because others can have their addresses.
        """
        closed = {name: ends for name, ends in self._ends.items() if desired.get(name) != ends}
        for name in closed:
            self._sockets.pop(name).close()
        opened: dict[str, socket.socket] = {}
        try:
            for name, ends in desired.items():
                if name not in self._sockets:
                    opened[name] = _open(ends)
        except OSError:
            for channel in opened.values():
                channel.close()
            for name, ends in closed.items():
                with contextlib.suppress(OSError):
                    self._sockets[name] = _open(ends)
            self._ends = {name: self._ends[name] for name in self._sockets}
            raise
        self._sockets.update(opened)
        self._ends = desired

    def run(self) -> None:
        """Pass frames on until this process is ended."""
        log("started: %s" % ", ".join(sorted(self._switch.ports)))
        next_sweep = 0.0
        while True:
            now = time.monotonic()
            if now >= next_sweep:
                self._switch.sweep(now)
                next_sweep = now + INTERVAL
            self._wait()

    def _wait(self) -> None:
        timeout = float(INTERVAL)
        if self._queue:
            timeout = min(timeout, max(0.0, self._queue[0][0] - time.monotonic()))
        readers = [*self._by_socket, *self._control.readers()]
        ready, writable, _errors = select.select(readers, self._control.writers(), [], timeout)
        for channel in ready:
            port = self._by_socket.get(channel)
            if port is not None:
                self._receive(channel, port)
        self._send_due()
        self._control.serve({*ready, *writable})

    def _receive(self, channel: socket.socket, port: Port) -> None:
        """Pass on the frames that have arrived at a port."""
        forward, view, now = self._switch.forward, self._view, time.monotonic()
        for _frame in range(BATCH):
            try:
                size = channel.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:
                continue  # the other side was not there for an earlier frame
            for other, frame in forward(port, bytes(view[:size]), now):
                if other in self._directions:
                    self._delay(other, frame, time.monotonic())
                else:
                    self._send(other, frame)

    def _delay(self, port: Port, frame: bytes, now: float) -> None:
        """Let a frame wait for the time at which it leaves an impaired port."""
        direction = self._directions[port]
        if self._waiting + len(frame) > MAX_WAITING:
            direction.counters.dropped += 1
            return
        for due, copy in direction.admit(frame, now):
            self._waiting += len(copy)
            entry = (due, next(self._number), port, direction, now, copy)
            heapq.heappush(self._queue, entry)

    def _send_due(self) -> None:
        queue = self._queue
        while queue and queue[0][0] <= time.monotonic():
            _due, _number, port, direction, arrival, frame = heapq.heappop(queue)
            self._waiting -= len(frame)
            direction.left(len(frame), arrival, time.monotonic())
            self._send(port, frame)

    def _send(self, port: Port, frame: bytes) -> None:
        try:
            self._by_port[port].send(frame)
        except (OSError, KeyError):
            port.send_errors += 1  # such as a full buffer, or nobody at the other side
        else:
            port.frames_out += 1
            port.bytes_out += len(frame)

    def _execute(self, request: dict[str, Any]) -> dict[str, Any]:
        command, now = request["command"], time.monotonic()
        if command == "configure":
            self.configure(request["switch"])
            log("configure: %s" % ", ".join(sorted(self._sockets)))
        elif command != "status":
            raise ValueError("there is no command %.40r" % (command,))
        return {
            "switch": self._settings,
            "ports": {name: port.report() for name, port in self._switch.ports.items()},
            "addresses": self._switch.listed(now),
            "measured": {
                port.name: direction.counters.report(now)
                for port, direction in self._directions.items()
            },
        }


def main() -> int:
    """Run the program until it is ended; return its exit code."""
    program = start(Program)
    if program is None:
        return 1
    be_punctual()
    report("ready")
    program.run()
    return 0
