# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""Lines from a hypervisor while its module works, so that a person who waits sees what is going on."""

from __future__ import annotations

import os
import tempfile
import threading

from ansible.utils.display import Display

_LOOK = 0.5  # seconds between two looks at the file


class Progress:
    """Shows the lines that a module adds to a file. path: of that file, None where it cannot be watched.

    The file is on this machine: with another connection than local, nothing is shown before the module ends.
    """

    def __init__(self, action, host):
        self.host, self.path, self._seen = host, None, 0
        if action._connection.transport == "local":
            handle, self.path = tempfile.mkstemp(prefix="vlab-progress-")
            os.close(handle)
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
            self._show()
            os.unlink(self.path)

    def _watch(self):
        while not self._end.wait(_LOOK):
            self._show()

    def _show(self):
        with open(self.path, encoding="utf-8", errors="replace") as stream:
            stream.seek(self._seen)
            text = stream.read()
            whole = text.rpartition("\n")[0]
            if whole:
                self._seen += len(whole.encode("utf-8")) + 1
                for line in whole.split("\n"):
                    Display().display("  %s: %s" % (self.host, line))
