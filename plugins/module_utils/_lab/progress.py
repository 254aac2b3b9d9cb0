# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The progress of a lab, as lines in the result and in a file that the controller reads."""

from __future__ import annotations

import contextlib
import os
import threading


class Progress:
    """Collects lines from several threads. path: of the file, or None."""

    def __init__(self, path: str | None) -> None:
        self.lines: list[str] = []
        self._path = path
        self._lock = threading.Lock()

    def add(self, line: str) -> None:
        """Add a line."""
        with self._lock:
            self.lines.append(line)
            self._write(line)

    def remove_file(self) -> None:
        """Remove the file, if it was written."""
        if self._path and self.lines:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _write(self, line: str) -> None:
        if not self._path:
            return
        # Its folder is writable for everybody: create it ourselves, and follow no link.
        mode = os.O_CREAT | os.O_EXCL if len(self.lines) == 1 else os.O_APPEND
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | mode, 0o644)
            with open(handle, "wb") as stream:
                stream.write((line + "\n").encode("utf-8"))
        except OSError:
            self._path = None
