# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The layers of disks: a snapshot freezes the image of a disk, and the VM continues on an overlay.

An image never gets another path: QEMU opens files by their paths again when it has to. The overlay
is DISK.XXXXXXXX.qcow2 in the folder of the VM, and the definition has its name as the key image of
the disk. A layer that no snapshot refers to is merged into the images on top of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import remove_file
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import images
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import bases

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import Disk


class Layer(NamedTuple):
    """A disk that a snapshot freezes. frozen: the path of its image. image: that of the overlay."""

    disk: str
    frozen: str
    image: str


def frozen_layers(folder: Folder, definition: Definition) -> list[Layer]:
    """Return the layers that a snapshot of a VM freezes, with new overlays, which do not exist."""
    return [
        Layer(disk["name"], bases.disk_path(folder, disk), new_overlay(folder, disk["name"]))
        for disk in definition["disks"]
        if not disk["read_only"]
        and not disk["snapshot"]
        and os.path.lexists(bases.disk_path(folder, disk))
    ]


def new_overlay(folder: Folder, disk: str) -> str:
    """Return a path for a new overlay of a disk."""
    return folder.file("%s.%s.qcow2" % (disk, os.urandom(4).hex()))


def with_overlays(definition: Definition, layers: Iterable[Layer]) -> Definition:
    """Return a definition whose disks write to the overlays."""
    names = {layer.disk: os.path.basename(layer.image) for layer in layers}
    disks = [
        dict(disk, image=names[disk["name"]]) if disk["name"] in names else disk
        for disk in definition["disks"]
    ]
    return dict(definition, disks=disks)


def blockers(folder: Folder, definition: Definition, memory: bool) -> list[str]:
    """Return why the disks of a VM cannot be saved. memory: whether memory is saved as well."""
    found = []
    for disk in definition["disks"]:
        reason = _blocker(folder, disk, memory)
        if reason:
            found.append("disks[%s]: %s" % (disk["name"], reason))
    return found


def _blocker(folder: Folder, disk: Disk, memory: bool) -> str | None:
    if disk["snapshot"]:
        return "snapshot: true discards its changes at every stop" if memory else None
    if disk["bus"] == "nvme" and memory:
        return "QEMU cannot save the state of nvme: use another bus, or memory: false"
    if disk["read_only"]:
        return None
    if not bases.is_owned(folder, disk):
        return "its image %s is outside the folder of the VM" % disk["path"]
    if disk["format"] != "qcow2":
        return (
            "its format is %s, and only qcow2 has overlays: convert it with qemu_disk"
            % (disk["format"])
        )
    path = bases.disk_path(folder, disk)
    if not os.path.lexists(path):
        return None  # it is created at the first start
    return "it is encrypted" if images.probe(path).encrypted else None


def make_overlays(layers: Iterable[Layer], qemu_img: QemuImg) -> None:
    """Create the overlays. QEMU may have the layers open, so qemu-img does not look at them."""
    for layer in layers:
        size = images.probe(layer.frozen).virtual_size
        qemu_img.layer(layer.image, layer.frozen, size or 0)


def switch(monitor: Monitor, layers: Iterable[Layer]) -> None:
    """Let a paused QEMU continue on the overlays, all at once.

    It skips overlays that QEMU writes to already, and disks that QEMU does not have.
    """
    actions = []
    nodes = _nodes(monitor)
    for layer in layers:
        node = nodes.get(layer.frozen)
        if node is None or layer.image in nodes:
            continue
        actions.append(
            {
                "type": "blockdev-snapshot-sync",
                "data": {
                    "node-name": node,
                    "snapshot-file": layer.image,
                    "snapshot-node-name": "layer-%s" % os.urandom(6).hex(),
                    "format": "qcow2",
                    "mode": "existing",
                },
            }
        )
    if actions:
        monitor.execute("transaction", {"actions": actions})


def _nodes(monitor: Monitor) -> dict[str, str]:
    """Return the name of the qcow2 node of each image that QEMU has open, by path."""
    return {
        node["file"]: node["node-name"]
        for node in monitor.execute("query-named-block-nodes", {"flat": True})
        if node["drv"] == "qcow2"
    }


