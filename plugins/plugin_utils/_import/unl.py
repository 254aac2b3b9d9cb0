# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Import a lab of EVE-NG, PNETLab or UNetLab (.unl)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import (
    machines,
    unl_kinds,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields, whole_number
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.file_text import FileText
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.importer import set_size
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    IMPORTED,
    DROP,
    SEGMENT,
    USER,
    End,
    Lab,
    Missing,
    Options,
    Outside,
    Peer,
    Vm,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import file_name
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import MAX_BYTES
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.qemu_arguments import apply_text
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import DROPPED, KEPT, Report
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.xml_tree import Element

_CANVAS = "it concerns the canvas"
_SERVER = "it concerns the server of EVE-NG"
_LAB_DROPPED = {
    key: _SERVER for key in "id lock scripttimeout tenant shared sharedWith isMirror".split()
}
_NODE_DROPPED = {
    **{key: _CANVAS for key in "icon left top size".split()},
    "config": "whether the file has a configuration of the node",
    "qemu_version": "the hypervisor chooses its QEMU",
    "console_2nd": _SERVER,
    "port": _SERVER,
}
_NETWORK_DROPPED = {key: _CANVAS for key in "left top visibility icon size style color".split()}
_LOCAL = ("bridge", "ovs", "internal", "private")


def import_unl(given: FileText, report: Report, options: Options) -> Lab:
    """Return the lab that a text describes. Raise LabFileError."""
    root = given.xml
    if root.tag != "lab":
        reason = "the root is %s, not lab" % excerpt(root.tag)
        raise LabFileError(report.file, [(root.place, reason)])
    return _Importer(root, report, options).run()


