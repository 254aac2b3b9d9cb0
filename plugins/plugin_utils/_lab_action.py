# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import json
import os
import socket
import tempfile

import yaml
from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.text.converters import to_bytes
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

from ansible_collections.vlab.qemu.plugins.module_utils._lab.arguments import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.module_utils._lab.shortages import shortage_message
from ansible_collections.vlab.qemu.plugins.plugin_utils._progress import Progress
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import client, code_bundle
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import pipelining
from ansible_collections.vlab.qemu.plugins.plugin_utils._start_barrier import StartBarrier
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    endpoints,
    host_shares,
    images,
    libraries,
    placement,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.node_facts import facts_of_nodes
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import (
    Problems,
    TopologyError,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.template_variables import (
    template_variables,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.yaml_file import load_yaml

# A lab on its way: the topology; the nodes that the run is for, or None; where each node is; the wires between them; the state that
# each shall have, and whether it runs then; the wave that each belongs to, empty when all may start at once.
_Lab = collections.namedtuple("_Lab", "topology only placed wires states runs wave_of")


class LabAction(ActionBase):
    """One run of qemu_lab on one hypervisor."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        self.task_vars = task_vars
        try:
            return self._bring_about(dict(self._task.args), task_vars["inventory_hostname"])
        except TopologyError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        except AnsibleActionFail as error:
            # Raised on, it would pass by failed_when and until, which the module's own errors do not.
            return {"failed": True, "changed": False, "msg": error.message}

    def _bring_about(self, args, here):
        missing = libraries.missing()
        if missing:
            raise AnsibleActionFail(missing_required_lib(missing))
        if "share" in args:
            raise AnsibleActionFail("share is not for playbooks: give topology")
        args = self._validated(args)
        lab = self._lab(args)
        result = (
            self._in_waves(lab, args, here)
            if lab.wave_of
            else self._one_call(lab, args, here, lab.states)
        )
        result["placement"] = lab.placed
        return result

    def _one_call(self, lab, args, here, states):
        """One run of the module, with this host's share of the lab, its nodes in these states."""
        share = self._share(lab, args, here, states)
        # Only what the module needs crosses to the hypervisor.
        given = dict(args, topology={}, images={})
        if lab.only:
            given["purge"] = False
            if args.get("state") == "absent":
                # The module takes this state for the whole lab; here some nodes go.
                given["state"] = "present"
        with Progress(self, here) as progress:
            share["progress"] = progress.path
            result = self._converge(given, share)
            progress.finish(result.pop("progress", None) or [])
        return result

    @staticmethod
    def _validated(args):
        """The arguments with their types and defaults. A path is the hypervisor's to expand."""
        spec = {
            name: dict(option, type="str") if option["type"] == "path" else option
            for name, option in ARGUMENTS.items()
        }
        checked = ArgumentSpecValidator(spec).validate(args)
        if checked.unsupported_parameters:
            # As every module says it.
            raise AnsibleActionFail(
                "Unsupported parameters for (vlab.qemu.qemu_lab) module: %s"
                % checked.error_messages[-1]
            )
        if checked.error_messages:
            raise AnsibleActionFail("; ".join(checked.error_messages))
        return checked.validated_parameters

    def _converge(self, args, share):
        """Do this host's share by a request, or by the module if a request is not possible."""
        result = self._send_request(args, share)
        if result is None:
            share["code_bundle"] = code_bundle.digest()
            result = self._run_module(args, share)
            if result.get("code_bundle_missing"):
                result = self._run_module_with_code_bundle(args, share)
        return result

    def _send_request(self, args, share):
        """Return the result of a request; None if it was not possible and changed nothing."""
        if (
            not self._connection.has_pipelining
            or self._connection._shell.SHELL_FAMILY != "sh"
            or C.DEFAULT_KEEP_REMOTE_FILES
        ):
            return None
        if self._connection.become is not None and not self._connection.become.pipelining:
            return None
        interpreter = self._templar.template(self.task_vars.get("ansible_python_interpreter"))
        reply = client.send_request(
            self._run_on_host,
            client.interpreter_of(dict(self.task_vars, ansible_python_interpreter=interpreter)),
            "_lab.lab_service",
            "converge",
            {"params": dict(args, **share), "check_mode": self._task.check_mode},
        )
        if reply.message is not None:
            return reply.message.content["result"]
        if reply.started:
            return {
                "failed": True,
                "changed": True,
                "msg": "qemu_lab ended before it was done (exit code %s): %s"
                % (reply.code, reply.output[-2000:] or "it printed nothing"),
            }
        # The host has no Python, or its sudo needs a terminal, for example. Ansible's way of
        # running a module copes with that, or reports it.
        return None

    def _run_on_host(self, command, data):
        """Run a command line of sh with input. Return its exit code, output and error output."""
        command = " ".join(filter(None, (self._compute_environment_string(), command)))
        with pipelining(self._connection):
            done = self._low_level_execute_command(command, in_data=data, sudoable=True)
        return done["rc"], to_bytes(done["stdout"]), to_bytes(done["stderr"])

    def _run_module(self, args, share):
        # As texts: Ansible processes each value of arguments and results, which takes long for a
        # large lab.
        result = self._execute_module(
            "vlab.qemu.qemu_lab",
            module_args=dict(args, share=json.dumps(share)),
            task_vars=self.task_vars,
        )
        if isinstance(result.get("vms"), str):
            result["vms"] = json.loads(result["vms"])
        return result

    def _in_waves(self, lab, args, here):
        """Nodes that come after some of another hypervisor start when those are there: one run of the module for each wave."""
        self._check_together(lab)
        waves = StartBarrier(C.DEFAULT_LOCAL_TMP, (self._task._uuid, lab.topology.name), here)
        mine = {name: lab.wave_of[name] for name in lab.topology.nodes if lab.placed[name] == here}
        total = {}
        try:
            for number in sorted(set(mine.values())) or [0]:
                self._await_others(
                    lab, waves, here, [name for name in mine if mine[name] == number]
                )
                states = {
                    name: "present"
                    if state in ("started", "paused") and mine.get(name, 0) > number
                    else state
                    for name, state in lab.states.items()
                }
                total = _joined(total, self._one_call(lab, args, here, states))
                if total.get("failed"):
                    failed = total.get("failed_nodes") or mine
                    waves.tell(
                        {
                            name: "it failed there" if name in failed or mine[name] > number else ""
                            for name in mine
                        }
                    )
                    break
                waves.tell({name: "" for name in mine if mine[name] <= number})
        except AnsibleError as error:
            waves.tell(
                {name: "its hypervisor gave up" for name in mine if name not in waves.reached}
            )
            if isinstance(error, AnsibleActionFail):
                return dict(total, failed=True, changed=bool(total.get("changed")), msg=str(error))
            raise
        return total

    def _check_together(self, lab):
        """All hypervisors must be at work at the same time, else one would wait in vain."""
        hosts = sorted(set(lab.placed.values()))
        together = set(self.task_vars.get("ansible_play_batch") or hosts)
        forks = min(
            number for number in (context.CLIARGS.get("forks"), self._task.throttle) if number
        )
        if not set(hosts) <= together:
            raise AnsibleActionFail(
                "nodes come after nodes of other hypervisors: %s must be in the play at the same time (see serial)"
                % ", ".join(hosts)
            )
        if forks < len(hosts):
            raise AnsibleActionFail(
                "nodes come after nodes of other hypervisors: %d hypervisors have to work at the same time, but forks or "
                "throttle allow %d" % (len(hosts), forks)
            )

    def _await_others(self, lab, waves, here, names):
        nodes = lab.topology.nodes
        others = {
            other: name
            for name in names
            for other in nodes[name].after
            if lab.placed[other] != here
        }
        if not others:
            return
        seconds = 120 + sum(
            float(nodes[other].settings["ready"].get("timeout") or 300) for other in others
        )
        for other, why in waves.wait(others, seconds).items():
            if why is None or why:
                raise AnsibleActionFail(
                    "%s was not started: it comes after %s on %s: %s"
                    % (
                        others[other],
                        other,
                        lab.placed[other],
                        why or "nothing was heard of it within %d s" % seconds,
                    )
                )

    def _run_module_with_code_bundle(self, args, share):
        """Copy the code bundle to the hypervisor, which caches it, and run the module."""
        remote = self._connection._shell.join_path(self._make_tmp_path(), "bundle.zip")
        with tempfile.NamedTemporaryFile(suffix=".zip") as local:
            local.write(code_bundle.pack())
            local.flush()
            self._transfer_file(local.name, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        share["code_bundle_archive"] = remote
        try:
            return self._run_module(args, share)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _lab(self, args):
        """The lab and what this run is to make of it. Raises TopologyError."""
        data = self._read(args.get("topology"))
        if args.get("lab") and isinstance(data, dict):
            data = dict(data, name=args["lab"])
        topology = builder.build(data)
        state, only = args.get("state", "started"), args.get("nodes")
        if isinstance(only, str):
            only = [name.strip() for name in only.split(",") if name.strip()]
        if only is not None and not only:
            raise AnsibleActionFail(
                "nodes: an empty list names no node; leave it out for all of them"
            )
        problems = Problems()
        for name in only or ():
            if name not in topology.nodes:
                problems.add(
                    "nodes",
                    "the topology has no node %s; it has %s",
                    name,
                    ", ".join(sorted(topology.nodes)),
                )
        if state != "absent":
            images.apply_images(topology, args.get("images") or {}, problems)
        problems.check()
        hosts, facts = self._hosts(topology.name)
        placed = placement.place(topology, hosts, facts)
        wires = endpoints.UdpEndpoints(topology, placed, self._addresses(topology, placed))
        if state not in ("absent", "stopped"):
            rows = placement.shortages(topology, placed, facts, wires.ports_between_hosts())
            if rows:
                raise AnsibleActionFail(shortage_message(topology.name, rows))
        states = self._states(topology, state, only, facts)
        wave_of = (
            placement.start_phases(topology, placed)
            if state in ("started", "paused") and not self._task.check_mode
            else {}
        )
        return _Lab(
            topology,
            only,
            placed,
            wires,
            states,
            placement.will_run(topology, states, facts),
            wave_of if any(wave_of.values()) else {},
        )

    def _share(self, lab, args, here, states):
        topology = lab.topology
        if args.get("state") == "absent" and not lab.only:
            share = {"lab": topology.name, "vms": [], "segments": []}
        else:
            share = host_shares.share_for(
                topology, lab.placed, here, lab.wires, states, lab.runs, self._renderer(topology)
            )
            for vm in share["vms"]:
                # Started by a later wave of this run: its neighbours keep their carriers.
                vm["later"] = states[vm["name"]] != lab.states[vm["name"]]
            share["node_facts"] = facts_of_nodes(topology, [vm["name"] for vm in share["vms"]])
        share["limits"] = topology.data["limits"]
        return share

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
                return load_yaml(stream)
        except OSError as error:
            raise AnsibleActionFail("topology: cannot read %s: %s" % (path, error.strerror))
        except yaml.YAMLError as error:
            raise AnsibleActionFail("topology: %s is not YAML: %s" % (path, error))

    def _hosts(self, lab):
        """The hypervisors of the play, and what qemu_lab_info found on them."""
        hosts = list(
            self.task_vars.get("ansible_play_hosts_all") or [self.task_vars["inventory_hostname"]]
        )
        facts = {}
        for host in hosts:
            found = (
                (self.task_vars["hostvars"][host].get("vlab_hypervisor") or {})
                if host in self.task_vars.get("hostvars", {})
                else {}
            )
            if found.get("lab") == lab:
                facts[host] = found
        return hosts, facts

    def _addresses(self, topology, placed):
        """Where other hypervisors reach each one: the variable vlab_address, else the address that Ansible uses."""
        addresses = {}
        for host in endpoints.hosts_with_addresses(topology, placed):
            known = self.task_vars["hostvars"][host]
            name = known.get("vlab_address") or known.get("ansible_host") or host
            try:
                addresses[host] = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_DGRAM)[
                    0
                ][4][0]
            except OSError:
                raise AnsibleActionFail(
                    "links cross between hypervisors, and the address of %s (%s) is not known here: set vlab_address for it"
                    % (host, name)
                )
            if (
                addresses[host].startswith("127.")
                and len(placed) > 1
                and len(set(placed.values())) > 1
            ):
                raise AnsibleActionFail(
                    "links cross between hypervisors, but %s is reached at %s: set vlab_address to the address that the "
                    "others reach it at" % (host, addresses[host])
                )
        return addresses

    @staticmethod
    def _states(topology, state, only, facts):
        states = {}
        running = {
            name: vm for found in facts.values() for name, vm in found.get("vms", {}).items()
        }
        for name, node in topology.nodes.items():
            if only and name not in only:
                stopped = name in running and running[name]["status"] in ("stopped", "crashed")
                states[name] = "present" if stopped else "keep"
            else:
                states[name] = node.settings.get("state") or state if state == "started" else state
        return states

    def _renderer(self, topology):
        nodes = {}  # filled for the first template: most labs have none
        shared = {"name": topology.name, "vars": topology.data["vars"]}

        def render(node, content):
            if isinstance(content, str):
                return content
            path = content["template"]
            try:
                path = self._find_needle("templates", path)
            except AnsibleError:
                raise AnsibleActionFail(
                    "nodes.%s.files: there is no template %s on the controller"
                    % (node.name, content["template"])
                )
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
            if not nodes:
                nodes.update(
                    (name, template_variables(topology, each))
                    for name, each in topology.nodes.items()
                )
            variables = dict(self.task_vars, lab=shared, lab_nodes=nodes, node=nodes[node.name])
            return self._render(text, path, variables)

        return render

    def _render(self, text, path, variables):
        templar = self._templar.copy_with_new_env(
            searchpath=[os.path.dirname(path)], available_variables=variables
        )
        return templar.template(
            trust_as_template(text), preserve_trailing_newlines=True, escape_backslashes=False
        )


def _joined(first, then):
    """The results of two runs of the module as one."""
    if not first:
        return then
    joined = dict(then, changed=bool(first.get("changed") or then.get("changed")))
    for key, nothing in (("changes", []), ("warnings", [])):
        joined[key] = (first.get(key) or nothing) + (then.get(key) or nothing)
    one, other = first.get("actions") or {}, then.get("actions") or {}
    joined["actions"] = {name: one.get(name, []) + other.get(name, []) for name in {**one, **other}}
    if first.get("diff") and then.get("diff"):
        joined["diff"] = {
            side: first["diff"][side] + then["diff"][side] for side in ("before", "after")
        }
    return joined
