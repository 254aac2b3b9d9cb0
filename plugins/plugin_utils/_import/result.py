# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Import a lab of another tool: pure functions of its data, which read and write no files."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from typing import Any

import yaml

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    IMPORTED,
    Lab,
    Vm,
    endpoint,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import harmless
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, schema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError

_HEADER = "# Imported from %s. Check the report beside it, and set the images of the lab.\n"


@dataclasses.dataclass
class Imported:
    """An imported lab.

    images: as the option images of qemu_lab has them. files: {path: text}, below the folder of the
    topology. report: what became of each field, as data; report_text: for people.
    """

    topology: dict[str, Any]
    images: dict[str, dict[str, str]]
    files: dict[str, str]
    report: dict[str, Any]
    report_text: str

    def topology_yaml(self) -> str:
        """Return the topology as the text of a file."""
        return schema.EDITOR_LINE + "\n" + _yaml(self.report["file"], self.topology)

    def images_yaml(self) -> str:
        """Return the images as a file of variables of the role lab."""
        return _yaml(self.report["file"], {"lab_images": self.images})

    def report_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.report, indent=1, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(file: str, data: Any) -> str:
    name = "".join(c if c.isprintable() and c not in "{}" else " " for c in os.path.basename(file))
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140)
    return _HEADER % name + text


def finish(lab: Lab) -> Imported:
    """Return the lab as a valid topology. Raise LabFileError for what no topology can be."""
    lab.check_refused()
    report = lab.report
    if not lab.vms:
        raise LabFileError(report.file, [("", "it has no node that is a VM")])
    topology = harmless(_with_shared_networks(_topology(lab)), "", _on_change(lab))
    images = harmless(lab.images, "images", _on_change(lab))
    topology = _valid(lab, topology)
    return Imported(topology, images, lab.files, report.data(), report.text())


def _valid(lab: Lab, topology: dict[str, Any]) -> dict[str, Any]:
    """Return a topology that can be built: without addresses if only these are impossible.

    Other tools allow the same network on several links, for example.
    """
    try:
        builder.build(topology)
        return topology
    except TopologyError as error:
        problems = error.problems
    without = _without_addresses(topology)
    try:
        builder.build(without)
    except TopologyError:
        places = [(_place(lab, path), "%s: %s" % (path, reason)) for path, reason in problems]
        raise LabFileError(lab.report.file, places) from None
    lab.report.warn(
        "the addresses of links and segments are kept in vars.imported only, because not all of "
        "them are possible here: %s: %s" % problems[0]
    )
    return without


def _with_shared_networks(topology: dict[str, Any]) -> dict[str, Any]:
    """Let links and segments with the same prefix share a network."""
    networks = [link for link in topology.get("links", ()) if isinstance(link, dict)]
    networks += topology.get("segments", {}).values()
    users: dict[str, list[dict[str, Any]]] = {}
    for network in networks:
        for key in ("prefix", "prefix6"):
            if network.get(key):
                users.setdefault(network[key], []).append(network)
    names = map("shared-{}".format, itertools.count(1))
    for parts in users.values():
        if len(parts) > 1:
            name = next((part["network"] for part in parts if "network" in part), None)
            name = name or next(names)
            for part in parts:
                part["network"] = name
    return topology


def _place(lab: Lab, path: str) -> str:
    """Return the place in the file of a path in the topology."""
    for end in [*reversed([m.start() for m in re.finditer(r"[.\[]", path)]), 0]:
        for part in (path, path[:end]):
            if part in lab.places:
                return lab.places[part]
    return ""


def _without_addresses(topology: dict[str, Any]) -> dict[str, Any]:
    """Return a topology in which the addresses of links and segments are in their vars."""
    changed = dict(topology)
    if "links" in topology:
        changed["links"] = [
            link if isinstance(link, str) else _short(_moved(link, "endpoints"))
            for link in topology["links"]
        ]
    if "segments" in topology:
        changed["segments"] = {
            name: _moved(segment, "members") for name, segment in topology["segments"].items()
        }
    return changed


def _moved(network: dict[str, Any], ends_key: str) -> dict[str, Any]:
    kept: dict[str, Any] = {key: network[key] for key in ("prefix", "prefix6") if key in network}
    ends = []
    for end in network[ends_key]:
        if isinstance(end, dict) and "address" in end:
            name = "%s:%s" % (end["node"], end["nic"])
            kept.setdefault("addresses", {})[name] = end["address"]
            rest = {key: value for key, value in end.items() if key != "address"}
            ends.append(rest if "impair" in rest else name)
        else:
            ends.append(end)
    addressing = ("prefix", "prefix6", "network")
    moved = {key: value for key, value in network.items() if key not in addressing}
    if kept:
        given = dict(moved.get("vars") or {})
        given[IMPORTED] = {**(given.get(IMPORTED) or {}), **kept}
        moved["vars"] = given
    return {**moved, ends_key: ends}


def _on_change(lab: Lab) -> Any:
    return lambda place: lab.report.warn(
        "%s: template marks in the text are separated by a space, so that it stays text" % place
    )


def _topology(lab: Lab) -> dict[str, Any]:
    topology: dict[str, Any] = {"name": lab.name}
    if lab.title:
        topology["title"] = lab.title
    if lab.vars:
        topology["vars"] = {IMPORTED: lab.vars}
    if lab.kinds:
        topology["kinds"] = lab.kinds
    if lab.groups:
        topology["groups"] = {name: {"members": names} for name, names in lab.groups.items()}
    topology["nodes"] = {name: _node(vm) for name, vm in lab.vms.items()}
    if lab.links:
        topology["links"] = [_short(link) for link in lab.links]
    segments = _members(lab)
    for name in sorted(set(lab.hubs) - set(segments)):
        lab.report.warn("the segment %s has no NICs, and is left out" % name)
    if segments:
        topology["segments"] = {
            name: {"members": members, **lab.hub_settings.get(name, {})}
            for name, members in segments.items()
        }
    return topology


def _members(lab: Lab) -> dict[str, list[Any]]:
    """Return the members of segments that have any; a cable is one of either switch."""
    members = {name: [endpoint(end) for end in ends] for name, ends in lab.hubs.items()}
    for cable in lab.cables:
        place, other = cable.first, cable.second
        if members[place] and not members[other]:
            place, other = other, place
        if members[other]:
            members[place].append({"segment": other, **cable.vlans})
    return {name: given for name, given in members.items() if given}


def _node(vm: Vm) -> dict[str, Any]:
    settings = {key: value for key, value in vm.settings.items() if key != "vars"}
    if vm.imported or vm.settings.get("vars"):
        settings["vars"] = dict(vm.settings.get("vars") or {})
        if vm.imported:
            settings["vars"][IMPORTED] = vm.imported
    return settings


def _short(link: dict[str, Any]) -> Any:
    ends = link["endpoints"]
    if len(link) == 1 and all(isinstance(end, str) for end in ends):
        return " -- ".join(ends)
    return link
