# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Start order between hypervisors: the workers of one task record in files on the controller which
nodes are up, and wait for the nodes of each other."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from typing import Iterable, Mapping, Sequence

_POLL_INTERVAL = 0.1  # seconds


class StartBarrier:
    """The nodes that the hosts of one task have brought up.

    folder: shared by the workers of this run. key: words that identify the task and the lab.
    host: the host of this worker. reported: what it has recorded of its nodes.
    """

    def __init__(self, folder: str, key: Sequence[str], host: str) -> None:
        digest = hashlib.sha256("\0".join(key).encode("utf-8")).hexdigest()[:32]
        self.folder = os.path.join(folder, "vlab-start-" + digest)
        name = hashlib.sha256(host.encode("utf-8")).hexdigest()
        self._path = os.path.join(self.folder, name)
        self.reported: dict[str, str] = {}
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._write()

    def report(self, nodes: Mapping[str, str]) -> None:
        """Record nodes of this host: {node: "" if it is up, else why it will not be}."""
        self.reported.update(nodes)
        self._write()

    def wait(self, names: Iterable[str], timeout: float) -> dict[str, str | None]:
        """Wait for a report on each node; return {node: report}, with None for a missing one."""
        names = list(names)
        deadline, pause = time.monotonic() + timeout, threading.Event()
        while True:
            found = self._read()
            if all(name in found for name in names) or time.monotonic() > deadline:
                return {name: found.get(name) for name in names}
            pause.wait(_POLL_INTERVAL)

    def _write(self) -> None:
        with open(self._path + ".new", "w", encoding="utf-8") as stream:
            json.dump(self.reported, stream)
        os.replace(self._path + ".new", self._path)

    def _read(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in os.listdir(self.folder):
            if not name.endswith(".new"):
                with open(os.path.join(self.folder, name), encoding="utf-8") as stream:
                    found.update(json.load(stream))
        return found
