# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""Placement: which hypervisor each node runs on. Pinned, else where it is already, else by policy; and whether it all fits."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.addressing import natural
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_MEMORY = OPTIONS["memory"].default
_QEMU_OVERHEAD = 48  # MiB of a QEMU besides its guest's memory (measured: 41 unshared)


def memory_of(node):
    """MiB that a node takes of a host: its guest's memory and QEMU's own."""
    return (parse_size("memory", node.settings.get("memory") or _MEMORY, unit="m") >> 20) + _QEMU_OVERHEAD


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
    for node in nodes:
        pin = node.settings.get("hypervisor")
        if pin and pin not in hosts:
            problems.add("nodes.%s.hypervisor" % node.name, "%s is not among the hypervisors of this play: %s", pin, ", ".join(hosts))
        elif pin:
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
    return placed


def _choose(policy, hosts, placed, free, need):
    if policy == "memory":
        return max(hosts, key=lambda host: free[host])
    if policy == "pack":
        return next((host for host in hosts if free[host] >= need), max(hosts, key=lambda host: free[host]))
    count = {host: list(placed.values()).count(host) for host in hosts}
    return min(hosts, key=lambda host: count[host])


def shortages(topology, placed, facts):
    """What the hosts lack for the lab: a list of rows {host, what, wanted, has}. Empty when it fits.

    facts: {host: preflight facts}. What the lab's running VMs hold already counts as free.
    """
    limits, rows = topology.data["limits"], []
    for host in sorted(set(placed.values())):
        has = facts.get(host)
        if not has:
            continue
        nodes = [node for node in topology.nodes.values() if placed[node.name] == host]
        new = [node for node in nodes if has["vms"].get(node.name, {}).get("status") not in ("running", "paused", "prelaunch")
               and node.settings.get("state") not in ("stopped", "present")]
        need = sum(memory_of(node) for node in new if node.settings.get("check_host_memory") is not False)
        room = int(has["memory_available_mb"] * limits.get("memory_overcommit", 1))
        if need > room:
            rows.append({"host": host, "what": "memory", "wanted": "%d MiB" % need, "has": "%d MiB" % room})
        ratio = limits.get("vcpu_ratio")
        vcpus = sum(node.vcpus for node in nodes)
        if ratio and vcpus > ratio * has["cpus"]:
            rows.append({"host": host, "what": "vCPUs", "wanted": str(vcpus), "has": "%g (%d x %g)" % (ratio * has["cpus"], has["cpus"], ratio)})
        for node in new:
            for path in image_paths(node):
                if path in has.get("missing_files", ()):
                    rows.append({"host": host, "what": "image of %s" % node.name, "wanted": path, "has": "no such file"})
        disk = 64 * len(new)  # MiB; overlays begin small, this is for what a guest writes while it boots
        if has.get("disk_free_mb", disk) < disk:
            rows.append({"host": host, "what": "disk space", "wanted": "%d MiB" % disk, "has": "%d MiB" % has["disk_free_mb"]})
        for need_version, names in _versions(nodes).items():
            if tuple(has.get("qemu_version") or (99,))[:2] < need_version:
                rows.append({"host": host, "what": "QEMU for %s" % ", ".join(names), "wanted": "%d.%d" % need_version,
                             "has": ".".join(map(str, has["qemu_version"]))})
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


def table(rows):
    """Rows as text, for an error."""
    head = {"host": "hypervisor", "what": "lacks", "wanted": "wanted", "has": "has"}
    widths = {key: max(len(row[key]) for row in [head] + rows) for key in head}
    return "\n".join("  " + "  ".join(row[key].ljust(widths[key]) for key in head).rstrip() for row in [head] + rows)
