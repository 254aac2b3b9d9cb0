# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How the running configuration of each node of a lab is read, and what of it is saved."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.commands import REFUSAL
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key

_NETWORK_CLI = ("ansible.netcommon.network_cli", "network_cli")
_CONSOLE = "vlab.qemu.serial"
_AGENT = "vlab.qemu.guest_agent"
_SSH = "ansible.builtin.ssh"
_TERMINAL_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_REFUSAL = re.compile(REFUSAL, re.IGNORECASE | re.MULTILINE)
_MAX_REFUSAL = 6  # lines


def config_requests(
    topology: Topology,
    vms: Iterable[Mapping[str, Any]],
    hosts: Iterable[Mapping[str, Any]] = (),
    only: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Return for each node how its running configuration is read, or the reason why it is not.

    vms: as qemu_vm_info returns them, with their hypervisor. hosts: the variables of hosts of the
    inventory, some of which are nodes. only: the nodes to return, all if it is empty.
    """
    found = {str(vm["name"]): vm for vm in vms}
    host_of = {
        str(host.get("vlab_vm") or host["inventory_hostname"]): host
        for host in hosts
        if host.get("vlab_lab") == topology.name
    }
    names = [node.name for node in topology.systems if not only or node.name in only]
    return [
        _request(topology.nodes[name], found.get(name), host_of.get(name) or {})
        for name in sorted(names, key=natural_key)
    ]


def _request(node: Node, vm: Mapping[str, Any] | None, host: Mapping[str, Any]) -> dict[str, Any]:
    shown = node.kind_spec["running_config"]
    request: dict[str, Any] = {"node": node.name, "hypervisor": (vm or {}).get("hypervisor")}
    reason = None
    if not shown:
        reason = "its kind %s has no command that shows the running configuration" % node.kind
    elif vm is None:
        reason = "the node is on no hypervisor"
    elif vm.get("status") != "running":
        reason = "the node is %s" % vm.get("status")
    if reason or vm is None:
        return dict(request, reason=reason)
    facts = node.kind_spec["facts"]
    network_os = facts.get("ansible_network_os")
    connection = host.get("ansible_connection") or (
        _AGENT if vm.get("agent") and not network_os else _CONSOLE
    )
    command = str(shown["command"])
    if connection in _NETWORK_CLI:
        # A command of an SSH session: its output is not paged.
        connection = _SSH
    elif connection == _CONSOLE:
        command = "\n".join([*(shown.get("before") or ()), command])
    return {
        **request,
        "host": host.get("inventory_hostname"),
        "connection": connection,
        "shell": "cli" if network_os else "posix",
        "user": facts.get("user") or "root",
        "command": command,
        "omit": list(shown.get("omit") or ()),
        "volatile": list(shown.get("volatile") or ()),
    }


def config_text(output: str, omit: Iterable[str] = ()) -> str:
    """Return the configuration in the output of a command, empty if it has no such text.

    omit: patterns of lines that are not part of it.
    """
    text = _TERMINAL_CODES.sub("", output).replace("\r", "")
    patterns = [re.compile(pattern) for pattern in omit]
    lines = [
        line.rstrip()
        for line in text.split("\n")
        if not any(pattern.search(line) for pattern in patterns)
    ]
    text = "\n".join(lines).strip("\n")
    return text + "\n" if text else ""


def refusal(text: str) -> str | None:
    """Return why an output is no configuration, None if it is one."""
    if not text.strip():
        return "it printed nothing"
    if text.count("\n") <= _MAX_REFUSAL and _REFUSAL.search(text):
        return "it printed %s" % " ".join(text.split())
    return None


def without_volatile(text: str, volatile: Iterable[str]) -> list[str]:
    """Return the lines of a configuration without those that match one of the patterns."""
    patterns = [re.compile(pattern) for pattern in volatile]
    return [
        line for line in text.splitlines() if not any(pattern.search(line) for pattern in patterns)
    ]
