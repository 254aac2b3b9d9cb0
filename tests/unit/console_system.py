# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A system that is configured on its console, played on a UNIX socket from a table.

The table has these keys:
  boot: what it prints at its start, line by line.
  first: the name of its first state.
  noise: lines of the log that it prints in the middle of an echo and after a prompt.
  newline: what ends a typed line, carriage return by default.
  loses: the bytes that its UART takes at once; the rest of what arrives with them is lost.
  states: {name: {shows: what it prints when it gets there, hidden: whether it echoes nothing,
    rules: [{line: pattern, say: text, go: state, tries: number}], config: whether other lines are
    its configuration, otherwise: what it says to them}}

A rule with tries applies so many times, then the next that matches. A `go` of `boot` starts the
system again. A rule with config: true adds the line to the configuration.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import threading


class ConsoleSystem:
    """A context manager. configured: the lines of its configuration. typed: (state, line)."""

    def __init__(self, path, table):
        self.path, self.table = str(path), table
        self.configured, self.typed, self.visited = [], [], []
        self._tries, self._noise = {}, list(table.get("noise", ()))
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen(4)
        self._stop = threading.Event()
        self._state = None
        self._client = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join(5)
        self._server.close()

    # Input.

    def _serve(self):
        line = b""
        while not self._stop.is_set():
            channels = [self._client] if self._client else [self._server]
            if not select.select(channels, [], [], 0.02)[0]:
                continue
            if not self._client:
                self._client = self._server.accept()[0]
                if self._state is None:
                    self._boot()
                continue
            try:
                data = self._client.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                self._client.close()
                self._client = None
                continue
            line = self._received(line, data[: self.table.get("loses", len(data))])
        if self._client:
            self._client.close()

    def _received(self, line, data):
        """Return the unfinished line after more input."""
        end = self.table.get("newline", "\r").encode()
        for number in data:
            if bytes([number]) == end:
                line = self._entered(line)
            elif number == 4:  # Ctrl-D ends a text
                line = self._entered(b"^D", echo=False)
            elif number >= 32 or number == 9:
                line += bytes([number])
                self._echo(number, line)
        return line

    def _echo(self, number, line):
        if self.table["states"][self._state].get("hidden"):
            return
        if len(line) == 4 and self._noise:
            self._print("\r\n" + self._noise.pop(0) + "\r\n")
        self._print(bytes([number]).decode("latin-1"))

    # Output.

    def _print(self, text):
        if self._client:
            with contextlib.suppress(OSError):
                self._client.sendall(text.encode())

    def _boot(self):
        for line in self.table.get("boot", ()):
            self._print(line + "\r\n")
        self._go(self.table["first"])

    def _go(self, state):
        if state == "boot":
            self._boot()
            return
        self._state = state
        self.visited.append(state)
        self._print(self.table["states"][state].get("shows", ""))
        if self._noise and state in self.table.get("covers", ()):
            # A message after a prompt, which is not repeated.
            self._print("\r\n" + self._noise.pop(0) + "\r\n")

    def _entered(self, line, echo=True):
        state, text = self.table["states"][self._state], line.decode("utf-8", "replace").strip()
        self.typed.append((self._state, text))
        if echo:
            self._print("\r\n")
        for number, rule in enumerate(state.get("rules", ())):
            key = (self._state, number)
            if re.fullmatch(rule["line"], text) and self._tries.get(key, 0) < rule.get("tries", 99):
                self._tries[key] = self._tries.get(key, 0) + 1
                if rule.get("config"):
                    self.configured.append(text)
                self._print(rule.get("say", "").replace("\n", "\r\n"))
                self._go(rule.get("go", self._state))
                return b""
        if text and state.get("config"):
            self.configured.append(text)
        elif text:
            self._print(state.get("otherwise", "% Invalid input detected") + "\r\n")
        self._go(self._state)
        return b""
