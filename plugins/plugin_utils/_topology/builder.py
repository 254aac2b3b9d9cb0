# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Build a topology from the data of its file."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import with_image_paths
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    bootstrap,
    commands,
    kinds,
    modules,
    tftp_delivery,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.addressing import (
    assign_addresses,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.appliances import (
    ReadAppliance,
    with_appliances,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import Kept
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.linking import (
    check_mac_bases,
    connect_nics,
    numbered,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.management import (
    add_management,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import (
    SLOT,
    NicNaming,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.user_link import (
    SSH_PORT,
    forwards_ssh,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.validation import valid_part

_MAPPINGS = (
    "defaults",
    "kinds",
    "groups",
    "nodes",
    "segments",
    "addressing",
    "placement",
    "limits",
    "vars",
)


def build(
    data: Any,
    kept: Kept | None = None,
    existing: Collection[str] | None = None,
    read_appliance: ReadAppliance | None = None,
) -> Topology:
    """Return the topology that data, as read from a file, describes.

    kept: what the lab has given before. existing: the VMs that keep theirs although the file does
    not name them, None for all. read_appliance: see with_appliances. Raise TopologyError with all
    errors found in data.
    """
    problems = Problems()
    if not isinstance(data, dict):
        problems.add("the topology", "must be a mapping with name and nodes")
        problems.check()
    if not _is_plain_data(data):
        problems.add(
            "the topology",
            "contains itself, is nested too deeply, or has characters that UTF-8 cannot encode",
        )
        problems.check()
    # Errors against the schema are reported together with those in the rest.
    complete = _with_all_keys(valid_part(data, problems))
    complete["kinds"] = with_appliances(complete["kinds"], read_appliance, problems)
    nodes = _nodes(complete, problems)
    kept = kept or Kept()
    unnamed = {
        name
        for name in kept.nodes
        if name not in nodes
        and name not in complete["nodes"]
        and (existing is None or name in existing)
    }
    topology = Topology(
        str(complete.get("name", "")), nodes, [], {}, complete, kept, kept.of_nodes(unnamed)
    )
    add_management(topology.systems, complete.get("management"), problems)
    connect_nics(topology, problems)
    tftp_delivery.check_nodes(nodes.values(), problems)
    for node in nodes.values():
        _wait_for_ssh(node, problems)
    check_mac_bases(topology, problems)
    _check_lives(topology, problems)
    _check_start_order(topology, problems)
    assign_addresses(topology, problems)
    problems.check()
    return topology


def _is_plain_data(data: Any) -> bool:
    try:
        json.dumps(data, default=str, skipkeys=True, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    return True


def _with_all_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return data with empty values for the keys that may be absent."""
    complete: dict[str, Any] = {key: {} for key in _MAPPINGS}
    complete.update({"name": "", "links": []}, **data)
    complete["nodes"] = {name: node or {} for name, node in complete["nodes"].items()}
    return complete


def _nodes(data: Mapping[str, Any], problems: Problems) -> dict[str, Node]:
    groups_of = _groups_of_nodes(data, problems)
    for name in data["kinds"]:
        spec = kinds.resolve(name, data["kinds"], problems, "kinds.%s" % name)
        if spec is not None:
            _check_kind("kinds.%s" % name, spec, problems)
    nodes: dict[str, Node] = {}
    for name, own in data["nodes"].items():
        path = "nodes.%s" % name
        settings = _merged_settings(data, own, groups_of[name], path, problems)
        inherits_kind = data["defaults"].get("kind") and "kind" not in own
        kind_path = "defaults.kind" if inherits_kind else path + ".kind"
        if not settings.get("kind"):
            problems.add(kind_path, "the node has no kind: set it here or in defaults.kind")
            continue
        spec = kinds.resolve(settings["kind"], data["kinds"], problems, kind_path)
        if spec is not None:
            settings["kind"] = kinds.canonical(settings["kind"], data["kinds"])
            nodes[name] = _node(name, settings, spec, groups_of[name], problems)

    def shared(node: Node) -> dict[str, Any]:
        return _merged_settings(data, {}, node.groups, "", Problems())

    make = functools.partial(_node, problems=problems)
    modules.add_modules(nodes, data["nodes"], shared, make, problems)
    for node in nodes.values():
        if not node.part_of:
            _with_full_nic_names(node, problems)
    return nodes


def _check_kind(path: str, spec: kinds.KindSpec, problems: Problems) -> None:
    _check_vm_options(path + ".vm", spec["vm"], problems)
    bootstrap.check_script(path, spec["bootstrap"], problems)
    tftp_delivery.check_kind(path, spec, problems)
    _check_nic_names(path + ".nic", spec["nic"], problems)
    for key in ("omit", "volatile"):
        for number, pattern in enumerate(spec["running_config"].get(key) or ()):
            _check_pattern("%s.running_config.%s[%d]" % (path, key, number), pattern, problems)
    for name, module in spec["modules"].items():
        _check_kind("%s.modules.%s" % (path, name), module, problems)
    modules.check_kind(path, spec, problems)


def _groups_of_nodes(data: Mapping[str, Any], problems: Problems) -> dict[str, list[str]]:
    """Return the groups of each node: those it names, then those that name it as a member."""
    groups_of = {name: list(node.get("groups") or ()) for name, node in data["nodes"].items()}
    for group, settings in data["groups"].items():
        for number, member in numbered(settings.get("members")):
            if member not in data["nodes"]:
                path = "groups.%s.members[%d]" % (group, number)
                hint = suggestion(member, data["nodes"])
                problems.add(path, "there is no node %s%s", member, hint)
            elif group not in groups_of[member]:
                groups_of[member].append(group)
    return groups_of


def _merged_settings(
    data: Mapping[str, Any],
    own: Mapping[str, Any],
    groups: list[str],
    path: str,
    problems: Problems,
) -> dict[str, Any]:
    """Return the settings of a node: defaults, then its groups, then its own."""
    layers = [data["defaults"]]
    for group in groups:
        if group not in data["groups"]:
            hint = suggestion(group, data["groups"])
            problems.add(path + ".groups", "there is no group %s%s", group, hint)
        else:
            layers.append(
                {key: value for key, value in data["groups"][group].items() if key != "members"}
            )
    settings: dict[str, Any] = {}
    for layer in [*layers, own]:
        # The content of a file may be a mapping, which no other is merged into.
        contents = {
            "files": {**(settings.get("files") or {}), **(layer.get("files") or {})},
            "config": layer.get("config", settings.get("config")),
        }
        settings = dict(kinds.merge(settings, layer), **contents)
    return settings


def _check_vm_options(path: str, settings: Mapping[str, Any], problems: Problems) -> None:
    """Record options of qemu_vm that the hypervisor would reject."""
    for option, value in settings.items():
        normalise = OPTIONS[option].normalise if option in OPTIONS else None
        if normalise and value not in (None, ""):
            try:
                # The hypervisor knows the folder of relative images.
                given = with_image_paths({option: copy.deepcopy(value)}, "/")
                normalise(option, given[option])
            except OptionError as error:
                problems.add(path, "%s", error.message)


def _check_nic_names(path: str, settings: Mapping[str, Any], problems: Problems) -> None:
    """Record slots without a size, a size without slots, and names that no NIC can have."""
    naming = NicNaming(settings)
    has_slots = SLOT in naming.pattern
    if has_slots and not naming.per_slot:
        problems.add(path + ".per_slot", "give it: the names have {slot}")
    if settings.get("per_slot") and not has_slots:
        problems.add(path + ".name", "%r has no {slot} for per_slot", naming.pattern)
    if "{" in naming.name(naming.first) or "}" in naming.name(naming.first):
        problems.add(path + ".name", "%r has more than one {n} or {slot}", naming.pattern)


def _with_full_nic_names(node: Node, problems: Problems) -> None:
    """Replace names such as eth1 in nics by those of the system, and give modules their own."""
    if not node.nic_settings:
        return
    nics: dict[str, dict[str | None, Any]] = {vm.name: {} for vm in node.vms}
    for name, settings in node.nic_settings.items():
        vm, full = node.nic_of_system(name)
        if full in nics[vm.name]:
            path = "nodes.%s.nics.%s" % (node.name, name)
            problems.add(path, "%s is given by two names", full)
        nics[vm.name][full] = settings
    for vm in node.vms:
        vm.settings["nics"] = nics[vm.name]


def _check_pattern(path: str, pattern: str, problems: Problems) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        problems.add(path, "%r is not a regular expression: %s", pattern, error)


def _with_fitting_smp(merged: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a node in which the smp of its kind fits its own vcpus, if it has any.

    The number of cores changes; without a number that fits, QEMU chooses. own: without the kind.
    """
    vcpus = own.get("vcpus", own.get("cpus"))
    smp = merged.get("smp")
    if not smp or own.get("smp") or not isinstance(vcpus, int) or "maxcpus" in smp:
        return merged
    others = smp.get("sockets", 1) * smp.get("threads", 1)
    if vcpus % others:
        return {key: value for key, value in merged.items() if key != "smp"}
    return {**merged, "smp": {**smp, "cores": vcpus // others}}


def _node(
    name: str,
    settings: dict[str, Any],
    spec: kinds.KindSpec,
    groups: list[str],
    problems: Problems,
) -> Node:
    path = "nodes.%s" % name
    _check_vm_options(path, settings, problems)
    merged = _with_fitting_smp(kinds.merge(spec["vm"], settings), settings)
    merged["files"] = {**spec["files"], **settings["files"]}
    merged.setdefault("warm", spec["warm"])
    merged.setdefault("exec", spec["exec"])
    merged["ready"] = kinds.merge(spec["ready"], settings.get("ready") or {})
    merged["vars"] = kinds.merge(spec["vars"], settings.get("vars") or {})
    _place_config(path, merged, spec, problems)
    commands.check_node(path, merged, problems)
    if settings.get("cloud_init") and spec["config"].get("addresses") == "cloud_init":
        problems.add(
            path + ".cloud_init",
            "nodes of kind %s have a seed already: use config, files or vars",
            settings["kind"],
        )
    for key in ("console", "failed"):
        _check_pattern("%s.ready.%s" % (path, key), merged["ready"].get(key) or "", problems)
    after = settings.get("after") or {}
    if isinstance(after, list):
        after = {other: "started" for other in after}
    return Node(name, settings["kind"], spec, merged, groups, after=dict(after))


def _place_config(
    path: str, settings: dict[str, Any], spec: kinds.KindSpec, problems: Problems
) -> None:
    """Put the config of a node among its files, unless it is typed on its console."""
    typed = bootstrap.is_typed(settings, spec)
    if typed:
        bootstrap.check_node(path, settings, spec, problems)
    if settings.get("config") is None or typed and bootstrap.takes_config(spec["bootstrap"]):
        return
    if spec["config"].get("file"):
        settings["files"][spec["config"]["file"]] = settings["config"]
    elif bootstrap.takes_config(spec["bootstrap"]):
        problems.add(path + ".bootstrap", "false: nothing types the config of the node")
    else:
        problems.add(
            path + ".config",
            "nodes of kind %s do not accept a configuration from a drive",
            settings["kind"],
        )


def _wait_for_ssh(node: Node, problems: Problems) -> None:
    """Let a node whose port of SSH is forwarded be ready when that answers."""
    settings, config = node.settings, node.kind_spec["config"]
    nics = {nic.name: nic.settings for nic in node.nics.values()}
    if not settings["ready"].pop("ssh", False) or not forwards_ssh(nics):
        return
    keys_file = config.get("ssh_keys")
    if keys_file and not settings["vars"].get("ssh_keys") and keys_file not in settings["files"]:
        problems.add(
            "nodes.%s" % node.name,
            "port 22 is forwarded, but the node has no SSH key: set vars.ssh_keys, files.%s, or "
            "ready.ssh: false",
            keys_file,
        )
    settings["ready"].setdefault("port", SSH_PORT)


def _check_lives(topology: Topology, problems: Problems) -> None:
    """Check that no two nodes have the same UUID, and how they are stopped."""
    owners: dict[str, str] = {}
    for node in topology.nodes.values():
        path = "nodes.%s." % node.name
        try:
            settings_of({"shutdown": node.settings.get("shutdown")})
        except OptionError as error:
            problems.add(path + error.option, "%s", error.reason)
        uuid = node.uuid
        if uuid and owners.setdefault(uuid, node.name) != node.name:
            problems.add(path + "uuid", "%s is also the UUID of %s", uuid, owners[uuid])


def _check_start_order(topology: Topology, problems: Problems) -> None:
    """Check that the nodes in after exist and do not wait for each other in a cycle."""
    for node in topology.nodes.values():
        for other in node.after:
            if other not in topology.nodes and other not in topology.data["nodes"]:
                path, hint = "nodes.%s.after" % node.name, suggestion(other, topology.nodes)
                problems.add(path, "there is no node %s%s", other, hint)
    done: set[str] = set()
    waiting: list[str] = []

    def visit(name: str) -> None:
        if name in done or name not in topology.nodes:
            return
        if name in waiting:
            cycle = waiting[waiting.index(name) :] + [name]
            problems.add(
                "nodes.%s.after" % name, "the nodes wait for each other: %s", " -> ".join(cycle)
            )
            return
        waiting.append(name)
        for other in sorted(topology.nodes[name].after):
            visit(other)
        waiting.pop()
        done.add(name)

    for name in sorted(topology.nodes):
        visit(name)
