# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A program between QEMU and the clients of its consoles: QEMU serves one client, this many.

It is copied into the folder of a VM and runs there by itself, so it imports only the standard
library and detached_program. Its argument is JSON:
  record: the file for {pid, start, boot_id}, by which it is recognised.
  consoles: [{name, backend, listen, telnet, writers}]: QEMU's socket, a path or [host, port] to
  listen on, whether clients speak telnet, and whether one or many clients may type at a time.
It writes "ready" or an error to its standard output, and ends with QEMU. What it never does is to
wait for a client: each has a bounded buffer, and who reads too slowly is disconnected.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import sys
import time
from typing import Any, Callable

from ansible_collections.vlab.qemu.plugins.module_utils._common.detached_program import (
    begin,
    log,
    report,
    write_record,
)

MAX_CLIENTS = 32  # of a console
MAX_OUTPUT = 256 << 10  # bytes for a client that it has not read
MAX_INPUT = 64 << 10  # bytes for QEMU that it has not read; until then no client is read
FAREWELL_TIMEOUT = 5  # seconds for a client to read why it is disconnected
END_TIMEOUT = 1  # seconds for all clients to read the last output
CONNECT_TIMEOUT = 10
PIECE = 1 << 16
# RFC 854 and RFC 856-858: WILL ECHO, WILL SUPPRESS-GO-AHEAD, WILL BINARY, DO BINARY.
NEGOTIATION = b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00"
# Commands of telnet (RFC 854): negotiation, others, an escaped 0xFF, and the beginning of one at
# the end of what has arrived.
_TELNET = re.compile(
    rb"\xff(?:[\xfb-\xfe].|\xfa[^\xff]*\xff\xf0|[\xf1-\xf9]|(?P<escaped>\xff)"
    rb"|(?P<partial>(?:[\xfb-\xfe]|\xfa[^\xff]{0,999}\xff?)?\Z))",
    re.DOTALL,
)

# What to wait for: a socket, the events of poll(2), and what handles them.
Interest = tuple[socket.socket, int, Callable[[int], None]]


class TelnetReader:
    """Removes the commands of telnet from what arrives on a connection."""

    def __init__(self) -> None:
        self._partial = b""

    def text_of(self, data: bytes) -> bytes:
        """Return data without commands; keep one that is not complete."""
        data, self._partial = self._partial + data, b""

        def replacement(match: re.Match[bytes]) -> bytes:
            if match.group("partial") is not None:
                self._partial = match.group()
            return match.group("escaped") or b""

        return _TELNET.sub(replacement, data)


class Client:
    """One client of a console."""

    def __init__(self, channel: socket.socket, console: Console) -> None:
        channel.setblocking(False)
        self.channel, self.console = channel, console
        self.output = bytearray(NEGOTIATION if console.telnet else b"")
        self.closes_at: float | None = None  # its connection ends: no more input or output
        self.was_refused = False  # whether it was shown that another client types
        self._telnet = TelnetReader()

    def interest(self) -> Interest:
        """Return what to wait for."""
        events = select.POLLOUT if self.output else 0
        if self.closes_at is None and len(self.console.input) < MAX_INPUT:
            events |= select.POLLIN
        return self.channel, events, self.handle

    def handle(self, events: int) -> None:
        """Read and write what is possible."""
        try:
            if events & select.POLLIN:
                data = self.channel.recv(PIECE)
                if not data:
                    self.console.remove(self)
                    return
                self._take(data)
            elif events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                self.console.remove(self)
                return
            if self.output:
                del self.output[: self.channel.send(self.output)]
        except BlockingIOError:
            pass
        except OSError:
            self.console.remove(self)

    def show(self, data: bytes) -> None:
        """Queue output; disconnect a client that has not read what it got before."""
        if self.closes_at is not None:
            return
        if self.console.telnet:
            data = data.replace(b"\xff", b"\xff\xff")
        if len(self.output) + len(data) > MAX_OUTPUT:
            self.output.clear()
            self.dismiss("disconnected, because it was read too slowly")
        else:
            self.output += data

    def tell(self, text: str) -> None:
        """Queue a message of the relay itself."""
        line = "\r\n[console %s: %s]\r\n" % (self.console.name, text)
        self.output += line.encode("utf-8", "surrogateescape")

    def dismiss(self, text: str) -> None:
        """Show a client why it is disconnected, and give it some time to read that."""
        self.tell(text)
        log("a client of the console %s is %s" % (self.console.name, text))
        self.closes_at = time.monotonic() + FAREWELL_TIMEOUT

    def _take(self, data: bytes) -> None:
        if self.console.telnet:
            data = self._telnet.text_of(data)
        if data and self.console.may_type(self):
            self.console.input += data
        elif data and not self.was_refused:
            self.was_refused = True
            self.tell("read only, as another client types")


