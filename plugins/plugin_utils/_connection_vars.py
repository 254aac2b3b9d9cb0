# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Connection variables of a node: SSH to a forwarded port, the guest agent, or the console."""

from __future__ import annotations

import re
import shlex
from typing import Any, Callable, Mapping

from ansible.template import trust_as_template

from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import (
    canonical,
    reachable,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node

_SSH_PORT = 22
# Values of facts, which a hypervisor may have reported, that can be variables of a connection.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PYTHON = re.compile(r"/[A-Za-z0-9_./+-]+")
# For a guest that makes new host keys at each boot.
_NO_HOST_KEYS = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
_PORT = re.compile("[0-9]{1,5}")
_HYPERVISOR = {
    "vlab_hypervisor_vars": trust_as_template(
        "{{ hostvars[vlab_hypervisor] | vlab.qemu.hypervisor_vars }}"
    )
}
_ADDRESS = {
    "ansible_host": trust_as_template("{{ vlab_ssh_host }}"),
    "ansible_port": trust_as_template("{{ vlab_ssh_port }}"),
    "ansible_ssh_common_args": trust_as_template("{{ vlab_ssh_common_args | default('') }}"),
}
# Of groups and not of hosts, so that the variables in the user's own files have precedence.
GROUP_VARIABLES: dict[str, dict[str, Any]] = {
    "guest_agent": dict(_HYPERVISOR, ansible_connection="vlab.qemu.guest_agent"),
    "serial": dict(_HYPERVISOR, ansible_connection="vlab.qemu.serial"),
    "cli": dict(_HYPERVISOR, ansible_connection="vlab.qemu.serial", vlab_serial_shell="cli"),
    "ssh": dict(_ADDRESS, ansible_connection="ansible.builtin.ssh"),
    "network_cli": dict(
        _ADDRESS,
        ansible_connection="ansible.netcommon.network_cli",
        ansible_paramiko_proxy_command=trust_as_template("{{ vlab_proxy_command | default('') }}"),
        ansible_libssh_proxy_command=trust_as_template("{{ vlab_proxy_command | default('') }}"),
    ),
}


def expected_vm(node: Node) -> dict[str, Any]:
    """Return the facts of a VM that choose its connection, as far as the topology defines them."""
    forwards = []
    for nic in node.nics.values():
        for forward in (nic.settings.get("link") or {}).get("forwards") or ():
            port, protocol = str(forward.get("host_port") or ""), forward.get("protocol") or "tcp"
            guest_port, address = str(forward.get("guest_port") or ""), forward.get("host_address")
            if _PORT.fullmatch(port) and _PORT.fullmatch(guest_port) and protocol == "tcp":
                forwards.append(
                    {
                        "guest_port": int(guest_port),
                        "host_address": "127.0.0.1" if address is None else canonical(address),
                        "host_port": int(port),
                    }
                )
    return {"agent": bool(node.settings.get("guest_agent")), "forwards": forwards}


def kind_variables(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the group of a node's kind. facts: of the node."""
    access = _access(facts)
    user, python = access.get("user"), access.get("python")
    variables: dict[str, Any] = {"ansible_network_os": facts.get("network_os")}
    if isinstance(user, str) and _USER.fullmatch(user):
        variables["ansible_user"] = user
    if isinstance(python, str) and _PYTHON.fullmatch(python):
        variables["ansible_python_interpreter"] = python
    if access.get("sftp") is False:
        variables["ansible_ssh_transfer_method"] = "piped"
    return {key: value for key, value in variables.items() if value}


def _access(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    access = facts.get("access")
    return access if isinstance(access, dict) else {}


def choose_connection(
    vm: Mapping[str, Any],
    facts: Mapping[str, Any],
    connection: str,
    hypervisor: Callable[[], Mapping[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Return the name of one of GROUP_VARIABLES and the variables of the host that it needs.

    vm: its facts. facts: of the node. connection: auto, guest_agent or serial. hypervisor: called
    only if they are needed, returns the variables of the host that the VM runs on.
    """
    network_os = facts.get("network_os")
    if connection == "auto":
        for forward in vm.get("forwards", ()):
            if forward["guest_port"] == _SSH_PORT and forward.get("protocol", "tcp") == "tcp":
                name = "network_cli" if network_os else "ssh"
                variables = _ssh_variables(forward, hypervisor())
                if _access(facts).get("new_host_keys") is True:
                    arguments = [_NO_HOST_KEYS, variables.get("vlab_ssh_common_args")]
                    variables["vlab_ssh_common_args"] = " ".join(filter(None, arguments))
                return name, variables
    if connection == "guest_agent" or (connection == "auto" and vm.get("agent") and not network_os):
        return "guest_agent", {}
    return "cli" if network_os else "serial", {}


def _ssh_variables(forward: Mapping[str, Any], hypervisor: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables for SSH to a forwarded port, through the hypervisor if necessary."""
    address, port = forward["host_address"], forward["host_port"]
    if hypervisor.get("ansible_connection") in ("local", "ansible.builtin.local"):
        return {"vlab_ssh_host": reachable(address), "vlab_ssh_port": port}
    host = hypervisor.get("ansible_host") or hypervisor["inventory_hostname"]
    if not address.startswith("127.") and address != "::1":
        all_addresses = address in ("0.0.0.0", "::")
        return {"vlab_ssh_host": host if all_addresses else address, "vlab_ssh_port": port}
    command = _proxy_command(host, hypervisor)
    return {
        "vlab_ssh_host": address,
        "vlab_ssh_port": port,
        "vlab_proxy_command": command,
        "vlab_ssh_common_args": "-o ProxyCommand=%s" % shlex.quote(command),
    }


def _proxy_command(host: str, hypervisor: Mapping[str, Any]) -> str:
    """Return the SSH command that uses the hypervisor as jump host."""
    argv = ["ssh", "-W", "%h:%p"]
    for option, name in (
        ("-p", "ansible_port"),
        ("-l", "ansible_user"),
        ("-i", "ansible_ssh_private_key_file"),
    ):
        if hypervisor.get(name):
            argv += [option, str(hypervisor[name])]
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        # Two processes of ssh read these arguments: the first one turns %% into %.
        argv += [word.replace("%", "%%") for word in shlex.split(hypervisor.get(name) or "")]
    return shlex.join([*argv, host]).replace("'%h:%p'", "%h:%p")
