# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The lab of one run: its topology, where its nodes are, and what the run does with them."""

from __future__ import annotations

import hashlib
import json
import socket
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ansible.errors import AnsibleActionFail

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import names_hint
from ansible_collections.vlab.qemu.plugins.module_utils._lab.lab_record import Sent
from ansible_collections.vlab.qemu.plugins.module_utils._lab.origin import ownership_of
from ansible_collections.vlab.qemu.plugins.module_utils._lab.shortages import shortage_message
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import SYSTEM_ROOT
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lazy import Lazy
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.node_states import (
    chosen_nodes,
    states_of,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.play_hypervisors import (
    are_on_controller,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.record_cache import RecordCache
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.topology_origin import origin_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.used_record import (
    UsedRecord,
    existing_vms,
    queried_facts,
    queried_lab,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    conflicts,
    endpoints,
    images,
    moves,
    placement,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.appliances import ReadAppliance
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.modules import with_modules
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

# The variables in which a play keeps the results of qemu_lab_info: of the lab, and of the lab that
# it is a clone of.
_LAB_INFO, _ORIGIN_INFO = "lab_info", "lab_origin_info"
# Options that do not matter to the other hosts, or that are represented by others.
_OWN_OPTIONS = ("topology", "root", "image_dir")


class Built(NamedTuple):
    """What most workers need not unpickle: the topology, its ports, and the record it is from."""

    topology: Topology
    endpoints: endpoints.UdpEndpoints
    record: UsedRecord


class Lab(NamedTuple):
    """A lab in one run of qemu_lab.

    only: the nodes that the run is limited to, None for all. placed: {node: host}. states: {node:
    its state in this run}. runs: {node: whether it runs after that}. phases: {node: start phase},
    empty if no node waits for one of another host. derived: what the hosts are to record.
    is_cached: whether the record that the topology was derived from is kept on the controller.
    origin: where the topology came from. queried: the lab on the hosts that have been queried, None
    if none has been. moves: the VMs that are migrated first. shares: {host: its share}, for those
    that any worker could make.
    """

    name: str
    built: Lazy[Built]
    only: Sequence[str] | None
    placed: placement.Placement
    states: dict[str, str]
    runs: dict[str, bool]
    phases: dict[str, int]
    derived: Sent
    is_cached: bool
    origin: str | None
    queried: dict[str, Any] | None
    moves: list[moves.Move]
    shares: dict[str, Lazy[dict[str, Any]]]

    @property
    def topology(self) -> Topology:
        """The nodes and links."""
        return self.built.get().topology

    @property
    def endpoints(self) -> endpoints.UdpEndpoints:
        """The ports of the links."""
        return self.built.get().endpoints

    @property
    def record(self) -> UsedRecord:
        """The record that was used to derive the topology."""
        return self.built.get().record


class Given(NamedTuple):
    """What a task gives. params: its validated options. data, path: of the topology.

    sent: the record of the lab that this host has sent, None in a first attempt. cache: of the
    record on the controller.
    """

    params: dict[str, Any]
    data: Any
    path: str | None
    sent: str | None
    cache: RecordCache

    @property
    def name(self) -> Any:
        """The name of the lab."""
        return self.data.get("name") if isinstance(self.data, dict) else None

    @property
    def image_dir(self) -> str:
        """The folder of images, only to compare paths.

        The default folder of another user than root is not known here.
        """
        params = self.params
        return params.get("image_dir") or "%s/images" % (params.get("root") or SYSTEM_ROOT)


class Deriver:
    """Derives the lab of a task.

    task_vars: of the task's host. check_mode: of the task. read_appliance: see with_appliances.
    query_record: returns the text of the record of a lab on the task's host, None without one.
    """

    def __init__(
        self,
        task_vars: Mapping[str, Any],
        check_mode: bool,
        read_appliance: ReadAppliance,
        query_record: Callable[[str], str | None],
    ) -> None:
        self._vars, self._check_mode = task_vars, check_mode
        self._read_appliance, self._query_record = read_appliance, query_record
        self.hosts = list(
            task_vars.get("ansible_play_hosts_all") or [task_vars["inventory_hostname"]]
        )
        self.batch = list(task_vars.get("ansible_play_batch") or self.hosts)

    def key(self, given: Given, task: str) -> str | None:
        """Return a digest of all that derive() depends on; None if there is no other host.

        task: identifies the task in this run. During a task, all hosts find the same facts: those
        of the first one stand for all.
        """
        if len(self.batch) < 2:
            return None
        parts = [
            [task, self._check_mode, self.hosts, self.batch, self._vars.get("playbook_dir")],
            self.facts(given.name, hosts=self.hosts[:1]),
            {name: value for name, value in given.params.items() if name not in _OWN_OPTIONS},
            [given.data, given.path, given.image_dir, given.sent, given.cache.text()],
        ]
        try:
            text = json.dumps(parts, default=str)
        except (ValueError, TypeError, RecursionError):
            return None  # the topology has an error
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def derive(self, given: Given) -> Lab:
        """Return the lab and what this run does with it. Raises TopologyError."""
        params, hosts, facts = given.params, self.hosts, self.facts(given.name)
        queried = None if facts else self._queried_record(given)
        used = UsedRecord(given.cache, facts, given.sent or queried, queried is not None)
        existing = existing_vms(params, hosts, facts)
        topology = builder.build(given.data, used.kept, existing, self._read_appliance)
        state, only = params["state"], chosen_nodes(params.get("nodes"))
        problems = Problems()
        for name in only or ():
            if name not in topology.nodes:
                hint = names_hint(name, sorted(topology.nodes))
                problems.add("nodes", "the topology has no node %s; %s", name, hint)
        if state != "absent":
            images.apply_images(topology, params.get("images"), problems)
        problems.check()
        only = None if only is None else with_modules(topology, only)
        placed = placement.place(topology, hosts, facts, self._origins(params))
        origin = origin_of(params.get("owner"), given.path, self._vars.get("playbook_dir"))
        moved = self._moves(topology, placed, origin, params, facts)
        states = states_of(topology, state, only, facts)
        runs = placement.will_run(topology, states, facts)
        if state != "absent":
            conflicts.check_conflicts(topology, placed, runs, problems, given.image_dir)
            problems.check()
        udp = endpoints.UdpEndpoints(topology, placed, self._addresses(topology, placed))
        if state not in ("absent", "stopped"):
            rows = placement.shortages(topology, placed, facts, udp.ports_between_hosts())
            if rows:
                raise AnsibleActionFail(shortage_message(topology.name, rows))
        phases: dict[str, int] = {}
        if state in ("started", "paused") and not self._check_mode:
            phases = placement.start_phases(topology, placed)
        if not any(phases.values()):
            phases = {}
        return Lab(
            topology.name,
            Lazy(Built(topology, udp, used)),
            only,
            placed,
            states,
            runs,
            phases,
            used.derived(topology, udp, origin),
            used.is_cached,
            origin,
            queried_lab(facts),
            moves.planned_moves(moved, topology, udp, runs, facts),
            {},
        )

    @staticmethod
    def _moves(
        topology: Topology,
        placed: placement.Placement,
        origin: str | None,
        params: Mapping[str, Any],
        facts: placement.Facts,
    ) -> list[moves.Move]:
        """Return the VMs to migrate: those that are on other hypervisors than their nodes.

        Raises an error for those that are not to be migrated, and for a topology that is not that
        of the lab.
        """
        moved = moves.find_moves(placed, facts)
        if not moved or params["state"] == "absent" and params.get("nodes") is None:
            return []
        given = dict(params, origin=origin, placed=topology.nodes, queried_lab=queried_lab(facts))
        nobody: frozenset[str] = frozenset()
        try:
            ownership_of(topology.name, None, nobody, nobody, given).check(
                {"change": [move.node for move in moved]}
            )
        except OptionError as error:
            raise AnsibleActionFail(error.message)
        problems = Problems()
        moves.check_moves(moved, params["allow_migration"], topology, facts, problems)
        problems.check()
        return moved

    def _queried_record(self, given: Given) -> str | None:
        """Return the record on this host, if it saves each of several hosts a second request."""
        has_other = given.sent or given.cache.text() or given.params.get("from")
        if has_other or not given.name or len(self.batch) < 2:
            return None
        return self._query_record(str(given.name))

    def facts(
        self, lab: Any, variable: str = _LAB_INFO, hosts: Sequence[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the facts about a lab that qemu_lab_info found, from a variable of the play."""
        chosen = self.hosts if hosts is None else hosts
        return queried_facts(self._vars.get("hostvars", {}), chosen, variable, lab)

    def _origins(self, params: Mapping[str, Any]) -> placement.Placement:
        """Return the host of each node of the lab that this one is a clone of, as far as known."""
        source = params["from"]
        if not source:
            return {}
        facts = self.facts(source["lab"], _ORIGIN_INFO)
        return {name: host for host, found in facts.items() for name in found.get("vms", {})}

    def _addresses(self, topology: Topology, placed: placement.Placement) -> dict[str, str]:
        """Return the IPv4 address at which the other hosts reach each host.

        It is the variable vlab_address, else the address that Ansible uses.
        """
        addresses = {}
        hosts, hostvars = endpoints.hosts_with_addresses(topology, placed), self._vars["hostvars"]
        are_apart = len(set(placed.values())) > 1 and not are_on_controller(hostvars, hosts)
        for host in hosts:
            variables = hostvars[host]
            name = variables.get("vlab_address") or variables.get("ansible_host") or host
            try:
                found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_DGRAM)
            except OSError:
                raise AnsibleActionFail(
                    "links cross between hypervisors, but the address of %s (%s) cannot be "
                    "resolved: set vlab_address for it" % (host, name)
                )
            addresses[host] = str(found[0][4][0])
            if addresses[host].startswith("127.") and are_apart:
                raise AnsibleActionFail(
                    "links cross between hypervisors, but the address of %s is %s: set "
                    "vlab_address to the address at which the others reach it"
                    % (host, addresses[host])
                )
        return addresses
