# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The files of a node's config drive: its own, and those that its kind derives."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine import derived_uuid
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import macs
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.linking import counted_macs
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology

# The guest learns the names of at least so many data NICs at its start.
_NAMED_NICS = 16

# Returns the content of a file from the text, or from {template: path}.
Render = Callable[[Node, Any], str]


def config_files(topology: Topology, node: Node, render: Render) -> dict[str, str]:
    """Return the files of a node's config drive by name."""
    files = {name: render(node, content) for name, content in node.settings["files"].items()}
    derive = {"shell": _shell_files, "cloud_init": _cloud_init_files}.get(
        node.kind_spec["config"].get("addresses", "none")
    )
    if derive:
        for name, content in derive(topology, node, files).items():
            files.setdefault(name, content)
    return files


def _shell_files(topology: Topology, node: Node, files: Mapping[str, str]) -> dict[str, str]:
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
    if "frr.conf" not in files:
        addresses = [(address, nic.name) for nic in node.nics.values() for address in nic.addresses]
        addresses += [(address, "lo") for address in _loopbacks(node)]
        if addresses:
            derived["start.sh"] = "".join(
                "ip address add %s dev %s\n" % address for address in addresses
            )
    return derived


def _loopbacks(node: Node) -> list[str]:
    return [address for address in (node.loopback, node.loopback6) if address]


def _cloud_init_files(topology: Topology, node: Node, files: Mapping[str, str]) -> dict[str, str]:
    """Return a seed for the NoCloud data source of cloud-init.

    The vars user, password, ssh_keys and shell of the node describe its user.
    """
    instance = {
        "instance-id": derived_uuid(topology.name, node.name),
        "local-hostname": node.name,
    }
    return {
        "meta-data": _json(instance),
        "user-data": "#cloud-config\n" + _json(_user_data(node)),
        "network-config": _json({"version": 2, "ethernets": _ethernets(node)}),
    }


def _user_data(node: Node) -> dict[str, Any]:
    settings = node.settings["vars"]
    password, keys = settings.get("password"), settings.get("ssh_keys") or []
    user = {
        "name": settings.get("user") or "lab",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": not password,
        "ssh_authorized_keys": [keys] if isinstance(keys, str) else keys,
    }
    if settings.get("shell"):
        user["shell"] = settings["shell"]
    if password:
        user["plain_text_passwd"] = str(password)
    data: dict[str, Any] = {
        "hostname": node.name,
        "users": [user],
        "ssh_pwauth": bool(password),
        # Apply it on each boot, for the links that were added after the first one.
        "updates": {"network": {"when": ["boot"]}},
    }
    if _loopbacks(node):
        # Not part of the network configuration, because its renderers treat lo differently.
        data["bootcmd"] = [
            [
                "sh",
                "-c",
                "ip address replace %s dev lo || ifconfig lo0 %s %s alias"
                % (address, "inet6" if ":" in address else "inet", address),
            ]
            for address in _loopbacks(node)
        ]
    return data


def _ethernets(node: Node) -> dict[str, dict[str, Any]]:
    # A management NIC with a link to the outside gets its address by DHCP.
    return {
        nic.name: {
            "match": {"macaddress": nic.mac},
            "set-name": nic.name,
            "optional": True,
            "addresses": nic.addresses,
            "dhcp4": not nic.addresses and (nic.settings.get("link") or {}).get("type") == "user",
        }
        for nic in node.nics.values()
    }


def _json(data: Any) -> str:
    """Return data as JSON, which is valid YAML."""
    return json.dumps(data, indent=1, sort_keys=True) + "\n"
