# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A hypervisor, reached by Ansible's own connection to it, for errands that no module does."""

from __future__ import annotations

import contextlib
import os

from ansible import constants as C
from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import become_loader, connection_loader, get_shell_plugin, shell_loader

from ansible_collections.vlab.qemu.plugins.plugin_utils import _relay_start

_GENERAL = (
    "ansible_connection",
    "ansible_python_interpreter",
    "ansible_become",
    "ansible_become_method",
    "ansible_host",
    "inventory_hostname",
)


class Hypervisor:
    """name: of the inventory. variables: of that host, templated; those of its connection, of become and of its interpreter matter."""

    def __init__(self, name, variables):
        self.name, self.variables = name, dict(variables)
        self.variables.setdefault("inventory_hostname", name)
        self._connection = None
        self._become = None

    def errand(self, errand, data=b"", **request):
        """What the relay on the hypervisor answers: its dict, and the pieces of bytes that came with it, as {"pieces": [...]}.

        Raises AnsibleConnectionFailure for a guest that does not answer yet, AnsibleAuthenticationFailure where it does not let us in,
        AnsibleError with the cause for all else.
        """
        answer = _relay_start.ask(
            self._run,
            _relay_start.interpreter_of(self.variables),
            "_vm.guest_service",
            dict(request, errand=errand),
            data,
        )
        if answer.told is None:
            raise AnsibleError(
                "the hypervisor %s could not do what the connection asked for: python3 there ended with exit code %s: %s"
                % (self.name, answer.code, answer.said[-1000:] or "it said nothing")
            )
        told, rest = answer.told, answer.data
        if "error" in told:
            kind = {
                "not_ready": AnsibleConnectionFailure,
                "login": AnsibleAuthenticationFailure,
            }.get(told["kind"], AnsibleError)
            raise kind("%s (hypervisor %s)" % (told["error"], self.name))
        if len(rest) < sum(told["sizes"]):
            raise AnsibleConnectionFailure(
                "the connection to the hypervisor %s ended in the middle of an answer" % self.name
            )
        told["pieces"] = []
        for size in told["sizes"]:
            told["pieces"].append(rest[:size])
            rest = rest[size:]
        return told

    def close(self):
        """Leave the hypervisor."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self, command, data):
        connection = self._connected()
        if self._become is not None:
            command = self._become.build_become_command(command, connection._shell)
        with pipelining(connection):
            return connection.exec_command(command, in_data=data, sudoable=self._become is not None)

    def _connected(self):
        if self._connection is None:
            self._connection = self._made()
        return self._connection

    def _made(self):
        known = self.variables
        kind = known.get("ansible_connection") or "ssh"
        if kind == "smart":
            kind = "ssh"
        context = PlayContext()
        context.remote_addr = known.get("ansible_host") or self.name
        connection = connection_loader.get(kind, context, os.devnull)
        if connection is None:
            raise AnsibleError(
                "the hypervisor %s has ansible_connection=%s, and there is no such connection plugin"
                % (self.name, kind)
            )
        if not connection.has_pipelining:
            raise AnsibleError(
                "the hypervisor %s is reached by the connection %s, which cannot give a program its input: use ssh or local"
                % (self.name, kind)
            )
        connection.set_options(var_options=self._options_of("connection", connection))
        if boolean(known.get("ansible_become") or False, strict=False):
            self._become = become_loader.get(known.get("ansible_become_method") or "sudo")
            if self._become is None:
                raise AnsibleError(
                    "the hypervisor %s has ansible_become_method=%s, and there is no such plugin"
                    % (self.name, known.get("ansible_become_method"))
                )
            self._become.set_options(var_options=self._options_of("become", self._become))
            connection.set_become_plugin(self._become)
        shell = getattr(connection, "_shell", None)
        if shell is None:
            connection._shell = shell = get_shell_plugin(shell_type="sh")
        shell.set_options(var_options=self._options_of("shell", shell))
        return connection

    def _options_of(self, kind, plugin):
        names = C.config.get_plugin_vars(kind, plugin._load_name)
        return {name: self.variables[name] for name in names if name in self.variables}


@contextlib.contextmanager
def pipelining(connection):
    """Have a connection give programs their input, whatever it does for modules: for become it would open a terminal instead."""
    has = "pipelining" in C.config.get_configuration_definitions(
        "connection", connection._load_name
    )
    before = connection.get_option("pipelining") if has else None
    if has:
        connection.set_option("pipelining", True)
    try:
        yield
    finally:
        if has:
            connection.set_option("pipelining", before)


def variables_for(variables):
    """Those of a host's variables that a Hypervisor needs: a mapping, of which only these are looked at."""
    connection = variables.get("ansible_connection") or "ssh"
    plugins = [
        (
            "connection",
            connection_loader.get("ssh" if connection == "smart" else connection, class_only=True),
        ),
        ("shell", shell_loader.get("sh", class_only=True)),
    ]
    if variables.get("ansible_become"):
        plugins.append(
            (
                "become",
                become_loader.get(
                    variables.get("ansible_become_method") or "sudo", class_only=True
                ),
            )
        )
    names = set(_GENERAL)
    for kind, plugin in plugins:
        # One that there is not is told of by who needs it.
        names.update(C.config.get_plugin_vars(kind, plugin._load_name) if plugin else ())
    return {
        **{name: variables[name] for name in sorted(names) if name in variables},
        "ansible_python_interpreter": _relay_start.interpreter_of(variables),
    }
