# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What the kernel permits this process to do."""

from __future__ import annotations

import os
import threading

from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text

NET_ADMIN = 12  # linux/capability.h


def has_capability(number: int) -> bool:
    """Return whether this process has a capability (capabilities(7)) in its user namespace."""
    for line in read_text("/proc/self/status", "").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.partition(":")[2], 16) >> number & 1)
    return os.geteuid() == 0


def may_set_priority(value: int, present: int) -> bool:
    """Return whether this process may change a nice(2) value from present to value."""
    if value >= present:
        return True
    refused: list[OSError] = []

    def attempt() -> None:
        # Linux keeps the value for each thread: this one ends with it.
        try:
            os.setpriority(os.PRIO_PROCESS, 0, 19)
            os.setpriority(os.PRIO_PROCESS, 0, value)
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return not refused
