# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What is worth knowing of a node besides its VM, for the inventory; the hypervisor keeps it. No vars: they may hold passwords."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.host_shares import vm_nic_name


def about(node):
    """A node as plain data."""
    told = {
        "kind": node.kind,
        "groups": node.groups,
        "network_os": node.shape["facts"].get("ansible_network_os") or None,
        "loopback": node.loopback,
        "loopback6": node.loopback6,
        "management": node.management,
        "asn": node.asn,
        "nics": [
            {
                "name": nic.name,
                "vm_nic": vm_nic_name(nic.name),
                "mac": nic.mac,
                "addresses": list(nic.addresses),
            }
            for nic in node.nics.values()
        ],
    }
    return {key: value for key, value in told.items() if value is not None}


def about_nodes(topology, names):
    """{name: about(node)} of some nodes."""
    return {name: about(topology.nodes[name]) for name in names}
