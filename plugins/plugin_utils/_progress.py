# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Lines from a hypervisor while its module works, so that a person who waits sees what is going on."""

from __future__ import annotations

import copy
import threading
import uuid

from ansible.errors import AnsibleError
from ansible.utils.display import Display

# Seconds between two looks at the file: here, and over SSH, where a look takes a channel of the connection that is there already.
_LOOK = {"local": 0.5, "ssh": 2}


class Progress:
    """Shows the lines that a module adds to a file. path: of that file, None where it cannot be watched.

    Connections besides local and ssh may not take a second command while the module runs: nothing is shown before it ends.
    """

    def __init__(self, action, host):
        self.host, self.path, self._seen, self._shown = host, None, 0, 0
        connection = action._connection
        self._look = _LOOK.get(connection.transport)
        if self._look:
            # The module makes the file, and refuses one that is there already.
            self.path = "/tmp/vlab-progress-%s" % uuid.uuid4().hex
            self._connection = None if connection.transport == "local" else copy.copy(connection)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        if self.path:
            self._thread.start()
        return self

    def __exit__(self, *exception):
        if self.path:
            self._end.set()
            self._thread.join()

    def _watch(self):
        while not self._end.wait(self._look):
            self._show(self._read())

    def _read(self):
        if self._connection is None:
            try:
                with open(self.path, "rb") as stream:
                    stream.seek(self._seen)
                    return stream.read()
            except OSError:
                return b""
        try:
            status, out, _err = self._connection.exec_command(
                "tail -c +%d %s 2>/dev/null" % (self._seen + 1, self.path), sudoable=False
            )
        except (AnsibleError, OSError):
            return b""
        return out if status == 0 else b""

    def _show(self, data):
        whole = data.rpartition(b"\n")[0]
        if whole:
            self._seen += len(whole) + 1
            self._print(whole.decode("utf-8", "replace").split("\n"))

    def finish(self, lines):
        """Show what has not been shown of all the lines, which the module's result has."""
        self._end.set()
        if self.path:
            self._thread.join()
        self._print(lines[self._shown :])

    def _print(self, lines):
        for line in lines:
            Display().display("  %s: %s" % (self.host, line))
        self._shown += len(lines)
