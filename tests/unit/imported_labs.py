# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import the files of the tests, and read sources and topologies independently of the importers."""

from __future__ import annotations

import pathlib
import re

from ansible_collections.vlab.qemu.plugins.module_utils._vm import command_line
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import with_image_paths
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import Source, import_lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
    endpoints,
    host_shares,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.images import apply_images
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose, granted

FOLDER = pathlib.Path(__file__).parent / "plugins/plugin_utils/_import"
FILES = FOLDER / "files"
# Rebuilt from public files.
PUBLIC = FOLDER / "public"
# All of them by their names.
LAB_FILES = {
    path.name: path
    for folder in (FILES, PUBLIC)
    for path in folder.iterdir()
    if path.suffix not in (".md", ".license")
}
# Nodes of the files that are no VMs.
KINDS_MAP = {"linux": "tiny", "vpcs": "tiny"}
IOL = {"iol": "cisco_viosl2", "vpcs": "tiny"}
GNS3 = {"vpcs": "tiny", "docker": "tiny", "cloud": "user"}
# How each file is imported, unless with KINDS_MAP.
OPTIONS = {
    **{path.name: {"kinds_map": KINDS_MAP} for path in FILES.iterdir()},
    **{path.name: {"kinds_map": GNS3} for path in PUBLIC.glob("gns3_*")},
    **{path.name: {"kinds_map": IOL} for path in PUBLIC.glob("eve_*")},
    "cml_hybrid.yaml": {"kinds_map": {"iol-xe": "cisco_vios", "ioll2-xe": "cisco_viosl2"}},
    "containerlab_iol.clab.yml": {
        "kinds_map": {
            "arista_ceos": "arista_veos",
            "cisco_iol": "cisco_vios",
            "edge-switch": "cisco_viosl2",
            "linux": "tiny",
        }
    },
    "containerlab_srsim.clab.yml": {"kinds_map": {"linux": "tiny", "nokia_srsim": "nokia_sros"}},
    "containerlab_variables.clab.yml": {
        "kinds_map": {"linux": "tiny"},
        "variables": {"LAB_NAME": "lab"},
    },
    "containerlab_vendors.clab.yml": {
        "kinds_map": {
            "cisco_iol": "cisco_vios",
            "hq-sw": "cisco_viosl2",
            "isp-a": "frr",
            "linux": "tiny",
            "nokia_srlinux": "frr",
        }
    },
    "eve_dynamips.unl": {"kinds_map": {"dynamips": "cisco_vios"}},
    "netlab_chain.yml": {"kinds_map": {"linux": "tiny"}},
}


def imported_file(name):
    """Return the imported lab of any file of the tests."""
    return import_lab(
        [Source(name, LAB_FILES[name].read_bytes())], Options(**OPTIONS.get(name, {}))
    )


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


def definitions(imported_lab, version="7.2"):
    """Return the definitions of all VMs of a lab, as a QEMU accepts them: {node: definition}."""
    images = {
        name: {"kernel": "/k"} if "built_by" in image else {"disk": "/base"}
        for name, image in imported_lab.report["images"].items()
    }
    topology = builder.build(imported_lab.topology)
    return definitions_of(topology, {**images, **imported_lab.images}, version)


def share_of(topology, images=None, render=lambda node, content: content):
    """Return the share of the one hypervisor of a built topology, which starts all of it.

    images: as for qemu_lab, None for nodes that need none.
    """
    if images is not None:
        problems = Problems()
        apply_images(topology, images, problems)
        problems.check()
    placed = dict.fromkeys(topology.nodes, "h")
    return host_shares.share_for(
        topology,
        placed,
        "h",
        endpoints.UdpEndpoints(topology, placed, {}),
        dict.fromkeys(placed, "started"),
        dict.fromkeys(placed, True),
        render,
    )


def definitions_of(topology, images, version):
    """Return the definitions of all VMs of a built topology, as a QEMU accepts them."""
    found = {}
    for vm in share_of(topology, images)["vms"]:
        options = with_image_paths(vm["options"], "/images")
        for nic in options["nics"]:
            nic.pop("peer", None)
        # The files of the drive, firmware and other programs are those of a real host.
        for option in ("config_drive", "firmware"):
            options.pop(option, None)
        if options.get("arch", "x86_64") != "x86_64":
            continue
        host = FakeHost(version, name=vm["name"])
        found[vm["name"]] = compose(options, host=host)
        command_line.build(granted(found[vm["name"]]), host)
    return found
