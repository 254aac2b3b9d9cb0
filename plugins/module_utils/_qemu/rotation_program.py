# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The program of the rotated captures of a VM: it copies what QEMU captures to rings of files.

It is copied into the folder of a VM and runs there by itself, so it imports only the standard
library, detached_program and what pcap_ring has. Its argument is a file of JSON:
  record: the file for {pid, start, boot_id}, by which it is recognised.
  pid, start: of QEMU; the program ends with it, after the last packet.
  captures: {nic: settings of a Ring}.
It writes "ready" or an error to its standard output.
"""

from __future__ import annotations

import select

from ansible_collections.vlab.qemu.plugins.module_utils._common.detached_program import (
    Process,
    log,
    report,
    start,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.pcap_ring import Ring

# Not imported from typing, see detached_program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

INTERVAL = 0.2  # seconds between two looks at spools that do not grow


class Program:
    """All rotated captures of a VM."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._qemu = Process(settings["pid"], settings["start"])
        self._rings = {name: Ring(one) for name, one in settings["captures"].items()}
        self._errors: dict[str, str] = {}

    def run(self) -> None:
        """Copy packets until QEMU has ended; then copy the rest."""
        log("started: %s" % ", ".join(sorted(self._rings)))
        while self._qemu.runs():
            copied = [self._try(name, ring.copy) for name, ring in [*self._rings.items()]]
            if not any(copied):
                select.select(self._qemu.handles, [], [], INTERVAL)
        for name, ring in [*self._rings.items()]:
            left = self._try(name, ring.finish)
            if left:
                log("%s: %d bytes of an incomplete frame at the end" % (name, left))

    def _try(self, name: str, action: Callable[[], int]) -> int:
        """Copy packets of a capture. After an error of the host, the next attempt goes on."""
        try:
            done = action()
        except OSError as error:
            if self._errors.get(name) != str(error):
                log("%s: %s" % (name, error))
            self._errors[name] = str(error)
            return 0
        except ValueError as error:
            log("%s: the capture is damaged: %s" % (name, error))
            del self._rings[name]
            return 0
        if self._errors.pop(name, None):
            log("%s: goes on" % name)
        return done


def main() -> int:
    """Run the program to its end; return its exit code."""
    program = start(Program)
    if program is None:
        return 1
    report("ready")
    program.run()
    log("ended with QEMU")
    return 0
