# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Order between hypervisors: the workers of one task tell each other, through files on the controller, which nodes are there."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time

_LOOK = 0.1  # seconds between two looks: other processes write the files


class StartBarrier:
    """What the hosts of one task have reached. folder: shared by this run's workers. key: words that name the task and the lab."""

    def __init__(self, folder, key, host):
        digest = hashlib.sha256("\0".join(key).encode("utf-8")).hexdigest()[:32]
        self.folder, self.host = os.path.join(folder, "vlab-waves-" + digest), host
        self.reached = {}
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._write()

    def tell(self, reached):
        """Note what nodes of this host have come to: {node: "" if it is there, else why it is not}."""
        self.reached.update(reached)
        self._write()

    def _write(self):
        path = os.path.join(self.folder, hashlib.sha256(self.host.encode("utf-8")).hexdigest())
        with open(path + ".new", "w", encoding="utf-8") as stream:
            json.dump(self.reached, stream)
        os.replace(path + ".new", path)

    def wait(self, names, seconds):
        """Return {node: "" or why not} for nodes of other hosts, once all are told or the time is over; None for those not told."""
        deadline, pause = time.monotonic() + seconds, threading.Event()
        while True:
            found = {}
            for entry in os.listdir(self.folder):
                if not entry.endswith(".new"):
                    with open(os.path.join(self.folder, entry), encoding="utf-8") as stream:
                        found.update(json.load(stream))
            if all(name in found for name in names) or time.monotonic() > deadline:
                return {name: found.get(name) for name in names}
            pause.wait(_LOOK)
