# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the labs of other tools with plain parsers, independently of the importers.

What a file says is compared with what was imported: nodes, networks, ports, addresses. A port is
the first letter and the digits of its name, so that Gi0/1 equals GigabitEthernet0/1.
"""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree

import yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder

# Ports by their number from 0 on systems that the importers use for others.
BY_NUMBER = {
    "tiny": lambda n: "eth%d" % (n + 1),
    "frr": lambda n: "eth%d" % (n + 1),
    "linux": lambda n: "eth%d" % (n + 1),
    "cloud": lambda n: "eth%d" % n,
    "cisco_vios": lambda n: "GigabitEthernet0/%d" % n,
    "cisco_viosl2": lambda n: "GigabitEthernet%d/%d" % divmod(n, 4),
}
# What the launchers of containerlab connect with ethN.
BY_ETH = {
    "cisco_viosl2": lambda n: "GigabitEthernet%d/%d" % divmod(n, 4),
    "cisco_vios": lambda n: "GigabitEthernet0/%d" % n,
    "cisco_c8000v": lambda n: "GigabitEthernet%d" % (n + 1),
    "cisco_csr1000v": lambda n: "GigabitEthernet%d" % (n + 1),
    "cisco_xrv9k": lambda n: "GigabitEthernet0/0/0/%d" % (n - 1),
    "cisco_n9kv": lambda n: "Ethernet1/%d" % n,
    "nokia_sros": lambda n: "1/1/%d" % n,
    "arista_veos": lambda n: "Ethernet%d" % n,
    "mikrotik_ros": lambda n: "ether%d" % (n + 1),
    "juniper_vsrx": lambda n: "ge-0/0/%d" % (n - 1),
}
# The ports of systems that are no VMs, as ethN: the number, or the card of four and the number.
CONTAINER_PORTS = {
    "nokia_srlinux": r"e1-(\d+)|ethernet-1/(\d+)",
    "nokia_srsim": r"1/1/c(\d+)/1",
    "cisco_iol": r"Ethernet(\d)/(\d)",
}
NO_NETWORK = ("loopback", "svi", "lag", "tunnel", "vlan_member")


@dataclasses.dataclass(frozen=True)
class Port:
    """A port of a source. number: from 0; is_eth: it is N of ethN; name: empty if it has none."""

    node: int
    name: str = ""
    number: int = 0
    is_eth: bool = False

    def on(self, kind, nics, is_other):
        """Return the port of a node that became a kind with NICs.

        is_other: it is not the system of the file.
        """
        if self.is_eth:
            return key(BY_ETH.get(kind, "eth{}".format)(self.number))
        if is_other:
            return key(BY_NUMBER[kind](self.number))
        return key(self.name or nics[self.number])


@dataclasses.dataclass
class Lab:
    """A lab: names of its VMs; networks: (ports, whether it leads outside); addresses of ports.

    others: VMs that are another system than in the file.
    """

    nodes: list = dataclasses.field(default_factory=list)
    networks: list = dataclasses.field(default_factory=list)
    addresses: dict = dataclasses.field(default_factory=dict)
    others: set = dataclasses.field(default_factory=set)


def key(name):
    """Return a name of a port so that short and long forms are equal."""
    letters, digits = re.fullmatch(r"([A-Za-z-]*)(.*)", re.sub(r"[\s:,]+", "-", name)).groups()
    return letters[:1].lower(), digits


class Networks:
    """Joins ports into networks: each port, and each network node, has a representative."""

    def __init__(self):
        self.parents = {}

    def root(self, item):
        """Return what an item is joined with."""
        while self.parents.setdefault(item, item) != item:
            item = self.parents[item]
        return item

    def join(self, *items):
        """Join items."""
        for item in items[1:]:
            self.parents[self.root(item)] = self.root(items[0])

    def found(self):
        """Return (ports, whether it leads outside) of each network with ports."""
        groups = {}
        for item in self.parents:
            groups.setdefault(self.root(item), set()).add(item)
        for items in groups.values():
            ports = frozenset(item for item in items if isinstance(item, Port))
            if ports:
                yield ports, any(item[0] == "outside" for item in items - ports)


def read(path, kinds_map, variables=None):
    """Return the lab of a file."""
    text = path.read_text()
    for name, value in (variables or {}).items():
        text = text.replace("$" + name, value)
    return READERS[path.name.partition("_")[0]](text, kinds_map)


def _fate(name, foreign, kinds_map, default):
    return kinds_map.get(name, kinds_map.get(foreign, default))


def _peers(lab, entries, kinds_map, default):
    """Fill the nodes of a lab; return {id: index of a VM, or what it is}.

    entries: (id, name, kind).
    """
    peers = {}
    for identifier, name, foreign in entries:
        fate = _fate(name, foreign, kinds_map, default(foreign))
        if fate in ("segment", "switch"):
            peers[identifier] = ("segment", identifier)
        elif fate == "user":
            peers[identifier] = ("outside", identifier)
        elif fate == "drop":
            peers[identifier] = None
        else:
            peers[identifier] = len(lab.nodes)
            if fate:
                lab.others.add(len(lab.nodes))
            lab.nodes.append(name)
    return peers


def containerlab(text, kinds_map):
    """Return a lab of containerlab."""
    topology = yaml.safe_load(text)["topology"]
    lab, kinds = Lab(), {}
    for name, node in topology["nodes"].items():
        node = node or {}
        group = (topology.get("groups") or {}).get(node.get("group"), {})
        default = (topology.get("defaults") or {}).get("kind")
        kinds[name] = node.get("kind") or group.get("kind") or default
    entries = [(name, name, kind) for name, kind in kinds.items()]
    default = {"bridge": "segment", "ovs-bridge": "segment"}
    peers = _peers(lab, entries, kinds_map, lambda kind: default.get(kind, ""))
    joined = Networks()
    for link in topology.get("links") or ():
        ends = []
        given = link.get("endpoints") or [link["endpoint"]]
        for number, end in enumerate(given):
            name, interface = (
                end.split(":", 1) if isinstance(end, str) else (end["node"], end["interface"])
            )
            port = _end(peers.get(name, ("outside", "mgmt")), kinds.get(name), interface)
            ends.append(port)
            addresses = [end.get(key) for key in ("ipv4", "ipv6")] if isinstance(end, dict) else []
            for version in ("ipv4", "ipv6"):
                listed = link.get(version)
                addresses += listed[number : number + 1] if isinstance(listed, list) else []
            if isinstance(port, Port) and any(addresses):
                lab.addresses[port] = [address for address in addresses if address]
        ends += [("outside", "host")] if len(ends) == 1 else []
        joined.join(*ends)
    lab.networks = list(joined.found())
    return lab


def _end(peer, kind, interface):
    if not isinstance(peer, int):
        return peer
    match = re.fullmatch(r"eth(\d+)", interface)
    if match:
        return Port(peer, number=int(match.group(1)), is_eth=True)
    match = re.fullmatch(CONTAINER_PORTS.get(kind, "(?!)"), interface)
    if match:
        numbers = [int(each) for each in match.groups() if each]
        number = numbers[0] if len(numbers) == 1 else 4 * numbers[0] + numbers[1]
        return Port(peer, number=number, is_eth=True)
    return Port(peer, interface)


def gns3(text, kinds_map):
    """Return a project of GNS3."""
    topology = json.loads(text)["topology"]
    lab = Lab()
    default = {"nat": "user", "ethernet_switch": "segment", "ethernet_hub": "segment"}
    entries = [(node["node_id"], node["name"], node["node_type"]) for node in topology["nodes"]]
    peers = _peers(lab, entries, kinds_map, lambda kind: default.get(kind, ""))
    custom = {
        (node["node_id"], each["adapter_number"]): each.get("port_name")
        for node in topology["nodes"]
        for each in node.get("custom_adapters") or ()
    }
    joined = Networks()
    for link in topology["links"]:
        ends = []
        for end in link["nodes"]:
            peer, adapter = peers[end["node_id"]], end.get("adapter_number", 0)
            # The label is what people see on the canvas. eN is the port with that number.
            label = re.sub(r"^e\d+$", "", (end.get("label") or {}).get("text", ""))
            name = custom.get((end["node_id"], adapter)) or label
            ends.append(Port(peer, name, adapter) if isinstance(peer, int) else peer)
        joined.join(*ends)
    lab.networks = list(joined.found())
    return lab


CML_OTHERS = {"alpine": "tiny", "desktop": "tiny", "server": "tiny", "ubuntu": "cloud"}
CML_NETWORKS = {"unmanaged_switch": "segment", "external_connector": "user"}


def cml(text, kinds_map):
    """Return a lab of CML."""
    data = yaml.safe_load(text)
    lab, entries, ports = Lab(), [], {}
    for node in data["nodes"]:
        settings = node.get("data") or node
        entries.append((node["id"], settings["label"], settings["node_definition"]))
    default = {**CML_OTHERS, **CML_NETWORKS}
    peers = _peers(lab, entries, kinds_map, lambda kind: default.get(kind, ""))
    for node in data["nodes"]:
        number = 0
        for port in node.get("interfaces") or data["interfaces"]:
            if port.get("node", node["id"]) != node["id"] or port.get("type") == "loopback":
                continue
            peer = peers[node["id"]]
            is_vm = isinstance(peer, int)
            slot = port.get("slot", number)
            ports[node["id"], port["id"]] = Port(peer, port["label"], slot) if is_vm else peer
            number += 1
    joined = Networks()
    for link in data["links"]:
        if "i1" in link:
            ends = [ports[link["n1"], link["i1"]], ports[link["n2"], link["i2"]]]
        else:
            joints = (link["interface_a"], link["interface_b"])
            ends = [
                port for each in joints for (_node, name), port in ports.items() if name == each
            ]
        joined.join(*ends)
    lab.networks = list(joined.found())
    return lab


def eve(text, kinds_map):
    """Return a lab of EVE-NG."""
    root = xml.etree.ElementTree.fromstring(text)
    lab, members = Lab(), {}
    entries = []
    for node in root.findall("topology/nodes/node"):
        is_qemu = node.get("type") == "qemu"
        foreign = node.get("template") if is_qemu else node.get("type")
        entries.append((node.get("id"), node.get("name"), foreign))
    default = {"linux": "cloud"}
    peers = _peers(lab, entries, kinds_map, lambda kind: default.get(kind, ""))
    for node in root.findall("topology/nodes/node"):
        ids = sorted(int(each.get("id")) for each in node.findall("interface"))
        for interface in node.findall("interface"):
            peer, number = peers[node.get("id")], int(interface.get("id"))
            if interface.get("type") == "serial" or not isinstance(peer, int):
                continue
            if node.get("type") == "iol":
                number = number % 16 * 4 + number // 16
            elif node.get("type") == "dynamips":
                number = ids.index(number)
            # Of two names, the last with a number is the one of the system.
            names = interface.get("name").split(" / ")
            numbered = [name for name in names if re.search(r"\d", name)]
            port = Port(peer, (numbered or names)[-1], number)
            members.setdefault(interface.get("network_id"), []).append(port)
    for network in root.findall("topology/networks/network"):
        ports = members.get(network.get("id"), [])
        kind = network.get("type")
        fate = _fate(
            network.get("name"), kind, kinds_map, "" if kind in ("bridge", "ovs") else "user"
        )
        if fate == "user":
            lab.networks += [(frozenset([port]), True) for port in ports]
        elif ports and fate != "drop":
            lab.networks.append((frozenset(ports), False))
    return lab


def netlab(text, kinds_map):
    """Return what netlab created."""
    data = yaml.safe_load(text)
    lab = Lab()
    entries = []
    for name, node in data["nodes"].items():
        is_bridge = node["device"] == "linux" and node.get("role") == "bridge"
        entries.append((name, name, "bridge" if is_bridge else node["device"]))
    peers = _peers(lab, entries, kinds_map, lambda kind: "segment" if kind == "bridge" else "")
    for link in data.get("links") or ():
        if link.get("type") in NO_NETWORK or link.get("virtual_interface"):
            continue
        ports = []
        for end in link["interfaces"]:
            peer = peers[end["node"]]
            if isinstance(peer, int):
                name = re.sub(r"\.0$", "", end.get("ifname", ""))
                if data["nodes"][end["node"]]["device"] == "sonic":
                    name = "eth%d" % (int(name[len("Ethernet") :]) // 4 + 1)
                ports.append(Port(peer, name))
                addresses = [end[each] for each in ("ipv4", "ipv6") if "/" in str(end.get(each))]
                if addresses:
                    lab.addresses[ports[-1]] = addresses
        if ports:
            lab.networks.append((frozenset(ports), False))
    # All of them have the names of the file.
    lab.others.clear()
    return lab


READERS = {
    "containerlab": containerlab,
    "gns3": gns3,
    "cml": cml,
    "eve": eve,
    "netlab": netlab,
}


def expected(lab, imported):
    """Return networks and addresses of a source, as the imported lab should have them."""
    kinds = [node["kind"] for node in imported.topology["nodes"].values()]
    nics = [list(node.nics) for node in builder.build(imported.topology).nodes.values()]

    def on(port):
        is_other = port.node in lab.others
        return port.node, *port.on(kinds[port.node], nics[port.node], is_other)

    networks = sorted((sorted(map(on, ports)), outside) for ports, outside in lab.networks)
    return networks, {on(port): sorted(each) for port, each in lab.addresses.items()}


def found(imported):
    """Return networks and addresses of an imported lab, as expected() does."""
    topology = builder.build(imported.topology)
    numbers = {name: number for number, name in enumerate(imported.topology["nodes"])}

    def on(end):
        node, nic = str(end).split(":", 1)
        return numbers[node], *key(nic)

    networks = [(sorted(map(on, link.ends)), False) for link in topology.links]
    for segment in topology.segments.values():
        networks.append((sorted(map(on, segment.ends)), bool(segment.uplink)))
    addresses = {}
    for name, node in topology.nodes.items():
        outside = imported.topology["nodes"][name].get("nics", {})
        for nic in node.nics.values():
            if nic.addresses:
                addresses[on("%s:%s" % (name, nic.name))] = sorted(map(str, nic.addresses))
            if "link" in outside.get(nic.name, {}):
                networks.append(([on("%s:%s" % (name, nic.name))], True))
    return sorted(networks), addresses
