# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write docs/schema/topology.json, the schema of a topology for editors.

python scripts/topology_schema.py            write it
python scripts/topology_schema.py --check    only report whether it is up to date

The schema is that of the validation, with the documentation of the options of qemu_vm, titles, and
parts that are used several times in $defs.
"""

from __future__ import annotations

import collections
import itertools
import json
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any, Optional

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import schema
from ansible_collections.vlab.qemu.scripts import return_docs
from ansible_collections.vlab.qemu.scripts.return_docs import fragment

Schema = dict[str, Any]

PATH = "docs/schema/topology.json"
# The fragments that document the options of qemu_vm.
FRAGMENTS = (
    "vm",
    "machine",
    "memory",
    "firmware",
    "consoles",
    "display",
    "devices",
    "storage",
    "media",
    "network",
    "descriptors",
    "confinement",
)
# Titles of mappings, by their paths in the schema.
TITLES = {
    "defaults": "Defaults of all nodes",
    "kinds": "Kinds by name",
    "kinds.*": "Kind",
    "groups": "Groups by name",
    "groups.*": "Group",
    "nodes": "Nodes by name",
    "nodes.*": "Node",
    "nodes.*.nics": "NICs by name",
    "nodes.*.nics.*": "NIC",
    "nodes.*.ready": "Conditions of readiness",
    "links": "Links",
    "links[]": "Link",
    "links[].endpoints[]": "Endpoint",
    "segments": "Segments by name",
    "segments.*": "Segment",
    "segments.*.members[]": "Endpoint",
    "addressing": "Address pools",
    "placement": "Placement",
    "limits": "Limits",
}
# Parts of this size, in characters, that occur more than once are written once.
SHARED_SIZE = 160


def plain(text: str) -> str:
    """Return text of a plugin's documentation without its macros."""
    text = re.sub(r"\bL\(([^,)]*), *[^)]*\)", r"\1", text)
    text = re.sub(r"\bR?[CEIOPV]+\((?:[\w.]+#\w+:)?((?:\\.|[^)\\])*)\)", r"\1", text)
    return re.sub(r"\b[BMU]\(([^)]*)\)", r"\1", text)


def description_of(documented: Schema) -> str:
    """Return the description of an option as one text."""
    text = documented["description"]
    return plain(text if isinstance(text, str) else " ".join(text))


def documented_options() -> dict[str, Schema]:
    """Return the documentation of the options of qemu_vm by their names and aliases."""
    found: dict[str, Schema] = {}
    for name in FRAGMENTS:
        found.update(yaml.safe_load(fragment(name, "DOCUMENTATION")).get("options") or {})
    # A setting of runs that nodes have, too.
    found["shutdown"] = yaml.safe_load(fragment("vm", "SETTINGS"))["options"]["shutdown"]
    return with_aliases(found)


def with_aliases(documented: dict[str, Schema]) -> dict[str, Schema]:
    """Return the documentation of options by their names and aliases."""
    return {
        key: entry
        for option, entry in documented.items()
        for key in (option, *entry.get("aliases", ()))
    }


