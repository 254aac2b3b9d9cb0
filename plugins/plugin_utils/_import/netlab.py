# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Import what netlab creates: the transformed topology (netlab create -o yaml, or its snapshot)."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import (
    impairments,
    netlab_devices,
    nic_names,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields, whole_number
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.file_text import FileText
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.importer import (
    Importer,
    set_size,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    IMPORTED,
    End,
    Lab,
    Options,
    Vm,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import valid_name
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import DROPPED, Report

_NETLAB = "it concerns netlab itself; only nodes and links are read"
_TOP_DROPPED = {
    key: _NETLAB
    for key in (
        "defaults addressing provider plugin Plugin Provider input includes tools message version "
        "pools prefix _provider_nodes _input _plugin_path"
    ).split()
}
_NODE_DROPPED = {
    key: "it concerns the provider of netlab"
    for key in "box clab libvirt provider hostname _config netlab_ready".split()
}
_LINK_DROPPED = {
    "linkindex": "the order of links does not matter",
    "node_count": "it is the number of endpoints",
    "bridge": "the hypervisor chooses the name",
    "clab": "it concerns the provider of netlab",
    "libvirt": "it concerns the provider of netlab",
    "_linkname": _NETLAB,
}
# Interfaces and links that are no cables.
_VIRTUAL = ("loopback", "svi", "lag", "tunnel", "vlan_member", "routed", "routed_vlan", "virtual")
_SEGMENTS = ("lan", "stub", "bridge", "stub_lan")


def is_netlab(data: Any) -> bool:
    """Return whether the data of a file is a transformed topology of netlab."""
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), dict):
        return False
    nodes = list(data["nodes"].values())
    return bool(nodes) and all(isinstance(node, dict) and "device" in node for node in nodes)


def import_netlab(given: FileText, report: Report, options: Options) -> Lab:
    """Return the lab that a text describes. Raise LabFileError."""
    data = given.json if given.is_json else given.yaml
    if not is_netlab(data):
        reason = "each node needs a device: give the output of netlab create -o yaml"
        raise LabFileError(report.file, [("nodes", reason)])
    return _Importer(Fields(report, "", data), options).run()


