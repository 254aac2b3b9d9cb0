# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The progress of a hypervisor, shown on the controller while the hypervisor works."""

from __future__ import annotations

import copy
import threading
import uuid
from typing import Any, Sequence

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Seconds between two reads of the progress file. Over SSH, each read takes a channel.
_POLL_INTERVALS = {"local": 0.5, "ssh": 2}


class Progress:
    """Displays the lines that the hypervisor adds to its progress file; a context manager.

    path: that file, None if the connection cannot read it meanwhile. Only the connections local and
    ssh can run a second command at the same time. With others, finish() displays all lines.
    """

    def __init__(self, action: ActionBase, host: str) -> None:
        self.host = host
        self.path: str | None = None
        self._bytes_read = self._lines_shown = 0
        self._connection: Any = None
        connection = action._connection
        self._interval = _POLL_INTERVALS.get(connection.transport)
        if self._interval:
            # The hypervisor creates this file, and refuses to use an existing one.
            self.path = "/tmp/vlab-progress-%s" % uuid.uuid4().hex
            if connection.transport != "local":
                self._connection = copy.copy(connection)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Progress:
        if self.path:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def finish(self, lines: Sequence[str]) -> None:
        """Display those of all lines, which the result has, that were not displayed yet."""
        self._stop()
        self._display(lines[self._lines_shown :])

    def _stop(self) -> None:
        self._end.set()
        if self.path:
            self._thread.join()

    def _poll(self) -> None:
        while not self._end.wait(self._interval):
            complete = self._read().rpartition(b"\n")[0]
            if complete:
                self._bytes_read += len(complete) + 1
                self._display(complete.decode("utf-8", "replace").split("\n"))

    def _read(self) -> bytes:
        """Return what was added to the file; nothing if it cannot be read."""
        if self.path is None:
            return b""
        if self._connection is None:
            try:
                with open(self.path, "rb") as stream:
                    stream.seek(self._bytes_read)
                    return stream.read()
            except OSError:
                return b""
        command = "tail -c +%d %s 2>/dev/null" % (self._bytes_read + 1, self.path)
        try:
            code, out, _error = self._connection.exec_command(command, sudoable=False)
        except (AnsibleError, OSError):
            return b""
        return bytes(out) if code == 0 else b""

    def _display(self, lines: Sequence[str]) -> None:
        for line in lines:
            Display().display("  %s: %s" % (self.host, line))
        self._lines_shown += len(lines)