class Console:
    """One console: QEMU's side, the listener, and the clients.

    input: what clients have typed and QEMU has not read. ended: whether QEMU has closed its side.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.name, self.telnet = str(settings["name"]), bool(settings["telnet"])
        self.input, self.ended = bytearray(), False
        self.clients: list[Client] = []
        self._one_writer = settings["writers"] == "one"
        self._writer: Client | None = None
        self._listener = listen(settings["listen"])
        self._backend = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._backend.settimeout(CONNECT_TIMEOUT)
        self._backend.connect(settings["backend"])
        self._backend.setblocking(False)

    def interests(self) -> list[Interest]:
        """Return what to wait for."""
        events = select.POLLIN | (select.POLLOUT if self.input else 0)
        return [
            # First, so that a new client gets the output that came at the same time.
            (self._listener, select.POLLIN, self._accept),
            (self._backend, events, self._handle_backend),
            *(client.interest() for client in self.clients),
        ]

    def may_type(self, client: Client) -> bool:
        """Whether what a client types goes to the guest."""
        if self._one_writer and self._writer is None:
            self._writer = client
        return self._writer in (None, client)

    def remove(self, client: Client) -> None:
        """Close the connection of a client."""
        client.channel.close()
        self.clients.remove(client)
        if self._writer is client:
            self._writer = None
            for other in self.clients:
                other.was_refused = False

    def stop_listening(self) -> None:
        """Release the port for the next start of the VM."""
        self._listener.close()

    def remove_late(self, now: float) -> None:
        """Close the connections that are to end, once their last word is read or its time is up."""
        for client in list(self.clients):
            if client.closes_at is not None and (not client.output or now >= client.closes_at):
                self.remove(client)

    def _handle_backend(self, events: int) -> None:
        try:
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = self._backend.recv(PIECE)
                if not data:
                    self.ended = True
                for client in list(self.clients):
                    client.show(data)
            if self.input and not self.ended:
                del self.input[: self._backend.send(self.input)]
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True

    def _accept(self, _events: int) -> None:
        for _client in range(MAX_CLIENTS):
            try:
                channel = self._listener.accept()[0]
            except OSError:
                return  # there are no more, or descriptors are short
            self._add(channel)

    def _add(self, channel: socket.socket) -> None:
        if channel.family != socket.AF_UNIX:
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client = Client(channel, self)
        self.clients.append(client)
        if len(self.clients) > MAX_CLIENTS:
            client.dismiss("disconnected, because it has %d clients" % MAX_CLIENTS)


def listen(place: str | list[Any]) -> socket.socket:
    """Return a socket that listens at a path, or at [host, port]."""
    if isinstance(place, str):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(place)
    else:
        host, port = place
        family, _type, _protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    listener.listen(MAX_CLIENTS)
    listener.setblocking(False)
    return listener


def serve(consoles: list[Console]) -> None:
    """Serve the clients until QEMU ends, and then until they have read its last output."""
    end: float | None = None
    while True:
        now = time.monotonic()
        for console in consoles:
            console.remove_late(now)
        if end is None and any(console.ended for console in consoles):
            end = now + END_TIMEOUT
            for console in consoles:
                console.stop_listening()
        clients = [client for console in consoles for client in console.clients]
        if end is not None and (now >= end or not any(client.output for client in clients)):
            return
        if end is None:
            interests = [one for console in consoles for one in console.interests()]
        else:
            interests = [client.interest() for client in clients]
        deadlines = [client.closes_at for client in clients if client.closes_at is not None]
        wait_for(interests, min([*deadlines, *([] if end is None else [end])], default=None))


def wait_for(interests: list[Interest], deadline: float | None) -> None:
    """Wait until deadline for any of the events, and handle them."""
    poller = select.poll()
    handlers = {}
    for channel, events, handler in interests:
        handlers[channel.fileno()] = handler
        poller.register(channel, events)
    timeout = None if deadline is None else max(0, deadline - time.monotonic()) * 1000 + 1
    for number, events in poller.poll(timeout):
        handlers[number](events)


def main() -> int:
    """Run the relay to its end; return its exit code."""
    begin()
    settings = json.loads(sys.argv[1])
    try:
        write_record(settings["record"])
        consoles = [Console(one) for one in settings["consoles"]]
    except OSError as error:
        report("error: %s" % error)
        return 1
    report("ready")
    log("started")
    serve(consoles)
    log("ended with QEMU")
    return 0