def describe(entry: Schema, documented: dict[str, Schema]) -> Schema:
    """Return an entry whose properties have the descriptions of these options.

    A description of the entry itself precedes. The suboptions of an option are those of its
    entry, of the items of its list, and of the values of its mapping.
    """
    result = dict(entry)
    if "properties" in entry:
        result["properties"] = {
            name: _described(inner, documented.get(name))
            for name, inner in entry["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(entry.get(key), dict):
            result[key] = describe(entry[key], documented)
    if "oneOf" in entry:
        result["oneOf"] = [describe(form, documented) for form in entry["oneOf"]]
    return result


def _described(entry: Schema, documentation: Optional[Schema]) -> Schema:
    """Return the entry of an option with its description and those of its suboptions."""
    result = describe(entry, with_aliases((documentation or {}).get("suboptions") or {}))
    if documentation and "description" not in entry:
        result = {"description": description_of(documentation), **result}
    return result


def complete(top: Schema) -> Schema:
    """Return the schema of a topology with the documentation of all options of qemu_vm."""
    options = documented_options()
    of_nic, of_disk = (with_aliases(options[name]["suboptions"]) for name in ("nics", "disks"))
    parts = dict(top["properties"])
    parts["defaults"] = describe(parts["defaults"], options)
    parts["groups"] = describe(parts["groups"], options)
    parts["nodes"] = _of_nodes(parts["nodes"], options, of_nic)
    impair = {
        name: of_nic["link"]["suboptions"]["impair"] for name in ("impair", "impair_received")
    }
    ends = {name: {"suboptions": impair} for name in ("endpoints", "members")}
    for name in ("links", "segments"):
        parts[name] = describe(parts[name], {"capture": of_nic["capture"], **impair, **ends})
    parts["management"] = describe(parts["management"], of_nic["link"]["suboptions"])
    parts["kinds"] = _of_kinds(parts["kinds"], options, of_disk)
    return dict(top, properties=parts)


def _of_kinds(named: Schema, options: dict[str, Schema], of_disk: dict[str, Schema]) -> Schema:
    """Return the schema of kinds, or of the modules of a kind, by their names."""
    kind = named["additionalProperties"]
    inner = dict(kind["properties"])
    inner["vm"] = describe(inner["vm"], options)
    inner["disk"] = describe(inner["disk"], of_disk)
    inner["bootstrap"] = describe(
        inner["bootstrap"], return_docs.documented_options("console_script")
    )
    if "modules" in inner:
        inner["modules"] = _of_kinds(inner["modules"], options, of_disk)
    return dict(named, additionalProperties=dict(kind, properties=inner))


def _of_nodes(nodes: Schema, options: dict[str, Schema], of_nic: dict[str, Schema]) -> Schema:
    """Return the schema of the nodes; a node's NICs have the suboptions of qemu_vm's nics.

    Editors report a mistake in a node with oneOf as one of the whole node: its type is a list.
    """
    _empty, node = nodes["additionalProperties"]["oneOf"]
    others = {name: entry for name, entry in options.items() if name != "nics"}
    modules = describe(node["properties"]["modules"], others)
    node = describe(node, others)
    own = dict(node["properties"], modules=modules)
    own["nics"] = dict(
        own["nics"], additionalProperties=describe(own["nics"]["additionalProperties"], of_nic)
    )
    node = dict(node, type=["object", "null"], properties=own)
    return dict(nodes, additionalProperties=node)


def with_titles(entry: Schema, path: str = "") -> Schema:
    """Return an entry with the titles of TITLES."""
    result = {"title": TITLES[path], **entry} if path in TITLES else dict(entry)
    if "properties" in entry:
        result["properties"] = {
            name: with_titles(inner, f"{path}.{name}".lstrip("."))
            for name, inner in entry["properties"].items()
        }
    if isinstance(entry.get("items"), dict):
        result["items"] = with_titles(entry["items"], path + "[]")
    if isinstance(entry.get("additionalProperties"), dict):
        result["additionalProperties"] = with_titles(entry["additionalProperties"], path + ".*")
    if "oneOf" in entry:
        result["oneOf"] = [
            with_titles(form, path) if form.get("type") == "object" else form
            for form in entry["oneOf"]
        ]
        result.pop("title", None)
    return result


def children(entry: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the name and the schema of each part of a schema."""
    yield from entry.get("properties", {}).items()
    for key in ("items", "additionalProperties"):
        if isinstance(entry.get(key), dict):
            yield key, entry[key]
    for form in entry.get("oneOf", ()):
        yield "form", form


class Shared:
    """The parts of a schema that occur more than once, each with a name in $defs."""

    def __init__(self, top: Schema) -> None:
        self.names: dict[str, str] = {}
        self.definitions: dict[str, Schema] = {}
        self._counts: collections.Counter[str] = collections.Counter()
        self._count(top)

    def _count(self, entry: Schema) -> None:
        for _name, inner in children(entry):
            text = json.dumps(inner, sort_keys=True)
            self._counts[text] += 1
            if self._counts[text] == 1:
                self._count(inner)

    def replaced(self, name: str, entry: Schema) -> Schema:
        """Return a reference to a shared part, or the entry with references in it."""
        text = json.dumps(entry, sort_keys=True)
        if self._counts[text] < 2 or len(text) < SHARED_SIZE:
            return self.inside(name, entry)
        if text not in self.names:
            self.names[text] = self._free_name(entry.get("title", name).lower().replace(" ", "_"))
            self.definitions[self.names[text]] = {}  # keeps its place before those in it
            self.definitions[self.names[text]] = self.inside(name, entry)
        return {"$ref": "#/$defs/" + self.names[text]}

    def _free_name(self, name: str) -> str:
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        return next(free for free in names if free not in self.definitions)

    def inside(self, name: str, entry: Schema) -> Schema:
        """Return an entry with references to the shared parts in it."""
        result = dict(entry)
        if "properties" in entry:
            result["properties"] = {
                key: self.replaced(key, inner) for key, inner in entry["properties"].items()
            }
        for key in ("items", "additionalProperties"):
            if isinstance(entry.get(key), dict):
                result[key] = self.replaced(name + "_item", entry[key])
        if "oneOf" in entry:
            result["oneOf"] = [self.replaced(name + "_form", form) for form in entry["oneOf"]]
        return result


def topology_schema() -> Schema:
    """Return the schema for editors."""
    top = with_titles(complete(schema.topology_schema()))
    shared = Shared(top)
    result = shared.inside("topology", top)
    head = {
        "$schema": result.pop("$schema"),
        "$id": schema.URL,
        "title": "Topology of a lab of vlab.qemu",
        "description": "A network lab for the module vlab.qemu.qemu_lab and the role "
        "vlab.qemu.lab. Generated by scripts/topology_schema.py.",
    }
    result.pop("title")
    return {**head, **result, "$defs": shared.definitions}


def text() -> str:
    """Return the content of the file."""
    return json.dumps(topology_schema(), indent=1, ensure_ascii=False) + "\n"


def main(words: list[str]) -> int:
    """Write the file, or with --check report that it is not up to date."""
    path = ROOT / PATH
    new = text()
    if path.is_file() and path.read_text(encoding="utf-8") == new:
        return 0
    if "--check" in words:
        print(f"{PATH} is not up to date: run python scripts/topology_docs.py")
        return 1
    path.parent.mkdir(exist_ok=True)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
