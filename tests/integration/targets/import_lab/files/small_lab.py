# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import files and print a lab with the same links, whose nodes are all of the kind tiny, as JSON.

small_lab.py OPTIONS FILE...: {"topology": ..., "pings": [{"at": node, "run": command}]}. Each
network has addresses of its own, and its first NIC asks all others.
"""

from __future__ import annotations

import json
import pathlib
import sys

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import Source, import_lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder

FIND = "dev() { grep -l $1 /sys/class/net/*/address | cut -d/ -f5; }\n"
ASK = "until ping -q -c 1 -W 1 %s >/dev/null; do :; done"


def mac(place: tuple[int, int]) -> str:
    """Return the MAC of the NIC at a position of the node at a position."""
    return "52:54:00:%02x:%02x:01" % place


def networks(topology) -> list[list[tuple[str, str]]]:
    """Return the NICs on each network with two or more, without links that are down."""
    found = [list(link.ends) for link in topology.links if not link.settings.get("down")]
    found += [list(segment.ends) for segment in topology.segments.values()]
    return [[(end.node, end.nic) for end in ends] for ends in found if len(ends) > 1]


def without_addresses(data):
    """Return a link or a segment without the networks and addresses of the file."""
    if isinstance(data, dict):
        names = [name for name in data if not name.startswith(("address", "prefix"))]
        return {name: without_addresses(data[name]) for name in names}
    return list(map(without_addresses, data)) if isinstance(data, list) else data


def main() -> None:
    """Print the lab."""
    paths = [pathlib.Path(name) for name in sys.argv[2:]]
    sources = [Source(path.name, path.read_bytes()) for path in paths]
    imported = import_lab(sources, Options(**json.loads(sys.argv[1]))).topology
    topology = builder.build(imported)
    places, kinds, scripts = {}, {}, {}
    for number, (name, node) in enumerate(topology.nodes.items()):
        names = list(node.nics)
        places.update({(name, nic): (number, at) for at, nic in enumerate(names)})
        naming = {"name": "spare{n}", "management": names, "max": 1, "fill_slots": True}
        kinds["small%d" % number] = {"extends": "tiny", "nic": naming}
        scripts[name] = FIND
    pings = []
    for number, ends in enumerate(networks(topology), 1):
        for host, (node, nic) in enumerate(ends, 1):
            address = "10.77.%d.%d" % (number, host)
            words = (address, mac(places[node, nic]))
            scripts[node] += "ip address add %s/24 dev $(dev %s)\n" % words
            if host > 1:
                pings.append({"at": ends[0][0], "run": ASK % address})
    own = {name: dict(data.get("nics") or {}) for name, data in imported["nodes"].items()}
    for (node, nic), place in places.items():
        kept = {key: value for key, value in (own[node].get(nic) or {}).items() if key == "link"}
        own[node][nic] = {**kept, "mac": mac(place)}
    nodes = {
        name: {"kind": "small%d" % number, "nics": own[name], "files": {"start.sh": scripts[name]}}
        for number, name in enumerate(imported["nodes"])
    }
    # A guest of Linux cannot have a card of any name, so that it finds them by their MACs.
    links, segments = (without_addresses(imported.get(key)) for key in ("links", "segments"))
    small = {"name": "small", "kinds": kinds, "nodes": nodes, "links": links or []}
    small["segments"] = segments or {}
    json.dump({"topology": small, "pings": pings}, sys.stdout)


if __name__ == "__main__":
    main()
