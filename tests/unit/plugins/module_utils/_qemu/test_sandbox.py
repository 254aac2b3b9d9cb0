# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a sandbox forbids: the commands of QEMU that start programs, and those beside them."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._qemu import sandbox
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.sandbox import (
    ALWAYS,
    PRIVILEGES,
    SPAWN,
    Sandbox,
    sandbox_of,
)

DENIED = sandbox_of(
    ["qemu", "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
)
OPEN = sandbox_of(
    [
        "qemu",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=allow,spawn=allow,resourcecontrol=deny",
    ]
)
EXEC = {"transport": "exec", "args": ["/bin/cat"]}
TCP = {"transport": "socket", "type": "inet", "host": "h", "port": "1"}

# Command, arguments, and the set of system calls that it needs; None if it needs none of them.
COMMANDS = [
    ("migrate", {"uri": "exec:cat > /f"}, SPAWN),
    ("migrate", {"uri": "tcp:h:1"}, None),
    ("migrate", {"uri": "unix:/exec:"}, None),
    ("migrate", {"uri": "file:/f"}, None),
    ("migrate", {"channels": [{"channel-type": "main", "addr": EXEC}]}, SPAWN),
    ("migrate", {"channels": [{"channel-type": "main", "addr": TCP}]}, None),
    ("migrate", {"channels": ["odd", {"addr": "odd"}]}, None),
    ("migrate-incoming", {"uri": "exec:cat /f"}, SPAWN),
    ("migrate-incoming", {"channels": [{"channel-type": "main", "addr": EXEC}]}, SPAWN),
    ("migrate-incoming", {"uri": "defer"}, None),
    ("migrate-recover", {"uri": "exec:cat /f"}, SPAWN),
    ("migrate-set-parameters", {"mode": "cpr-exec"}, SPAWN),
    ("migrate-set-parameters", {"mode": "cpr-reboot"}, None),
    ("netdev_add", {"type": "tap", "id": "n"}, SPAWN),
    ("netdev_add", {"type": "tap", "script": "/s", "downscript": "no"}, SPAWN),
    ("netdev_add", {"type": "tap", "script": "no"}, SPAWN),
    ("netdev_add", {"type": "tap", "script": "no", "downscript": "no"}, None),
    ("netdev_add", {"type": "tap", "fd": "9"}, None),
    ("netdev_add", {"type": "tap", "fds": "9:10"}, None),
    ("netdev_add", {"type": "tap", "helper": "/h"}, SPAWN),
    ("netdev_add", {"type": "bridge", "br": "br0"}, SPAWN),
    ("netdev_add", {"type": "passt"}, SPAWN),
    ("netdev_add", {"type": "user"}, None),
    ("netdev_add", {"type": "user", "smb": "/d"}, SPAWN),
    ("netdev_add", {"type": "user", "guestfwd": [{"str": "tcp:10.0.2.9:1-cmd:cat"}]}, SPAWN),
    ("netdev_add", {"type": "user", "guestfwd": [{"str": "tcp:10.0.2.9:1-chardev:c"}]}, None),
    ("netdev_add", {"type": "socket", "udp": "h:1"}, None),
    ("netdev_add", {"type": "vhost-user", "chardev": "c"}, None),
    ("netdev_del", {"id": "n"}, None),
    ("object-add", {"qom-type": "thread-context", "id": "t", "cpu-affinity": [0]}, None),
    ("object-add", {"qom-type": "iothread", "id": "i"}, None),
    ("block-export-add", {"type": "fuse", "id": "e"}, ALWAYS),
    ("block-export-add", {"type": "nbd", "id": "e"}, None),
    ("blockdev-add", {"driver": "ssh"}, None),
    ("chardev-add", {"id": "c", "backend": {"type": "pty", "data": {}}}, None),
    ("device_add", {"driver": "e1000", "id": "d"}, None),
    ("set_password", {"protocol": "vnc", "password": "exec:x"}, None),
    ("human-monitor-command", {"command-line": "migrate exec:cat"}, SPAWN),
    ("human-monitor-command", {"command-line": ' migrate -d -b "exec:cat > /f" '}, SPAWN),
    ("human-monitor-command", {"command-line": "migrate -d tcp:h:1"}, None),
    ("human-monitor-command", {"command-line": "migrate_incoming exec:cat"}, SPAWN),
    ("human-monitor-command", {"command-line": "migrate_recover exec:cat"}, SPAWN),
    ("human-monitor-command", {"command-line": "migrate_set_parameter mode cpr-exec"}, SPAWN),
    ("human-monitor-command", {"command-line": "migrate_set_parameter mode normal"}, None),
    ("human-monitor-command", {"command-line": "netdev_add tap,id=n"}, SPAWN),
    ("human-monitor-command", {"command-line": "netdev_add type=bridge,id=n"}, SPAWN),
    ("human-monitor-command", {"command-line": "netdev_add tap,script=no,downscript=no"}, None),
    ("human-monitor-command", {"command-line": "netdev_add user,guestfwd=tcp:1-cmd:x"}, SPAWN),
    ("human-monitor-command", {"command-line": "object_add iothread,id=i"}, None),
    ("human-monitor-command", {"command-line": "info migrate exec:"}, None),
    ("human-monitor-command", {"command-line": ""}, None),
    ("query-status", None, None),
    ("quit", {}, None),
]


@pytest.mark.parametrize("command, arguments, needed", COMMANDS)
def test_commands(command, arguments, needed):
    assert bool(DENIED.refusal(command, arguments)) is (needed is not None)
    # A sandbox that lets programs start still forbids the rest.
    assert bool(OPEN.refusal(command, arguments)) is (needed == ALWAYS)
    assert not sandbox_of(["qemu", "-S"]).refusal(command, arguments)
    assert not sandbox_of(["qemu", "-sandbox", "off"]).refusal(command, arguments)


@pytest.mark.parametrize(
    "argv, denied",
    [
        ([], set()),
        (["-sandbox"], set()),
        (["-name", "sandbox", "-x", "on,spawn=deny"], set()),
        (["-sandbox", "on"], {ALWAYS}),
        (["--sandbox", "enable=on,spawn=deny"], {ALWAYS, SPAWN}),
        (["-sandbox", "on,spawn=deny", "-sandbox", "off"], set()),
    ],
)
def test_the_sandbox_on_a_command_line(argv, denied):
    assert sandbox_of(argv) == Sandbox(frozenset(denied))


@pytest.mark.parametrize(
    "words, needed",
    [
        (["-netdev", "tap,id=n"], SPAWN),
        (["--netdev", "bridge,id=n"], SPAWN),
        (["-netdev", "tap,id=n,script=no,downscript=no"], None),
        (["-netdev", '{"type": "bridge", "id": "n"}'], SPAWN),
        (["-netdev", "{"], None),
        (["-nic", "bridge,model=e1000"], SPAWN),
        (["-net", "tap"], SPAWN),
        (["-object", "iothread,id=i"], None),
        (["-runas", "nobody"], PRIVILEGES),
        (["-run-with", "chroot=/x,user=nobody"], PRIVILEGES),
        (["-run-with", "async-teardown=on"], None),
        (["-icount", "1"], None),
        (["-netdev"], None),
    ],
)
def test_arguments(words, needed):
    found = [(option, what) for option, (what, _text) in sandbox.argument_needs(words)]
    assert found == ([] if needed is None else [(words[0], needed)])
