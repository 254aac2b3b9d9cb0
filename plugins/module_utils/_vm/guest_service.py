# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Errands that a controller sends through its own connection to the hypervisor: one request on standard input, one answer on standard output.

A request is a line of JSON, then bytes: {"errand", "mark", ...}. An answer is a line with the mark, a line of JSON with "sizes", then
bytes. Whatever else the connection prints before the mark, such as a greeting, is not ours.

An errand imports what it needs, and no more: a play may send hundreds.
"""

from __future__ import annotations

import json

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestNotReady,
    HostError,
    LoginFailed,
    MonitorError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, no_such_vm

_KINDS = ((GuestNotReady, "not_ready"), (LoginFailed, "login"), (VlabError, "error"))


def serve(source, target):
    """Do the errand that a request (a binary stream) asks for, and write the answer."""
    asked = json.loads(source.readline())
    try:
        told, *pieces = _ERRANDS[asked["errand"]](asked, source.read())
    except VlabError as error:
        told, pieces = (
            {
                "error": error.message,
                "kind": next(word for kind, word in _KINDS if isinstance(error, kind)),
            },
            [],
        )
    told["sizes"] = [len(piece) for piece in pieces]
    target.write(b"\n".join((asked["mark"].encode("ascii"), json.dumps(told).encode("utf-8"), b"")))
    for piece in pieces:
        target.write(piece)
    target.flush()


def _exec(asked, data):
    with _guest(asked) as guest:
        code, out, error = guest.run(asked["command"], data, asked.get("timeout"))
    return {"rc": code}, out, error


def _write(asked, data):
    with _guest(asked) as guest:
        guest.write(asked["path"], data, asked.get("append"))
    return ({},)


def _read(asked, _data):
    with _guest(asked) as guest:
        return {}, guest.read(asked["path"], asked.get("offset") or 0, asked.get("size"))


def _vms(asked, _data):
    """The VMs of a lab or of all, with what a controller has to know to reach them; and what qemu_lab wrote about their nodes."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.node_facts import read_node_facts
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vm_facts

    root = asked.get("root")
    found, warnings = vm_facts(root, asked.get("lab"), None, bool(asked.get("ask_agent")))
    about = {lab: read_node_facts(root, lab) for lab in {vm["lab"] for vm in found}}
    return ({"vms": found, "about": about, "warnings": warnings},)


_ERRANDS = {"exec": _exec, "write": _write, "read": _read, "vms": _vms}


class _guest:
    """The way into a guest that a request names, as a context. What stands in it is told by looking at the VM only when there is no way."""

    def __init__(self, asked):
        self.asked = asked
        self.folder = Folder(asked.get("root"), asked["lab"], asked["vm"])
        self.way = (_Agent if asked["channel"] == "agent" else _Serial)(asked, self.folder)

    def __enter__(self):
        try:
            return self.way.__enter__()
        except (LoginFailed, MonitorError):
            raise
        except GuestError as error:
            raise self._cause(error)

    def __exit__(self, *exception):
        return self.way.__exit__(*exception)

    def _cause(self, error):
        """The error with what is wrong with the VM, if anything is."""
        from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe

        folder = self.folder
        name = "%s of the lab %s" % (folder.name, folder.lab)
        if not folder.exists():
            return GuestError(no_such_vm(folder))
        try:
            observation = observe(folder)
        except (MonitorError, HostError) as failure:
            return GuestNotReady("%s; and %s" % (error.message, failure.message))
        observation.close()
        if not observation.alive:
            return GuestError("the VM %s does not run: it is %s" % (name, observation.status))
        if observation.status == "paused":
            return GuestError("the VM %s is paused: state=started resumes it" % name)
        if self.asked["channel"] == "agent" and not observation.running.get("guest_agent"):
            return GuestError(
                "the VM %s has no channel for a guest agent: give it guest_agent: true" % name
            )
        return error


class _Agent:
    def __init__(self, asked, folder):
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent

        self.agent = GuestAgent(
            folder.socket("agent.sock"), timeout=asked.get("connect_timeout") or 10
        )

    def __enter__(self):
        self.agent.__enter__()
        return self

    def __exit__(self, *exception):
        self.agent.close()

    def run(self, command, data, timeout):
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_exec import (
            exec_in_guest,
        )

        # The agent's own umask would make every new file its owner's alone.
        return exec_in_guest(self.agent, ["/bin/sh", "-c", "umask 022\n" + command], timeout, data)

    def write(self, path, data, append):
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_files import write_file

        write_file(self.agent, path, data, append)

    def read(self, path, offset, size):
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_files import read_file

        return read_file(self.agent, path, offset, size)


class _Serial:
    def __init__(self, asked, folder):
        self.asked, self.folder = asked, folder

    def __enter__(self):
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.console import Console
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.serial_cli import SerialCli
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.serial_shell import (
            Login,
            SerialShell,
        )
        from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import (
            console_address,
        )

        asked = self.asked
        address = console_address(self.folder, asked.get("console"))
        login = Login(
            **{key: value for key, value in (asked.get("login") or {}).items() if value is not None}
        )
        timeout = asked.get("connect_timeout") or 10
        self.console = Console(address, timeout)
        self.console.__enter__()
        try:
            self.shell = (SerialCli if asked.get("cli") else SerialShell)(
                self.console, login, timeout
            )
            self.shell.__enter__()
        except VlabError:
            self.console.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        try:
            self.shell.__exit__(*exception)
        finally:
            self.console.__exit__()

    def run(self, command, data, timeout):
        return self.shell.run(command, data, timeout)

    def write(self, path, data, append):
        self.shell.write(path, data, append)

    def read(self, path, offset, size):
        return self.shell.read(path, offset, size)
