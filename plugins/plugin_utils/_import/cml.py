# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Import a lab of Cisco Modeling Labs (CML 2), versions 0.0.1 to 0.3."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import (
    cml_kinds,
    impairments,
    nic_names,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.file_text import FileText
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.importer import (
    Importer,
    set_size,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    IMPORTED,
    End,
    Lab,
    Missing,
    Options,
    Vm,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import file_name
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report

_VERSIONS = ("0.0.1", "0.0.2", "0.0.3", "0.0.4", "0.0.5", "0.1", "0.2", "0.3")
_CANVAS = "it concerns the canvas"
_SERVER = "it concerns the server of CML"
_TOP_DROPPED = {"annotations": _CANVAS, "smart_annotations": _CANVAS}
_NODE_DROPPED = {
    "hide_links": _CANVAS,
    "compute_id": _SERVER,
    "pinned_compute_id": _SERVER,
    "pyats": _SERVER,
}
_LINK_DROPPED = {"id": _SERVER}
_PORT_DROPPED = {"operational": _SERVER}
# The names of the fields of a link, in the versions of the format.
_ENDS = (("n1", "i1"), ("n2", "i2"))
_OLD_ENDS = (("node_a", "interface_a"), ("node_b", "interface_b"))


def is_cml(data: Any) -> bool:
    """Return whether the data of a YAML file is a lab of CML."""
    return (
        isinstance(data, dict)
        and isinstance(data.get("nodes"), list)
        and (isinstance(data.get("lab"), dict) or "lab_title" in data)
    )


def import_cml(given: FileText, report: Report, options: Options) -> Lab:
    """Return the lab that a text describes. Raise LabFileError."""
    data = given.yaml
    if not is_cml(data):
        raise LabFileError(report.file, [("lab", "lab and nodes are missing: no lab of CML")])
    return _Importer(Fields(report, "", data), options).run()


class _Importer(Importer):
    """The import of one lab. ports: {(node id, interface id): its end}."""

    def __init__(self, top: Fields, options: Options) -> None:
        super().__init__(top, options)
        self.ports: dict[tuple[str, str], End] = {}
        self.owner: dict[str, str] = {}
        # The next slot of each node, where the file has none.
        self.positions: dict[str, int] = {}

    def run(self) -> Lab:
        """Import everything."""
        self._head()
        for node in self.top.mappings("nodes"):
            self._add(node)
        for port in self.top.mappings("interfaces"):
            # Version 0.0.1 lists all interfaces in one place.
            self._port(port, port.text("node", "the node of the interface"))
        for link in self.top.mappings("links"):
            self._link(link)
        self.lab.vars.update(self.top.close(_TOP_DROPPED))
        return self.lab

    def _head(self) -> None:
        if "lab" in self.top:
            head = self.top.fields("lab")
            version = head.text("version", "the format of the file")
            if version and not version.startswith(_VERSIONS):
                head.fail("version", "the version %s is not supported" % excerpt(version))
            self.lab.set_name(head.text("title", "name"))
            self.lab.vars.update(head.close())
        else:
            self.lab.set_name(self.top.text("lab_title", "name"))

    def _add(self, node: Fields) -> None:
        node_id = node.text("id", "the nodes of links")
        if not node_id or node_id in self.peers:
            node.fail("id", "each node needs an id of its own")
        # Version 0.0.1 has the settings of a node below data.
        settings = node.fields("data") if isinstance(node.data.get("data"), dict) else node
        name = settings.text("label", "the name of the node") or node_id
        definition = settings.text("node_definition", "kind")
        default, reason = cml_kinds.decision(definition)
        peer = self.lab.add_peer(name, node.path, definition or "no definition", default, reason)
        self.peers[node_id] = peer
        self.lab.set_position(peer, settings if "x" in settings else node, ("x", "y"))
        ports = node.mappings("interfaces")
        if not isinstance(peer, Vm):
            for port in ports:
                self.ports[node_id, port.text("id", "an endpoint")] = End(peer)
                self.owner[str(port.data.get("id"))] = node_id
            self.report.whole(node.path, *self.lab.fate(peer))
            return
        self._settings(peer, settings)
        self._configuration(peer, settings)
        for port in ports:
            self._port(port, node_id)
        peer.imported.update(settings.close(_NODE_DROPPED))
        peer.imported["node_definition"] = definition
        if settings is not node:
            peer.imported.update(node.close(_NODE_DROPPED))

    def _settings(self, vm: Vm, settings: Fields) -> None:
        image = settings.text("image_definition", "the images of the lab")
        self.lab.want_image(vm, image or "the default of %s" % settings.data["node_definition"])
        set_size(vm, settings, "ram", "cpus")
        limit = settings.integer("cpu_limit", "cpu_limit", 0, 100)
        if limit and limit < 100:
            vm.settings["cpu_limit"] = limit
        size = settings.integer("boot_disk_size", "the size of the root disk", 0, 1 << 20)
        if size and vm.spec["disk"]:
            vm.disk("root")["size"] = "%dG" % size
        volume = settings.integer("data_volume", "a second disk", 0, 1 << 20)
        if volume:
            vm.disk("data")["size"] = "%dG" % volume

    def _configuration(self, vm: Vm, settings: Fields) -> None:
        place = settings.place("configuration")
        given = settings.opened("configuration")
        if given is None and "configuration" in settings:
            self.report.dropped(place, "it is empty")
        elif isinstance(given, str):
            self.lab.add_config(vm, given, place)
        elif isinstance(given, list):
            self._files(vm, settings, place)
        elif given is not None:
            settings.fail("configuration", "%s is neither a text nor a list" % excerpt(given))

    def _files(self, vm: Vm, settings: Fields, place: str) -> None:
        """Add the files of a configuration: the main one, and others for the drive."""
        files = settings.mappings("configuration")
        main = vm.spec["config"].get("file") or ""
        names = [file_name(str(file.data.get("name") or main), "file") for file in files]
        is_only = len(files) == 1
        for file, name in zip(files, names):
            file.mapped("name", "the name of the file")
            text = file.text("content", "the content of the file")
            file.close()
            if is_only or name == file_name(main, ""):
                self.lab.add_config(vm, text, file.place("content"))
            elif text.strip() and main:
                path = self.lab.add_file(vm, name, text)
                vm.settings.setdefault("files", {})[name] = {"src": path}
                self.report.mapped(file.place("content"), "files, in the file " + path)
            elif text.strip():
                path = self.lab.add_file(vm, name, text)
                self.report.kept(file.place("content"), "the file " + path)
            else:
                self.report.dropped(file.place("content"), "it is empty")

    def _port(self, port: Fields, node_id: str) -> None:
        peer = self.peers.get(node_id)
        interface = port.text("id", "an endpoint")
        if peer is None or (node_id, interface) in self.ports:
            port.fail("id", "each interface needs a node and an id of its own")
        slot = port.integer("slot", "the NIC", 0, 10000)
        label = port.text("label", "the NIC")
        kind = port.text("type", "the NIC")
        self.owner[interface] = node_id
        if not isinstance(peer, Vm):
            self.ports[node_id, interface] = End(peer or Missing("", "it does not exist"))
            return
        nic = self._nic(peer, node_id, slot, label, kind)
        mac = port.text("mac_address", "nics[].mac")
        if mac and nic:
            peer.nic(nic)["mac"] = mac
        kept = port.close(_PORT_DROPPED)
        if kept:
            peer.imported.setdefault("interfaces", {})[interface] = kept
        if nic is None:
            reason = "%s is no NIC of kind %s; its NICs are %s" % (
                label or "the interface",
                peer.kind,
                peer.naming,
            )
            self.ports[node_id, interface] = End(Missing(port.path, reason))
            self.report.whole(port.path, "dropped", reason)
        else:
            self.ports[node_id, interface] = End(peer, nic)

    def _nic(self, vm: Vm, node_id: str, slot: int | None, label: str, kind: str) -> str | None:
        """Return the NIC of an interface, None for one without.

        Files that people wrote have no slots: CML counts the interfaces then.
        """
        if kind == "loopback" or label.lower().startswith("loopback"):
            return None
        position = self.positions.get(node_id, 0) if slot is None else slot
        self.positions[node_id] = position + 1
        named = nic_names.by_name(vm.naming, label) if slot is None else None
        return named or vm.naming.at(position)

    def _link(self, link: Fields) -> None:
        fields = _ENDS if "n1" in link or "i1" in link else _OLD_ENDS
        ends = []
        for node_key, port_key in fields:
            interface = link.text(port_key, "an endpoint")
            node_id = link.text(node_key, "an endpoint") or self.owner.get(interface, "")
            end = self.ports.get((node_id, interface))
            if end is None:
                link.fail(
                    port_key,
                    "node %s has no interface %s" % (excerpt(node_id), excerpt(interface)),
                )
            elif isinstance(end.peer, Missing) and isinstance(self.peers[node_id], Vm):
                link.fail(port_key, end.peer.reason)
            ends += [end] if end else []
        settings: dict[str, Any] = {}
        label = link.text("label", "the label in vars")
        kept: dict[str, Any] = {}
        if isinstance(link.data.get("conditioning"), dict):
            conditioning = link.fields("conditioning")
            impair = {}
            if conditioning.data.get("enabled", True):
                impair = impairments.impairment(conditioning, impairments.CML)
            rest = conditioning.close()
            if impair:
                settings["impair"] = impair
            if rest:
                kept["conditioning"] = rest
        kept.update(link.close(_LINK_DROPPED))
        if label:
            kept = dict(kept, label=label)
        if kept:
            settings["vars"] = {IMPORTED: kept}
        self.lab.connect(link.path, ends, settings)
