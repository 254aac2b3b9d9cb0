# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Import a project of GNS3, revision 9 (2.2) or 10 (3.x)."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import gns3_nodes, impairments
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.file_text import FileText
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.importer import (
    Importer,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import (
    IMPORTED,
    End,
    Hub,
    Lab,
    Options,
    Peer,
    Vm,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report

_REVISIONS = (9, 10)
_CANVAS = "it concerns the canvas"
_SERVER = "it concerns the server of GNS3"
_TOP_DROPPED = {
    **{
        key: _CANVAS
        for key in (
            "drawing_grid_size grid_size scene_height scene_width show_grid snap_to_grid "
            "show_interface_labels show_layers zoom"
        ).split()
    },
    **{key: _SERVER for key in ("auto_close", "auto_open", "auto_start", "type", "version")},
}
_LINK_DROPPED = {"link_id": _SERVER, "link_style": _CANVAS, "link_type": _SERVER}
_END_DROPPED = {"label": _CANVAS}
_NOT_A_VM = "it is not a QEMU node"


def is_gns3(data: Any) -> bool:
    """Return whether the data of a JSON file is a project of GNS3."""
    return isinstance(data, dict) and "revision" in data and "topology" in data


def import_gns3(given: FileText, report: Report, options: Options) -> Lab:
    """Return the lab that a text describes. Raise LabFileError."""
    data = given.json
    if not is_gns3(data):
        raise LabFileError(report.file, [("revision", "it is missing: no project of GNS3")])
    return _Importer(Fields(report, "", data), options).run()


class _Importer(Importer):
    """The import of one project."""

    def run(self) -> Lab:
        """Import everything."""
        revision = self.top.integer("revision", "the format of the file", 0, 1000)
        if revision not in _REVISIONS:
            self.top.fail(
                "revision",
                "the revision %s is not supported, only %s: open and save the project with GNS3 2.2"
                " or newer" % (revision, " and ".join(map(str, _REVISIONS))),
            )
        # {node: {port: its VLANs}} of switches.
        self.vlans: dict[str, dict[Any, dict[str, Any]]] = {}
        self.lab.set_name(self.top.text("name", "name"))
        topology = self.top.fields("topology")
        for node in topology.mappings("nodes"):
            self._add(node)
        for link in topology.mappings("links"):
            self._link(link)
        topology.close({"computes": _SERVER, "drawings": _CANVAS, "templates": _SERVER})
        self.lab.vars.update(topology.kept_values)
        self.lab.vars.update(self.top.close(_TOP_DROPPED))
        return self.lab

    def _add(self, node: Fields) -> None:
        kind = node.text("node_type", "the kind of the node")
        node_id = node.text("node_id", "the nodes of links")
        name = node.text("name", "the name of the node")
        if not kind or not node_id or node_id in self.peers:
            node.fail("node_id", "node_type and a node_id of its own are missing")
        properties = node.fields("properties")
        if kind == "qemu" and self.lab.decision(name, kind, "") == "":
            peer: Peer = gns3_nodes.add_machine(self.lab, node, properties, name)
        else:
            default, reason = gns3_nodes.decision(kind, properties)
            peer = self.lab.add_peer(name, node.path, kind, default, reason or _NOT_A_VM)
        self.lab.set_position(peer, node, ("x", "y"))
        if isinstance(peer, Vm):
            if peer.kind not in self.lab.kinds:
                image = properties.text("hda_disk_image", "the images of the lab")
                self.lab.want_image(peer, image or kind)
            peer.imported.update(node.close(gns3_nodes.NODE_DROPPED))
            rest = properties.close(gns3_nodes.PROPERTY_DROPPED)
            if rest:
                peer.imported["properties"] = rest
            peer.imported["node_id"] = node_id
            # GNS3 starts QEMU with it.
            self.lab.set_uuid(peer, node_id)
        else:
            self.report.whole(node.path, *self.lab.fate(peer))
        if isinstance(peer, Hub) and kind == "ethernet_switch" and gns3_nodes.has_vlans(properties):
            peer.has_vlans = True
            self.lab.hub_settings.setdefault(peer.name, {})["type"] = "switch"
            self.vlans[node_id] = gns3_nodes.port_vlans(properties)
        self.peers[node_id] = peer

    def _link(self, link: Fields) -> None:
        given = link.mappings("nodes")
        if len(given) != 2:
            link.fail("nodes", "a link has two nodes, not %d" % len(given))
        ends = [self._end(end) for end in given]
        settings: dict[str, Any] = {}
        if link.mapped("suspend", "down"):
            settings["down"] = True
        kept: dict[str, Any] = {}
        if isinstance(link.data.get("filters"), dict):
            filters = link.fields("filters")
            if impairments.is_cut(filters.data):
                settings["down"] = bool(filters.mapped("frequency_drop", "down"))
            impair = impairments.impairment(filters, impairments.GNS3)
            if impair:
                settings["impair"] = impair
            rest = filters.close()
            if rest:
                kept["filters"] = rest
        kept.update(link.close(_LINK_DROPPED))
        if kept:
            settings["vars"] = {IMPORTED: kept}
        self.lab.connect(link.path, ends, settings)

    def _end(self, end: Fields) -> End:
        node_id = end.text("node_id", "an endpoint")
        adapter = end.integer("adapter_number", "the NIC", 0, 1000) or 0
        port = end.integer("port_number", "the NIC", 0, 1000) or 0
        end.close(_END_DROPPED)
        peer = self.peers.get(node_id)
        if peer is None:
            end.fail("node_id", "there is no node %s" % excerpt(node_id))
        if not isinstance(peer, Vm):
            vlans = self.vlans.get(node_id, {}).get(port, {})
            return End(peer or gns3_nodes.NOTHING, vlans=vlans)
        nic = gns3_nodes.nic_of(peer, adapter, port)
        if nic is None:
            end.fail(
                "adapter_number",
                "node %s of kind %s has no NIC for adapter %d, port %d; its NICs are %s"
                % (peer.name, peer.kind, adapter, port, peer.naming),
            )
        return End(peer, str(nic))