class _Importer(Importer):
    """The import of one topology. nics: {(node, ifindex): its NIC}."""

    def __init__(self, top: Fields, options: Options) -> None:
        super().__init__(top, options)
        self.nics: dict[tuple[str, int], str] = {}

    def run(self) -> Lab:
        """Import everything."""
        self.lab.set_name(self.top.text("name", "name"))
        nodes = self.top.fields("nodes")
        for name in nodes.data:
            self._add(name, nodes.fields(name))
        for link in self.top.mappings("links"):
            self._link(link)
        self._groups()
        self.lab.vars.update(self.top.close(_TOP_DROPPED))
        return self.lab

    def _groups(self) -> None:
        """Add the groups with members in the lab."""
        given = self.top.data.get("groups")
        if not isinstance(given, dict):
            return
        groups = self.top.fields("groups")
        for name in groups.data:
            settings = groups.data[name]
            names = settings.get("members") if isinstance(settings, dict) else None
            peers = [self.peers.get(str(each)) for each in names] if isinstance(names, list) else []
            members = [peer.name for peer in peers if isinstance(peer, Vm)]
            if members:
                self.lab.groups[valid_name(name, "group")] = members
                self.report.mapped(groups.place(name), "groups; its settings are those of nodes")
            else:
                self.report.dropped(groups.place(name), "it has no members in the lab")

    # --- Nodes ---

    def _add(self, name: str, node: Fields) -> None:
        device = node.text("device", "kind")
        role = node.data.get("role")
        default, reason = netlab_devices.decision(device, role if isinstance(role, str) else "")
        peer = self.peers[name] = self.lab.add_peer(name, node.path, device, default, reason)
        if not isinstance(peer, Vm):
            self.report.whole(node.path, *self.lab.fate(peer))
            return
        box = node.data.get("box")
        self.lab.want_image(peer, str(box) if isinstance(box, str) else "netlab device " + device)
        set_size(peer, node, "memory", "cpu")
        self._addresses(peer, node)
        for interface in node.mappings("interfaces"):
            self._interface(name, peer, interface)
        peer.imported.update(node.close(_NODE_DROPPED))
        peer.imported["device"] = device

    def _addresses(self, vm: Vm, node: Fields) -> None:
        """Set the loopback, the AS number and the MAC address of the management NIC."""
        bgp = node.data.get("bgp")
        number = whole_number(bgp.get("as")) if isinstance(bgp, dict) else None
        if number and 0 < number < 1 << 32:
            vm.settings["asn"] = number
        if isinstance(node.data.get("loopback"), dict):
            loopback = node.fields("loopback")
            for key, option, length in (("ipv4", "loopback", "/32"), ("ipv6", "loopback6", "/128")):
                address = loopback.data.get(key)
                if isinstance(address, str) and address.endswith(length):
                    loopback.mapped(key, option)
                    vm.settings[option] = address[: -len(length)]
            kept = loopback.close()
            if kept:
                vm.imported["loopback"] = kept
        if isinstance(node.data.get("mgmt"), dict):
            management = node.fields("mgmt")
            mac = management.data.get("mac")
            if vm.naming.management and isinstance(mac, str):
                management.mapped("mac", "nics[].mac")
                vm.nic(vm.naming.management[0])["mac"] = mac
            kept = management.close()
            if kept:
                vm.imported["mgmt"] = kept

    def _interface(self, name: str, vm: Vm, interface: Fields) -> None:
        """Find the NIC of an interface; keep its data."""
        index = interface.integer("ifindex", "the NIC", 0, 1 << 20)
        if index is None:
            interface.fail("ifindex", "it is missing")
            return
        text = interface.text("ifname", "the NIC")
        data = dict(interface.close({"linkindex": _LINK_DROPPED["linkindex"]}), ifname=text)
        vm.imported.setdefault("interfaces", []).append(data)
        kind = interface.data.get("type")
        if kind in _VIRTUAL or interface.data.get("virtual_interface"):
            return
        # Junos names have a unit.
        nic = nic_names.by_name(vm.naming, re.sub(r"\.\d+$", "", text))
        nic = nic or vm.naming.at(len(vm.naming.management) + max(index - 1, 0))
        if nic is None:
            interface.fail(
                "ifname",
                "node %s of kind %s has no NIC %s; its NICs are %s"
                % (vm.name, vm.kind, excerpt(text), vm.naming),
            )
        self.nics[name, index] = str(nic)

    # --- Links ---

    def _link(self, link: Fields) -> None:
        kind = link.text("type", "a link or segment")
        if kind in _VIRTUAL or link.data.get("virtual_interface"):
            self.report.whole(link.path, DROPPED, "it is no cable: a link of type %s" % kind)
            return
        ends = [self._end(end) for end in link.mappings("interfaces")]
        name = link.text("name", "the name of the segment")
        settings: dict[str, Any] = {}
        prefix = link.data.get("prefix")
        prefixes: dict[str, str] = {}
        if isinstance(prefix, dict):
            fields = link.fields("prefix")
            for key, option in (("ipv4", "prefix"), ("ipv6", "prefix6")):
                if isinstance(fields.data.get(key), str) and "/" in fields.data[key]:
                    prefixes[option] = fields.text(key, option)
            fields.close()
        is_link = len(ends) == 2 and kind not in _SEGMENTS
        extra: dict[str, Any] = {}
        if is_link and isinstance(link.data.get("tc"), dict):
            control = link.fields("tc")
            impair = impairments.impairment(control, impairments.NETLAB)
            rest = control.close()
            if impair:
                settings["impair"] = impair
            if rest:
                extra["tc"] = rest
        kept = {**extra, **link.close(_LINK_DROPPED)}
        if kept:
            settings["vars"] = {IMPORTED: kept}
        if is_link:
            # Addresses of two different networks are no prefix of a link.
            self.lab.connect(link.path, ends, {**prefixes, **settings})
        elif ends:
            self._segment(link, name, ends, {**prefixes, **settings})
        else:
            self.report.whole(link.path, DROPPED, "no NIC is in it")

    def _segment(self, link: Fields, name: str, ends: list[End], settings: dict[str, Any]) -> None:
        hub = self.lab.add_hub(name or "lan-%s" % link.data.get("linkindex", 0), link.path)
        for end in ends:
            self.lab.connect(link.path, [end, End(hub)], {})
        self.lab.hub_settings[hub.name] = settings

    def _end(self, end: Fields) -> End:
        name = end.text("node", "an endpoint")
        index = end.integer("ifindex", "an endpoint", 0, 1 << 20)
        if name not in self.peers:
            end.fail("node", "there is no node %s" % excerpt(name))
        peer = self.peers[name]
        if not isinstance(peer, Vm):
            end.close()
            return End(peer)
        nic = self.nics.get((name, -1 if index is None else index))
        if nic is None:
            end.fail("ifindex", "node %s has no interface %s" % (excerpt(name), index))
        found = End(peer, str(nic))
        for key in ("ipv4", "ipv6"):
            address = end.data.get(key)
            if isinstance(address, str) and "/" in address:
                found.address.append(end.text(key, "the address of the endpoint"))
        end.dropped("ifname", "nodes have it")
        kept = end.close()
        if kept:
            peer.imported.setdefault("links", {})[str(nic)] = kept
        return found
