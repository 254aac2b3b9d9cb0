# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Other hypervisors of a play, as an action plugin on one of them reaches them."""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Iterable, Mapping

from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import names_hint
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import (
    Hypervisor,
    variables_for,
)


class PlayHypervisors:
    """The hypervisors of an inventory that handle the requests of a service.

    hostvars: of all hosts. connection: that of the task, for hosts without their own. context: the
    play context, for become. option: whose values name hypervisors. They are closed at the end of
    a with statement.
    """

    def __init__(
        self, hostvars: Mapping[str, Any], connection: str, context: Any, service: str, option: str
    ) -> None:
        self._hostvars, self._connection, self._context = hostvars, connection, context
        self._service, self._option = service, option
        self._found: dict[tuple[str, str], Hypervisor] = {}

    def __enter__(self) -> PlayHypervisors:
        return self

    def __exit__(self, *_exception: object) -> None:
        for hypervisor in self._found.values():
            with contextlib.suppress(AnsibleError):
                hypervisor.close()

    def get(self, name: str, purpose: str = "") -> Hypervisor:
        """Return a hypervisor; for each purpose, it has a connection of its own."""
        if (name, purpose) not in self._found:
            self._found[name, purpose] = self._new(name)
        return self._found[name, purpose]

    def _new(self, name: str) -> Hypervisor:
        if name not in self._hostvars:
            raise AnsibleActionFail(
                "%s: the inventory has no host %s: %s"
                % (self._option, name, names_hint(name, sorted(self._hostvars)))
            )
        variables = variables_for(dict(self._hostvars[name]))
        variables.setdefault("ansible_connection", self._connection)
        context = self._context
        if "ansible_become" not in variables and context.become:
            variables.update(
                ansible_become=True,
                ansible_become_method=context.become_method,
                ansible_become_user=context.become_user,
            )
            if context.become_pass:
                variables["ansible_become_password"] = context.become_pass
        return Hypervisor(name, variables, self._service)

    def address(self, name: str, origin: str, given: str | None = None) -> str:
        """Return the address at which another hypervisor reaches one. given: by the user."""
        variables = self._hostvars.get(name) or {}
        text = given or variables.get("vlab_address") or variables.get("ansible_host") or name
        try:
            found = socket.getaddrinfo(text, None, 0, socket.SOCK_STREAM)
        except OSError:
            raise AnsibleActionFail(
                "address: the address of %s (%s) cannot be resolved: set it, or vlab_address for"
                " that host" % (name, text)
            )
        address = str(found[0][4][0])
        is_loopback = address.startswith("127.") or address == "::1"
        if is_loopback and not are_on_controller(self._hostvars, (name, origin)):
            raise AnsibleActionFail(
                "address: that of %s is %s, at which another host does not reach it: set it, or"
                " vlab_address for that host" % (name, address)
            )
        return address


def are_on_controller(hostvars: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Return whether all hosts are the controller, which has their loopback addresses."""
    return all((hostvars.get(name) or {}).get("ansible_connection") == "local" for name in names)
