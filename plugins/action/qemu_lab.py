# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import tempfile

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.action import ActionBase

from ansible_collections.vlab.qemu.plugins.plugin_utils import _bundle
from ansible_collections.vlab.qemu.plugins.plugin_utils._progress import Progress
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import libraries, model, placement, slices
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems, TopologyError


class ActionModule(ActionBase):
    """The controller's half of qemu_lab: the topology, its addresses and placement, and the share of each hypervisor."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        if libraries.missing():
            raise AnsibleActionFail(missing_required_lib(libraries.missing()))
        self.task_vars = task_vars
        args = dict(self._task.args)
        if "share" in args:
            raise AnsibleActionFail("share is not for playbooks: give topology")
        try:
            share, placed = self._share(args)
        except TopologyError as error:
            raise AnsibleActionFail(str(error))
        # Only what the module needs crosses to the hypervisor.
        args.update(topology={}, images={}, share=share)
        with Progress(self, task_vars["inventory_hostname"]) as progress:
            share.update(progress=progress.path, bundle=_bundle.mark())
            result = self._execute_module("vlab.qemu.qemu_lab", module_args=args, task_vars=task_vars)
            if result.get("bundle_missing"):
                result = self._with_bundle(args, share)
        result["placement"] = placed
        return result

    def _with_bundle(self, args, share):
        """Send the rooms of the target along, which the hypervisor then keeps."""
        remote = self._connection._shell.join_path(self._make_tmp_path(), "bundle.zip")
        with tempfile.NamedTemporaryFile(suffix=".zip") as local:
            _bundle.pack(local.name)
            self._transfer_file(local.name, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        share["archive"] = remote
        try:
            return self._execute_module("vlab.qemu.qemu_lab", module_args=args, task_vars=self.task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _share(self, args):
        topology = model.build(self._read(args.get("topology")))
        state, only = args.get("state", "started"), args.get("nodes")
        if isinstance(only, str):
            only = [name.strip() for name in only.split(",") if name.strip()]
        problems = Problems()
        for name in only or ():
            if name not in topology.nodes:
                problems.add("nodes", "the topology has no node %s; it has %s", name, ", ".join(sorted(topology.nodes)))
        if state != "absent":
            slices.apply_images(topology, args.get("images") or {}, problems)
        problems.check()
        hosts, facts = self._hosts(topology.name)
        placed = placement.place(topology, hosts, facts)
        if state not in ("absent", "stopped"):
            rows = placement.shortages(topology, placed, facts)
            if rows:
                raise AnsibleActionFail("the lab %s does not fit, and nothing was touched:\n%s" % (topology.name, placement.table(rows)))
        wires = slices.Wires(topology, placed, self._addresses(topology, placed, facts))
        states = self._states(topology, state, only, facts)
        here = self.task_vars["inventory_hostname"]
        if state == "absent" and not only:
            share = {"lab": topology.name, "vms": [], "hubs": [], "booting": None}
        else:
            share = slices.slice_for(topology, placed, here, wires, states, self._renderer(topology))
        share["memory_overcommit"] = topology.data["limits"].get("memory_overcommit")
        if only:
            args["purge"] = False
            if state == "absent":
                # The module takes this state for the whole lab; here some nodes go.
                args["state"] = "present"
        return share, placed

    def _read(self, topology):
        """The topology as data: given, or read from a file of the controller."""
        if isinstance(topology, dict):
            return topology
        if not isinstance(topology, str):
            raise AnsibleActionFail("topology: give a dictionary, or the path of a YAML file")
        try:
            path = self._find_needle("files", topology)
        except AnsibleError:
            path = os.path.expanduser(topology)
        try:
            with open(path, encoding="utf-8") as stream:
                return yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except OSError as error:
            raise AnsibleActionFail("topology: cannot read %s: %s" % (path, error.strerror))
        except yaml.YAMLError as error:
            raise AnsibleActionFail("topology: %s is not YAML: %s" % (path, error))

    def _hosts(self, lab):
        """The hypervisors of the play, and what qemu_lab_info found on them."""
        hosts = list(self.task_vars.get("ansible_play_hosts_all") or [self.task_vars["inventory_hostname"]])
        facts = {}
        for host in hosts:
            found = (self.task_vars["hostvars"][host].get("vlab_hypervisor") or {}) if host in self.task_vars.get("hostvars", {}) else {}
            if found.get("lab") == lab:
                facts[host] = found
        return hosts, facts

    def _addresses(self, topology, placed, facts):
        """Where other hypervisors reach each one: the variable vlab_address, else the address that Ansible uses."""
        addresses = {}
        for host in slices.hosts_with_addresses(topology, placed):
            known = self.task_vars["hostvars"][host]
            name = known.get("vlab_address") or known.get("ansible_host") or host
            try:
                addresses[host] = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0]
            except OSError:
                raise AnsibleActionFail("links cross between hypervisors, and the address of %s (%s) is not known here: set vlab_address for it"
                                        % (host, name))
            if addresses[host].startswith("127.") and len(placed) > 1 and len(set(placed.values())) > 1:
                raise AnsibleActionFail("links cross between hypervisors, but %s is reached at %s: set vlab_address to the address that the "
                                        "others reach it at" % (host, addresses[host]))
        return addresses

    @staticmethod
    def _states(topology, state, only, facts):
        states = {}
        running = {name: vm for found in facts.values() for name, vm in found.get("vms", {}).items()}
        for name, node in topology.nodes.items():
            if only and name not in only:
                stopped = name in running and running[name]["status"] in ("stopped", "crashed")
                states[name] = "present" if stopped else "keep"
            else:
                states[name] = node.settings.get("state") or state if state == "started" else state
        return states

    def _renderer(self, topology):
        nodes = {name: slices.variables(topology, node) for name, node in topology.nodes.items()}
        shared = {"name": topology.name, "vars": topology.data["vars"]}

        def render(node, content):
            if isinstance(content, str):
                return content
            path = content["template"]
            try:
                path = self._find_needle("templates", path)
            except AnsibleError:
                raise AnsibleActionFail("nodes.%s.files: there is no template %s on the controller" % (node.name, content["template"]))
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
            variables = dict(self.task_vars, lab=shared, lab_nodes=nodes, node=nodes[node.name])
            return self._render(text, path, variables)
        return render

    def _render(self, text, path, variables):
        try:
            from ansible.template import trust_as_template
        except ImportError:
            templar = self._templar.copy_with_new_env(searchpath=[os.path.dirname(path)], available_variables=variables)
            return templar.do_template(text, preserve_trailing_newlines=True, escape_backslashes=False)
        templar = self._templar.copy_with_new_env(searchpath=[os.path.dirname(path)], available_variables=variables)
        return templar.template(trust_as_template(text), preserve_trailing_newlines=True, escape_backslashes=False)
