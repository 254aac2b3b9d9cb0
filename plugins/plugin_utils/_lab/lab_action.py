# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The action of qemu_lab: it reads the topology, places the nodes, and runs this host's share."""

from __future__ import annotations

import functools
import os
from typing import Any, Callable, Mapping

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.template import trust_as_template

from ansible_collections.vlab.qemu.plugins.module_utils._common import option_paths
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    with_hint,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.arguments import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.plugin_utils import _local_files
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import appliance
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lab import Deriver, Given, Lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lab_migrations import (
    migrate_once,
    result_of,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.migration import SERVICE
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.node_states import (
    states_in_phase,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.play_hypervisors import (
    PlayHypervisors,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.progress import Progress
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.record_cache import RecordCache
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.results import (
    joined_results,
    short_diff,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.run_cache import (
    RunCache,
    without_collector,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.share import (
    ready_content,
    share_of,
    with_shares,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.share_runner import (
    Params,
    ShareRunner,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.start_barrier import StartBarrier
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.topology_origin import origin_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.topology_source import (
    named,
    read_topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.host_action import Result
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import libraries
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.appliances import (
    needed_images,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.config_drive import (
    Content,
    Render,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import (
    TopologyError,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.template_variables import (
    template_variables,
)

_BY_NAME = ("stopped", "absent")  # states that need no topology
_MAX_ATTEMPTS = 4  # to derive a share, while other runs change the lab
_READY_TIMEOUT = 300  # seconds, for a node whose kind has none
_START_TIMEOUT = 120  # seconds for everything before the first node of another host is ready


class LabAction(ShareRunner):
    """One run of qemu_lab on one hypervisor. host: its name in the inventory."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Run the task; return its result."""
        super().run(tmp, task_vars)
        self.task_vars = task_vars or {}
        self.host: str = self.task_vars["inventory_hostname"]
        self._topology_folder = ""
        try:
            return self._run(dict(self._task.args))
        except TopologyError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        except AnsibleActionFail as error:
            # As an exception it would bypass failed_when and until, unlike an error of a module.
            return {"failed": True, "changed": False, "msg": error.message}

    def _run(self, args: Params) -> Result:
        missing = libraries.missing()
        if missing:
            raise AnsibleActionFail(missing_required_lib(missing))
        if "share" in args:
            raise AnsibleActionFail("share is not for playbooks: give topology")
        params = _validated(args)
        if params["topology"] is None or not params["topology"] and params["state"] in _BY_NAME:
            return self._run_by_name(params)
        params["from"] = self._source(params)
        record: str | None = None
        for _attempt in range(_MAX_ATTEMPTS):
            with without_collector():
                lab = self._lab(params, record)
            migrated = self._migrate(lab, params)
            if migrated.get("failed"):
                return self._shown(migrated)
            if lab.phases:
                result = self._run_in_phases(lab, params)
            else:
                result = self._run_once(lab, params, lab.states)
            record = result.get("lab_record")
            if not record:
                result = joined_results(migrated, result)
                result["placement"] = lab.placed
                self._remember(lab, params, result)
                if result.get("failed"):
                    message = str(result.get("msg", ""))
                    result["msg"] = message + needed_images(lab.topology, message)
                return self._shown(result)
            # The host changed nothing: it has given other addresses before.
        raise AnsibleActionFail("other runs keep changing the lab %s: run it again" % lab.name)

    def _migrate(self, lab: Lab, params: Params) -> Result:
        """Migrate the VMs whose nodes are placed elsewhere now; return what left this host."""
        if not lab.moves:
            return {}

        def connect() -> PlayHypervisors:
            connection = str(self._task.connection or "ssh")
            hostvars = self.task_vars["hostvars"]
            return PlayHypervisors(
                hostvars, connection, self._play_context, SERVICE, "allow_migration"
            )

        names = ("state", "nodes", "allow_container", "lock_timeout", "start_timeout")
        common = {name: params[name] for name in names}
        common.update(lab=lab.name, check_mode=self._task.check_mode)
        words = (self._task._uuid, common)
        results = migrate_once(C.DEFAULT_LOCAL_TMP, words, lab.moves, connect, common)
        return result_of(self.host, lab.moves, results)

    def _run_once(self, lab: Lab, params: Params, states: Mapping[str, str]) -> Result:
        """Run this host's share with these states of the nodes."""
        share = self._share(lab, params, states)
        # The host needs neither the topology nor the images.
        params = dict(params, topology={}, images={})
        if lab.only:
            params["purge"] = False
            if params["state"] == "absent":
                # For the module, absent is about the whole lab. Here, only some nodes are removed.
                params["state"] = "present"
        return self._run_with_progress(params, share)

    def _run_with_progress(self, params: Params, share: Params) -> Result:
        with Progress(self, self.host) as progress:
            share["progress"] = progress.path
            result = self.run_share(params, share)
            progress.finish(result.pop("progress", None) or [])
        return result

    def _shown(self, result: Result) -> Result:
        """Return a result with a short diff, unless the verbosity asks for all of it."""
        if result.get("diff") and not self._display.verbosity:
            result["diff"] = short_diff(result["diff"])
        return result

    def _run_by_name(self, params: Params) -> Result:
        """Stop or remove what this host has of a lab, without its topology."""
        name = params.get("lab_name") or params.get("lab")
        if params["state"] not in _BY_NAME:
            raise AnsibleActionFail(
                "topology is missing: lab_name is enough for state %s only" % " and ".join(_BY_NAME)
            )
        if not name:
            raise AnsibleActionFail("state %s needs the topology, or lab_name" % params["state"])
        if params.get("nodes") is not None:
            raise AnsibleActionFail(
                "nodes: for some nodes of a lab, give its topology: their neighbours change"
            )
        owner = origin_of(params.get("owner"), None, None)
        share: Params = {"lab": name, "vms": [], "by_name": True, "origin": owner}
        # Whatever the lab has is part of it.
        unused: Params = {"topology": {}, "images": {}, "purge": False, "from": None}
        result = self._run_with_progress(dict(params, **unused), share)
        result["placement"] = {}
        if params["state"] == "absent" and not result.get("failed"):
            RecordCache(self.host, str(params.get("root")), name).remove()
        return self._shown(result)

    def _run_in_phases(self, lab: Lab, params: Params) -> Result:
        """Run this host's share once for each start phase.

        The nodes of a phase start when those of other hosts that they come after are up.
        """
        self._check_hosts_run_together(lab)
        key = (self._task._uuid, lab.name)
        barrier = StartBarrier(C.DEFAULT_LOCAL_TMP, key, self.host)
        phases = {
            name: lab.phases[name] for name in lab.topology.nodes if lab.placed[name] == self.host
        }
        total: Result = {}
        try:
            for phase in sorted(set(phases.values())) or [0]:
                starting = [name for name in phases if phases[name] == phase]
                self._wait_for_other_hosts(lab, barrier, starting)
                states = states_in_phase(lab.states, phases, phase)
                result = self._run_once(lab, params, states)
                if result.get("lab_record"):
                    return result
                total = joined_results(total, result)
                if total.get("failed"):
                    failed = total.get("failed_nodes") or phases
                    barrier.report(
                        {
                            name: "it failed there" if name in failed or own > phase else ""
                            for name, own in phases.items()
                        }
                    )
                    break
                barrier.report({name: "" for name, own in phases.items() if own <= phase})
        except AnsibleError as error:
            missing = [name for name in phases if name not in barrier.reported]
            barrier.report(dict.fromkeys(missing, "its hypervisor gave up"))
            if isinstance(error, AnsibleActionFail):
                return dict(total, failed=True, changed=bool(total.get("changed")), msg=str(error))
            raise
        return total

    def _check_hosts_run_together(self, lab: Lab) -> None:
        """Check that the task runs on all hosts at the same time; otherwise one waits in vain."""
        hosts = sorted(set(lab.placed.values()))
        batch = set(self.task_vars.get("ansible_play_batch") or hosts)
        if not set(hosts) <= batch:
            raise AnsibleActionFail(
                "nodes come after nodes of other hypervisors: %s must be in the play at the same "
                "time (see serial)" % ", ".join(hosts)
            )
        limits = (context.CLIARGS.get("forks"), self._task.throttle)
        forks = min(limit for limit in limits if limit)
        if forks < len(hosts):
            raise AnsibleActionFail(
                "nodes come after nodes of other hypervisors: %d hypervisors must run at the same "
                "time, but forks or throttle allow %d" % (len(hosts), forks)
            )

    def _wait_for_other_hosts(self, lab: Lab, barrier: StartBarrier, starting: list[str]) -> None:
        """Wait until the nodes of other hosts are up that the starting nodes come after."""
        nodes = lab.topology.nodes
        # {node of another host: the node that comes after it}
        awaited = {
            other: name
            for name in starting
            for other in nodes[name].after
            if lab.placed[other] != self.host
        }
        if not awaited:
            return
        timeout = _START_TIMEOUT + sum(
            float(nodes[name].settings["ready"].get("timeout") or _READY_TIMEOUT)
            for name in awaited
        )
        for other, reason in barrier.wait(awaited, timeout).items():
            if reason != "":
                raise AnsibleActionFail(
                    "%s was not started: it comes after %s on %s: %s"
                    % (
                        awaited[other],
                        other,
                        lab.placed[other],
                        reason or "that host did not report it within %d s" % timeout,
                    )
                )

    def _remember(self, lab: Lab, params: Params, result: Result) -> None:
        """Keep the record of the lab for the next run on this controller."""
        if result.get("failed"):
            return
        if not lab.is_cached:
            return
        if params["state"] == "absent" and not lab.only:
            self._record_cache.remove()
        else:
            derived = None if self._task.check_mode else lab.derived
            lab.record.remember(self._record_cache, derived)

    def _lab(self, params: Params, record: str | None) -> Lab:
        """Return the lab and what this run does with it. Raises AnsibleActionFail.

        record: the record of the lab that this host has sent.
        """
        source = read_topology(params.get("topology"), self._find_needle, self._once)
        if source.path:
            self._topology_folder = os.path.dirname(os.path.abspath(source.path))
        data = named(source.data, params.get("lab_name"), params.get("lab"))
        self._record_cache = RecordCache(self.host, str(params.get("root")), _name(data))
        given = Given(params, data, source.path, record, self._record_cache)

        query = functools.partial(self._query_record, params.get("root"))
        deriver = Deriver(self.task_vars, self._task.check_mode, self._read_appliance, query)
        key = deriver.key(given, self._task._uuid)

        def derive() -> Lab | str:
            try:
                lab = deriver.derive(given)
                if key is None:
                    return lab
                return with_shares(lab, deriver.batch, params["state"], self._task.check_mode)
            except TopologyError as error:
                return str(error)
            except AnsibleActionFail as error:
                return str(error.message)

        lab = derive() if key is None else self._once(key, derive)
        if isinstance(lab, str):
            raise AnsibleActionFail(lab)
        return lab

    def _once(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return what all hosts of the task would compute; the first one does."""
        if len(self.task_vars.get("ansible_play_batch") or ()) < 2:
            return compute()
        return RunCache(C.DEFAULT_LOCAL_TMP).get(key, compute)

    def _query_record(self, root: str | None, lab: str) -> str | None:
        """Return the text of the record of a lab on this host, None without one."""
        place = {"root": root, "lab": lab}
        try:
            found = self.send_request(self.task_vars, "_lab.lab_service", "record", place)
        except AnsibleError:
            return None  # an unreachable host, which the request with its share reports
        return found.get("record") if found else None

    def _share(self, lab: Lab, params: Params, states: Mapping[str, str]) -> Params:
        """Return this host's share with these states of the nodes."""
        if self.host in lab.shares:
            found = lab.shares[self.host].get()
        else:
            render = self._renderer(lab.topology)
            check_mode = self._task.check_mode
            found = share_of(lab, self.host, params["state"], states, check_mode, render)
        record = {} if params["state"] == "absent" and not lab.only else {"record": lab.derived}
        common = {"origin": lab.origin, "placed": lab.placed, "queried_lab": lab.queried}
        return {**found, **record, **common}

    def _source(self, params: Params) -> dict[str, str] | None:
        """Return the lab and the checkpoint that the lab is a clone of, None for another lab."""
        given = params.get("from")
        if not given or params["state"] == "absent":
            return None
        data = read_topology(params["topology"], self._find_needle, self._once).data
        lab = given.get("lab") or _name(named(data, None, params.get("lab")))
        if lab == _name(named(data, params.get("lab_name"), params.get("lab"))):
            raise AnsibleActionFail(
                "from: a lab cannot be a clone of itself: give this one another lab_name"
            )
        return {"lab": lab, "checkpoint": given["checkpoint"]}

    def _renderer(self, topology: Topology) -> Render:
        """Return the function that reads the nodes' files and renders their templates."""
        nodes: dict[str, Any] = {}  # filled for the first template: most labs have none
        lab = {"name": topology.name, "vars": topology.data["vars"]}

        def render(node: Node, content: Any) -> Content:
            found = ready_content(content)
            if found is not None:
                return found
            if _local_files.is_source(content):
                option = "nodes.%s.files" % node.name
                return _local_files.encoded(option, content["src"], self._find)
            try:
                path = self._find("templates", content["template"])
            except AnsibleError:
                raise AnsibleActionFail(
                    "nodes.%s.files: there is no template %s on the controller"
                    % (node.name, content["template"])
                )
            if not nodes:
                for each in topology.systems:
                    nodes[each.name] = template_variables(topology, each)
            own = nodes.get(node.name) or template_variables(topology, node)
            variables = dict(self.task_vars, lab=lab, lab_nodes=nodes, node=own)
            reason: str | None = None
            try:
                with open(path, encoding="utf-8") as stream:
                    return self._render(stream.read(), path, variables)
            except OSError as error:
                reason = error.strerror
            except UnicodeDecodeError:
                reason = "it is not UTF-8"
            except AnsibleError as error:
                reason = error.message
            raise AnsibleActionFail(
                "nodes.%s.files: the template %s cannot be rendered: %s" % (node.name, path, reason)
            )

        return render

    def _read_appliance(self, file: str, version: str | None) -> Mapping[str, Any]:
        """Return the kind of an appliance. Raises OptionError."""
        try:
            path = self._find("files", os.path.expanduser(file))
        except AnsibleError:
            raise OptionError("appliance", "there is no file %s on the controller" % file)
        return appliance.read_kind(path, version)

    def _find(self, folder: str, name: str) -> str:
        """Return the path of a file of a node: as Ansible finds it, or beside the topology."""
        try:
            found: str = self._find_needle(folder, name)
            return found
        except AnsibleError:
            path = os.path.join(self._topology_folder, name)
            if self._topology_folder and os.path.isfile(path):
                return path
            raise

    def _render(self, text: str, path: str, variables: dict[str, Any]) -> str:
        templar = self._templar.copy_with_new_env(
            searchpath=[os.path.dirname(path)], available_variables=variables
        )
        rendered: str = templar.template(
            trust_as_template(text), preserve_trailing_newlines=True, escape_backslashes=False
        )
        return rendered


def _name(data: Any) -> str:
    return str(data.get("name") or "") if isinstance(data, dict) else ""


def _validated(args: Params) -> Params:
    """Return the options with their types and defaults. The host expands paths."""
    spec = option_paths.unexpanded(ARGUMENTS)
    checked = ArgumentSpecValidator(spec).validate(args)
    if checked.unsupported_parameters:
        # The message of Ansible's modules.
        raise AnsibleActionFail(
            "Unsupported parameters for (vlab.qemu.qemu_lab) module: %s"
            % with_hint(checked.error_messages[-1], checked.unsupported_parameters, spec)
        )
    if checked.error_messages:
        raise AnsibleActionFail("; ".join(checked.error_messages))
    params: Params = checked.validated_parameters
    return params
