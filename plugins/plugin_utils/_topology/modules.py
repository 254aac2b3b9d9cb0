# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Systems of several VMs: the modules of a node, such as line cards, and the links between them.

A module is a VM of the lab like others, but only its node has addresses and a name of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kinds import KindSpec, merge
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import SystemNaming
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import (
    is_name,
    vm_options,
)

# Settings of a node that hold for its modules, too. Of defaults and groups, the options of qemu_vm
# do besides these.
_OF_SYSTEM = ("hypervisor", "state", "shutdown")

# Return a VM: (name, settings, kind, groups).
MakeNode = Callable[[str, dict[str, Any], KindSpec, list[str]], Node]


def internal_ends(text: str) -> list[tuple[str, str]]:
    """Return the ends of an internal link: (module, or nothing for the node itself; NIC)."""
    ends = (end.rpartition(":") for end in re.split(r"\s*--\s*", text.strip()))
    return [(module, nic) for module, _colon, nic in ends]


def check_kind(path: str, spec: KindSpec, problems: Problems) -> None:
    """Record what is wrong with the modules of a kind, and with the links between them."""
    modules = spec["modules"]
    for number, text in enumerate(spec["internal"]):
        ends = internal_ends(text)
        option = "%s.internal[%d]" % (path, number)
        if len(ends) < 2 or not all(nic for _module, nic in ends):
            problems.add(option, "%r is not an internal link: use the form NIC -- MODULE:NIC", text)
        for module in sorted({module for module, _nic in ends if module} - set(modules)):
            problems.add(option, "there is no module %s%s", module, suggestion(module, modules))
    naming = SystemNaming(spec["nic"], [module["nic"] for module in modules.values()])
    names = ["the node", *("the module %s" % name for name in modules)]
    for number, (part, name) in enumerate(zip(naming.parts[1:], modules), 1):
        for nic in (part.name(part.first), part.name(part.first + part.maximum - 1)):
            other = naming.part_with(nic) if part.maximum else number
            if other != number:
                text = (
                    "%s also has a NIC %s: give another name, or max: 0 for a VM without data NICs"
                )
                problems.add("%s.modules.%s.nic" % (path, name), text, names[other], nic)
                break


def add_modules(
    nodes: dict[str, Node],
    given: Mapping[str, Mapping[str, Any]],
    shared: Callable[[Node], Mapping[str, Any]],
    make: MakeNode,
    problems: Problems,
) -> None:
    """Add the modules of nodes to them, as VMs of the lab.

    given: the nodes of the topology. shared: returns the settings of defaults and groups.
    """
    for node in list(nodes.values()):
        specs, own = node.kind_spec["modules"], given[node.name].get("modules") or {}
        for name in own:
            if name not in specs:
                path = "nodes.%s.modules.%s" % (node.name, name)
                hint = suggestion(name, specs) or ": it has %s" % (", ".join(specs) or "none")
                problems.add(path, "the kind %s has no such module%s", node.kind, hint)
        if not specs:
            continue
        options = {key: value for key, value in shared(node).items() if key in vm_options()}
        options.update((key, node.settings[key]) for key in _OF_SYSTEM if key in node.settings)
        for name, spec in specs.items():
            settings = dict(merge(options, own.get(name) or {}), kind=node.kind, files={})
            module = make("%s-%s" % (node.name, name), settings, spec, node.groups)
            module.part_of, node.modules[name] = node.name, module
            _check_name(module.name, node, nodes, problems)
            nodes.setdefault(module.name, module)
    _order_starts(nodes)


def _check_name(name: str, node: Node, nodes: Mapping[str, Node], problems: Problems) -> None:
    path = "nodes.%s" % node.name
    if name in nodes:
        other = nodes[name].system
        text = "one of its modules is the VM %s, which is also a VM of the node %s: rename a node"
        problems.add(path, text, name, other)
    elif not is_name(name):
        problems.add(path, "one of its modules is the VM %s: give the node a shorter name", name)


def _order_starts(nodes: Mapping[str, Node]) -> None:
    """Let what waits for a node wait for its modules, and these for what the node waits for."""
    for node in nodes.values():
        for module in node.modules.values():
            module.after = {name: state for name, state in node.after.items() if name in nodes}
    for node in nodes.values():
        for name, condition in list(node.after.items()):
            others = nodes[name].modules.values() if name in nodes else ()
            node.after.update((module.name, condition) for module in others)


def with_modules(topology: Topology, names: Iterable[str]) -> list[str]:
    """Return the names of nodes, each followed by its modules that are not among them."""
    found = {vm.name: None for name in names for vm in topology.nodes[name].vms}
    return list(found)
