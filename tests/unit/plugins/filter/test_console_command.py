# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter console_command: SSH to another host, sudo, and quoting."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vlab.qemu.plugins.filter.console_command import console_command

SOCAT = "socat -,raw,echo=0 UNIX-CONNECT:/x/console.sock"
VM = {"name": "r1", "consoles": [{"command": SOCAT}, {"command": "other"}]}


@pytest.mark.parametrize(
    "variables, command",
    [
        ({"ansible_connection": "local"}, SOCAT),
        ({"ansible_connection": "local", "ansible_become": True}, "sudo " + SOCAT),
        ({"inventory_hostname": "hv1"}, "ssh -t hv1 '%s'" % SOCAT),
        (
            {
                "inventory_hostname": "hv1",
                "ansible_host": "192.0.2.1",
                "ansible_port": 2222,
                "ansible_user": "ann",
                "ansible_ssh_private_key_file": "/my keys/id",
            },
            "ssh -t -p 2222 -l ann -i '/my keys/id' 192.0.2.1 '%s'" % SOCAT,
        ),
        (
            {"inventory_hostname": "hv1", "ansible_become": "yes", "ansible_become_user": "lab"},
            "ssh -t hv1 'sudo -u lab %s'" % SOCAT,
        ),
        (
            {"inventory_hostname": "hv1", "ansible_ssh_common_args": "-o ProxyJump=gate"},
            "ssh -t -o ProxyJump=gate hv1 '%s'" % SOCAT,
        ),
    ],
)
def test_commands(variables, command):
    assert console_command(VM, variables) == command


def test_quotes_in_a_path_stay_quoted_on_the_hypervisor():
    vm = {"consoles": [{"command": "socat - 'UNIX-CONNECT:/a b/x'"}]}
    expected = "ssh -t hv1 'socat - '\"'\"'UNIX-CONNECT:/a b/x'\"'\"''"
    assert console_command(vm, {"inventory_hostname": "hv1"}) == expected


@pytest.mark.parametrize("consoles", [None, [], [{"type": "none"}], [{"command": None}]])
def test_a_vm_without_a_console(consoles):
    assert console_command({"name": "r1", "consoles": consoles}, {}) == ""


@pytest.mark.parametrize("given", [("r1", {}), (VM, "hv1"), (None, None)])
def test_mistakes_are_reported(given):
    with pytest.raises(AnsibleFilterError, match="console_command: the input must be a VM"):
        console_command(*given)
