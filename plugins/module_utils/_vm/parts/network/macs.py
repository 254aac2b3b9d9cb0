# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""MAC addresses: derived from names, the same in every run and on every host, or counted up."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# IEEE 802: bits of the first byte.
_GROUP, _LOCAL = 0x01, 0x02


def normalise(path: str, value: str) -> str:
    """Return a unicast MAC address as six lower-case pairs with colons. Raises OptionError."""
    digits = re.sub(r"[:.-]", "", value).lower()
    mac = ":".join(digits[n : n + 2] for n in range(0, len(digits), 2))
    if not _MAC.fullmatch(mac):
        # YAML 1.1 reads 52:54:00:12:34:56 as a number to the base 60.
        hint = ": put it in quotes, YAML takes it for a number" if value.isdigit() else ""
        raise OptionError(
            path, "%r is not a MAC address, such as 52:54:00:12:34:56%s" % (value, hint)
        )
    if int(mac[:2], 16) & _GROUP:
        raise OptionError(
            path,
            "%s is a group address (IEEE 802, lowest bit of the first byte): a NIC needs a unicast"
            " address" % mac,
        )
    return mac


def derived(lab: str, vm: str, nic: str) -> str:
    """Return the locally administered MAC address that is derived from a NIC's names."""
    digest = bytearray(hashlib.sha256("\0".join((lab, vm, nic)).encode("utf-8")).digest()[:6])
    digest[0] = digest[0] & ~(_GROUP | _LOCAL) | _LOCAL
    return ":".join("%02x" % byte for byte in digest)


def counted(base: str, index: int) -> str:
    """Return the MAC address that is index after base, with the same vendor half."""
    number = int(base.replace(":", ""), 16)
    number = number & ~0xFFFFFF | (number + index) & 0xFFFFFF
    return ":".join("%02x" % (number >> shift & 0xFF) for shift in range(40, -8, -8))


def number_of(base: str, mac: str) -> int | None:
    """Return the index from which counted() makes this MAC, None for an address of another kind."""
    if not _MAC.fullmatch(mac) or mac[:8] != base[:8]:
        return None
    return (int(mac.replace(":", ""), 16) - int(base.replace(":", ""), 16)) & 0xFFFFFF


def default(base: str | None, index: int, folder: Folder, nic: str) -> str:
    """Return the MAC address of a NIC without its own: counted from base, else derived."""
    return counted(base, index) if base else derived(folder.lab, folder.name, nic)
