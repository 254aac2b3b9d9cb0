# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Import a lab of another tool: pure functions of its data, which read and write no files."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import yaml

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    IMPORTED,
    Lab,
    Vm,
    member,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import harmless
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
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
        return _yaml(self.report["file"], self.topology)

    def images_yaml(self) -> str:
        """Return the images as a file of variables of the role lab."""
        return _yaml(self.report["file"], {"lab_images": self.images})

    def report_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.report, indent=1, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
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
    topology = harmless(_topology(lab), "", _on_change(lab))
    images = harmless(lab.images, "images", _on_change(lab))
    try:
        builder.build(topology)
    except TopologyError as error:
        problems = [("the topology, " + path, reason) for path, reason in error.problems]
        raise LabFileError(report.file, problems) from None
    return Imported(topology, images, lab.files, report.data(), report.text())


def _on_change(lab: Lab) -> Any:
    return lambda place: lab.report.warn(
        "%s: template marks in the text are separated by a space, so that it stays text" % place
    )


def _topology(lab: Lab) -> dict[str, Any]:
    topology: dict[str, Any] = {"name": lab.name}
    if lab.vars:
        topology["vars"] = {IMPORTED: lab.vars}
    if lab.kinds:
        topology["kinds"] = lab.kinds
    if lab.groups:
        topology["groups"] = {name: {"members": names} for name, names in lab.groups.items()}
    topology["nodes"] = {name: _node(vm) for name, vm in lab.vms.items()}
    if lab.links:
        topology["links"] = [_short(link) for link in lab.links]
    segments = {name: [member(end) for end in ends] for name, ends in lab.hubs.items() if ends}
    for name in set(lab.hubs) - set(segments):
        lab.report.warn("the segment %s has no NICs, and is left out" % name)
    if segments:
        topology["segments"] = {
            name: {"members": members, **lab.hub_settings.get(name, {})}
            for name, members in segments.items()
        }
    return topology


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
