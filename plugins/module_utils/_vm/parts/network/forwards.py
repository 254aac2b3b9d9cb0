# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The forwarded ports of a NIC, as they are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import links
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import reachable

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import Nic


def forwards_of(nic: Nic, definition: Definition) -> list[dict[str, Any]]:
    """Return the forwarded ports of a NIC, with the ports of the hypervisor."""
    return [
        dict(
            forward,
            nic=nic["name"],
            host_port=definition["ports"].get(links.forward_key(nic["name"], forward)),
        )
        for forward in nic["link"].get("forwards", ())
    ]


def address_of(forward: dict[str, Any]) -> dict[str, Any]:
    """Return where a forwarded port can be reached."""
    return {
        "address": reachable(forward["host_address"]),
        "port": forward["host_port"],
        "guest_port": forward["guest_port"],
        "source": "forward",
    }
