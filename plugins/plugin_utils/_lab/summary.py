# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Tables for people: the nodes of a lab, and all labs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key

# A VM as qemu_vm_info returns it.
Vm = Mapping[str, Any]

_MAX_ADDRESSES = 3
_SSH_PORT = 22
_LOCAL = ("local", "ansible.builtin.local")
_RUNNING = ("running", "paused", "prelaunch")


def nodes_table(
    vms: Mapping[str, Sequence[Vm]],
    topology: Topology | None = None,
    hosts: Mapping[str, Mapping[str, Any]] | None = None,
    consoles: Mapping[str, str] | None = None,
    unreachable: Sequence[str] = (),
) -> list[str]:
    """Return the lines of a table of nodes, and a line for the console of each running one.

    vms: {hypervisor: its VMs}. topology: has the addresses, and nodes without a VM. hosts: the
    variables of each hypervisor. consoles: {node: command}, in place of those of the VMs.
    unreachable: hypervisors that did not answer.
    """
    found = {str(vm["name"]): (host, vm) for host, host_vms in vms.items() for vm in host_vms}
    nodes: Mapping[str, Node] = topology.nodes if topology else {}
    rows, commands = [], []
    for name in sorted({*found, *nodes}, key=natural_key):
        missing = ("", {"status": "unknown" if unreachable else "absent"})
        host, vm = found.get(name, missing)
        variables = (hosts or {}).get(host) or {}
        user = nodes[name].kind_spec["facts"].get("user") if name in nodes else None
        ssh = _ssh(vm, variables, user)
        rows.append([name, vm.get("status"), host, _addresses(nodes.get(name), vm), ssh])
        if vm.get("status") in _RUNNING and vm.get("consoles"):
            commands.append([name, (consoles or {}).get(name) or vm["consoles"][0]["command"]])
    lines = table(["node", "state", "hypervisor", "addresses", "SSH"], rows)
    if commands:
        lines += table(["console", "command"], commands)
    return lines + ["no answer from %s" % host for host in unreachable]


def labs_table(vms: Mapping[str, Sequence[Vm]], unreachable: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table of all labs. vms: {hypervisor: its VMs}."""
    labs: dict[str, dict[str, list[Vm]]] = {}
    for host, host_vms in vms.items():
        for vm in host_vms:
            labs.setdefault(str(vm["lab"]), {}).setdefault(host, []).append(vm)
    rows = []
    for lab in sorted(labs, key=natural_key):
        for host in sorted(labs[lab], key=natural_key):
            states = [str(vm.get("status")) for vm in labs[lab][host]]
            memory = sum(
                vm.get("memory_mb") or 0 for vm in labs[lab][host] if vm.get("status") in _RUNNING
            )
            counts = ["%d %s" % (states.count(state), state) for state in sorted(set(states))]
            rows.append([lab, host, len(states), ", ".join(counts), "%d MiB" % memory])
    lines = table(["lab", "hypervisor", "VMs", "states", "memory in use"], rows)
    return lines + ["no answer from %s" % host for host in unreachable]


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a table with aligned columns, without columns that are empty."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    used = [number for number in range(len(head)) if any(row[number] for row in texts)]
    if not used:
        used = list(range(len(head)))
    lines = [[row[number] for number in used] for row in ([word.upper() for word in head], *texts)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(used))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    ]


def _addresses(node: Node | None, vm: Vm) -> str:
    """Return the addresses of a node: those that identify it, else those of its NICs."""
    addresses: list[str] = []
    if node:
        own = [node.management, node.loopback, node.loopback6]
        addresses = [str(address) for address in own if address]
        addresses = addresses or [str(one) for nic in node.nics.values() for one in nic.addresses]
    for nic in vm.get("nics") or ():
        for entry in nic.get("addresses") or ():
            shown = [address.partition("/")[0] for address in addresses]
            if entry["source"] != "forward" and entry["address"].partition("/")[0] not in shown:
                addresses.append(str(entry["address"]))
    more = len(addresses) - _MAX_ADDRESSES
    return ", ".join(addresses[:_MAX_ADDRESSES]) + (" +%d" % more if more > 0 else "")


def _ssh(vm: Vm, hypervisor: Mapping[str, Any], user: Any) -> str:
    """Return the command for SSH to the first forwarded port 22; empty without one."""
    for forward in vm.get("forwards") or ():
        is_ssh = forward.get("guest_port") == _SSH_PORT and forward.get("protocol") == "tcp"
        if is_ssh and forward.get("host_port") and vm.get("status") in _RUNNING:
            return _ssh_command(forward, hypervisor, user)
    return ""


def _ssh_command(forward: Mapping[str, Any], hypervisor: Mapping[str, Any], user: Any) -> str:
    address = str(forward["host_address"])
    host = str(hypervisor.get("ansible_host") or hypervisor.get("inventory_hostname") or "")
    is_local = not host or hypervisor.get("ansible_connection") in _LOCAL
    words = ["ssh"]
    if address.startswith("127.") and not is_local:
        jump = _with_user(host, hypervisor.get("ansible_user"))
        port = hypervisor.get("ansible_port")
        words += ["-J", "%s:%s" % (jump, port) if port else jump]
    if address == "0.0.0.0":
        address = "127.0.0.1" if is_local else host
    return shlex.join([*words, "-p", str(forward["host_port"]), _with_user(address, user)])


def _with_user(host: str, user: Any) -> str:
    return "%s@%s" % (user, host) if user else host
