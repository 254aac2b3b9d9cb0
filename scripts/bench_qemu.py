# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand in for the QEMU of a VM: a process with monitors and without a guest, in 10 MiB.

scripts/bench_thousand.py installs it as qemu-system-x86_64. The real QEMU says what it can do.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

REAL = "/usr/bin/qemu-system-x86_64"
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}


def values(argv: list[str], option: str) -> Iterator[str]:
    """Yield the values of an option of the command line."""
    return (argv[at + 1] for at, word in enumerate(argv[:-1]) if word == option)


def device(text: str) -> dict[str, str]:
    """Return a device of the command line as qom-list shows it."""
    driver, *properties = text.split(",")
    found = dict(word.split("=", 1) for word in properties)
    return {"name": found.get("id", ""), "type": f"child<{driver}>"}


class Machine:
    """A machine without a guest."""

    def __init__(self, argv: list[str]) -> None:
        self.uuid = next(values(argv, "-uuid"), "")
        self.pidfile = next(values(argv, "-pidfile"))
        self.devices = [device(text) for text in values(argv, "-device") if "id=" in text]
        self.status = "prelaunch" if "-S" in argv else "running"
        self.ended = False

    def run(self, command: str, arguments: dict[str, Any]) -> tuple[Any, str | None]:
        """Return the answer to a command, and the event that follows."""
        if command == "query-status":
            return {"status": self.status, "running": self.status == "running"}, None
        if command == "query-uuid":
            return {"UUID": self.uuid}, None
        if command == "qom-list":
            return self.devices, None
        if command in ("cont", "stop"):
            self.status = "running" if command == "cont" else "paused"
            return {}, "RESUME" if command == "cont" else "STOP"
        if command == "quit":
            self.ended = True
            return {}, "SHUTDOWN"
        return {}, None


def answer(machine: Machine, line: bytes) -> Iterator[dict[str, Any]]:
    """Yield the messages that follow a line from a client."""
    request = json.loads(line)
    result, event = machine.run(request["execute"], request.get("arguments") or {})
    reply = {"return": result}
    if "id" in request:
        reply["id"] = request["id"]
    yield reply
    if event:
        yield {"event": event, "data": {}, "timestamp": {"seconds": 0, "microseconds": 0}}


def write(client: socket.socket, message: dict[str, Any]) -> None:
    """Write a message to a client."""
    client.sendall(json.dumps(message).encode("ascii") + b"\r\n")


def serve(machine: Machine, paths: list[str]) -> None:
    """Serve the monitors until quit. A monitor serves one client at a time."""
    selector = selectors.DefaultSelector()

    def listen(path: str) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen(1)
        selector.register(server, selectors.EVENT_READ, lambda: accept(server))

    def accept(server: socket.socket) -> None:
        client, _address = server.accept()
        selector.unregister(server)
        write(client, GREETING)
        selector.register(client, selectors.EVENT_READ, reader(client, server))

    def reader(client: socket.socket, server: socket.socket) -> Callable[[], None]:
        rest = b""

        def read() -> None:
            nonlocal rest
            received = client.recv(65536)
            *lines, rest = (rest + received).split(b"\n")
            for line in filter(None, map(bytes.strip, lines)):
                for message in answer(machine, line):
                    write(client, message)
            if not received:
                selector.unregister(client)
                client.close()
                selector.register(server, selectors.EVENT_READ, lambda: accept(server))

        return read

    for path in paths:
        listen(path)
    with open(machine.pidfile, "w", encoding="ascii") as stream:
        stream.write(f"{os.getpid()}\n")
    while not machine.ended:
        for key, _events in selector.select():
            key.data()
    for path in (*paths, machine.pidfile):
        os.unlink(path)


def main(argv: list[str]) -> None:
    """Run the machine of a command line of QEMU, or the real QEMU for another one."""
    if "-pidfile" not in argv:
        os.execv(REAL, [REAL, *argv])
    serve(
        Machine(argv),
        [text.partition(":")[2].partition(",")[0] for text in values(argv, "-qmp")],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
