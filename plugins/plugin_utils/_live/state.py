# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The state of a lab as its hypervisors report it, for the page."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.console_command import command_for
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.traffic import traffic_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.nics import Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.svg import (
    link_tooltip,
    node_texts,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.templates import printable
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import View, view_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology


class Endpoint(NamedTuple):
    """The NIC at an end of a link: its hypervisor, its VM and its name there."""

    hypervisor: str
    vm: str
    nic: str


class LiveState:
    """The latest reports of the hypervisors of a lab.

    variables: {hypervisor: the variables of its connection}.
    """

    def __init__(self, topology: Topology, variables: Mapping[str, Mapping[str, Any]]) -> None:
        self.topology, self._variables = topology, variables
        self._changed = threading.Condition()
        self._vms: dict[str, list[Vm]] = {}
        self._errors: dict[str, str] = {}
        self._asked: set[str] = set()

    def report(self, host: str, vms: Sequence[Vm]) -> None:
        """Keep the VMs of a hypervisor."""
        self._keep(host, [dict(vm, hypervisor=host) for vm in vms], "")

    def report_error(self, host: str, error: str) -> None:
        """Keep that a hypervisor did not answer: the states of its VMs are unknown."""
        with self._changed:
            reported = self._vms.get(host, [])
        self._keep(host, [dict(vm, status="unknown") for vm in reported], printable(error))

    def _keep(self, host: str, vms: list[Vm], error: str) -> None:
        with self._changed:
            self._vms[host], self._errors[host] = vms, error
            self._asked.add(host)
            self._changed.notify_all()

    def wait(self, timeout: float) -> None:
        """Wait until each hypervisor has answered once, or not answered in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked >= set(self._variables), timeout)

    def view(self) -> View:
        """Return the lab as its page shows it."""
        vms = self._all_vms()
        return view_of(self.topology, vms, consoles=self._commands(vms))

    def _all_vms(self) -> list[Vm]:
        with self._changed:
            vms = [vm for host in sorted(self._vms) for vm in self._vms[host]]
            is_complete = not any(self._errors.values())
        if not is_complete:
            # They can be on a hypervisor that does not answer.
            missing = set(self.topology.nodes) - {vm.get("name") for vm in vms}
            vms += [{"name": name, "status": "unknown"} for name in sorted(missing)]
        return vms

    def _commands(self, vms: Sequence[Vm]) -> dict[str, str]:
        return {
            str(vm["name"]): command_for(vm, self._variables[str(vm["hypervisor"])])
            for vm in vms
            if vm.get("hypervisor")
        }

    def console_command(self, node: str) -> str:
        """Return the command for the console of a node, empty without one."""
        view = self.view()
        return view.nodes[node].console if node in view.nodes else ""

    def endpoints(self, number: int) -> list[Endpoint]:
        """Return the ends of a link that exist on the hypervisors."""
        view = self.view()
        found = []
        for link in view.links:
            for end in link.ends if link.number == number else ():
                nic = self.topology.nodes[end.vm].nics[end.nic]
                hypervisor = view.nodes[end.node].hypervisor
                if hypervisor in self._variables and view.nodes[end.node].state != "absent":
                    found.append(Endpoint(hypervisor, end.vm, nic.vm_name))
        return found

    def json(self) -> str:
        """Return what the page shows and how it changes, for its script."""
        vms = self._all_vms()
        view = view_of(self.topology, vms, consoles=self._commands(vms))
        with self._changed:
            errors = {host: error for host, error in self._errors.items() if error}
        traffic = traffic_of(self.topology, view, vms)
        return json.dumps(
            {
                "summary": view.summary,
                "errors": ["%s: %s" % (host, errors[host]) for host in sorted(errors)],
                "facts": facts_digest(view),
                "nodes": {
                    name: {
                        **{key: printable(text) for key, text in node_texts(node).items()},
                        "state": printable(node.state),
                        "tone": node.tone,
                    }
                    for name, node in view.nodes.items()
                },
                "links": {
                    str(link.number): {
                        "down": link.down,
                        "tooltip": printable(link_tooltip(link)),
                        "traffic": [printable(line) for line in traffic.get(link.number, ())],
                    }
                    for link in view.links
                },
            }
        )


def facts_digest(view: View) -> str:
    """Return what changes if the page shows something else besides states: then it is reloaded."""
    nodes = [dataclasses.replace(node, state="", tone="") for node in view.nodes.values()]
    links = [dataclasses.replace(link, down=False) for link in view.links]
    content = repr((nodes, links, view.segments))
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:16]