def pending_switch(folder: Folder, definition: Definition) -> list[Layer]:
    """Return the layers whose overlays the definition has, and perhaps not yet QEMU."""
    found = []
    for disk in definition["disks"]:
        if disk.get("image") and not disk["path"]:
            image = folder.file(disk["image"])
            frozen = images.probe(image).backing_file if os.path.exists(image) else None
            if frozen and os.path.dirname(frozen) == folder.path:
                found.append(Layer(disk["name"], frozen, image))
    return found


class Collector:
    """Merges and removes the layers that nothing refers to.

    kept: the paths of images and layers that are referred to. removed: paths that were, until now.
    monitor: of the running VM, or None. timeout: seconds for one merge.
    """

    def __init__(
        self,
        folder: Folder,
        kept: set[str],
        qemu_img: QemuImg,
        monitor: Monitor | None,
        timeout: float,
    ) -> None:
        self.folder, self.kept, self.qemu_img = folder, kept, qemu_img
        self.monitor, self.timeout = monitor, timeout

    def collect(self, removed: Iterable[str] = ()) -> None:
        """Merge and remove the layers."""
        while True:
            backings = self._backings()
            unused = (set(removed) | self._overlays() | set(backings.values())) - self.kept
            unused = {path for path in unused if os.path.dirname(path) == self.folder.path}
            unused = {path for path in unused if os.path.lexists(path)}
            if not unused:
                return
            # First those on top: what is under them is then copied once.
            layer = min(
                unused, key=lambda path: sum(backings.get(other) == path for other in unused)
            )
            for image in sorted(other for other, base in backings.items() if base == layer):
                self._merge(layer, image)
            remove_file(layer)

    def _overlays(self) -> set[str]:
        return {
            self.folder.file(name)
            for name in os.listdir(self.folder.path)
            if bases.OVERLAY_NAME.fullmatch(name)
        }

    def _backings(self) -> dict[str, str]:
        """Return the backing file of each qcow2 image in the folder that has one."""
        found = {}
        for path in sorted(self.kept | self._overlays()):
            # Also the layers under it, which no pattern may match.
            chain = bases.layers_of(path) if os.path.isfile(path) else []
            for image in chain:
                backing = images.probe(image).backing_file
                if backing:
                    found[image] = backing
        return found

    def _merge(self, layer: str, image: str) -> None:
        nodes = _nodes(self.monitor) if self.monitor else {}
        if self.monitor and image in nodes:
            self._merge_live(self.monitor, layer, nodes[image], nodes)
            _freeze(self.monitor, image)
        else:
            header = images.probe(layer)
            self.qemu_img.rebase(image, header.backing_file, header.backing_format)

    def _merge_live(self, monitor: Monitor, layer: str, node: str, nodes: dict[str, str]) -> None:
        job = "merge-%s" % os.urandom(4).hex()
        arguments: dict[str, Any] = {"job-id": job, "device": node}
        backing = images.probe(layer).backing_file
        if backing:
            # The node of a base image may be there several times, once for each disk.
            is_own = os.path.dirname(backing) == self.folder.path and backing in nodes
            arguments.update({"base-node": nodes[backing]} if is_own else {"base": backing})
            arguments["backing-file"] = backing
        monitor.execute("block-stream", arguments)
        names = ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"]
        event = monitor.wait_event(names, {"device": job}, timeout=self.timeout)
        if event["event"] != "BLOCK_JOB_COMPLETED" or event["data"].get("error"):
            reason = event["data"].get("error", "it was cancelled")
            raise HostError("QEMU did not merge %s: %s" % (layer, reason), path=layer)


def _freeze(monitor: Monitor, image: str) -> None:
    """Open a layer under another one read-only again, so that clones can use it.

    QEMU 10 leaves it writable after it has merged another layer into it.
    """
    nodes = monitor.execute("query-named-block-nodes", {"flat": True})
    found = {(node["drv"], node["file"]): node for node in nodes}
    node, file = found.get(("qcow2", image)), found.get(("file", image))
    below_others = {other["image"].get("full-backing-filename") for other in nodes}
    if not node or not file or node["ro"] or image not in below_others:
        return
    options = {
        "driver": "qcow2",
        "node-name": node["node-name"],
        "read-only": True,
        "file": file["node-name"],
    }
    backing = found.get(("qcow2", node["image"].get("full-backing-filename", "")))
    if backing:
        options["backing"] = backing["node-name"]
    monitor.execute("blockdev-reopen", {"options": [options]})
