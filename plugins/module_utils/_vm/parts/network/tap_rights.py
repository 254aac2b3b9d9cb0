# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Whether this host lets QEMU use a tap interface."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text
from ansible_collections.vlab.qemu.plugins.module_utils._common.rights import (
    NET_ADMIN,
    has_capability,
)

_DEVICE = "/dev/net/tun"
_INTERFACES = "/sys/class/net"


def check_tap(interface: str | None, option: str) -> None:
    """Raise HostError if QEMU, as our user, cannot open a tap interface. option: of the link.

    interface: its name, None for a new one. Source: Linux, drivers/net/tun.c, tun_not_capable().
    """
    if not os.path.exists(_DEVICE):
        raise HostError("%s: this host has no %s: load the kernel module tun" % (option, _DEVICE))
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        raise HostError("%s: no permission on %s: become root" % (option, _DEVICE))
    if has_capability(NET_ADMIN):
        return
    exists = interface and os.path.exists(os.path.join(_INTERFACES, interface))
    if not exists:
        raise HostError(
            "%s: only root can create the tap interface%s: become root, or create it before (ip"
            " tuntap add NAME mode tap user %d) and give link.interface"
            % (option, " %s" % interface if interface else "", os.geteuid())
        )
    owner = read_text("%s/%s/owner" % (_INTERFACES, interface), "-1").strip()
    if owner not in ("-1", str(os.geteuid())):
        raise HostError(
            "%s.interface: %s belongs to the user with id %s: become root, or create it for the"
            " user with id %d" % (option, interface, owner, os.geteuid())
        )
