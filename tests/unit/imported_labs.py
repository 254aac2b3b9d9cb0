# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import the files of the tests, and read sources and topologies independently of the importers."""

from __future__ import annotations

import pathlib
import re

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import Source, import_lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder

FILES = pathlib.Path(__file__).parent / "plugins/plugin_utils/_import/files"
# Nodes of the files that are no VMs.
KINDS_MAP = {"linux": "tiny", "vpcs": "tiny"}


def imported(name, **options):
    """Return the imported lab of a file of the tests."""
    options.setdefault("kinds_map", KINDS_MAP)
    return import_lab([Source(name, (FILES / name).read_bytes())], Options(**options))


def imported_text(text, **options):
    """Return the imported lab of a text."""
    return import_lab([Source("lab", text.encode())], Options(**options))


def places(data, path=""):
    """Yield the place of each value without parts, as the report names it."""
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from places(value, "%s.%s" % (path, key) if path else str(key))
    elif isinstance(data, list) and data:
        for number, value in enumerate(data):
            yield from places(value, "%s[%d]" % (path, number))
    else:
        yield path


def missing_places(report, data):
    """Return the places of data that a report does not cover. data: of a file, or the places."""
    recorded = {field["place"] for field in report["fields"]}
    return [
        place
        for place in (places(data) if isinstance(data, dict) else data)
        if not any(
            place[:end] in recorded
            for end in [*(match.start() for match in re.finditer(r"[.\[]", place)), len(place)]
        )
    ]


def cables(imported_lab):
    """Return the links of a topology as sets of NODE:NIC, and the members of its segments."""
    topology = builder.build(imported_lab.topology)
    links = {frozenset(map(str, link.ends)) for link in topology.links}
    segments = {name: set(map(str, each.ends)) for name, each in topology.segments.items()}
    return links, segments


def xml_places(element, path=None):
    """Yield the place of each attribute and text of an element tree of the standard library."""
    path = path or element.tag
    for name in element.attrib:
        yield "%s.%s" % (path, name)
    if (element.text or "").strip():
        yield path
    counts = {}
    for child in element:
        number = counts[child.tag] = counts.get(child.tag, -1) + 1
        yield from xml_places(child, "%s.%s[%d]" % (path, child.tag, number))
