# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Connect NICs: decide which NIC each end of a link or segment uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import macs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    NIC_SPEC,
    normalise_nic,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    impairments,
    modules,
    switches,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import Kept
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept_links import (
    LinkRequest,
    find_links,
    kept_nics,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.management import (
    without_link_of_lab,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    End,
    Link,
    Network,
    Nic,
    Node,
    Segment,
    Topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import is_nic_name
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.validation import REMOVED

_SHORT_LINK = re.compile(r"\s*(\S+?)\s*(?:--|<->)\s*(\S+)\s*")
# A topology also accepts true and false for a capture; qemu_vm checks it.
_CHECKED_LATER = ("capture",)
_Item = TypeVar("_Item")


class _EndRequest(NamedTuple):
    """An end as the topology gives it. nic: None for the next free NIC of the node.

    given: the whole end.
    """

    path: str
    node: str
    nic: str | None
    given: dict[str, Any]


class _Request(NamedTuple):
    """A link or segment, and the ends that it is to have."""

    network: Network
    ends: list[_EndRequest]


def connect_nics(topology: Topology, problems: Problems) -> None:
    """Add the links and segments to topology, and the NICs to its nodes."""
    _Linker(topology, problems).connect()


def numbered(items: Iterable[_Item] | None) -> Iterator[tuple[int, _Item]]:
    """Yield the valid items of a list, each with its index in the file."""
    return ((number, item) for number, item in enumerate(items or ()) if item is not REMOVED)


def counted_macs(node: Node, more: Iterable[str] = ()) -> dict[str, str]:
    """Return the MACs that mac_base gives to the NICs of a node, and to NICs it can have later.

    Empty without mac_base. They are counted by the numbers that qemu_vm gives to the NICs; those
    that the lab has given before do not change.
    """
    base = node.settings.get("mac_base")
    if not base:
        return {}
    names = [*node.nics, *(name for name in more if name not in node.nics)]
    requests = [
        ("nics/" + name.replace("/", "_"), "nic", node.nic_naming.position(name), "mac_base")
        for name in names
    ]
    try:
        base = macs.normalise("mac_base", base)
        slots = addresses.assign(_kept_slots(base, node.kept_macs), requests)
    except OptionError:
        return {}  # reported elsewhere
    return {
        name: macs.counted(base, slots[request[0]]["index"])
        for name, request in zip(names, requests)
    }


def _kept_slots(base: str, kept: Mapping[str, str]) -> addresses.Slots:
    """Return the slots from which the MACs of NICs were counted."""
    slots: addresses.Slots = {}
    numbers = set()
    for name, mac in kept.items():
        number = macs.number_of(base, mac)
        if number is not None and number < addresses.MAX_NICS and number not in numbers:
            numbers.add(number)
            slots["nics/" + name.replace("/", "_")] = {"kind": "nic", "index": number}
    return slots


def check_mac_bases(topology: Topology, problems: Problems) -> None:
    """Record MACs that the mac_base of two nodes gives to both of them."""
    owners: dict[str, tuple[Node, str]] = {}
    for node in topology.nodes.values():
        for name, mac in counted_macs(node).items():
            if node.nics[name].mac != mac:
                continue
            other, other_nic = owners.setdefault(mac, (node, name))
            if other is not node:
                problems.add(
                    "nodes.%s.mac_base" % node.name,
                    "it gives %s to %s, which %s of the node %s also has: set a mac_base of its own"
                    " for each node",
                    mac,
                    name,
                    other_nic,
                    other.name,
                )
                break


class _Linker:
    """Connects the NICs of one topology."""

    def __init__(self, topology: Topology, problems: Problems) -> None:
        self.topology, self.problems = topology, problems

    def connect(self) -> None:
        """Connect the NICs that ends name, then those that the lab has given before.

        The others get the next free NIC, in the order of the file.
        """
        requests = self._internal_requests() + self._link_requests() + self._segment_requests()
        connected: list[dict[int, End]] = [{} for _request in requests]
        for (network, ends), found in zip(requests, connected):
            for number, end in enumerate(ends):
                if end.nic and self._plug(network, end, end.nic):
                    found[number] = End(end.node, end.nic)
        kept = self._kept_nics(requests)
        for (network, ends), found, nics in zip(requests, connected, kept):
            for number, nic in nics.items():
                end = ends[number]
                if self._can_have(end.node, nic) and self._plug(network, end, nic):
                    found[number] = End(end.node, nic)
        for (network, ends), found in zip(requests, connected):
            for number, end in enumerate(ends):
                name = None if end.nic or number in found else self._next_free(end)
                if name and self._plug(network, end, name):
                    found[number] = End(end.node, name)
        switches.connect_segments(self.topology, self.problems)
        for node in self.topology.nodes.values():
            self._add_other_nics(node)
        for (network, _ends), found in zip(requests, connected):
            network.ends = [end for _number, end in sorted(found.items())]

    def _kept_nics(self, requests: list[_Request]) -> list[dict[int, str]]:
        """Return the NICs of ends that name none: {number of the end: NIC} for each request.

        They are those that the lab has given before. Links and segments get their kept values.
        """
        kept = self.topology.kept
        if not kept:
            return [{} for _request in requests]
        links = [
            (number, LinkRequest(network.given_name, [(end.node, end.nic) for end in ends]))
            for number, (network, ends) in enumerate(requests)
            if isinstance(network, Link)
        ]
        by_link = find_links(kept, [link for _number, link in links])
        entries = {links[index][0]: entry for index, entry in by_link.items()}
        found = []
        for number, (network, ends) in enumerate(requests):
            nics: list[str | None] = [None] * len(ends)
            if isinstance(network, Segment):
                network.kept = kept.segment(network.name)
                nics = _kept_member_nics(kept, network, ends)
            elif number in entries:
                network.kept = entries[number]
                nics = list(kept_nics([end.node for end in ends], network.kept))
            found.append({side: nic for side, nic in enumerate(nics) if nic and not ends[side].nic})
        return found

    def _can_have(self, node_name: str, nic: str) -> bool:
        """Return whether an end that names no NIC can keep one: no other link may have it."""
        node = self.topology.nodes[node_name]
        naming = node.nic_naming
        return _is_free(node, nic) and naming.number(nic) is not None and naming.supports(nic)

    def _internal_requests(self) -> list[_Request]:
        """Return the links between the VMs of one node."""
        requests = []
        for node in self.topology.nodes.values():
            for number, text in enumerate(node.kind_spec["internal"] if node.modules else ()):
                path = "kinds.%s.internal[%d]" % (node.kind, number)
                ends = [
                    _EndRequest(path, (node.modules[module] if module else node).name, nic, {})
                    for module, nic in modules.internal_ends(text)
                    if not module or module in node.modules
                ]
                settings = {"prefix": False, "prefix6": False, "members": []}
                network: Network
                if len(ends) == 2:
                    network = Link(path, None, settings, internal=True)
                    self.topology.links.append(network)
                else:
                    # Names of the user have no period.
                    name = "%s.internal%d" % (node.name, number)
                    network = Segment(path, name, settings, internal=True)
                    self.topology.segments[name] = network
                requests.append(_Request(network, ends))
        return requests

    def _link_requests(self) -> list[_Request]:
        requests = []
        number_of: dict[str, int] = {}
        for number, given in numbered(self.topology.data["links"]):
            path = "links[%d]" % number
            if isinstance(given, str):
                match = _SHORT_LINK.fullmatch(given)
                if not match:
                    self.problems.add(
                        path, "%r is not a link: use the form NODE:NIC -- NODE:NIC", given
                    )
                    continue
                given = {"endpoints": list(match.groups())}
            elif "endpoints" not in given:
                continue
            ends = self._end_requests(given["endpoints"], path + ".endpoints")
            if len(ends) != 2:
                continue
            if ends[0].nic and ends[0][1:3] == ends[1][1:3]:
                self.problems.add(path, "both ends are %s:%s", ends[0].node, ends[0].nic)
                continue
            name = given.get("name")
            if name in number_of:
                self.problems.add(
                    path + ".name", "%r is also the name of links[%d]", name, number_of[name]
                )
            if name:
                number_of[name] = number
            impairments.check(given.get("impair"), path + ".impair", self.problems)
            link = Link(path, name, given)
            self.topology.links.append(link)
            requests.append(_Request(link, ends))
        return requests

    def _segment_requests(self) -> list[_Request]:
        requests = []
        for name, given in self.topology.data["segments"].items():
            if "members" not in given:
                continue
            path = "segments.%s" % name
            segment = self.topology.segments[name] = Segment(path, name, given)
            requests.append(
                _Request(segment, self._end_requests(given["members"], path + ".members"))
            )
        return requests

    def _end_requests(self, given: list[Any], path: str) -> list[_EndRequest]:
        ends = []
        for number, end in numbered(given):
            end_path = "%s[%d]" % (path, number)
            if isinstance(end, str):
                node, _colon, nic = end.partition(":")
                end = {}
                if nic and not is_nic_name(nic):
                    self.problems.add(end_path, "%r is not a valid name of a NIC", nic)
                    continue
            elif "node" in end:
                node, nic = end["node"], end.get("nic")
            else:
                continue
            if node in self.topology.nodes:
                vm, name = self.topology.nodes[node].nic_of_system(nic or None)
                ends.append(_EndRequest(end_path, vm.name, name, end))
            elif node not in self.topology.data["nodes"]:
                hint = suggestion(node, self.topology.data["nodes"])
                self.problems.add(end_path, "there is no node %s%s", node, hint)
        return ends

    def _plug(self, network: Network, end: _EndRequest, nic_name: str) -> bool:
        """Connect a NIC to a network. Record a problem and return False if that is impossible."""
        node = self.topology.nodes[end.node]
        nic = node.nics.get(nic_name)
        if nic is None:
            if not node.nic_naming.supports(nic_name):
                self.problems.add(
                    end.path,
                    "node %s of kind %s has no NIC %s; its NICs are %s",
                    node.name,
                    node.kind,
                    nic_name,
                    node.system_naming,
                )
                return False
            nic = node.nics[nic_name] = self._nic(node, nic_name)
        full_name = "%s:%s" % (node.name, nic_name)
        if nic.network is not None:
            self.problems.add(
                end.path, "%s is already connected by %s", full_name, nic.network.path
            )
            return False
        nic.settings = without_link_of_lab(nic.settings)
        if nic.settings.get("link"):
            self.problems.add(
                end.path,
                "%s has a link of its own, set in nodes.%s.nics",
                full_name,
                node.name,
            )
            return False
        nic.network = network
        address, impair = end.given.get("address"), end.given.get("impair")
        if address:
            nic.settings = dict(nic.settings, address=address)
        if impair is not None:
            impairments.check_end(network, end.path, impair, self.problems)
            nic.settings = {**nic.settings, impairments.OF_END: impair}
        if isinstance(network, Segment):
            vlans = switches.port_vlans(network, end.given, end.path, self.problems)
            network.vlans[End(end.node, nic_name)] = vlans
            network.received[End(end.node, nic_name)] = impairments.received(
                network, end.path, end.given.get("impair_received"), self.problems
            )
        return True

    def _nic(self, node: Node, name: str) -> Nic:
        settings = dict(node.nic_settings.get(name) or {})
        mac = None
        try:
            given = {
                key: settings[key]
                for key in NIC_SPEC
                if settings.get(key) and key not in _CHECKED_LATER
            }
            mac = normalise_nic("nodes.%s.nics.%s" % (node.name, name), given).get("mac")
        except OptionError as error:
            self.problems.add(error.option, error.reason)
        return Nic(
            name,
            mac or macs.derived(self.topology.name, node.name, name),
            settings,
            position=node.nic_naming.position(name),
        )

    def _next_free(self, end: _EndRequest) -> str | None:
        """Return the first data NIC of a node that nothing uses."""
        node = self.topology.nodes[end.node]
        naming = node.nic_naming
        free = (name for name in naming.names() if _is_free(node, name))
        # The NICs of links to VMs that the file does not name come last.
        reserved = self.topology.reserved.nics_of_links(node.name)
        spare = None
        for name in free:
            if name not in reserved:
                return name
            spare = spare or name
        if spare:
            return spare
        self.problems.add(
            end.path,
            "node %s has no free NIC: kind %s supports %d",
            node.name,
            node.kind,
            naming.maximum,
        )
        return None

    def _add_other_nics(self, node: Node) -> None:
        """Add the NICs that are not connected: those in nics, and those that the kind needs."""
        naming = node.nic_naming
        for name in node.nic_settings:
            if name in node.nics:
                continue
            if naming.supports(name):
                node.nics[name] = self._nic(node, name)
            else:
                self.problems.add(
                    "nodes.%s.nics.%s" % (node.name, name),
                    "kind %s has no such NIC; its NICs are %s",
                    node.kind,
                    naming,
                )
        for name in naming.missing(node.nics):
            node.nics[name] = self._nic(node, name)
        node.nics = {name: node.nics[name] for name in sorted(node.nics, key=naming.sort_key)}
        if node.settings.get("mac_base"):
            node.kept_macs = self.topology.kept.macs(node.name)
        for name, mac in counted_macs(node).items():
            if not node.nics[name].settings.get("mac"):
                node.nics[name].mac = mac
        name_of: dict[str, str] = {}
        for nic in node.nics.values():
            if nic.mac in name_of:
                self.problems.add(
                    "nodes.%s.nics.%s.mac" % (node.name, nic.name),
                    "%s is also the MAC address of %s",
                    nic.mac,
                    name_of[nic.mac],
                )
            name_of[nic.mac] = nic.name


def _is_free(node: Node, nic: str) -> bool:
    """Return whether nothing uses a NIC of a node."""
    return nic not in node.nics and not (node.nic_settings.get(nic) or {}).get("link")


def _kept_member_nics(
    kept: Kept, segment: Network, ends: Sequence[_EndRequest]
) -> list[str | None]:
    """Return the NICs that the lab has given to the members of a segment that name none."""
    named = {(end.node, end.nic) for end in ends}
    left = {
        node: [nic for nic in kept.member_nics(segment.name, node) if (node, nic) not in named]
        for node in {end.node for end in ends}
    }
    return [left[end.node].pop(0) if left[end.node] and not end.nic else None for end in ends]
