# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The host's neighbour table: the IPv4 addresses last seen for each MAC address."""

from __future__ import annotations

import functools

from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text

_COMPLETE = 0x2  # ATF_COM in linux/if_arp.h


@functools.lru_cache(maxsize=None)
def table() -> dict[str, list[str]]:
    """Return {mac: [addresses]} of the complete entries of /proc/net/arp (proc(5)).

    It is read once per run, because a lab asks for every VM.
    """
    found: dict[str, list[str]] = {}
    for line in (read_text("/proc/net/arp") or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 4 and int(fields[2], 16) & _COMPLETE:
            found.setdefault(fields[3], []).append(fields[0])
    return found
