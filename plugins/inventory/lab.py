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
  - Makes a host of each node of a lab, from the topology file, or from what the hypervisors say of the VMs that they have, or both.
  - The hosts can be used at once - how each is reached is filled in. A node whose port 22 is forwarded is reached over SSH, or by
    C(ansible.netcommon.network_cli) where its kind has an C(ansible_network_os), with the hypervisor as jump host where it is another host;
    one with a guest agent by P(vlab.qemu.guest_agent#connection); all others on their console by P(vlab.qemu.serial#connection).
  - All of this are variables of groups, with the lowest precedence there is, so C(group_vars) and C(host_vars) of yours win.
  - Groups are C(lab_NAME), C(kind_NAME), C(role_NAME) for each group of the topology that a node is in, and C(hypervisor_NAME).
  - Each host has C(vlab_vm), C(vlab_lab), C(vlab_hypervisor), C(vlab_kind), C(vlab_groups), C(vlab_nics), and where they are known
    C(vlab_loopback), C(vlab_loopback6), C(vlab_management), C(vlab_asn), C(vlab_status), C(vlab_console_command), C(vlab_addresses).
  - The configuration file's name ends in C(lab.yml) or C(lab.yaml).
notes:
  - Hypervisors must be in the inventory, too, in a source that comes before this one, unless they are V(localhost).
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
      - Paths of topology files, from the folder of this file on. The hosts are there before the lab is up.
      - The nodes are where P(vlab.qemu.lab#role) places them on O(hypervisors); with O(ask=true), where they really are.
    type: list
    elements: str
    default: []
  hypervisors:
    description: Hosts and groups of the inventory that the labs run on, in the order of the play that brings them up.
    type: list
    elements: str
    default: [localhost]
  ask:
    description: Ask the hypervisors which VMs they have. By default they are asked when there is no O(topology).
    type: bool
  labs:
    description: The labs that are wanted; all of them by default.
    type: list
    elements: str
    default: []
  ask_agent:
    description: Have the hypervisors ask guest agents for addresses, too; C(vlab_addresses) has them.
    type: bool
    default: false
  root:
    description:
      - Folder of all labs on the hypervisors.
      - The default is C(/var/lib/vlab) for root, C($XDG_STATE_HOME/vlab) for others.
    type: str
  connection:
    description: How nodes are reached.
    type: str
    choices:
      auto: As described above.
      guest_agent: All of them by P(vlab.qemu.guest_agent#connection).
      serial: All of them by P(vlab.qemu.serial#connection).
    default: auto
  host_name:
    description: What hosts are called. C({node}) and C({lab}) are filled in.
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
# lab.yml - the lab in a file, on this host
plugin: vlab.qemu.lab
topology: triangle.yml

---
# fabric.lab.yml - the lab in a file, on several hypervisors of the inventory
plugin: vlab.qemu.lab
topology: fabric.yml
hypervisors: [hypervisors]
ask: true

---
# all.lab.yml - all VMs that the hypervisors have, with groups by their status, kept for five minutes
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

import yaml
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

from ansible_collections.vlab.qemu.plugins.plugin_utils import _connection_vars
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


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The nodes of labs as hosts."""

    NAME = "vlab.qemu.lab"

    def verify_file(self, path):
        """Whether a file is for this plugin, by its name."""
        return super().verify_file(path) and path.endswith(("lab.yml", "lab.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Add the hosts, groups and variables."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self._known = {}
        hypervisors = self._hypervisors()
        nodes = self._from_files(os.path.dirname(path), hypervisors)
        ask = self.get_option("ask")
        if ask or (ask is None and not self.get_option("topology")):
            self._add_asked(nodes, self._asked(path, cache, hypervisors))
        wanted = set(self.get_option("labs"))
        names = {}
        for (lab, node), known in sorted(nodes.items()):
            if wanted and lab not in wanted:
                continue
            name = self.get_option("host_name").format(lab=lab, node=node)
            if name in names:
                raise AnsibleParserError(
                    "%s is the name of a node of the labs %s and %s: set host_name to '{lab}-{node}', or name labs"
                    % (name, names[name], lab)
                )
            names[name] = lab
            self._add(name, lab, node, known)

    def _hypervisors(self):
        hosts = []
        for name in self.get_option("hypervisors"):
            if name in self.inventory.groups:
                found = [host.name for host in self.inventory.groups[name].get_hosts()]
            elif name in self.inventory.hosts or name in ("localhost", "127.0.0.1"):
                found = [name]
            else:
                raise AnsibleParserError(
                    "hypervisors: the inventory has no host or group %s; its source must come before this one"
                    % name
                )
            hosts += [host for host in found if host not in hosts]
        return hosts

    def _from_files(self, folder, hypervisors):
        if not self.get_option("topology"):
            return {}
        missing = libraries.missing()
        if missing:
            raise AnsibleParserError(missing_required_lib(missing))
        nodes = {}
        for given in self.get_option("topology"):
            file = os.path.join(folder, os.path.expanduser(given))
            try:
                with open(file, encoding="utf-8") as stream:
                    topology = builder.build(load_yaml(stream))
                placed = placement.place(topology, hypervisors)
            except (OSError, yaml.YAMLError, TopologyError) as error:
                raise AnsibleParserError("topology: %s: %s" % (file, error))
            for name, node in topology.nodes.items():
                nodes[topology.name, name] = {
                    "about": node_facts(node),
                    "vm": _connection_vars.expected(node),
                    "hypervisor": placed[name],
                }
        return nodes

    def _asked(self, path, cache, hypervisors):
        """What each hypervisor has: {host: {"vms", "about"}}; from the cache where that is wanted and has it."""
        key = self.get_cache_key(path)
        use_cache = self.get_option("cache") and cache
        if use_cache:
            try:
                return self._cache[key]
            except KeyError:
                pass  # it has expired, or was never there
        found = {}
        for host in hypervisors:
            hypervisor = Hypervisor(host, self._variables_of(host))
            try:
                result, _pieces = hypervisor.request(
                    "vms", root=self.get_option("root"), ask_agent=self.get_option("ask_agent")
                )
            except AnsibleError as error:
                raise AnsibleParserError(
                    "cannot ask the hypervisor %s for its VMs: %s" % (host, error)
                )
            finally:
                hypervisor.close()
            for warning in result["warnings"]:
                self.display.warning("%s: %s" % (host, warning))
            found[host] = {"vms": result["vms"], "node_facts": result["node_facts"]}
        if self.get_option("cache"):
            self._cache[key] = found
        return found

    @staticmethod
    def _add_asked(nodes, asked):
        for host, found in asked.items():
            for vm in found["vms"]:
                known = nodes.setdefault(
                    (vm["lab"], vm["name"]),
                    {"about": found["node_facts"].get(vm["lab"], {}).get(vm["name"], {})},
                )
                known.update(vm=vm, hypervisor=host)

    def _variables_of(self, name):
        """The variables of a hypervisor that lead to it, found once for all its VMs."""
        if name not in self._known:
            self._known[name] = self._found_variables_of(name)
        return self._known[name]

    def _found_variables_of(self, name):
        """Them, from all sources read so far."""
        host = self.inventory.hosts.get(name)
        if host is None:
            return {"ansible_connection": "local"}
        sources = getattr(self.inventory, "processed_sources", None) or []
        groups = sorted(
            host.get_groups(), key=lambda group: (group.depth, group.priority, group.name)
        )
        known = {}
        for group in groups:
            known = combine_vars(known, group.get_vars())
        known = combine_vars(
            known, get_vars_from_inventory_sources(self.loader, sources, groups, "all")
        )
        known = combine_vars(known, host.get_vars())
        known = combine_vars(
            known, get_vars_from_inventory_sources(self.loader, sources, [host], "all")
        )
        # What Ansible itself knows of every host.
        known = dict(
            known,
            inventory_hostname=name,
            ansible_playbook_python=sys.executable,
            groups=self.inventory.get_groups_dict(),
        )
        self.templar.available_variables = known
        return {key: self.templar.template(value) for key, value in variables_for(known).items()}

    def _add(self, name, lab, node, known):
        self.inventory.add_host(name)
        told, vm, hypervisor = known["about"], known["vm"], known["hypervisor"]
        variables = {
            "vlab_vm": node,
            "vlab_lab": lab,
            "vlab_hypervisor": hypervisor,
            "vlab_root": self.get_option("root"),
            "vlab_kind": told.get("kind"),
            "vlab_groups": told.get("groups"),
            "vlab_nics": told.get("nics"),
            "vlab_status": vm.get("status"),
            "vlab_console_command": next(
                (console["command"] for console in vm.get("consoles", ())), None
            ),
            "vlab_addresses": [
                entry["address"]
                for nic in vm.get("nics", ())
                for entry in nic.get("addresses", ())
                if entry["source"] == "agent"
            ],
        }
        variables.update(
            ("vlab_" + key, told.get(key)) for key in ("loopback", "loopback6", "management", "asn")
        )
        way, more = _connection_vars.way(
            vm,
            told.get("network_os"),
            self.get_option("connection"),
            lambda: (
                self._variables_of(hypervisor)
                if hypervisor != "localhost"
                else {"ansible_connection": "local"}
            ),
        )
        variables.update(more)
        for key, value in variables.items():
            if value not in (None, []):
                self.inventory.set_variable(name, key, value)
        groups = ["lab_" + lab, "hypervisor_" + hypervisor] + [
            "role_" + group for group in told.get("groups", ())
        ]
        if told.get("kind"):
            groups.append("kind_" + told["kind"])
        for group in groups:
            self.inventory.add_child(
                self.inventory.add_group(to_safe_group_name(group, force=True, silent=True)), name
            )
        if told.get("network_os"):
            self.inventory.set_variable(
                to_safe_group_name("kind_" + told["kind"], force=True, silent=True),
                "ansible_network_os",
                told["network_os"],
            )
        group = self.inventory.add_group("vlab_" + way)
        self.inventory.add_child(group, name)
        for key, value in _connection_vars.GROUP_VARIABLES[way].items():
            self.inventory.set_variable(group, key, value)
        strict, seen = self.get_option("strict"), self.inventory.get_host(name).get_vars()
        self._set_composite_vars(self.get_option("compose"), seen, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), seen, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), seen, name, strict=strict)
