# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How a node is reached, as variables: over SSH by a forwarded port, through its agent, or on its console."""

from __future__ import annotations

import shlex

from ansible.template import trust_as_template

_SSH = 22
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
# Variables of groups: whatever the user's own files say has precedence.
GROUP_VARIABLES = {
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


def expected(node):
    """What a VM's report will say of the ways to it, as far as the topology tells: {"agent", "forwards"}."""
    forwards = [
        forward
        for nic in node.nics.values()
        for forward in (nic.settings.get("link") or {}).get("forwards") or ()
    ]
    return {
        "agent": bool(node.settings.get("guest_agent")),
        "forwards": [
            {
                "guest_port": int(forward["guest_port"]),
                "host_address": forward.get("host_address") or "127.0.0.1",
                "host_port": int(forward["host_port"]),
            }
            for forward in forwards
            if str(forward.get("host_port") or "").isdigit()
            and (forward.get("protocol") or "tcp") == "tcp"
        ],
    }


def way(vm, network_os, connection, hypervisor):
    """The name of one of GROUP_VARIABLES, and the variables of the host that it needs.

    connection: auto, guest_agent or serial. hypervisor: gives the variables of the host that the VM runs on, when asked.
    """
    if connection == "auto":
        for forward in vm.get("forwards", ()):
            if forward["guest_port"] == _SSH and forward.get("protocol", "tcp") == "tcp":
                return "network_cli" if network_os else "ssh", _over_ssh(forward, hypervisor())
    if connection == "guest_agent" or (connection == "auto" and vm.get("agent") and not network_os):
        return "guest_agent", {}
    return "cli" if network_os else "serial", {}


def _over_ssh(forward, hypervisor):
    address, port = forward["host_address"], forward["host_port"]
    if hypervisor.get("ansible_connection") in ("local", "ansible.builtin.local"):
        return {"vlab_ssh_host": address.replace("0.0.0.0", "127.0.0.1"), "vlab_ssh_port": port}
    host = hypervisor.get("ansible_host") or hypervisor["inventory_hostname"]
    if not address.startswith("127.") and address != "::1":
        return {
            "vlab_ssh_host": host if address in ("0.0.0.0", "::", "") else address,
            "vlab_ssh_port": port,
        }
    words = ["ssh", "-W", "%h:%p"]
    for option, name in (
        ("-p", "ansible_port"),
        ("-l", "ansible_user"),
        ("-i", "ansible_ssh_private_key_file"),
    ):
        if hypervisor.get(name):
            words += [option, str(hypervisor[name])]
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        # Two ssh read them: the first one leaves %% as %.
        words += [word.replace("%", "%%") for word in shlex.split(hypervisor.get(name) or "")]
    command = shlex.join([*words, host]).replace("'%h:%p'", "%h:%p")
    return {
        "vlab_ssh_host": address,
        "vlab_ssh_port": port,
        "vlab_proxy_command": command,
        "vlab_ssh_common_args": "-o ProxyCommand=%s" % shlex.quote(command),
    }