class _Importer:
    """The import of one lab. members: {network id: the NICs in it}."""

    def __init__(self, root: Element, report: Report, options: Options) -> None:
        self.root, self.report, self.options = root, report, options
        self.lab = Lab(report, options)
        self.peers: dict[str, Peer] = {}
        self.members: dict[str, list[tuple[str, End, dict[str, Any]]]] = {}

    def run(self) -> Lab:
        """Import everything."""
        head = self.root.fields(self.report)
        self.lab.set_name(head.text("name", "name"))
        self.lab.vars.update(head.close(_LAB_DROPPED))
        nodes = self.root.at("topology/nodes")
        for element in nodes.all("node") if nodes else []:
            self._add(element)
        networks = self.root.at("topology/networks")
        for element in networks.all("network") if networks else []:
            self._network(element)
        for network, members in self.members.items():
            place = members[0][0]
            raise LabFileError(
                self.report.file, [(place, "there is no network %s" % excerpt(network))]
            )
        self._configurations()
        self._rest()
        return self.lab

    # --- Nodes ---

    def _add(self, element: Element) -> None:
        node = element.fields(self.report)
        node_id = node.text("id", "the configurations of nodes")
        name = node.text("name", "the name of the node")
        kind = node.text("type", "the kind of the node")
        template = node.text("template", "kind")
        if not node_id or node_id in self.peers:
            node.fail("id", "each node needs an id of its own")
        default, reason = unl_kinds.decision(kind, template)
        foreign = template if kind == "qemu" else kind
        if kind == "qemu" and self.lab.decision(name, foreign, default) == unl_kinds.MACHINE:
            peer: Peer = self._machine(element, node, name, template)
        else:
            peer = self.lab.add_peer(name, element.place, foreign, default, reason)
        self.peers[node_id] = peer
        self.lab.set_position(peer, node, ("left", "top"))
        if isinstance(peer, Vm):
            self._settings(peer, node, template)
            peer.imported.update({"template": template})
            peer.imported.update(node.close(_NODE_DROPPED))
        else:
            self.report.whole(element.place, *self.lab.fate(peer))
        found = [whole_number(child.attributes.get("id")) for child in element.all("interface")]
        numbers = {number for number in found if number is not None}
        for child in element.children:
            if child.tag == "interface":
                self._interface(peer, child, kind, numbers)
            elif child.tag == "config" and isinstance(peer, Vm):
                self._config(peer, child)
            elif isinstance(peer, Vm):
                self.report.kept(child.place)
                peer.imported.setdefault("elements", []).append({child.tag: child.data()})

    def _machine(self, element: Element, node: Fields, name: str, template: str) -> Vm:
        """Add a QEMU node of a template without a kind, with a kind of its own."""
        count = node.integer("ethernet", "the NICs", 0, machines.MAX_NICS)
        names = {
            int(child.attributes["id"]): unl_kinds.port_name(child.attributes.get("name", ""))
            for child in element.all("interface")
            if child.attributes.get("id", "").isdigit() and len(child.attributes["id"]) < 4
        }
        total = max(1, count or 0, max(names, default=0) + 1)
        all_names = machines.unique_nic_names(
            [names.get(number) or "e%d" % number for number in range(total)]
        )
        model = machines.nic_model(node.text("qemu_nic", "the model of the NICs") or "virtio")
        vm: dict[str, Any] = {"memory": 1024, "vcpus": 1}
        kind = machines.machine_kind(
            self.lab, template or name, template or name, vm, all_names, model or "e1000", "virtio"
        )
        self.report.warn(
            "%s: the template %s has no kind here; check the bus of its disk in kinds.%s"
            % (element.place, excerpt(template), kind)
        )
        return self.lab.add_vm(name, element.place, kind)

    def _settings(self, vm: Vm, node: Fields, template: str) -> None:
        image = node.text("image", "the images of the lab")
        folder = file_name(image or template, "image")
        disk = unl_kinds.disk_file(vm.spec["disk"].get("bus", "virtio"))
        self.lab.want_image(vm, image or template, "%s/%s" % (folder, disk))
        set_size(vm, node, "ram", "cpu")
        node.mapped("ethernet", "the NICs")
        if self.lab.set_uuid(vm, str(node.data.get("uuid") or "")):
            node.mapped("uuid", "uuid")
        mac = node.text("firstmac", "mac_base")
        if mac:
            vm.settings["mac_base"] = mac
        model = machines.nic_model(node.text("qemu_nic", "nic_model"))
        if model and "qemu_nic" in node and node.data["qemu_nic"] and vm.kind not in self.lab.kinds:
            vm.settings["nic_model"] = model
        console = node.text("console", "the console or the display")
        if console in ("vnc", "rdp"):
            vm.settings["display"] = {"type": "vnc"}
        arguments = node.text("qemu_options", "options of qemu_vm")
        if arguments.strip():
            left = apply_text(self.lab, vm, arguments, node.place("qemu_options"))
            if left:
                vm.imported["qemu_options"] = left

    def _interface(self, peer: Peer, element: Element, node: str, numbers: set[int]) -> None:
        """Add an interface to its network. node: the type of the node; numbers: all its IDs."""
        interface = element.fields(self.report)
        number = interface.integer("id", "the NIC", 0, 10000) or 0
        name = interface.text("name", "the NIC")
        kind = interface.text("type", "the kind of the interface")
        network = interface.text("network_id", "a link or segment")
        if kind == "serial" or "remote_id" in interface:
            reason = "a serial link is none of a VM"
            self.report.whole(element.place, DROPPED, reason)
            return
        end = End(peer)
        if isinstance(peer, Vm):
            nic = peer.naming.at(unl_kinds.position(node, number, numbers))
            if nic is None:
                reason = "node %s of kind %s has no NIC %d (%s); its NICs are %s" % (
                    peer.name,
                    peer.kind,
                    number,
                    excerpt(name),
                    peer.naming,
                )
                interface.fail("id", reason)
            end = End(peer, str(nic))
        kept = interface.close({"style": _CANVAS, "color": _CANVAS, "label": _CANVAS})
        if network and network != "0":
            self.members.setdefault(network, []).append((element.place, end, kept))

    # --- Networks ---

    def _network(self, element: Element) -> None:
        network = element.fields(self.report)
        network_id = network.text("id", "a link or segment")
        name = network.text("name", "the name of the link or segment")
        kind = network.text("type", "a link or segment")
        canvas = element.fields(self.report)
        kept = network.close(_NETWORK_DROPPED)
        members = self.members.pop(network_id, [])
        default = "" if kind in _LOCAL else USER
        decision = self.lab.decision(name, kind, default)
        ends = [end for _place, end, _kept in members]
        settings = _settings_of(members, kept)
        if not members:
            self.report.whole(element.place, DROPPED, "no NIC is in it")
        elif decision == USER:
            self._connect_each(members, Outside(element.place, {"type": "user"}))
        elif decision == DROP:
            self.report.whole(element.place, DROPPED, "it is left out by kinds_map")
        elif len(ends) == 2 and decision != SEGMENT:
            if name:
                settings.setdefault("vars", {}).setdefault(IMPORTED, {})["network"] = name
            self.lab.connect(element.place, ends, settings)
        else:
            hub = self.lab.add_hub(name or "net-%s" % network_id, element.place)
            self.lab.set_position(hub, canvas, ("left", "top"))
            self._connect_each(members, hub)
            if kept:
                self.lab.vars.setdefault("networks", {})[hub.name] = kept

    def _connect_each(self, members: list[tuple[str, End, dict[str, Any]]], peer: Peer) -> None:
        for place, end, kept in members:
            settings = {"vars": {IMPORTED: kept}} if kept else {}
            self.lab.connect(place, [end, End(peer)], settings)

    # --- Configurations, and the rest ---

    def _configurations(self) -> None:
        configs = self.root.at("objects/configs")
        for element in configs.all("config") if configs else []:
            fields = element.fields(self.report)
            node_id = fields.text("id", "config")
            fields.close()
            peer = self.peers.get(node_id, Missing("", "it does not exist"))
            if isinstance(peer, Vm) and "config" not in peer.settings:
                self._config(peer, element)
            else:
                reason = "its node is no VM, or has another configuration"
                self.report.whole(element.place, DROPPED, reason)

    def _config(self, vm: Vm, element: Element) -> None:
        text = "".join(element.text.split())
        try:
            content = base64.b64decode(text, validate=True)
            decoded = content.decode("utf-8") if len(content) < MAX_BYTES else ""
        except (binascii.Error, ValueError):
            reason = "the configuration is not UTF-8 text in base64"
            raise LabFileError(self.report.file, [(element.place, reason)]) from None
        self.lab.add_config(vm, decoded.replace("\r\n", "\n"), element.place)

    def _rest(self) -> None:
        """Record all other elements."""
        objects = self.root.first("objects")
        for child in objects.children if objects else []:
            if child.tag != "configs":
                self.report.whole(child.place, DROPPED, _CANVAS)
        topology = self.root.first("topology")
        for parent in (topology, self.root):
            for child in parent.children if parent else []:
                if child.tag not in ("nodes", "networks", "topology", "objects"):
                    self.report.whole(child.place, KEPT, "vars." + IMPORTED)
                    self.lab.vars.setdefault("elements", []).append({child.tag: child.data()})
                elif child.attributes:
                    self.lab.vars.update(child.fields(self.report).close())


def _settings_of(
    members: list[tuple[str, End, dict[str, Any]]], kept: dict[str, Any]
) -> dict[str, Any]:
    """Return the settings of a link from what its interfaces and its network have."""
    imported: dict[str, Any] = dict(kept)
    for number, (_place, _end, extra) in enumerate(members):
        if extra:
            imported["end%d" % number] = extra
    return {"vars": {IMPORTED: imported}} if imported else {}
