# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Placement: which hypervisor each node runs on. Pinned, else where it is already, else by policy; and whether it all fits."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._lab.shortages import (
    QEMU_OVERHEAD,
    resource_rows,
    row,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.addressing import natural
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_MEMORY = OPTIONS["memory"].default
_ALIVE = ("running", "paused", "prelaunch")


def memory_of(node):
    """MiB that a node takes of a host: its guest's memory and QEMU's own."""
    return (
        parse_size("memory", node.settings.get("memory") or _MEMORY, unit="m") >> 20
    ) + QEMU_OVERHEAD


def place(topology, hosts, facts=None):
    """{node: host}. hosts: names in the order of the inventory. facts: {host: preflight facts}; may be missing.

    Without facts, placement depends on the file and the inventory alone. Raises TopologyError.
    """
    problems, facts = Problems(), facts or {}
    wanted = topology.data["placement"]
    hosts = list(wanted.get("hypervisors") or hosts)
    if not hosts:
        problems.add("placement", "there is no hypervisor to place the nodes on")
        problems.check()
    placed, free = {}, {host: facts.get(host, {}).get("memory_available_mb", 0) for host in hosts}
    here = {name: host for host in hosts for name in facts.get(host, {}).get("vms", {})}
    nodes = sorted(topology.nodes.values(), key=lambda node: natural(node.name))
    pins = [("nodes.%s" % node.name, node.settings.get("hypervisor")) for node in nodes]
    pins += [
        ("segments.%s" % segment.name, segment.settings.get("hypervisor"))
        for segment in topology.segments.values()
    ]
    for what, pin in pins:
        if pin and pin not in hosts:
            problems.add(
                what + ".hypervisor",
                "%s is not among the hypervisors of this play: %s",
                pin,
                ", ".join(hosts),
            )
    for node in nodes:
        pin = node.settings.get("hypervisor")
        if pin:
            placed[node.name] = pin
        elif node.name in here:
            placed[node.name] = here[node.name]
    problems.check()
    for name, host in placed.items():
        if host != here.get(name):
            free[host] -= memory_of(topology.nodes[name])
    policy = wanted.get("policy") or "spread"
    for node in nodes:
        if node.name not in placed:
            host = _choose(policy, hosts, placed, free, memory_of(node))
            placed[node.name] = host
            free[host] -= memory_of(node)
    for segment in topology.segments.values():
        homes = sorted(
            {placed[end.node] for end in segment.ends}
            | set(filter(None, [segment.settings.get("hypervisor")]))
        )
        if segment.kind == "bridge" and len(homes) > 1:
            problems.add(
                "segments.%s" % segment.name,
                "a bridge joins nodes of one hypervisor, and these are on %s: set hypervisor for them, or "
                "use type: hub",
                ", ".join(homes),
            )
    problems.check()
    return placed


def _choose(policy, hosts, placed, free, need):
    if policy == "memory":
        return max(hosts, key=lambda host: free[host])
    if policy == "pack":
        return next(
            (host for host in hosts if free[host] >= need), max(hosts, key=lambda host: free[host])
        )
    count = {host: list(placed.values()).count(host) for host in hosts}
    return min(hosts, key=lambda host: count[host])


def shortages(topology, placed, facts, ports=None):
    """What the hosts lack for the lab: a list of rows {host, what, wanted, has}. Empty when it fits.

    facts: {host: preflight facts}. What the lab's running VMs hold already counts as free.
    ports: {host: {UDP port: (node, what for)}} of links that cross between hosts.
    """
    limits, rows = topology.data["limits"], []
    for host in sorted(set(placed.values())):
        has = facts.get(host)
        if not has:
            continue
        nodes = [node for node in topology.nodes.values() if placed[node.name] == host]
        new = [
            node
            for node in nodes
            if has["vms"].get(node.name, {}).get("status") not in _ALIVE
            and node.settings.get("state") not in ("stopped", "present")
        ]
        rows += resource_rows(
            host,
            {
                "memory_mb": sum(
                    memory_of(node)
                    for node in new
                    if node.settings.get("check_host_memory") is not False
                ),
                "vcpus": sum(node.vcpus for node in nodes),
                "starting": len(new),
                "memory_overcommit": limits.get("memory_overcommit"),
                "vcpu_ratio": limits.get("vcpu_ratio"),
            },
            has,
        )
        for node in new:
            for path in image_paths(node):
                if path in has.get("missing_files", ()):
                    rows.append(row(host, "image of %s" % node.name, path, "no such file"))
        for port, (name, purpose) in sorted((ports or {}).get(host, {}).items()):
            if port in has.get("udp_ports", ()) and name in {node.name for node in new}:
                rows.append(
                    row(host, "UDP port of %s" % purpose, str(port), "taken by another program")
                )
        for need_version, names in _versions(nodes).items():
            if tuple(has.get("qemu_version") or (99,))[:2] < need_version:
                rows.append(
                    row(
                        host,
                        "QEMU for %s" % ", ".join(names),
                        "%d.%d" % need_version,
                        ".".join(map(str, has["qemu_version"])),
                    )
                )
    return rows


def _versions(nodes):
    """The QEMU versions that nodes need: backends of NICs that older ones lack."""
    found = {}
    for node in nodes:
        for nic in node.nics.values():
            if (nic.settings.get("link") or {}).get("type") in ("unix", "stream"):
                found.setdefault((7, 2), []).append(node.name)
    return found


def image_paths(node):
    """The files that a node needs on its hypervisor."""
    settings = node.settings
    paths = [settings.get(option) for option in ("kernel", "initrd", "bios_image")]
    paths += [disk.get("backing_file") for disk in settings.get("disks") or ()]
    paths += [drive.get("path") for drive in settings.get("cdroms") or ()]
    return [path for path in paths if path]


def will_run(topology, states, facts):
    """{node: whether it runs once its state is reached}; of those whose power is left alone, the facts tell."""
    alive = {
        name
        for has in facts.values()
        for name, vm in has.get("vms", {}).items()
        if vm["status"] in _ALIVE
    }
    return {
        name: states[name] in ("started", "paused")
        or states[name] in ("present", "keep")
        and name in alive
        for name in topology.nodes
    }


def waves(topology, placed):
    """{node: number}: a node is in a later wave than those on other hosts that it comes after; its own host keeps order within a wave."""
    found = {}

    def wave(name):
        if name not in found:
            found[name] = max(
                [
                    wave(other) + (placed[other] != placed[name])
                    for other in topology.nodes[name].after
                ],
                default=0,
            )
        return found[name]

    for name in topology.nodes:
        wave(name)
    return found
