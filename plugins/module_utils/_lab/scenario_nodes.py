# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The nodes, endpoints and links that a scenario can name."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List, Mapping, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import names_hint

_MAX_LISTED_NAMES = 10
_LINK = re.compile(r"\s+--\s+")
_LOOPBACK = "127.0.0.1"

Nics = List[Dict[str, Any]]


class _Socket(NamedTuple):
    address: str
    port: Any


class ScenarioNodes:
    """The nodes of a lab on all hypervisors.

    local: the VMs of this hypervisor by name, as qemu_vm_info returns them.
    others: the NICs of the VMs of all hypervisors by the name of the VM; those that are in local
    are ignored.
    """

    def __init__(self, local: Mapping[str, dict[str, Any]], others: Mapping[str, Nics]) -> None:
        self.local = local
        self._nics: dict[str, dict[str, dict[str, Any]]] = {
            name: {nic["name"]: nic for nic in nics}
            for name, nics in {
                **_checked(others),
                **{name: vm.get("nics") or [] for name, vm in local.items()},
            }.items()
        }

    def node(self, path: str, name: str) -> str:
        """Return the name of a node. Raises OptionError."""
        if name not in self._nics:
            hint = names_hint(name, sorted(self._nics), _MAX_LISTED_NAMES)
            raise OptionError(path, "the lab has no node %s: %s" % (name, hint))
        return name

    def endpoints(self, path: str, text: str) -> list[str]:
        """Return the endpoint NODE:NIC, or both endpoints of a link. Raises OptionError.

        text: NODE:NIC, NODE:NIC -- NODE:NIC, or NODE -- NODE if they have one link.
        """
        ends = _LINK.split(text.strip())
        if len(ends) == 1:
            return [self._endpoint(path, ends[0])]
        if len(ends) != 2:
            raise OptionError(path, "%r is not NODE:NIC and not a link, END -- END" % text)
        if not any(":" in end for end in ends):
            return self._link(path, *ends)
        return [self._endpoint(path, end) for end in ends]

    def nic(self, endpoint: str) -> dict[str, Any]:
        """Return the NIC of an endpoint that exists."""
        node, _colon, name = endpoint.partition(":")
        return self._nics[node][name]

    def is_local(self, target: str) -> bool:
        """Whether an endpoint or a node is on this hypervisor."""
        return target.partition(":")[0] in self.local

    def _endpoint(self, path: str, text: str) -> str:
        node, colon, nic = text.partition(":")
        if not colon:
            raise OptionError(path, "%r is not an endpoint, NODE:NIC" % text)
        self.node(path, node)
        # As the topology names the NICs of VMs.
        nic = nic.replace("/", "_")
        if nic not in self._nics[node]:
            hint = names_hint(nic, list(self._nics[node]), _MAX_LISTED_NAMES)
            raise OptionError(path, "the node %s has no NIC %s: %s" % (node, nic, hint))
        return "%s:%s" % (node, nic)

    def _link(self, path: str, first: str, second: str) -> list[str]:
        """Return the endpoints of the only link between two nodes. Raises OptionError."""
        found = [
            [one, other]
            for one in self._endpoints_of(self.node(path, first))
            for other in self._endpoints_of(self.node(path, second))
            if one != other and self._is_link(one, other)
        ]
        if not found:
            raise OptionError(path, "there is no link between %s and %s" % (first, second))
        if len(found) > 1:
            links = ", ".join(" -- ".join(link) for link in found)
            raise OptionError(
                path, "%s -- %s is ambiguous, name the NICs: %s" % (first, second, links)
            )
        return found[0]

    def _endpoints_of(self, node: str) -> list[str]:
        return ["%s:%s" % (node, nic) for nic in self._nics[node]]

    def _is_link(self, one: str, other: str) -> bool:
        """Whether two endpoints are the ends of a link: peers, or sockets that send to another."""
        links = [self.nic(end).get("link") or {} for end in (one, other)]
        if links[0].get("peer") == other or links[1].get("peer") == one:
            return True
        sockets = [(_socket(link, "local"), _socket(link, "remote")) for link in links]
        if None in sockets[0] + sockets[1] or sockets[0] != sockets[1][::-1]:
            return False
        # On different hypervisors, loopback addresses can be the same by chance.
        is_same_host = self.is_local(one) == self.is_local(other)
        return is_same_host or not any(_is_loopback(socket) for socket in sockets[0])


def _checked(others: Mapping[str, Nics]) -> Mapping[str, Nics]:
    """Return others. Raises OptionError for a value that qemu_vm_info does not return."""
    for name, nics in others.items():
        if not isinstance(nics, list) or not all(
            isinstance(nic, dict) and isinstance(nic.get("name"), str) for nic in nics
        ):
            raise OptionError("nodes.%s" % name, "it is not a list of NICs, as of qemu_vm_info")
    return others


def _socket(link: dict[str, Any], side: str) -> _Socket | None:
    port = link.get(side + "_port")
    return _Socket(link.get(side + "_address") or _LOOPBACK, port) if port else None


def _is_loopback(socket: _Socket | None) -> bool:
    try:
        return socket is not None and ipaddress.ip_address(socket.address).is_loopback
    except ValueError:
        return False
