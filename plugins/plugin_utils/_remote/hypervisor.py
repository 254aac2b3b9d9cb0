# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Requests to a hypervisor, over Ansible's connection to it, by plugins of other hosts."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterator, Mapping

from ansible import constants as C
from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.playbook.play_context import PlayContext
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import become_loader, connection_loader, get_shell_plugin, shell_loader

from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.client import (
    interpreter_of,
    send_request,
)

_SIGNALLED = 128  # the exit codes of a shell above this: a signal, or the end of SSH (255)
_ERRORS = {
    "not_ready": AnsibleConnectionFailure,
    "gone": AnsibleConnectionFailure,
    "login": AnsibleAuthenticationFailure,
}
_COMMON_VARIABLES = (
    "ansible_connection",
    "ansible_python_interpreter",
    "ansible_become",
    "ansible_become_method",
    "ansible_host",
    "inventory_hostname",
)


class Hypervisor:
    """A hypervisor.

    name: its name in the inventory. variables: the templated variables of that host, of which those
    for its connection, for become and for its interpreter are used. service: the module below
    module_utils with the handlers of the requests.
    """

    def __init__(
        self, name: str, variables: Mapping[str, Any], service: str = "_vm.guest_service"
    ) -> None:
        self.name, self.variables, self.service = name, dict(variables), service
        self.variables.setdefault("inventory_hostname", name)
        self._connection: Any = None
        self._become: Any = None

    def request(
        self, name: str, data: bytes = b"", **parameters: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Have the service on the hypervisor handle a request; return its result and data.

        Raises AnsibleConnectionFailure if the guest does not answer or goes away, or if the request
        is cut off, AnsibleAuthenticationFailure if the guest refuses the login, else AnsibleError
        with the cause.
        """
        interpreter = interpreter_of(self.variables)
        reply = send_request(self._run, interpreter, self.service, name, parameters, data)
        message = reply.message
        if message is None:
            if reply.incomplete:
                raise AnsibleConnectionFailure(
                    "the connection to the hypervisor %s ended within a reply" % self.name
                )
            if reply.started and (reply.code < 0 or reply.code > _SIGNALLED or not reply.output):
                raise AnsibleConnectionFailure(
                    "the connection to the hypervisor %s ended, or the process there (exit code "
                    "%s), before the guest had answered" % (self.name, reply.code)
                )
            raise AnsibleError(
                "the hypervisor %s could not handle the request of the connection: python3 there "
                "ended with exit code %s: %s"
                % (self.name, reply.code, reply.output[-1000:] or "it printed nothing")
            )
        content = message.content
        if message.type == protocol.ERROR:
            error = _ERRORS.get(content["kind"], AnsibleError)
            raise error("%s (hypervisor %s)" % (content["message"], self.name))
        return content["result"], list(message.pieces)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self, command: str, data: bytes) -> tuple[int, bytes, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        connection, become = self._connection, self._become
        if become is not None:
            command = become.build_become_command(command, connection._shell)
        with pipelining(connection):
            code, out, error = connection.exec_command(
                command, in_data=data, sudoable=become is not None
            )
        return code, out, error

    def _connect(self) -> ConnectionBase:
        """Return a connection to the hypervisor, with its become and shell plugins."""
        variables = self.variables
        name = _connection_plugin(variables)
        context = PlayContext()
        context.remote_addr = variables.get("ansible_host") or self.name
        connection = connection_loader.get(name, context, os.devnull)
        if connection is None:
            raise AnsibleError(
                "the hypervisor %s has ansible_connection=%s, but there is no such connection "
                "plugin" % (self.name, name)
            )
        if not connection.has_pipelining:
            raise AnsibleError(
                "the hypervisor %s has ansible_connection=%s, which cannot pass input to a "
                "program: use ssh or local" % (self.name, name)
            )
        connection.set_options(var_options=self._options_of("connection", connection))
        if boolean(variables.get("ansible_become") or False, strict=False):
            self._become = self._load_become()
            connection.set_become_plugin(self._become)
        shell = getattr(connection, "_shell", None)
        if shell is None:
            connection._shell = shell = get_shell_plugin(shell_type="sh")
        shell.set_options(var_options=self._options_of("shell", shell))
        return connection

    def _load_become(self) -> Any:
        method = self.variables.get("ansible_become_method") or "sudo"
        become = become_loader.get(method)
        if become is None:
            raise AnsibleError(
                "the hypervisor %s has ansible_become_method=%s, but there is no such plugin"
                % (self.name, method)
            )
        become.set_options(var_options=self._options_of("become", become))
        return become

    def _options_of(self, plugin_type: str, plugin: Any) -> dict[str, Any]:
        names = C.config.get_plugin_vars(plugin_type, plugin._load_name)
        return {name: self.variables[name] for name in names if name in self.variables}


def _connection_plugin(variables: Mapping[str, Any]) -> str:
    name = str(variables.get("ansible_connection") or "ssh")
    return "ssh" if name == "smart" else name


@contextlib.contextmanager
def pipelining(connection: Any) -> Iterator[None]:
    """Turn pipelining of a connection on for a block.

    With become, a connection without pipelining opens a terminal instead of passing input on.
    """
    options = C.config.get_configuration_definitions("connection", connection._load_name)
    if "pipelining" not in options:
        yield
        return
    before = connection.get_option("pipelining")
    connection.set_option("pipelining", True)
    try:
        yield
    finally:
        connection.set_option("pipelining", before)


def variables_for(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a host's variables that a Hypervisor needs; read no others."""
    plugins = [
        ("connection", connection_loader.get(_connection_plugin(variables), class_only=True)),
        ("shell", shell_loader.get("sh", class_only=True)),
    ]
    if variables.get("ansible_become"):
        method = variables.get("ansible_become_method") or "sudo"
        plugins.append(("become", become_loader.get(method, class_only=True)))
    names = set(_COMMON_VARIABLES)
    for plugin_type, plugin in plugins:
        # A missing plugin is reported when a Hypervisor connects.
        if plugin:
            names.update(C.config.get_plugin_vars(plugin_type, plugin._load_name))
    chosen = {name: variables[name] for name in sorted(names) if name in variables}
    chosen["ansible_python_interpreter"] = interpreter_of(variables)
    return chosen
