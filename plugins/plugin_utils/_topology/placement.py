# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Decide which hypervisor each node runs on, and whether the hypervisors can hold them.

A node runs where it is pinned, else where it is already, else where the policy puts it.
"""

from __future__ import annotations

import collections
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._lab.shortages import (
    QEMU_OVERHEAD,
    Row,
    resource_rows,
    row,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_DEFAULT_MEMORY = OPTIONS["memory"].default
_ACTIVE = ("running", "paused", "prelaunch")

# What qemu_lab_info returns of each hypervisor: {host: facts}.
Facts = Mapping[str, dict[str, Any]]
Placement = dict[str, str]
_Memory = Mapping[str, int]  # MiB, by host


def memory_of(node: Node) -> int:
    """Return the MiB that a VM takes of its host, with the overhead of QEMU."""
    memory = node.settings.get("memory") or _DEFAULT_MEMORY
    mebibytes: int = (parse_size("memory", memory, unit="m") >> 20) + QEMU_OVERHEAD
    return mebibytes


def place(
    topology: Topology,
    hosts: Iterable[str],
    facts: Facts | None = None,
    origins: Placement | None = None,
) -> Placement:
    """Return the hypervisor of each node: {node: host}. Raise TopologyError.

    hosts: in the order of the inventory. origins: where the nodes are that these are clones of.
    Without facts, the placement depends on the file and
    the inventory alone.
    """
    problems, facts = Problems(), facts or {}
    settings = topology.data["placement"]
    hosts = list(dict.fromkeys(settings.get("hypervisors") or hosts))
    if not hosts:
        problems.add("placement", "there is no hypervisor to place the nodes on")
    else:
        _check_pins(topology, hosts, problems)
    problems.check()
    current = {name: host for host in hosts for name in facts.get(host, {}).get("vms", {})}
    free = {host: facts.get(host, {}).get("memory_available_mb", 0) for host in hosts}
    nodes = _nodes_in_order(topology)
    placed: Placement = {}
    counts: collections.Counter[str] = collections.Counter()
    for node in nodes:
        host = node.settings.get("hypervisor") or current.get(node.name)
        host = host or (origins or {}).get(node.name)
        if host:
            placed[node.name] = host
            counts[host] += len(node.vms)
            if host != current.get(node.name):
                free[host] -= _memory_of_system(node)
    others = [node for node in nodes if node.name not in placed]
    policy = settings.get("policy") or "spread"
    if policy == "pack":
        chosen = _packed(others, hosts, free)
    else:
        chosen = _by_rank(policy, others, hosts, counts, free)
    placed.update(zip([node.name for node in others], list(chosen)))
    for node in nodes:
        placed.update((module.name, placed[node.name]) for module in node.modules.values())
    _check_bridges(topology, placed, problems)
    problems.check()
    return placed


def _memory_of_system(node: Node) -> int:
    return sum(memory_of(vm) for vm in node.vms)


def _nodes_in_order(topology: Topology) -> list[Node]:
    """Return the nodes. Their modules are on the same hosts."""
    return sorted(topology.systems, key=lambda node: natural_key(node.name))


def _check_pins(topology: Topology, hosts: Sequence[str], problems: Problems) -> None:
    pins = [
        ("nodes.%s" % node.name, node.settings.get("hypervisor"))
        for node in _nodes_in_order(topology)
    ]
    pins += [
        (segment.path, segment.settings.get("hypervisor")) for segment in topology.segments.values()
    ]
    for path, pin in pins:
        if pin and pin not in hosts:
            problems.add(
                path + ".hypervisor",
                "%s is not among the hypervisors of this play: %s%s",
                pin,
                ", ".join(hosts),
                suggestion(pin, hosts),
            )


def _check_bridges(topology: Topology, placed: Placement, problems: Problems) -> None:
    for segment in topology.segments.values():
        hosts = {placed[end.node] for end in segment.ends}
        hosts.update(filter(None, [segment.settings.get("hypervisor")]))
        if segment.kind == "bridge" and len(hosts) > 1:
            problems.add(
                segment.path,
                "a bridge connects nodes of one hypervisor only, but these are on %s: set "
                "hypervisor for them, or use type: hub",
                ", ".join(sorted(hosts)),
            )


def _by_rank(
    policy: str,
    nodes: Sequence[Node],
    hosts: Sequence[str],
    counts: collections.Counter[str],
    free: _Memory,
) -> Iterator[str]:
    """Yield the host of each node: the one with the fewest VMs or the most free memory."""
    by_memory = policy == "memory"
    ranks = [-free[host] if by_memory else counts[host] for host in hosts]
    # Of hosts with the same rank, the first one in the inventory.
    heap = [(rank, number) for number, rank in enumerate(ranks)]
    heapq.heapify(heap)
    for node in nodes:
        rank, number = heap[0]
        load = _memory_of_system(node) if by_memory else len(node.vms)
        heapq.heapreplace(heap, (rank + load, number))
        yield hosts[number]


def _packed(nodes: Sequence[Node], hosts: Sequence[str], free: _Memory) -> Iterator[str]:
    """Yield the host of each node: the first that has the memory, else that with the most."""
    left = dict(free)
    for node in nodes:
        need = _memory_of_system(node)
        host = next((host for host in hosts if left[host] >= need), None)
        host = host or max(hosts, key=lambda host: left[host])
        left[host] -= need
        yield host


def shortages(
    topology: Topology,
    placed: Placement,
    facts: Facts,
    ports: Mapping[str, Mapping[int, tuple[str, str]]] | None = None,
) -> list[Row]:
    """Return what the hosts lack as rows {host, what, wanted, has}; no rows if the lab fits.

    What the running VMs of the lab already use counts as free. ports: {host: {UDP port:
    (node, purpose)}} of the links between hosts.
    """
    rows: list[Row] = []
    for host in sorted(set(placed.values())):
        available = facts.get(host)
        if not available:
            continue
        nodes = [node for node in topology.nodes.values() if placed[node.name] == host]
        starting = [
            node
            for node in nodes
            if available["vms"].get(node.name, {}).get("status") not in _ACTIVE
            and node.settings.get("state") not in ("stopped", "present")
        ]
        needs = _resource_needs(topology.data["limits"], nodes, starting)
        rows += resource_rows(host, needs, available)
        rows += _missing_images(host, starting, available)
        rows += _used_ports(host, starting, available, (ports or {}).get(host, {}))
        rows += _old_versions(host, nodes, available)
    return rows


def _resource_needs(
    limits: Mapping[str, Any], nodes: Sequence[Node], starting: Sequence[Node]
) -> dict[str, Any]:
    return {
        "memory_mb": sum(
            memory_of(node)
            for node in starting
            if node.settings.get("check_host_memory") is not False
        ),
        "vcpus": sum(node.vcpus for node in nodes),
        "starting": len(starting),
        "memory_overcommit": limits.get("memory_overcommit"),
        "vcpu_ratio": limits.get("vcpu_ratio"),
    }


def _missing_images(host: str, starting: Sequence[Node], available: dict[str, Any]) -> list[Row]:
    return [
        row(host, "image of %s" % node.name, path, "no such file")
        for node in starting
        for path in image_paths(node)
        if path in available.get("missing_files", ())
    ]


def _used_ports(
    host: str,
    starting: Sequence[Node],
    available: dict[str, Any],
    ports: Mapping[int, tuple[str, str]],
) -> list[Row]:
    names = {node.name for node in starting}
    return [
        row(host, "UDP port of %s" % purpose, str(port), "in use by another program")
        for port, (name, purpose) in sorted(ports.items())
        if port in available.get("udp_ports", ()) and name in names
    ]


def _old_versions(host: str, nodes: Sequence[Node], available: dict[str, Any]) -> list[Row]:
    return [
        row(
            host,
            "QEMU for %s" % ", ".join(names),
            "%d.%d" % version,
            ".".join(map(str, available["qemu_version"])),
        )
        for version, names in _required_versions(nodes).items()
        if tuple(available.get("qemu_version") or (99,))[:2] < version
    ]


def _required_versions(nodes: Sequence[Node]) -> dict[tuple[int, int], list[str]]:
    """Return the QEMU versions that the links of NICs need: {version: names of nodes}."""
    found: dict[tuple[int, int], list[str]] = {}
    for node in nodes:
        for nic in node.nics.values():
            if (nic.settings.get("link") or {}).get("type") in ("unix", "stream"):
                found.setdefault((7, 2), []).append(node.name)
    return found


def image_paths(node: Node) -> list[str]:
    """Return the files that a node needs on its hypervisor."""
    settings = node.settings
    paths = [settings.get(option) for option in ("kernel", "initrd", "bios_image")]
    paths += [disk.get("backing_file") for disk in settings.get("disks") or ()]
    paths += [drive.get("path") for drive in settings.get("cdroms") or ()]
    return [path for path in paths if path]


def will_run(topology: Topology, states: Mapping[str, str], facts: Facts) -> dict[str, bool]:
    """Return whether each node runs once it has its state: {node: bool}.

    The facts answer for nodes whose power state is left alone.
    """
    active = {
        name
        for available in facts.values()
        for name, vm in available.get("vms", {}).items()
        if vm["status"] in (*_ACTIVE, "suspended")
    }
    return {
        name: states[name] in ("started", "paused", "suspended")
        or states[name] in ("present", "keep")
        and name in active
        for name in topology.nodes
    }


def start_phases(topology: Topology, placed: Placement) -> dict[str, int]:
    """Return the start phase of each node: {node: number}.

    A node starts in a later phase than the nodes of other hosts that it comes after. Within a
    phase, each host keeps the order of its own nodes.
    """
    phases: dict[str, int] = {}

    def phase(name: str) -> int:
        if name not in phases:
            phases[name] = max(
                (
                    phase(other) + (placed[other] != placed[name])
                    for other in topology.nodes[name].after
                ),
                default=0,
            )
        return phases[name]

    for name in topology.nodes:
        phase(name)
    return phases
