# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Collect the nodes, links and segments of an imported lab as a topology."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Union

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import (
    file_name,
    unique_name,
    valid_name,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import (
    DROPPED,
    MAPPED,
    Report,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import kinds
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import (
    NicNaming,
    naming_of,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

SEGMENT, USER, DROP = "segment", "user", "drop"
# Kinds whose images the role guest_image builds.
_BUILT = ("tiny", "frr", "linux")
_MAX_COORDINATE = 1000000
# Attribute of a node or a link, with what the file says beyond the topology.
IMPORTED = "imported"


@dataclasses.dataclass
class Options:
    """The options of an import.

    kinds_map: {kind, type or node of the file: a kind, segment, user or drop}. images_folder: where
    the hypervisors have their images. arguments: whether arguments of QEMU are taken over.
    variables: values of the file's variables. attachment: returns the content of a file beside the
    lab, None if it does not exist.
    """

    name: str = ""
    kinds_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    images_folder: str = "/srv/images"
    arguments: bool = False
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    attachment: Callable[[str], Union[bytes, None]] = lambda path: None


@dataclasses.dataclass
class Vm:
    """A node that becomes a VM. settings: of the node in the topology. place: in the file."""

    name: str
    place: str
    kind: str
    spec: kinds.KindSpec
    settings: dict[str, Any]
    imported: dict[str, Any] = dataclasses.field(default_factory=dict)
    used: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def naming(self) -> NicNaming:
        """The naming of its NICs."""
        return naming_of(self.spec)

    def nic(self, name: str) -> dict[str, Any]:
        """Return the settings of a NIC, to be changed."""
        nics: dict[str, Any] = self.settings.setdefault("nics", {})
        settings: dict[str, Any] = nics.setdefault(name, {})
        return settings

    def disk(self, name: str) -> dict[str, Any]:
        """Return the settings of a disk, to be changed."""
        disks: list[dict[str, Any]] = self.settings.setdefault("disks", [])
        for disk in disks:
            if disk["name"] == name:
                return disk
        disks.append({"name": name})
        return disks[-1]


@dataclasses.dataclass
class Hub:
    """A node or network that becomes a segment. has_vlans: it is a switch with VLANs."""

    name: str
    place: str
    has_vlans: bool = False


@dataclasses.dataclass
class Outside:
    """A node or network that stands for networks of the host. link: as a NIC has it."""

    place: str
    link: dict[str, Any]


@dataclasses.dataclass
class Missing:
    """A node that is left out."""

    place: str
    reason: str


Peer = Union[Vm, Hub, Outside, Missing]


@dataclasses.dataclass
class End:
    """An end of a link: nic is empty for everything but a VM. impair: of what it sends.

    vlans: those of the port of the switch.
    """

    peer: Peer
    nic: str = ""
    address: list[str] = dataclasses.field(default_factory=list)
    impair: dict[str, str] = dataclasses.field(default_factory=dict)
    vlans: dict[str, Any] = dataclasses.field(default_factory=dict)


class Cable(NamedTuple):
    """A cable between two switches, and its VLANs."""

    first: str
    second: str
    vlans: dict[str, Any]


class Lab:
    """The topology so far. files: {path: text} of the configurations."""

    def __init__(self, report: Report, options: Options) -> None:
        self.report, self.options = report, options
        self.name = ""
        self.title = ""
        self.vms: dict[str, Vm] = {}
        self.kinds: dict[str, Any] = {}
        self.groups: dict[str, list[str]] = {}
        self.links: list[dict[str, Any]] = []
        self.hubs: dict[str, list[End]] = {}
        self.hub_settings: dict[str, dict[str, Any]] = {}
        self.cables: list[Cable] = []
        self.vars: dict[str, Any] = {}
        self.images: dict[str, dict[str, str]] = {}
        self.files: dict[str, str] = {}
        self.refused: list[tuple[str, str]] = []
        # The places in the file of what is in the topology, by its path there.
        self.places: dict[str, str] = {}
        self._merged: dict[str, str] = {}
        self._uuids: dict[str, str] = {}
        self._specs: dict[str, kinds.KindSpec] = {}

    # --- Names ---

    def set_name(self, text: str) -> None:
        """Set the name of the lab: the user's, or what the file says."""
        self.name = valid_name(self.options.name or text, "lab")
        if text and self.name != text:
            self.title = text
            if not self.options.name:
                self.report.rename(text, self.name)

    def new_name(self, text: str, default: str) -> str:
        """Return a name for a new node or segment, and record the change."""
        name = unique_name(text, default, self.vms, self.hubs)
        if name != text:
            self.report.rename(text or default, name)
        return name

    # --- Nodes ---

    def decision(self, name: str, foreign: str, default: str) -> str:
        """Return what a node becomes: a kind, segment, user, drop, or an empty text for nothing.

        The kinds_map of the user counts first: by the node, then by its kind in the file.
        """
        for key in (name, foreign):
            if key in self.options.kinds_map:
                return str(self.options.kinds_map[key])
        return default

    def spec(self, kind: str, place: str) -> kinds.KindSpec:
        """Return a complete kind. Raise LabFileError if it does not exist."""
        if kind not in self._specs:
            problems = Problems()
            found = kinds.resolve(kind, self.kinds, problems, place)
            if found is None:
                raise LabFileError(self.report.file, problems.found)
            self._specs[kind] = found
        return self._specs[kind]

    def add_vm(self, name: str, place: str, kind: str) -> Vm:
        """Add a VM and return it."""
        spec = self.spec(kind, place)
        unique = self.new_name(name, "node")
        vm = self.vms[unique] = Vm(unique, place, kind, spec, {"kind": kind})
        self.places["nodes." + unique] = place
        if unique != name and name.strip():
            vm.settings["label"] = name
        return vm

    def set_position(self, peer: Peer, fields: Fields, keys: tuple[str, str]) -> None:
        """Give a VM or a segment its place on the canvas. keys: those of its x and y in fields."""
        x, y = (_coordinate(fields.data.get(key)) for key in keys)
        if x is None or y is None or not isinstance(peer, (Vm, Hub)):
            return
        for key in keys:
            fields.mapped(key, "position")
        if isinstance(peer, Vm):
            peer.settings["position"] = {"x": x, "y": y}
        else:
            self.hub_settings.setdefault(peer.name, {})["position"] = {"x": x, "y": y}

    def set_uuid(self, vm: Vm, text: str) -> bool:
        """Give a VM its UUID in the file, and return True; no if it is none, or that of another."""
        try:
            found = str(uuid.UUID(text))
        except ValueError:
            return False
        if self._uuids.setdefault(found, vm.name) != vm.name:
            return False
        vm.settings["uuid"] = found
        return True

    def add_hub(self, name: str, place: str) -> Hub:
        """Add a segment and return it."""
        unique = self.new_name(name, "segment")
        self.hubs[unique] = []
        self.places["segments." + unique] = place
        return Hub(unique, place)

    def add_peer(self, name: str, place: str, foreign: str, default: str, reason: str) -> Peer:
        """Add what a node of the file becomes. reason: why nothing, without a decision."""
        decision = self.decision(name, foreign, default)
        if decision == SEGMENT:
            return self.add_hub(name, place)
        if decision == USER:
            return Outside(place, {"type": "user"})
        if decision == DROP:
            return Missing(place, "the node is left out by kinds_map")
        if not decision:
            self.refused.append((place, "%s (%s): %s" % (excerpt(name), foreign, reason)))
            return Missing(place, reason)
        return self.add_vm(name, place, decision)

    def fate(self, peer: Peer) -> tuple[str, str]:
        """Return what the report says of a node that is no VM: the state and a note."""
        if isinstance(peer, Hub):
            return MAPPED, "the segment " + peer.name
        if isinstance(peer, Outside):
            return MAPPED, "links of type %s" % peer.link["type"]
        return DROPPED, peer.reason if isinstance(peer, Missing) else "it is no VM"

    def check_refused(self) -> None:
        """Raise LabFileError if there are nodes for which there is nothing."""
        unknown = sorted(set(self.options.kinds_map.values()) - {SEGMENT, USER, DROP})
        for kind in unknown:
            self.spec(kind, "kinds_map")
        if self.refused:
            hint = (
                "set kinds_map to what they become, by their kind or name: a kind of this "
                "collection, segment, user (a network of QEMU), or drop"
            )
            raise LabFileError(self.report.file, [*self.refused, ("kinds_map", hint)])

    def add_kind(self, name: str, spec: dict[str, Any]) -> str:
        """Add a kind of the lab, or find the same one; return its name."""
        for existing, other in self.kinds.items():
            if other == spec:
                return existing
        used = {*self.kinds, *kinds.shipped(), SEGMENT, USER, DROP}
        unique = unique_name(name, "machine", used)
        self.kinds[unique] = spec
        return unique

    # --- Images and files ---

    def want_image(self, vm: Vm, source: str, disk: str = "", **facts: Any) -> None:
        """Let a VM use an image of its own kind. source: what the file calls it."""
        kind_image = vm.spec["image"]
        name, number = kind_image, 2
        while name in self.report.images and self.report.images[name].get("source") != source:
            name = "%s-%d" % (kind_image, number)
            number += 1
        if name != kind_image:
            vm.settings["image"] = name
        entry = self.report.images.setdefault(name, {"source": source, **facts})
        if vm.kind in _BUILT or kind_image in _BUILT:
            entry["built_by"] = "the role guest_image"
            return
        path = "%s/%s" % (self.options.images_folder.rstrip("/"), disk or name + ".qcow2")
        self.images.setdefault(name, {"disk": path})
        entry.setdefault("disk", path)
        images = {module["image"] for module in vm.spec["modules"].values()} - {kind_image}
        for image in sorted(images):
            path = self.image_path(image + ".qcow2")
            self.images.setdefault(image, {"disk": path})
            self.report.images.setdefault(image, {"source": source, "disk": path})

    def image_path(self, text: str) -> str:
        """Return the path on the hypervisor of an image that the file names."""
        return "%s/%s" % (self.options.images_folder.rstrip("/"), file_name(text, "image"))

    def use_disk(self, vm: Vm, name: str, path: str) -> None:
        """Record a disk of another VM that is used as an image where it is."""
        self.report.images["%s-%s" % (vm.name, name)] = {"disk": path}
        self.report.warn(
            "the disks of %s are overlays on those of the other VM, which must not write them any "
            "more; check that these paths are disks: the VM can read them" % vm.name
        )

    def add_config(self, vm: Vm, text: str, place: str) -> None:
        """Give a VM its first configuration, as a file beside the topology."""
        target = vm.spec["config"].get("file")
        if not text.strip():
            self.report.dropped(place, "it is empty")
            return
        path = self.add_file(vm, target or "startup-config", text)
        if target:
            vm.settings["config"] = {"src": path}
            self.report.mapped(place, "config, in the file " + path)
        else:
            self.report.kept(place, "the file " + path)
            self.report.warn(
                "nodes of kind %s do not read a configuration from a drive: apply the file %s "
                "yourself" % (vm.kind, path)
            )

    def add_file(self, vm: Vm, name: str, text: str) -> str:
        """Add a file of a node; return its path below the folder of the topology."""
        path = "%s/%s/%s" % (self.name, vm.name, file_name(name, "file"))
        self.files[path] = text
        return path

    # --- Links ---

    def connect(self, place: str, ends: list[End], settings: dict[str, Any]) -> None:
        """Add a link between two ends. settings: of the link in the topology."""
        first, second = ends
        missing = [end.peer for end in ends if isinstance(end.peer, Missing)]
        if missing:
            reason = "an end is not in the topology: " + missing[0].reason
            self.report.whole(place, DROPPED, reason)
            return
        for end in ends:
            self._use(place, end)
        if isinstance(first.peer, Vm) and isinstance(second.peer, Vm):
            self.links.append({"endpoints": [endpoint(first), endpoint(second)], **settings})
            self.places["links[%d]" % (len(self.links) - 1)] = place
            return
        hubs = [end.peer for end in ends if isinstance(end.peer, Hub)]
        vms = [end for end in ends if isinstance(end.peer, Vm)]
        if hubs and vms:
            self.hubs[self.hub_name(hubs[0].name)].append(vms[0])
            vms[0].vlans = first.vlans or second.vlans
            self._of_member(place, vms[0], settings)
        elif len(hubs) == 2 and any(hub.has_vlans for hub in hubs):
            self._add_cable(place, first, second)
        elif len(hubs) == 2:
            self._merge(place, hubs[0], hubs[1])
        elif vms:
            self._connect_outside(vms[0], [end.peer for end in ends], settings)
        elif hubs:
            outside = next(end.peer for end in ends if isinstance(end.peer, Outside))
            vlans = first.vlans or second.vlans
            uplink = {**outside.link, **vlans}
            self._add_uplink(place, hubs[0], uplink, bool(settings.get("down")))
        else:
            self.report.whole(place, DROPPED, "it connects two networks of the host")

    def _add_uplink(self, place: str, hub: Hub, uplink: dict[str, Any], is_down: bool) -> None:
        """Connect a segment with networks of the host."""
        given = self.hub_settings.setdefault(self.hub_name(hub.name), {})
        if is_down or given.get("uplink", uplink) != uplink:
            reason = "the link is down" if is_down else "a segment has one uplink"
            self.report.whole(place, DROPPED, reason)
            return
        given["uplink"] = uplink
        self.report.whole(place, MAPPED, "the uplink of a segment")

    def _use(self, place: str, end: End) -> None:
        if not isinstance(end.peer, Vm):
            return
        if end.nic in end.peer.used:
            reason = "%s:%s is already connected by %s" % (
                end.peer.name,
                end.nic,
                end.peer.used[end.nic],
            )
            raise LabFileError(self.report.file, [(place, reason)])
        end.peer.used[end.nic] = place

    def _of_member(self, place: str, end: End, settings: dict[str, Any]) -> None:
        """Give the settings of a link to the NIC that it connects with a segment."""
        rest = dict(settings)
        end.impair = rest.pop("impair", None) or {}
        if end.impair:
            self.report.warn("%s: only what the node sends to the segment is impaired" % place)
        if rest.pop("down", False) and isinstance(end.peer, Vm):
            end.peer.nic(end.nic)["link_down"] = True
        _keep_settings(end, rest)

    def _connect_outside(self, end: End, peers: list[Peer], settings: dict[str, Any]) -> None:
        if not isinstance(end.peer, Vm):
            return
        outside = next(peer for peer in peers if isinstance(peer, Outside))
        nic = end.peer.nic(end.nic)
        nic["link"] = dict(outside.link)
        if settings.get("down"):
            nic["link_down"] = True
        if end.address:
            nic["address"] = end.address
        if settings.get("impair"):
            self.report.warn(
                "%s: a link to networks of the host cannot be impaired" % end.peer.place
            )
        _keep_settings(end, settings)

    def hub_name(self, name: str) -> str:
        """Return the segment that a merged one became part of."""
        while name in self._merged:
            name = self._merged[name]
        return name

    def _add_cable(self, place: str, first: End, second: End) -> None:
        """Connect two switches, of which at least one has VLANs."""
        one, two = first.peer, second.peer
        if isinstance(one, Hub) and isinstance(two, Hub) and first.vlans == second.vlans:
            self.cables.append(Cable(one.name, two.name, first.vlans))
            self.report.whole(place, MAPPED, "a cable between switches")
        else:
            reason = "the ports at both ends of a cable between switches must have the same VLANs"
            self.report.whole(place, DROPPED, reason)
            self.report.warn("%s: %s" % (place, reason))

    def _merge(self, place: str, first: Hub, second: Hub) -> None:
        """Let two connected segments be one."""
        into, gone = self.hub_name(first.name), self.hub_name(second.name)
        if into != gone:
            self.hubs[into] += self.hubs.pop(gone)
            self.hub_settings.setdefault(into, {}).update(self.hub_settings.pop(gone, {}))
            self._merged[gone] = into
            self.report.rename(gone, into)
        self.report.whole(place, MAPPED, "both segments are the segment " + into)


def _coordinate(value: Any) -> float | None:
    """Return a coordinate of a canvas as a number, None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, bool) or not abs(number) <= _MAX_COORDINATE:
        return None
    return int(number) if number == int(number) else round(number, 1)


def _keep_settings(end: End, settings: dict[str, Any]) -> None:
    """Keep the settings of a link with its only VM."""
    if settings and isinstance(end.peer, Vm):
        end.peer.imported.setdefault("links", {})[end.nic] = settings


def endpoint(end: End) -> Any:
    """Return an end as a link or a segment has it."""
    name = end.peer.name if isinstance(end.peer, (Vm, Hub)) else ""
    more = {"address": end.address, "impair": end.impair, **end.vlans}
    if any(more.values()):
        given = {key: value for key, value in more.items() if value}
        return {"node": name, "nic": end.nic, **given}
    return "%s:%s" % (name, end.nic)
