# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: lab
version_added: 1.0.0
short_description: The nodes of labs as hosts
author:
  - vlab.qemu contributors (@vlab)
description:
  - Creates a host for each node of a lab, from the topology file, from the VMs that the hypervisors
    report, or from both.
  - The plugin also sets the connection variables. A node with a forwarded port 22 is reached over
    SSH, or by C(ansible.netcommon.network_cli) if its kind has an C(ansible_network_os). If the
    hypervisor is another host, it is the jump host. Other nodes are reached by
    P(vlab.qemu.guest_agent#connection) if they have a guest agent, else on their console by
    P(vlab.qemu.serial#connection).
  - The connection variables are variables of groups, with the lowest precedence, so C(group_vars)
    and C(host_vars) override them.
  - For the kind V(linux), these include the user C(root), the Python interpreter, and the transfer
    method. Its guests make new host keys at each boot, so SSH does not check them.
  - The groups are C(lab_NAME), C(kind_NAME), C(hypervisor_NAME), and C(role_NAME) for each group
    of the topology that the node belongs to.
  - Each host has the variables C(vlab_vm), C(vlab_lab), C(vlab_hypervisor), C(vlab_kind),
    C(vlab_groups) and C(vlab_nics), and as far as they are available C(vlab_loopback),
    C(vlab_loopback6), C(vlab_management), C(vlab_asn), C(vlab_description), C(vlab_status),
    C(vlab_console_command) and C(vlab_addresses).
  - A node that is several VMs is one host. In C(vlab_nics), C(vm) names the VM of a NIC if it is a
    module.
  - The name of the configuration file must end in C(lab.yml) or C(lab.yaml).
notes:
  - Hypervisors other than V(localhost) must be defined in an inventory source that precedes this
    one.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: V(vlab.qemu.lab).
    type: str
    required: true
    choices: [vlab.qemu.lab]
  topology:
    description:
      - Paths of topology files, relative to the folder of this file. The hosts exist before the
        lab is up.
      - The nodes are on the O(hypervisors) on which P(vlab.qemu.lab#role) places them; with
        O(ask=true), on those that have their VMs.
      - Addresses are those of a new lab; with O(ask=true), those that the lab has.
    type: list
    elements: str
    default: []
  lab_name:
    description: The name of the lab, instead of C(name) in its only O(topology).
    type: str
  hypervisors:
    description:
      - Hosts and groups of the inventory that the labs run on, in the order of the play that starts
        the labs.
    type: list
    elements: str
    default: [localhost]
  ask:
    description:
      - Query the hypervisors for their VMs. By default, they are queried if there is no
        O(topology).
    type: bool
  labs:
    description: Names of the labs to include; all labs by default.
    type: list
    elements: str
    default: []
  ask_agent:
    description: Also query the guest agents for addresses. C(vlab_addresses) contains them.
    type: bool
    default: false
  root:
    description:
      - Folder of all labs on the hypervisors.
      - The default is C(/var/lib/vlab) for root, C($XDG_STATE_HOME/vlab) for others.
    type: str
  connection:
    description: The connection to the nodes.
    type: str
    choices:
      auto: As described above.
      guest_agent: P(vlab.qemu.guest_agent#connection) for all nodes.
      serial: P(vlab.qemu.serial#connection) for all nodes.
    default: auto
  host_name:
    description: Names of the hosts. C({node}) and C({lab}) are replaced.
    type: str
    default: '{node}'
seealso:
  - plugin: vlab.qemu.guest_agent
    plugin_type: connection
  - plugin: vlab.qemu.serial
    plugin_type: connection
  - module: vlab.qemu.qemu_lab
"""

EXAMPLES = r"""
# pair.lab.yml - a lab from its topology file, on this host
plugin: vlab.qemu.lab
topology: triangle.yml

---
# ann.lab.yml - the same lab under another name
plugin: vlab.qemu.lab
topology: triangle.yml
lab_name: triangle-ann

---
# fabric.lab.yml - a lab from its topology file and the VMs on the hypervisors of the inventory
plugin: vlab.qemu.lab
topology: fabric.yml
hypervisors: [hypervisors]
ask: true

---
# all.lab.yml - all VMs of two hypervisors, with groups by their status, cached for five minutes
plugin: vlab.qemu.lab
hypervisors: [hv1, hv2]
host_name: "{lab}-{node}"
keyed_groups:
  - key: vlab_status
    prefix: status
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/vlab-inventory
cache_timeout: 300
"""

import os
import sys
from typing import Any, Mapping

import yaml
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

from ansible_collections.vlab.qemu.plugins.plugin_utils import _connection_vars
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.appliance import reader
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.topology_source import named
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import (
    Hypervisor,
    variables_for,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    libraries,
    placement,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.node_facts import node_facts
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.yaml_file import load_yaml

# {(lab, node): {"facts": from the topology, "vm": facts of the VM, "hypervisor": name}}
Nodes = dict[tuple[str, str], dict[str, Any]]
# {hypervisor: {"vms": [facts], "node_facts": {lab: {node: facts}}}}
Reports = dict[str, dict[str, Any]]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The nodes of labs as hosts."""

    NAME = "vlab.qemu.lab"

    def verify_file(self, path: str) -> bool:
        """Return whether a file is for this plugin, by its name."""
        return super().verify_file(path) and path.endswith(("lab.yml", "lab.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the hosts, groups and variables."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self._hypervisor_variables: dict[str, dict[str, Any]] = {}
        hypervisors = self._hypervisors()
        nodes = self._read_topologies(os.path.dirname(path), hypervisors)
        ask = self.get_option("ask")
        if ask or (ask is None and not self.get_option("topology")):
            _add_reported(nodes, self._reports(path, cache, hypervisors))
        chosen_labs = set(self.get_option("labs"))
        labs: dict[str, str] = {}  # {host: lab}
        for (lab, node), entry in sorted(nodes.items()):
            if chosen_labs and lab not in chosen_labs:
                continue
            host = self.get_option("host_name").format(lab=lab, node=node)
            if host in labs:
                raise AnsibleParserError(
                    "%s is the name of a node of the labs %s and %s: set host_name to "
                    "'{lab}-{node}', or name labs" % (host, labs[host], lab)
                )
            labs[host] = lab
            self._add_host(host, lab, node, entry)

    def _hypervisors(self) -> list[str]:
        """Return the names of the hypervisors."""
        hosts: list[str] = []
        for name in self.get_option("hypervisors"):
            if name in self.inventory.groups:
                found = [host.name for host in self.inventory.groups[name].get_hosts()]
            elif name in self.inventory.hosts or name in ("localhost", "127.0.0.1"):
                found = [name]
            else:
                raise AnsibleParserError(
                    "hypervisors: the inventory has no host or group %s; its source must come "
                    "before this one" % name
                )
            hosts += [host for host in found if host not in hosts]
        return hosts

    def _read_topologies(self, folder: str, hypervisors: list[str]) -> Nodes:
        """Return the nodes of the topology files."""
        if not self.get_option("topology"):
            return {}
        missing = libraries.missing()
        if missing:
            raise AnsibleParserError(missing_required_lib(missing))
        lab_name = self.get_option("lab_name")
        if lab_name and len(self.get_option("topology")) > 1:
            raise AnsibleParserError(
                "lab_name: it is the name of one lab: give one topology, or leave lab_name out"
            )
        nodes: Nodes = {}
        for given in self.get_option("topology"):
            file = os.path.join(folder, os.path.expanduser(given))
            try:
                with open(file, encoding="utf-8") as stream:
                    data = named(load_yaml(stream), lab_name, None)
                topology = builder.build(data, None, None, reader(os.path.dirname(file)))
                placed = placement.place(topology, hypervisors)
            except OSError as error:
                raise AnsibleParserError("topology: cannot read %s: %s" % (file, error.strerror))
            except (yaml.YAMLError, TopologyError) as error:
                raise AnsibleParserError("topology: %s: %s" % (file, error))
            for node in topology.systems:
                nodes[topology.name, node.name] = {
                    "facts": node_facts(topology, node),
                    "vm": _connection_vars.expected_vm(node),
                    "hypervisor": placed[node.name],
                }
        return nodes

    def _reports(self, path: str, cache: bool, hypervisors: list[str]) -> Reports:
        """Return what the hypervisors report, from the cache if it is enabled and has it."""
        key = self.get_cache_key(path)
        if self.get_option("cache") and cache:
            try:
                cached: Reports = self._cache[key]
                return cached
            except KeyError:
                pass  # not cached, or expired
        reports = {host: self._query(host) for host in hypervisors}
        if self.get_option("cache"):
            self._cache[key] = reports
        return reports

    def _query(self, host: str) -> dict[str, Any]:
        """Query a hypervisor for its VMs and the facts of their nodes."""
        hypervisor = Hypervisor(host, self._variables_of(host))
        try:
            report, _pieces = hypervisor.request(
                "vms", root=self.get_option("root"), ask_agent=self.get_option("ask_agent")
            )
        except AnsibleError as error:
            raise AnsibleParserError(
                "cannot query the hypervisor %s for its VMs: %s" % (host, error)
            )
        finally:
            hypervisor.close()
        for warning in report["warnings"]:
            self.display.warning("%s: %s" % (host, warning))
        return {"vms": report["vms"], "node_facts": report["node_facts"]}

    def _variables_of(self, host: str) -> dict[str, Any]:
        """Return the connection variables of a hypervisor, which all its VMs share."""
        if host not in self._hypervisor_variables:
            self._hypervisor_variables[host] = self._read_variables_of(host)
        return self._hypervisor_variables[host]

    def _read_variables_of(self, name: str) -> dict[str, Any]:
        """Return the connection variables of a hypervisor from all sources parsed so far."""
        host = self.inventory.hosts.get(name)
        if host is None:
            return {"ansible_connection": "local"}
        sources = getattr(self.inventory, "processed_sources", None) or []
        groups = sorted(
            host.get_groups(), key=lambda group: (group.depth, group.priority, group.name)
        )
        variables: dict[str, Any] = {}
        for group in groups:
            variables = combine_vars(variables, group.get_vars())
        for found in (
            get_vars_from_inventory_sources(self.loader, sources, groups, "all"),
            host.get_vars(),
            get_vars_from_inventory_sources(self.loader, sources, [host], "all"),
        ):
            variables = combine_vars(variables, found)
        # Variables that Ansible defines for every host.
        variables = dict(
            variables,
            inventory_hostname=name,
            ansible_playbook_python=sys.executable,
            groups=self.inventory.get_groups_dict(),
        )
        self.templar.available_variables = variables
        return {
            key: self.templar.template(value) for key, value in variables_for(variables).items()
        }

    def _add_host(self, host: str, lab: str, node: str, entry: Mapping[str, Any]) -> None:
        """Add a node with its variables and groups."""
        self.inventory.add_host(host)
        facts, vm, hypervisor = entry["facts"], entry["vm"], entry["hypervisor"]
        connection, variables = _connection_vars.choose_connection(
            vm,
            facts,
            self.get_option("connection"),
            lambda: (
                self._variables_of(hypervisor)
                if hypervisor != "localhost"
                else {"ansible_connection": "local"}
            ),
        )
        variables = {
            "vlab_vm": node,
            "vlab_lab": lab,
            "vlab_hypervisor": hypervisor,
            "vlab_root": self.get_option("root"),
            **_fact_variables(facts, vm),
            **variables,
        }
        for key, value in variables.items():
            if value not in (None, []):
                self.inventory.set_variable(host, key, value)
        self._add_groups(host, lab, hypervisor, facts)
        group = self.inventory.add_group("vlab_" + connection)
        self.inventory.add_child(group, host)
        for key, value in _connection_vars.GROUP_VARIABLES[connection].items():
            self.inventory.set_variable(group, key, value)
        self._construct(host)

    def _add_groups(self, host: str, lab: str, hypervisor: str, facts: Mapping[str, Any]) -> None:
        """Add a node to the groups of its lab, hypervisor, kind and topology."""
        groups = ["lab_" + lab, "hypervisor_" + hypervisor]
        groups += ["role_" + group for group in facts.get("groups", ())]
        if facts.get("kind"):
            groups.append("kind_" + facts["kind"])
        for group in groups:
            self.inventory.add_child(self.inventory.add_group(_group_name(group)), host)
        if facts.get("kind"):
            kind = _group_name("kind_" + facts["kind"])
            for key, value in _connection_vars.kind_variables(facts).items():
                self.inventory.set_variable(kind, key, value)

    def _construct(self, host: str) -> None:
        """Apply the options of constructed inventories to a host."""
        strict, variables = self.get_option("strict"), self.inventory.get_host(host).get_vars()
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        for option, add in (
            ("groups", self._add_host_to_composed_groups),
            ("keyed_groups", self._add_host_to_keyed_groups),
        ):
            add(self.get_option(option), variables, host, strict=strict)


def _group_name(name: str) -> str:
    return str(to_safe_group_name(name, force=True, silent=True))


def _add_reported(nodes: Nodes, reports: Reports) -> None:
    """Add the VMs that the hypervisors report to the nodes of the topology files."""
    for hypervisor, report in reports.items():
        for vm in report["vms"]:
            facts = report["node_facts"].get(vm["lab"], {}).get(vm["name"], {})
            if facts.get("part_of"):
                continue
            node = nodes.setdefault((vm["lab"], vm["name"]), {"facts": {}})
            # A lab keeps its addresses, which need not be those of its topology file.
            node.update(vm=vm, hypervisor=hypervisor, facts={**node["facts"], **facts})


def _fact_variables(facts: Mapping[str, Any], vm: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a host from the facts of its node and its VM."""
    names = (
        "kind",
        "groups",
        "nics",
        "loopback",
        "loopback6",
        "management",
        "asn",
        "description",
    )
    commands = [console["command"] for console in vm.get("consoles", ())]
    return {
        **{"vlab_" + name: facts.get(name) for name in names},
        "vlab_status": vm.get("status"),
        "vlab_console_command": commands[0] if commands else None,
        "vlab_addresses": [
            address["address"]
            for nic in vm.get("nics", ())
            for address in nic.get("addresses", ())
            if address["source"] == "agent"
        ],
    }
