# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The files of a node's config drive: its own, and those that its kind derives."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.yaml_output import to_yaml
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media.nocloud import host_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import macs
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.linking import counted_macs
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Nic, Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.user_link import (
    UserNetwork,
    user_link,
    user_network,
)

# The guest learns the names of at least so many data NICs at its start.
_NAMED_NICS = 16

# A default route to the outside gives way to every other: FRR takes the upper eight bits of the
# metric of a route that it finds in the kernel as its administrative distance.
_LAST_RESORT_METRIC = 254 << 24

# The content of a file, as config_drive of qemu_vm takes it: a text, {"base64": text} or data.
Content = Any
# Returns the content of a file from what the topology has for it, such as {template: path}.
Render = Callable[[Node, Any], Content]


def config_files(topology: Topology, node: Node, render: Render) -> dict[str, Content]:
    """Return the files of a node's config drive by name."""
    files = {name: render(node, content) for name, content in node.settings["files"].items()}
    derive = {"shell": _shell_files, "cloud_init": _cloud_init_files}.get(
        node.kind_spec["config"].get("addresses", "none")
    )
    if derive:
        for name, content in derive(topology, node).items():
            files.setdefault(name, content)
    return files


def _sets_addresses(node: Node) -> bool:
    return bool(node.settings.get("set_addresses", True))


def _ssh_keys(node: Node) -> list[str]:
    keys = node.settings["vars"].get("ssh_keys") or []
    return [keys] if isinstance(keys, str) else list(keys)


def _shell_files(topology: Topology, node: Node) -> dict[str, Content]:
    naming = node.nic_naming
    mac_of = {nic.name: nic.mac for nic in node.nics.values()}
    if naming.block_size > 1:
        # Include the NICs of links that are added later, so that they do not change the drive.
        names = list(itertools.islice(naming.names(), _NAMED_NICS))
        counted = counted_macs(node, names)
        for name in names:
            mac = counted.get(name) or macs.derived(topology.name, node.name, name)
            mac_of.setdefault(name, mac)
    derived = {
        "hostname": node.name + "\n",
        "interfaces": "".join(
            "%s %s\n" % (name, mac_of[name]) for name in sorted(mac_of, key=naming.sort_key)
        ),
    }
    script = _address_script(node) if _sets_addresses(node) else ""
    if script:
        derived["addresses.sh"] = script
    keys, keys_file = _ssh_keys(node), node.kind_spec["config"].get("ssh_keys")
    if keys and keys_file:
        derived[keys_file] = "".join("%s\n" % key.strip() for key in keys)
    return derived


def _address_script(node: Node) -> str:
    """Return the commands that set the addresses, and the way out over user links."""
    networks = [(nic, user_network(nic.settings)) for nic in node.nics.values()]
    addresses = [
        (address, nic.name)
        for nic, network in networks
        for address in nic.addresses or ([network.address] if network else [])
    ]
    addresses += [(address, "lo") for address in _loopbacks(node)]
    lines = ["ip address add %s dev %s" % pair for pair in addresses]
    outside = [(nic, network) for nic, network in networks if network]
    for number, (nic, network) in enumerate(outside):
        lines += _outside_lines(number, nic, network)
    return "".join("%s\n" % line for line in lines)


def _outside_lines(number: int, nic: Nic, network: UserNetwork) -> list[str]:
    """Return the commands for a user link; number: which one of the node it is."""
    resolver = ["nameserver %s" % network.dns]
    if network.domains:
        resolver.append("search %s" % " ".join(network.domains))
    return [
        "ip route add default via %s dev %s metric %d"
        % (network.gateway, nic.name, _LAST_RESORT_METRIC + number),
        "printf '%%s\\n' %s >%s/etc/resolv.conf" % (shlex.join(resolver), ">" if number else ""),
    ]


def _loopbacks(node: Node) -> list[str]:
    return [address for address in (node.loopback, node.loopback6) if address]


def _cloud_init_files(topology: Topology, node: Node) -> dict[str, Content]:
    """Return a seed for the NoCloud data source of cloud-init.

    The vars user, password, ssh_keys and shell of the node describe its user. The hypervisor adds
    the instance ID, which changes with user-data.
    """
    return {
        "meta-data": {},
        "user-data": "#cloud-config\n" + to_yaml(_user_data(node)),
        "vendor-data": "#cloud-config-archive\n" + to_yaml(_vendor_data(node)),
        "network-config": to_yaml({"version": 2, "ethernets": _ethernets(node)}),
    }


def _user_data(node: Node) -> dict[str, Any]:
    settings = node.settings["vars"]
    password = settings.get("password")
    user = {
        "name": settings.get("user") or "lab",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": not password,
        "ssh_authorized_keys": _ssh_keys(node),
    }
    if settings.get("shell"):
        user["shell"] = settings["shell"]
    if password:
        user["plain_text_passwd"] = str(password)
    return {"hostname": host_name(node.name), "users": [user], "ssh_pwauth": bool(password)}


def _vendor_data(node: Node) -> list[dict[str, str]]:
    """Return what applies at each boot, also beside a config of the user.

    The links that were added after the first boot are in the network configuration.
    """
    updates = {"updates": {"network": {"when": ["boot"]}}}
    parts = [{"type": "text/cloud-config", "content": "#cloud-config\n" + to_yaml(updates)}]
    if _loopbacks(node) and _sets_addresses(node):
        # Not part of the network configuration, because its renderers treat lo differently.
        lines = [
            "ip address replace %s dev lo || ifconfig lo0 %s %s alias\n"
            % (address, "inet6" if ":" in address else "inet", address)
            for address in _loopbacks(node)
        ]
        parts.append({"type": "text/cloud-boothook", "content": "#!/bin/sh\n" + "".join(lines)})
    return parts


def _ethernets(node: Node) -> dict[str, dict[str, Any]]:
    # A management NIC with a link to the outside gets its address by DHCP.
    sets_addresses = _sets_addresses(node)
    return {
        nic.name: {
            "match": {"macaddress": nic.mac},
            "set-name": nic.name,
            "optional": True,
            "addresses": nic.addresses if sets_addresses else [],
            "dhcp4": sets_addresses and not nic.addresses and user_link(nic.settings) is not None,
        }
        for nic in node.nics.values()
    }
